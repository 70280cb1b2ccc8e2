"""A folder with an adapter is its base with the adapter's changes in the weights, or one line that says why not."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from test_loading import TOKENIZER, configure, open_, refusal, save
from torch import nn
from transformers import AutoModelForCausalLM

import mechinterp as mi
from claims.harness.subject_facts import bare_facts
from fixtures.checkpoints import adapter_files, fingerprint, locate, precheck, resolve
from fixtures.loading import load
from mechinterp.errors import MechinterpError

pytestmark = pytest.mark.filterwarnings("ignore:::peft", "ignore::FutureWarning")
IDS = torch.arange(300, 320)[None]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def train(base: Path, folder: Path, **options: object) -> nn.Module:
    """An adapter whose weights are random, as if trained, saved to a folder; returns the base with it beside."""
    torch.manual_seed(1)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **options})
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight) * (0.2 if "magnitude" in name else 1))
    model.save_pretrained(folder)
    return model.eval()


def settle(folder: Path, **changes: object) -> Path:
    return configure(folder, "adapter_config.json", **changes)


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("adapters") / "small", "llama")


@pytest.fixture(scope="session")
def trained(base) -> tuple[Path, torch.Tensor]:
    """An adapter's folder and what its base says with it."""
    folder = base.parent / "step_300"
    with torch.no_grad():
        return folder, train(base, folder)(IDS).logits


@pytest.fixture
def copy(trained, base, tmp_path) -> Path:
    folder = shutil.copytree(trained[0], tmp_path / "step_300")
    return settle(folder, base_model_name_or_path=str(base))


# --- what is merged


def test_adapter_of_the_shipped_base(tmp_path):
    """A LoRA of `base`: its logits are those of base with B A times alpha / r added by hand."""
    shipped = locate(resolve("base"))
    train(shipped, tmp_path / "lora", target_modules=["q_proj", "down_proj"])
    subject = load(resolve(str(tmp_path / "lora")), device="cpu")
    assert (subject.name, subject.anatomy.family) == ("lora", "qwen2")
    by_hand = load(resolve("base"), device="cpu").model
    changes = load_file(tmp_path / "lora/adapter_model.safetensors")
    weights = dict(by_hand.named_parameters())
    for name, a in changes.items():
        if name.endswith("lora_A.weight"):
            stem = name.removesuffix(".lora_A.weight")
            weights[f"{stem.removeprefix('base_model.model.')}.weight"].data += (
                8 / 4 * changes[f"{stem}.lora_B.weight"] @ a
            )
    torch.testing.assert_close(subject.model(IDS).logits, by_hand(IDS).logits, atol=1e-4, rtol=1e-4)
    plain = load(resolve("base"), device="cpu").model(IDS).logits
    assert (subject.model(IDS).logits - plain).abs().max() > 0.1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_moved_weights_are_those_of_the_adapter(trained, base, copy, dtype):
    """Beside its base an adapter has moved what it says, by what it says, and nothing else; in any number format."""
    train(base, copy, target_modules=["q_proj"])
    ours, theirs = load(resolve(str(copy)), device="cpu"), load(resolve(str(base)), device="cpu", dtype=dtype)
    rounding = 0.005 if dtype == "bfloat16" else 0
    changes = load_file(copy / "adapter_model.safetensors")
    by = {kind: mi.weight_changes(ours, theirs, kind).distance for kind in ("query", "key", "output", "value vector")}
    assert all(float(by[kind].max()) <= rounding for kind in ("key", "output", "value vector"))
    for layer in range(ours.anatomy.n_layers):
        stem = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_"
        change = 8 / 4 * changes[f"{stem}B.weight"] @ changes[f"{stem}A.weight"]
        weight = theirs.anatomy.attention(layer).q_proj.weight.float()
        for head in range(ours.anatomy.n_heads):
            rows = slice(head * ours.anatomy.d_head, (head + 1) * ours.anatomy.d_head)
            wanted = float(change[rows].norm() / weight[rows].norm())
            assert float(by["query"][layer, head]) == pytest.approx(wanted, rel=1e-3, abs=rounding)
            assert wanted > 2 * rounding


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
        {"bias": "all", "target_modules": ["q_proj"]},
        {"bias": "lora_only"},
        {"modules_to_save": ["lm_head"], "target_modules": ["v_proj"]},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["embed_tokens", "lm_head", "up_proj"]},
        {"target_modules": r".*\.1\..*(q|o)_proj"},
        {"layers_to_transform": [1], "target_modules": ["q_proj"]},
        {"target_modules": "all-linear", "exclude_modules": ["k_proj"]},
        {"init_lora_weights": "gaussian", "lora_dropout": 0.5},
        {"lora_bias": True, "target_modules": ["o_proj"]},
    ],
)
def test_kinds_of_lora(options, tmp_path):
    """Whatever a LoRA has, the merged weights say what the base says with the adapter beside it."""
    base = save(tmp_path / "base", "llama", attention_bias=True)
    with torch.no_grad():
        expected = train(base, tmp_path / "adapter", **options)(IDS).logits
    subject = open_(tmp_path / "adapter")
    torch.testing.assert_close(subject.model(IDS).logits, expected, atol=1e-4, rtol=1e-4)
    assert not [name for name, _ in subject.model.named_modules() if "lora" in name]
    assert not any(weight.requires_grad for weight in subject.model.parameters())


def test_number_format(copy):
    """The merged weights have the format asked for."""
    assert {weight.dtype for weight in open_(copy, dtype="bfloat16").model.parameters()} == {torch.bfloat16}


def test_tokenizer_beside_the_adapter(copy):
    """A tokenizer that was saved with the adapter is the one that it was trained with; else it is the base's."""
    assert open_(copy).tokenizer("51 (this")["input_ids"] == TOKENIZER("51 (this")["input_ids"]
    TOKENIZER.save_pretrained(copy)
    configure(copy, "tokenizer_config.json", pad_token="<|endoftext|>")
    assert open_(copy).tokenizer.pad_token == "<|endoftext|>"


# --- where the base is found


def test_base_by_a_relative_path(trained, base, tmp_path, monkeypatch):
    """A relative path leads from the adapter's folder, not from where the suite is run; also through a link."""
    folder = settle(shutil.copytree(trained[0], base.parent / "relative"), base_model_name_or_path="../small")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    for path in (folder, tmp_path / "link"):
        torch.testing.assert_close(open_(path).model(IDS).logits, trained[1], atol=1e-4, rtol=1e-4)


def test_base_and_adapter_in_the_hubs_cache(copy, base, tmp_path, monkeypatch):
    """A base in the cache is found without a network, at the revision that the adapter names; so is an adapter."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name, folder, commit in (("base", base, "b" * 40), ("lora", copy, "a" * 40)):
        cache = tmp_path / "hub" / f"models--o--{name}"
        shutil.copytree(folder, cache / "snapshots" / commit)
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text(commit)
    snapshot = tmp_path / "hub/models--o--lora/snapshots" / ("a" * 40)
    for named in ({"revision": None}, {"revision": "b" * 40}):
        settle(snapshot, base_model_name_or_path="o/base", **named)
        subject = load(resolve("o/lora"), device="cpu")
        assert subject.name == "o/lora"
        assert subject.model(IDS).logits.isfinite().all()
    found = fingerprint(resolve("o/lora"))
    assert (found["hub"], found["revision"]) == ("o/lora", "a" * 40)
    assert (found["other"]["base"], found["other"]["base_revision"]) == ("o/base", "b" * 40)
    settle(snapshot, base_model_name_or_path="o/base", revision="v9")
    precheck(resolve("o/lora"))  # that base is not here yet, so nothing is said of it
    with pytest.raises(MechinterpError, match="o/base@v9 is not in the local cache"):
        load(resolve("o/lora"), device="cpu")


@pytest.mark.parametrize("named", ["/home/somebody/base", "../nowhere", "base.gguf", "a/b/c", "~nobody/base"])
def test_base_that_is_not_here(copy, named):
    """A base that was a folder of another machine: what it was called, and where to put the right name."""
    message = refusal(settle(copy, base_model_name_or_path=named))
    assert repr(named) in message
    assert "set base_model_name_or_path" in message


@pytest.mark.parametrize("named", [None, "", 3])
def test_no_base(copy, named):
    """An adapter without a base is nothing to examine."""
    assert "names no base" in refusal(settle(copy, base_model_name_or_path=named))


@pytest.mark.parametrize("named", [".", "../other"])
def test_adapter_of_an_adapter(copy, named):
    """A base that is an adapter itself, or the same one, is refused."""
    shutil.copytree(copy, copy.parent / "other")
    assert "an adapter itself" in refusal(settle(copy, base_model_name_or_path=named))


def test_base_that_cannot_be_examined(copy, tmp_path):
    """What is refused of a base is refused of its adapters, before any weight is read."""
    other = save(tmp_path / "other")
    (other / "model.safetensors").write_bytes(b"not read")
    configure(other, model_type="bert")
    message = refusal(settle(copy, base_model_name_or_path=str(other)))
    assert "'bert'" in message
    configure(other, model_type="qwen2", quantization_config={"quant_method": "bitsandbytes"})
    assert "packed by bitsandbytes" in refusal(copy)


# --- what is refused


@pytest.mark.parametrize(
    "setting",
    [
        {"peft_type": "IA3"},
        {"peft_type": "PROMPT_TUNING"},
        {"peft_type": None},
        {"init_lora_weights": "pissa_niter_16"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "loftq"},
        {"megatron_config": {"a": 1}},
        {"layer_replication": [[0, 2], [1, 2]]},
        {"alora_invocation_tokens": [5, 6]},
        {"use_qalora": True},
        {"target_parameters": ["mlp.experts.gate_up_proj"]},
        {"corda_config": {"cache_file": "evil.pkl"}},
        {"lora_ga_config": {"cache_file": "evil.pkl"}},
        {"a_setting_of_tomorrow": 1},
        {"revision": 7},
    ],
)
def test_settings_that_are_not_carried_out(copy, setting):
    """A setting that peft would obey by opening a pickle or importing a module, or not at all, is refused by name."""
    (key,) = setting
    message = refusal(settle(copy, **setting))
    assert (key if key != "peft_type" else f"kind {setting[key]!r}") in message


def test_settings_without_effect(copy, trained):
    """What other versions of peft write down, with no effect on a trained adapter, is no reason to refuse."""
    settle(copy, megatron_core="megatron.core", loftq_config={}, eva_config=None, use_qalora=False, tomorrow=None)
    settle(copy, auto_mapping={"base_model_class": "os", "parent_library": "os"}, inference_mode=False)
    torch.testing.assert_close(open_(copy).model(IDS).logits, trained[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt"])
def test_pickles(copy, name):
    """An adapter that is only there as a pickle is never opened."""
    (copy / "adapter_model.safetensors").rename(copy / name)
    message = refusal(copy)
    assert name in message
    assert "never opened" in message


def test_incomplete_folders(copy, base):
    """No weights, weights cut off, settings that are no JSON, or a whole model in the same folder: one line each."""
    path = copy / "adapter_model.safetensors"
    data = path.read_bytes()
    path.unlink()
    assert "no adapter_model.safetensors" in refusal(copy)
    for size in (0, 4, 1000):
        path.write_bytes(data[:size])
        assert "cut off or corrupt" in refusal(copy)
    path.write_bytes(data)
    shutil.copy(base / "model.safetensors", copy)
    assert "is it an adapter or a whole model?" in refusal(copy)
    (copy / "model.safetensors").unlink()
    (copy / "adapter_config.json").write_text("{")
    assert "is not JSON" in refusal(copy)


def edit(folder: Path, change) -> Path:
    tensors = load_file(folder / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_tensor_without_a_place(copy):
    """A tensor of the adapter that the base has no place for is named, not left out."""
    name = "base_model.model.model.layers.7.mlp.up_proj.lora_A.weight"
    assert "layers.7.mlp.up_proj.lora_A" in refusal(
        edit(copy, lambda tensors: tensors.update({name: torch.ones(4, 64)}))
    )


def test_tensor_that_is_missing(copy):
    """One that the settings ask for is named, not made up."""
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    assert f"lacks {name}" in refusal(edit(copy, lambda tensors: tensors.pop(name)))


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["c_attn"]},
        {"target_modules": "((("},
        {"layers_to_transform": [7]},
        {"modules_to_save": ["lm_head"]},
        {"r": 8},
        {"r": "four"},
        {"lora_alpha": float("nan")},
        {"rank_pattern": {"q_proj": -1}},
    ],
)
def test_settings_that_do_not_fit(copy, settings):
    """Settings that are not those of the base, or of the tensors, are one line."""
    assert "does not fit its base" in refusal(settle(copy, **settings))


def test_integers(copy):
    """Integers in the place of an adapter's weights are packed, and refused."""
    edit(copy, lambda tensors: tensors.update({name: tensor.to(torch.int8) for name, tensor in tensors.items()}))
    assert "is stored as I8" in refusal(copy)


def test_adapter_of_another_size(copy, tmp_path):
    """An adapter of a model of another size is refused by a tensor."""
    other = save(tmp_path / "other", "llama", hidden_size=32, head_dim=8)
    message = refusal(settle(copy, base_model_name_or_path=str(other)))
    assert "does not fit its base" in message
    assert "lora_" in message


def test_tied_weights(tmp_path):
    """A change of the unembedding alone cannot be merged where the embedding is the same matrix."""
    base = save(tmp_path / "base", "llama", tie_word_embeddings=True)
    train(base, tmp_path / "adapter", target_modules=["lm_head"])
    assert "tied" in refusal(tmp_path / "adapter")


def test_weights_that_are_not_finite(copy):
    """A tensor of an adapter that is not finite is named before it is merged."""
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    edit(copy, lambda tensors: tensors[name].fill_(torch.nan))
    assert f"{name} of adapter_model.safetensors is not finite" in refusal(copy)


def test_without_peft(copy, monkeypatch):
    """Without peft one line says what to install, before anything is loaded."""
    real = importlib.util.find_spec
    monkeypatch.setattr(adapter_files, "find_spec", lambda name: None if name == "peft" else real(name))
    with pytest.raises(MechinterpError, match="pip install peft"):
        precheck(resolve(str(copy)))


# --- provenance


def test_provenance_names_both(copy, base):
    """The files of adapter and base are there with their hashes, and what is whose."""
    found = fingerprint(resolve(str(copy)))
    names = [file["name"] for file in found["files"]]
    assert {"adapter_config.json", "adapter_model.safetensors", "base/model.safetensors", "base/config.json"} <= set(
        names
    )
    assert names == sorted(names)
    by_name = {file["name"]: file["sha256"] for file in found["files"]}
    of = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for folder, name in (
        (copy, "adapter_model.safetensors"), (base, "model.safetensors"), (copy, "adapter_config.json")
    )}  # fmt: skip
    assert by_name["adapter_model.safetensors"] == of["adapter_model.safetensors"] == found["other"]["adapter_sha256"]
    assert by_name["base/model.safetensors"] == of["model.safetensors"] == found["other"]["base_sha256"]
    assert found["other"]["base"] == "small"
    lines = "".join(f"{digest}  {name}\n" for name, digest in (
        ("adapter_config.json", of["adapter_config.json"]),
        ("adapter_model.safetensors", of["adapter_model.safetensors"]),
        ("base", of["model.safetensors"]),
    ))  # fmt: skip
    assert found["sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    assert str(copy.parent) not in json.dumps(found)
    assert bare_facts(resolve(str(copy))).other["base_sha256"] == of["model.safetensors"]


def test_any_change_shows(copy, base, tmp_path):
    """Another base, other weights of the adapter or another scale: another digest."""
    digests = {fingerprint(resolve(str(copy)))["sha256"]}
    other = save(tmp_path / "other", "llama", hidden_size=32, head_dim=8)
    settle(copy, base_model_name_or_path=str(other))
    digests.add(fingerprint(resolve(str(copy)))["sha256"])
    settle(copy, base_model_name_or_path=str(base), lora_alpha=99)
    digests.add(fingerprint(resolve(str(copy)))["sha256"])
    edit(copy, lambda tensors: next(iter(tensors.values())).mul_(2))
    digests.add(fingerprint(resolve(str(copy)))["sha256"])
    assert len(digests) == 4
