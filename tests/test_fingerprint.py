"""The fingerprint is what sha256sum prints, and changes with any weight."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from fixtures.checkpoints import fingerprint, resolve
from mechinterp.errors import MechinterpError


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("not fingerprinted")
    return folder


def test_one_file(folder):
    """For one file of weights it is the plain SHA-256 of the file."""
    found = fingerprint(resolve(f"mine={folder}"))
    assert found["sha256"] == sha256(b"weights")
    assert (found["name"], found["kind"], found["hub"], found["revision"]) == ("mine", "folder", None, None)


def test_files_are_listed(folder):
    """Weights, configuration and tokenizer are listed by name, with size and hash; nothing else is."""
    assert fingerprint(resolve(str(folder)))["files"] == [
        {"name": name, "size": (folder / name).stat().st_size, "sha256": sha256((folder / name).read_bytes())}
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    ]


def test_shards(folder):
    """For shards it is the SHA-256 of the lines that `sha256sum` prints for them, sorted by name."""
    (folder / "model.safetensors").unlink()
    (folder / "b.safetensors").write_bytes(b"two")
    (folder / "a.safetensors").write_bytes(b"one")
    weight_map = {"x": "b.safetensors", "y": "a.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    lines = f"{sha256(b'one')}  a.safetensors\n{sha256(b'two')}  b.safetensors\n"
    assert fingerprint(resolve(str(folder)))["sha256"] == sha256(lines.encode())


def test_gguf(tmp_path):
    """A .gguf file is its own only file."""
    data = b"GGUF" + b"\1" * 3_000_000  # longer than a chunk
    (tmp_path / "a.gguf").write_bytes(data)
    found = fingerprint(resolve(str(tmp_path / "a.gguf")))
    assert found["sha256"] == sha256(data)
    assert found["files"] == [{"name": "a.gguf", "size": len(data), "sha256": sha256(data)}]


def test_any_change_of_a_weight_shows(folder):
    """One other byte, another fingerprint; the same bytes elsewhere, the same."""
    before = fingerprint(resolve(str(folder)))
    (folder / "README.md").write_text("changed")
    assert fingerprint(resolve(str(folder))) == before
    (folder / "model.safetensors").write_bytes(b"weightt")
    assert fingerprint(resolve(str(folder)))["sha256"] != before["sha256"]


def test_hub_revision_is_the_commit(folder, tmp_path, monkeypatch):
    """Of a hub checkpoint the commit is recorded, whatever branch was asked for."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cache, commit = tmp_path / "hub" / "models--o--n", "d" * 40
    (cache / "snapshots").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    folder.rename(cache / "snapshots" / commit)
    found = fingerprint(resolve("o/n"))
    assert (found["hub"], found["revision"], found["sha256"]) == ("o/n", commit, sha256(b"weights"))


def test_nothing_of_this_machine_is_in_it(folder, tmp_path):
    """It can be committed: JSON, without a path."""
    assert str(tmp_path) not in json.dumps(fingerprint(resolve(str(folder))))


def test_file_that_went_away(folder):
    """Weights that vanish after they were resolved are one line, not a traceback."""
    checkpoint = resolve(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(MechinterpError, match="no weights"):
        fingerprint(checkpoint)
