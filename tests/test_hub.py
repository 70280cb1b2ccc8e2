"""Checkpoints on the hub: from its cache without a network, and what its answers mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants, errors
from test_checkpoints import make_folder, refusal

from fixtures.checkpoints import hub, locate, precheck, resolve


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub" / "models--o--n"


def test_cached_model_needs_no_network(cache):
    """A snapshot in the cache is found by branch and by commit; its family is checked."""
    commit = "c" * 40
    snapshot = make_folder(cache / "snapshots" / commit, "bert")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    assert locate(resolve("o/n")) == snapshot
    assert locate(resolve(f"o/n@{commit}")) == snapshot
    assert "'bert'" in refusal(precheck, resolve("o/n"))


def test_model_that_is_nowhere(cache):
    """Neither cached nor reachable: the hub id, both facts and what to do, in one line."""
    precheck(resolve("o/n"))  # nothing is known of it, so nothing is said
    message = refusal(locate, resolve("o/n@v1"))
    assert "o/n@v1 is not in the local cache" in message
    assert "could not be reached" in message
    assert "name a folder" in message


def test_half_a_download_is_not_cached(cache):
    """A snapshot that lacks a file counts as not there."""
    snapshot = make_folder(cache / "snapshots" / ("c" * 40))
    (snapshot / "model.safetensors").unlink()
    assert hub.cached("o/n", "c" * 40) is None


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errors.GatedRepoError, "accept its terms"),
        (errors.RepositoryNotFoundError, "no such repository"),
        (errors.RevisionNotFoundError, "no revision 'v1'"),
        (ConnectionError, "could not be reached (ConnectionError: boom)"),
        (OSError, "could not be reached"),
    ],
)
def test_answers_of_the_hub(monkeypatch, error, says):
    """Gated, unknown and unreachable are told apart."""

    def snapshot(*_, **__):
        raise error.__new__(error) if issubclass(error, errors.HfHubHTTPError) else error("boom\nmore")

    monkeypatch.setattr(hub, "_snapshot", snapshot)
    assert says in refusal(locate, resolve("o/n@v1"))


def test_neither_code_nor_pickles_are_fetched():
    """What is asked of the hub excludes code and pickles."""
    from huggingface_hub.utils import filter_repo_objects

    offered = ["config.json", "model.safetensors", "tokenizer.json", "modeling_x.py", "pytorch_model.bin", "a/b.json"]
    wanted = filter_repo_objects(offered, allow_patterns=hub.WANTED, ignore_patterns=hub.UNWANTED)
    assert list(wanted) == ["config.json", "model.safetensors", "tokenizer.json"]
