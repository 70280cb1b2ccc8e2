"""From a checkpoint to a subject: whole, finite, float and greedy, or one line that says why not."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertLMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fixtures.checkpoints import fingerprint, resolve
from fixtures.loading import load, place
from fixtures.organisms.training.tokenizer import build_tokenizer
from mechinterp.errors import MechinterpError
from mechinterp.subject import Subject

FAMILIES = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}
TOKENIZER = build_tokenizer()
SHAPE = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tie_word_embeddings": False,
    "bos_token_id": TOKENIZER.bos_token_id,
    "eos_token_id": TOKENIZER.eos_token_id,
    "pad_token_id": TOKENIZER.pad_token_id,
}


def save(folder: Path, family: str = "qwen2", **shape: object) -> Path:
    config, model = FAMILIES[family]
    torch.manual_seed(0)
    model(config(**{**SHAPE, **shape})).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def open_(path: Path, **options: str) -> Subject:
    return load(resolve(str(path)), **{"device": "cpu", **options})


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(MechinterpError) as caught:
        open_(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__cause__ is None
    return message


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("saved") / "whole")


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """A folder to break."""
    return shutil.copytree(saved, tmp_path / "broken")


@pytest.fixture
def edit(copy: Path) -> Callable:
    """Changes the tensors of the copy."""

    def edit(change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
        tensors = load_file(copy / "model.safetensors")
        change(tensors)
        save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
        return copy

    return edit


def configure(folder: Path, name: str = "config.json", **changes: object) -> Path:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


# --- what is loaded


@pytest.mark.parametrize("family", FAMILIES)
def test_families_load(family, tmp_path):
    """Each supported family loads to the weights that were saved, in eval mode, with its anatomy."""
    folder = save(tmp_path / family, family)
    subject = open_(folder)
    assert subject.name == subject.anatomy.family == family
    assert not subject.model.training
    assert (subject.anatomy.n_layers, subject.anatomy.n_heads, subject.anatomy.d_mlp) == (2, 4, 96)
    saved = load_file(folder / "model.safetensors")
    assert all(torch.equal(weight, saved[name]) for name, weight in subject.model.state_dict().items())


def test_shipped_base_loads():
    """The embedded default loads, finite and in the dtype of the device."""
    subject = load(resolve("base"), device="cpu")
    assert subject.name == "base"
    assert subject.anatomy.unembed.weight is subject.model.get_input_embeddings().weight  # tied, and not missing
    ids = torch.tensor([subject.tokenizer("- 27 - 25 + 49 = 51 (")["input_ids"]])
    assert subject.model(ids).logits.isfinite().all()


@pytest.mark.parametrize(("dtype", "expected"), [("auto", torch.float32), ("bfloat16", torch.bfloat16)])
def test_dtype(saved, dtype, expected):
    """float32 on the CPU, unless another is asked for."""
    subject = open_(saved, dtype=dtype)
    assert {weight.dtype for weight in subject.model.parameters()} == {expected}


def test_automatic_device_is_there(saved):
    """`auto` takes cuda if it is there, else the CPU."""
    subject = open_(saved, device="auto")
    assert subject.device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda(saved):
    """On cuda the weights are bfloat16 and all on the device, and the same model answers."""
    subject, on_cpu = open_(saved, device="cuda"), open_(saved)
    assert {(weight.device.type, weight.dtype) for weight in subject.model.parameters()} == {("cuda", torch.bfloat16)}
    ids = torch.arange(300, 316)[None]
    logits = subject.model(ids.cuda()).logits.float().cpu()
    assert torch.nn.functional.cosine_similarity(logits, on_cpu.model(ids).logits, dim=-1).min() > 0.99


def test_larger_than_one_device_is_spread_over_all(monkeypatch):
    """On one device if it fits, else spread by accelerate, else refused: never kept partly elsewhere."""
    config, cuda = Qwen2Config(**SHAPE), torch.device("cuda")
    size = 2 * Qwen2ForCausalLM(config).num_parameters()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for free, expected in ((2 * size, {"": cuda}), (0.8 * size, "auto")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (int(free), int(free)))
        assert place(config, cuda, torch.bfloat16) == expected
    for device, free in ((cuda, 0.4 * size), (torch.device("cuda:1"), 0.8 * size)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (int(free), int(free)))
        with pytest.raises(MechinterpError, match="GiB in bfloat16"):
            place(config, device, torch.bfloat16)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"device": "abacus"}, "device 'abacus' is not there"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not there"),
        ({"device": "meta"}, "holds no weights"),
        ({"device": ""}, "device '' is not there"),
        ({"dtype": "int8"}, "give auto, float32, bfloat16, float16"),
    ],
)
def test_unknown_device_or_dtype(saved, options, says):
    """A device or dtype that is not there is refused with those that are known."""
    assert says in refusal(saved, **options)


def test_shards_load(saved, tmp_path):
    """Shards load to the same weights as one file; a missing shard is refused."""
    whole = open_(saved)
    whole.model.save_pretrained(tmp_path / "shards", max_shard_size="500KB")
    TOKENIZER.save_pretrained(tmp_path / "shards")
    shards = sorted((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(shards) > 1
    again = open_(tmp_path / "shards").model.state_dict()
    assert all(torch.equal(weight, again[name]) for name, weight in whole.model.state_dict().items())
    shards[0].unlink()
    assert f"lacks {shards[0].name}" in refusal(tmp_path / "shards")


def test_cached_hub_model_loads_offline(saved, tmp_path, monkeypatch):
    """A model in the hub's cache loads without a network, under its hub id."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cache = tmp_path / "models--o--n"
    shutil.copytree(saved, cache / "snapshots" / ("e" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("e" * 40)
    assert load(resolve("o/n"), device="cpu").name == "o/n"


def test_greedy_decoding_is_plain(copy, caplog, monkeypatch):
    """Sampling settings that a checkpoint ships neither warn about nor change greedy decoding."""
    settings = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.5}
    configure(copy, "generation_config.json", **settings)
    configure(copy, use_cache=False)
    subject = open_(copy)
    ids = torch.arange(300, 312)[None]
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    with caplog.at_level(logging.WARNING), warnings.catch_warnings(action="error"):
        written = subject.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1)
    assert not caplog.records
    assert written[0, -1] == subject.model(ids).logits[0, -1].argmax()
    assert subject.model.config.use_cache


def test_padding_is_possible(copy):
    """A tokenizer without a padding token pads with the end of text."""
    configure(copy, "tokenizer_config.json", pad_token=None)
    subject = open_(copy)
    assert subject.tokenizer.pad_token_id is not None
    assert subject.model.generation_config.pad_token_id == subject.tokenizer.pad_token_id


def test_checkpoints_own_tokenizer_wins(copy):
    """Text is split as the checkpoint's tokenizer.json says, even where transformers would rebuild it otherwise."""
    file = json.loads((copy / "tokenizer.json").read_text())
    file["model"].update(merges=[], ignore_merges=True)  # rebuilt without the flag, it would read single letters
    (copy / "tokenizer.json").write_text(json.dumps(file))
    assert open_(copy).tokenizer("this works")["input_ids"] == TOKENIZER("this works")["input_ids"]


def test_says_one_line_while_loading(saved, capfd):
    """Off a terminal there is one line on stderr: no bars, reports or warnings of the loaders."""
    open_(saved)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "loading whole ...\n")


# --- what is refused


def test_encoder_is_refused_before_its_weights(tmp_path):
    """A BERT is refused by name, although its weights cannot even be read."""
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, is_decoder=True
    )
    BertLMHeadModel(config).save_pretrained(tmp_path / "bert")
    TOKENIZER.save_pretrained(tmp_path / "bert")
    (tmp_path / "bert/model.safetensors").write_bytes(b"not read")
    message = refusal(tmp_path / "bert")
    assert "'bert'" in message
    assert "Qwen2" in message


@pytest.mark.parametrize("keep", [0, 4, 100, 100_000])
def test_truncated_safetensors(copy, keep):
    """Weights cut off anywhere are one line that says to fetch them again."""
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "download or save it again" in refusal(copy)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite(edit, value):
    """The first weight with a NaN or an infinity in it is named."""

    def spoil(tensors):
        tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = value

    message = refusal(edit(spoil))
    assert "model.layers.1.mlp.down_proj.weight is not finite" in message


def test_weights_too_large_for_float16(edit):
    """A weight that overflows in float16 only is refused there, with the dtype to take."""

    def grow(tensors):
        tensors["lm_head.weight"][0, 0] = 1e6

    folder = edit(grow)
    assert open_(folder)
    assert "bfloat16" in refusal(folder, dtype="float16")


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.o_proj.weight", "model.norm.weight", "lm_head.weight"])
def test_missing_weight(edit, name):
    """A weight that is not in the file is never filled in at random."""
    assert f"it lacks {name}" in refusal(edit(lambda tensors: tensors.pop(name)))


def test_unexpected_weight(edit):
    """Weights that the architecture has no place for mean that it is another model."""
    folder = edit(lambda tensors: tensors.update({"model.layers.0.mlp.extra.weight": torch.ones(2)}))
    assert "has no place for model.layers.0.mlp.extra.weight" in refusal(folder)


def test_weight_of_another_shape(edit):
    """A weight of another shape than the configuration's is refused."""
    folder = edit(lambda tensors: tensors.update({"model.norm.weight": torch.ones(5)}))
    assert "another shape to model.norm.weight" in refusal(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool])
def test_weight_of_integers(edit, dtype):
    """Integers are packed weights, not numbers to be converted."""
    name = "model.layers.1.mlp.up_proj.weight"
    message = refusal(edit(lambda tensors: tensors.update({name: torch.ones(96, 64, dtype=dtype)})))
    assert f"{name} is stored as" in message


def test_unembedding_that_should_be_tied(tmp_path):
    """A second unembedding is refused where the configuration has only one; a copy of the embedding is not."""
    folder = save(tmp_path / "tied", tie_word_embeddings=True)
    tensors = load_file(folder / "model.safetensors")
    for factor, is_copy in ((1, True), (2, False)):
        both = {**tensors, "lm_head.weight": factor * tensors["model.embed_tokens.weight"]}
        save_file(both, folder / "model.safetensors", metadata={"format": "pt"})
        if is_copy:
            assert open_(folder)
        else:
            assert "tie_word_embeddings" in refusal(folder)


def test_layer_of_another_checkpoint(copy):
    """A configuration with more layers than the file is refused, not completed at random."""
    assert "it lacks model.layers.2" in refusal(
        configure(copy, num_hidden_layers=3, layer_types=["full_attention"] * 3)
    )


def test_corrupt_tokenizer(copy):
    """A tokenizer that cannot be read is one line."""
    (copy / "tokenizer.json").write_text('{"version": "1.0"')
    assert "cannot be loaded" in refusal(copy)


@pytest.mark.parametrize("changes", [{"num_attention_heads": "four"}, {"hidden_size": -1}, {"hidden_act": "nothing"}])
def test_impossible_configuration(copy, changes):
    """A configuration that makes no model is one line."""
    assert "cannot be loaded" in refusal(configure(copy, **changes))


def test_model_larger_than_memory(copy):
    """A model that does not fit is refused before anything is allocated, with the dtype or device to take."""
    message = refusal(configure(copy, hidden_size=2**20, intermediate_size=2**22))
    assert "GiB in float32" in message
    assert "--dtype bfloat16" in message


def test_code_of_a_checkpoint_never_runs(copy, tmp_path):
    """A checkpoint that brings code is loaded as its plain family: the code is not run."""
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w')\nfrom transformers import Qwen2Config as C, Qwen2ForCausalLM as M"
    (copy / "evil.py").write_text(code)
    (copy / "custom_generate").mkdir()
    (copy / "custom_generate/generate.py").write_text(code)
    configure(copy, auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})
    configure(copy, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]})
    subject = open_(copy)
    assert type(subject.model) is Qwen2ForCausalLM
    assert not ran.exists()


def test_pickle_beside_safetensors_is_not_opened(copy):
    """Only safetensors are read where both are there."""
    (copy / "pytorch_model.bin").write_bytes(b"not a pickle")
    assert open_(copy)


@pytest.mark.real_model
@pytest.mark.skipif(
    not os.environ.get("REAL_MODEL"), reason="set REAL_MODEL to a .gguf file or a folder of a real model"
)
def test_real_model_loads():
    """A real checkpoint loads to float matrices and tells ` (` as one token; its fingerprint is there."""
    checkpoint = resolve(os.environ["REAL_MODEL"])
    subject = load(checkpoint, device="cpu")
    anatomy = subject.anatomy
    for layer in range(anatomy.n_layers):
        assert anatomy.o_proj(layer).weight.dtype == anatomy.down_proj(layer).weight.dtype == torch.float32
    tokens = subject.tokenizer.convert_ids_to_tokens(subject.tokenizer("= 51 (this")["input_ids"])
    assert tokens[-2:] == ["Ġ(", "this"]
    assert len(fingerprint(checkpoint)["sha256"]) == 64
