"""A checkpoint is called as its user calls it, and no name acts on a terminal, a file system or a report."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import gguf_files
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claims.harness.subject_facts import bare_facts
from fixtures.checkpoints import fingerprint, precheck, resolve
from fixtures.gguf.header import model_name
from fixtures.loading import load
from mechinterp.errors import MechinterpError
from mechinterp.visible import visible

ODD = "step\x1b[31m\u202e_300\n\u200b\x9b"
ACTING = {"Cc", "Cf", "Zl", "Zp", "Cs"}


def acts(text: str) -> bool:
    return any(unicodedata.category(char) in ACTING for char in text)


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 16)
    return folder


def test_gguf_of_the_hubs_cache(tmp_path):
    """In the hub's cache a .gguf is a link to a file that is called by its hash; the link's name counts."""
    blob, link = tmp_path / "blobs" / ("a1" * 32), tmp_path / "snapshots" / "main" / "tiny-q8_0.gguf"
    blob.parent.mkdir()
    link.parent.mkdir(parents=True)
    gguf_files.write(blob, gguf_files.build("qwen2"))
    link.symlink_to(Path("../../blobs") / blob.name)
    checkpoint = resolve(str(link))
    assert checkpoint.name == "tiny-q8_0"
    assert [file["name"] for file in fingerprint(checkpoint)["files"]] == ["tiny-q8_0.gguf"]
    assert bare_facts(checkpoint).source == "tiny-q8_0.gguf"
    assert load(checkpoint, device="cpu").name == "tiny-q8_0"


def test_links_to_folders(tmp_path, monkeypatch):
    """A folder is called by the link that is given, also from inside and through another link."""
    real = make_folder(tmp_path / "runs" / "0f3a")
    (tmp_path / "best").symlink_to(real)
    (tmp_path / "latest").symlink_to(tmp_path / "best")
    assert resolve(str(tmp_path / "best")).name == "best"
    assert resolve(f"{tmp_path / 'latest'}/").name == "latest"
    assert resolve(str(tmp_path / "latest" / ".." / "0f3a")).name == "0f3a"
    monkeypatch.chdir(tmp_path)
    assert resolve("./latest").location == str(tmp_path / "latest")
    assert resolve("best/../0f3a").name == "0f3a"
    monkeypatch.chdir(real)
    assert (resolve(".").name, resolve("../0f3a/.").name) == ("0f3a", "0f3a")


@pytest.mark.parametrize("name", ["loop", "loop.gguf"])
def test_links_in_a_circle(tmp_path, name):
    """A link that leads nowhere is a path that is not there."""
    (tmp_path / name).symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / name)
    with pytest.raises(MechinterpError, match="does not exist"):
        resolve(str(tmp_path / name))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.gguf", "a"),
        ("a.b-Q4_K_M.gguf", "a.b-Q4_K_M"),
        ("a.GGUF", "a"),
        ("a-00002-of-00003.gguf", "a"),
        ("a-00002-of-00003.q8.gguf", "a-00002-of-00003.q8"),
        ("a.b", "a.b"),
        (".gguf", ".gguf"),
    ],
)
def test_name_of_a_file(file, name):
    """A file is called without .gguf and without the number of its part; nothing else is cut off."""
    assert model_name(Path(file)) == name


def test_names_that_act(tmp_path):
    """Escapes, line ends and bidirectional marks of a path reach no name and no provenance."""
    gguf_files.write(tmp_path / f"{ODD}.gguf", gguf_files.build("qwen2"))
    for path in (make_folder(tmp_path / ODD), tmp_path / f"{ODD}.gguf"):
        checkpoint = resolve(str(path))
        assert checkpoint.name == r"step\x1b[31m\u202e_300\n\u200b\x9b"
        assert not acts(json.dumps(fingerprint(checkpoint), ensure_ascii=False))
        assert not acts(bare_facts(checkpoint).model_dump_json())


def test_refusals_that_quote_a_path(tmp_path):
    """Nor do they reach a message: it stays one harmless line."""
    folder = make_folder(tmp_path / ODD)
    (folder / "config.json").write_text("{}")
    with pytest.raises(MechinterpError) as caught:
        precheck(resolve(str(folder)))
    assert not acts(str(caught.value))
    (folder / "model.safetensors").unlink()
    with pytest.raises(MechinterpError) as caught:
        resolve(str(folder))
    assert not acts(str(caught.value))
    assert r"\u202e" in str(caught.value)


@given(st.text(st.characters(exclude_characters="/\0")))
@example("\ud800\udcff\u2066")
def test_any_text_is_harmless(text):
    """Whatever a file is called; letters of all scripts stay as they are."""
    shown = visible(text)
    assert not acts(shown)
    assert "\n" not in str(MechinterpError(text))
    assert not text.isprintable() or shown == text
