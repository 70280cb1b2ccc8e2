"""Every tensor of a .gguf is used, in whatever way it is packed, or the file is refused by that tensor's name."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import gguf_files
import numpy as np
import pytest
import torch
from test_gguf import loaded, logits, refusal

from fixtures.checkpoints import fingerprint, precheck, resolve
from fixtures.gguf.header import read_header
from fixtures.loading import load
from mechinterp.errors import MechinterpError

Q = gguf.GGMLQuantizationType


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tiny.gguf"


@pytest.fixture(scope="session")
def model():
    return gguf_files.build("qwen2")


@pytest.mark.parametrize(
    ("family", "name", "shape"),
    [
        ("llama", "rope_freqs.weight", (8,)),
        ("llama", "blk.0.attn_q.bias", (64,)),
        ("llama", "blk.1.attn_rot_embd.weight", (16,)),
        ("llama", "blk.0.attn_q_norm.weight", (16,)),
        ("llama", "blk.0.ffn_gate_inp.weight", (8, 64)),
        ("llama", "output_norm.bias", (64,)),
        ("qwen2", "blk.0.attn_output.bias", (64,)),
        ("qwen2", "blk.1.attn_k_norm.weight", (16,)),
        ("qwen2", "blk.0.ffn_down.bias", (64,)),
        ("qwen2", "blk.0.ffn_up.scale", (1,)),
        ("qwen2", "blk.2.attn_norm.weight", (64,)),
        ("qwen2", "output.bias", (300,)),
        ("qwen2", "token_types.weight", (2, 64)),
        ("qwen2", "rope_factors_long.weight", (8,)),
        ("qwen3", "blk.0.attn_q.bias", (96,)),
        ("qwen3", "blk.0.post_attention_norm.weight", (64,)),
        ("qwen3", "cls.output.weight", (2, 64)),
        ("mistral", "blk.0.attn_sinks.weight", (4,)),
    ],
)
def test_odd_tensor(family, name, shape, file):
    """A tensor that the family has no place for is never left out."""
    gguf_files.write(file, gguf_files.build(family), tensors={name: np.ones(shape, np.float32)})
    assert f"no place for its tensor {name}," in refusal(file)


@pytest.mark.parametrize("end", ["attn_q.bias", "ffn_gate.bias"])
def test_biases_of_some_layers(end, file):
    """Biases are used where all are there; one that is missing is named, not taken for zero."""
    gguf_files.write(file, gguf_files.build("llama with biases"), without=[f"blk.1.{end}"])
    assert f"it lacks the tensor blk.1.{end};" in refusal(file)


@pytest.mark.parametrize(
    "name", ["token_embd.weight", "output_norm.weight", "blk.1.attn_v.bias", "blk.0.ffn_up.weight"]
)
def test_missing_tensor(name, file, model):
    """A tensor that a .gguf lacks is never filled in at random."""
    gguf_files.write(file, model, without=[name])
    assert f"it lacks the tensor {name};" in refusal(file)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.0.ffn_up.weight", (64, 96)),
        ("blk.1.attn_k.weight", (64, 64)),
        ("blk.0.attn_norm.weight", (1, 64)),
        ("output_norm.weight", (65,)),
        ("output.weight", (7, 64)),
        ("blk.0.attn_q.bias", (0,)),
    ],
)
def test_tensor_of_another_shape(name, shape, file, model):
    """A tensor whose shape the metadata does not give is named."""
    gguf_files.write(file, model, tensors={name: np.ones(shape, np.float32)})
    assert f"its tensor {name} has shape {shape}" in refusal(file)


def test_tied_and_untied(file, model):
    """Without output.weight the embedding unembeds; with it, output.weight does."""
    gguf_files.write(file, model)
    separate = load(resolve(str(file)), device="cpu")
    assert separate.anatomy.unembed.weight is not separate.model.get_input_embeddings().weight
    gguf_files.write(file, model, without=["output.weight"])
    tied = load(resolve(str(file)), device="cpu")
    assert tied.anatomy.unembed.weight is tied.model.get_input_embeddings().weight
    assert (logits(tied.model) - logits(separate.model)).abs().max() > 0.1


MIX = {"attn_q": Q.F16, "attn_k": Q.BF16, "attn_v": Q.Q8_0, "ffn_up": Q.Q4_0, "ffn_gate": Q.Q4_1, "token_embd": Q.Q5_0}


@pytest.mark.parametrize(
    ("kinds", "said"),
    [({}, None), ({"attn_q": Q.F16, "attn_k": Q.BF16}, None), ({"ffn_up": Q.Q4_0}, "Q4_0"), (MIX, "Q")],
)
def test_quantised_is_said(file, kinds, said):
    """A subject knows that its weights were packed, and how most of them; floats of any size are what they were."""
    model = gguf_files.build("qwen2")
    gguf_files.write(file, model, packing=lambda name: kinds.get(name.removesuffix(".weight").split(".")[-1], Q.F32))
    found = load(resolve(str(file)), device="cpu").quantised
    assert found is None if said is None else found.startswith(said)


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_mixed_packing(family, file):
    """Each tensor is unpacked in its own way, to what gguf itself unpacks."""

    def packing(name: str) -> Q:
        return MIX.get(name.removesuffix(".weight").split(".")[-1], Q.F32)

    unpacked = gguf_files.write(file, gguf_files.build(family), packing=packing)
    found = load(resolve(str(file)), device="cpu").model.state_dict()
    for ours, theirs in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.layers.1.self_attn.v_proj.weight": "blk.1.attn_v.weight",
        "model.layers.0.mlp.up_proj.weight": "blk.0.ffn_up.weight",
        "model.layers.1.mlp.gate_proj.weight": "blk.1.ffn_gate.weight",
        "model.layers.1.input_layernorm.weight": "blk.1.attn_norm.weight",
    }.items():
        np.testing.assert_array_equal(found[ours].numpy(), unpacked[theirs])
    for part in ("q", "k"):
        ours, theirs = found[f"model.layers.0.self_attn.{part}_proj.weight"], unpacked[f"blk.0.attn_{part}.weight"]
        assert sorted(map(tuple, ours.tolist())) == sorted(
            map(tuple, theirs.tolist())
        )  # the same rows, for llama moved


def test_packed_in_an_unknown_way(file, model):
    """Integers, or a packing that cannot be undone, are refused by the tensor."""
    gguf_files.write(file, model, tensors={"blk.0.ffn_up.weight": np.ones((96, 64), np.int32)})
    assert "blk.0.ffn_up.weight is packed as I32" in refusal(file)


# --- the file itself


@pytest.mark.parametrize(
    ("written", "instead", "says"),
    [(b"aaab.x", b"aaaa.x", "gives aaaa.x twice"), (b"attn_v.bias", b"attn_k.bias", "blk.0.attn_k.bias twice")],
)
def test_twice(written, instead, says, file, model):
    """A key or a tensor that is in the file twice is named: readers differ in which they take."""
    gguf_files.write(file, model, keys={"aaaa.x": 1, "aaab.x": 2})
    file.write_bytes(file.read_bytes().replace(written, instead))
    assert says in refusal(file)


@pytest.mark.parametrize("size", [0, 3, 4, 24])
def test_almost_nothing(size, file, model):
    """A file of no bytes, of less than the magic ones or of a header alone is one line."""
    gguf_files.write(file, model)
    file.write_bytes(file.read_bytes()[:size])
    assert ("not a GGUF file" if size < 4 else "corrupt or cut off") in refusal(file)


def test_overlapping_tensors(file, model):
    """Tensors that share bytes mean that the header is corrupt."""
    gguf_files.write(file, model)
    data = bytearray(file.read_bytes())
    name = b"blk.0.attn_k.weight"
    end = data.index(name) + len(name)
    offset = end + 4 + 2 * 8 + 4  # number of dimensions, two of them, kind
    data[offset : offset + 8] = bytes(8)
    file.write_bytes(data)
    assert "corrupt" in refusal(file)


# --- files of several parts


@pytest.fixture
def parts(tmp_path, model) -> list[Path]:
    gguf_files.write(tmp_path / "large.gguf", model, split=10)
    found = sorted(tmp_path.glob("large-*.gguf"))
    assert len(found) == 3
    return found


def test_parts_load_together(parts, model):
    """Whichever part is named, the whole model loads, under the name without the number; all parts are hashed."""
    names = [path.name for path in parts]
    for part in parts:
        checkpoint = resolve(str(part))
        assert checkpoint.name == "large"
        assert [file["name"] for file in fingerprint(checkpoint)["files"]] == names
    assert (loaded(parts[1]) - logits(model)).abs().max() < 1e-5
    assert set(read_header(parts[2]).tensors) == set(read_header(parts[0]).tensors)


def test_parts_behind_links(parts, tmp_path, model):
    """In the hub's cache the parts are links to files of other names."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for number, part in enumerate(parts):
        part.rename(blobs / f"{number}abc")
        (snapshot / part.name).symlink_to(blobs / f"{number}abc")
    assert resolve(str(snapshot / parts[0].name)).name == "large"
    assert (loaded(snapshot / parts[0].name) - logits(model)).abs().max() < 1e-5
    assert "one of 3 parts of a split model" in refusal(blobs / "1abc")


def test_lost_part(parts):
    """A part without its siblings is refused as a part, with the name of one that is missing."""
    parts[1].unlink()
    assert f"one of 3 parts and {parts[1].name} is not beside it" in refusal(parts[0])


def test_renamed_part(parts, tmp_path):
    """A part is known by its metadata too."""
    assert "one of 3 parts of a split model" in refusal(parts[0].rename(tmp_path / "whole.gguf"))


def test_part_of_another_model(parts, tmp_path, model):
    """Parts that do not belong together are not put together."""
    shutil.copy(parts[0], parts[1])
    assert f"{parts[1].name} is not part 2 of 3" in refusal(parts[0])


def test_whole_file_called_a_part(file, model):
    """A whole file that is called a part of several is refused; as the only part of one it loads."""
    gguf_files.write(file, model)
    assert "has 1 part(s) by its metadata" in refusal(file.rename(file.with_name("tiny-00001-of-00003.gguf")))
    gguf_files.write(file, model)
    precheck(resolve(str(file.rename(file.with_name("tiny-00001-of-00001.gguf")))))


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.1, 0.5, 0.999])
def test_truncated(share, file, model):
    """A .gguf cut off anywhere, header or tensors, is refused before it is loaded."""
    gguf_files.write(file, model)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert "download or copy it again" in refusal(file)


def test_corrupt_header(file, model):
    """No single changed byte in the header makes it fail in another way than by its own error."""
    gguf_files.write(file, model)
    data, said = bytearray(file.read_bytes()), []
    for position in [*range(4, 200), *range(200, 2000, 37)]:
        changed = data[:]
        changed[position] ^= 0xFF
        file.write_bytes(changed)
        try:
            precheck(resolve(str(file)))
        except MechinterpError as error:
            said.append(str(error))
    assert len(said) > 10  # not all: a letter of a name may change unnoticed
    assert not [line for line in said if "\n" in line]


def test_header(file, model):
    """The header gives architecture, keys and shapes without reading a tensor."""
    gguf_files.write(file, model, packing=lambda name: Q.Q8_0)
    header = read_header(file)
    assert header.architecture == "qwen2"
    assert header.tensors["blk.0.ffn_down.weight"].shape == (64, 96)
    assert header.metadata["qwen2.attention.head_count_kv"] == 2


def test_says_one_line_while_loading(file, model, capfd):
    """The loader's own bars are silenced."""
    gguf_files.write(file, model)
    load(resolve(str(file)), device="cpu")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "loading tiny ...\n")


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_dtype(dtype, expected, file, model):
    """Weights are unpacked to the format asked for."""
    gguf_files.write(file, model, packing=lambda name: Q.F16)
    subject = load(resolve(str(file)), device="cpu", dtype=dtype)
    assert {weight.dtype for weight in subject.model.parameters()} == {expected}
