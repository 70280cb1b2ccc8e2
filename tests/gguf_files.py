"""Small .gguf files, written as llama.cpp's converter writes them, from models whose logits are known.

build       a random model of a family, its biases and norms random too
write       that model as a .gguf, with keys and tensors added, changed or left out
reload      the same model from safetensors: what the .gguf must give
tokens_of   the keys of a byte-level tokenizer
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fixtures.organisms.training.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
IDS = torch.arange(300, 340)[None]
FAMILIES = {  # how the models of the tests differ: each has what its family may have
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": False}),
    "qwen2 with tied embeddings": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 24}),
    "qwen3 with biases": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16, "attention_bias": True}),
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama with wide heads": (LlamaConfig, LlamaForCausalLM, {"head_dim": 32}),
    "llama with biases": (LlamaConfig, LlamaForCausalLM, {"attention_bias": True, "mlp_bias": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
}
SHAPE = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.15,  # large enough that attention is far from uniform
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
}
PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
Model = Any


def build(family: str, **shape: object) -> Model:
    config, model, extra = FAMILIES[family]
    torch.manual_seed(0)
    built = model(config(**{**SHAPE, **extra, **shape})).eval()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
            elif "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return built


def reload(model: Model, folder: Path, **config: object) -> Model:
    """The model from its safetensors, with other settings in its config.json."""
    model.save_pretrained(folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()


def write(
    path: Path,
    model: Model,
    *,
    architecture: str = "",
    keys: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    without: Collection[str] = (),
    tokenizer: PreTrainedTokenizerBase = TOKENIZER,
    packing: Callable[[str], gguf.GGMLQuantizationType] = lambda name: gguf.GGMLQuantizationType.F32,
    split: int = 0,
) -> dict[str, np.ndarray]:
    """Write a model; keys that begin with a point belong to its architecture. Returns the tensors as gguf unpacks them.

    Args:
        architecture: what the file says it is, in place of the model's family.
        keys: added to the metadata, or in place of what is there; None leaves a key out.
        tensors: added to the tensors, or in place of them.
        without: tensors left out.
        packing: how a matrix is packed.
        split: tensors in a part, or 0 for one file; the parts are called NAME-00001-of-00002.gguf.
    """
    family = "llama" if model.config.model_type == "mistral" else model.config.model_type
    architecture = architecture or family
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=split)
    metadata = {**_shape_of(model.config), **tokens_of(tokenizer), **(keys or {})}
    for key, value in metadata.items():
        if value is not None:
            _add(writer, f"{architecture}{key}" if key.startswith(".") else key, value)
    unpacked = {}
    for name, values in {**_tensors_of(model, family), **(tensors or {})}.items():
        if name not in without:
            unpacked[name] = _put(writer, name, values, packing(name) if values.ndim == 2 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return unpacked


def tokens_of(tokenizer: PreTrainedTokenizerBase, pre: str = "qwen2") -> dict[str, Any]:
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    added = {token["id"]: token["special"] for token in backend["added_tokens"]}
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [{None: 1, True: 3, False: 4}[added.get(i)] for i in range(len(tokens))],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in backend["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": tokenizer.bos_token_id,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
    }


def _shape_of(config: Any) -> dict[str, Any]:
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        ".context_length": config.max_position_embeddings,
        ".block_count": config.num_hidden_layers,
        ".embedding_length": config.hidden_size,
        ".feed_forward_length": config.intermediate_size,
        ".attention.head_count": config.num_attention_heads,
        ".attention.head_count_kv": config.num_key_value_heads,
        ".attention.key_length": d_head,
        ".attention.value_length": d_head,
        ".attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        ".rope.freq_base": config.rope_parameters["rope_theta"],
    }


def _tensors_of(model: Model, family: str) -> dict[str, np.ndarray]:
    tensors = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        stem, end = name.rsplit(".", 1)
        if stem in WHOLE:
            name = WHOLE[stem]
        else:
            layer, part = stem.removeprefix("model.layers.").split(".", 1)
            name = f"blk.{layer}.{PARTS[part]}"
        values = weight.numpy()
        heads = {"attn_q": model.config.num_attention_heads, "attn_k": model.config.num_key_value_heads}
        if family == "llama" and (n := heads.get(name.split(".")[-1])):
            halves = values.reshape(n, 2, -1, *values.shape[1:])  # (heads, halves, d_head / 2, ...)
            values = halves.swapaxes(1, 2).reshape(values.shape)  # llama.cpp turns neighbours
        tensors[f"{name}.{end}"] = np.ascontiguousarray(values)
    return tensors


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    (writer.add_array if isinstance(value, list) else kinds[type(value)])(key, value)


def _put(writer: gguf.GGUFWriter, name: str, values: np.ndarray, kind: gguf.GGMLQuantizationType | None) -> np.ndarray:
    if kind in (None, gguf.GGMLQuantizationType.F32):
        writer.add_tensor(name, values)
        return values
    packed = gguf.quants.quantize(values, kind)
    writer.add_tensor(name, packed, raw_dtype=kind)
    return gguf.quants.dequantize(packed, kind)
