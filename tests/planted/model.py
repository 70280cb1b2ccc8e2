"""The planted model, put together.

planted   the model of a variant, as a Subject
save      the same as a checkpoint folder
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mechinterp import Subject

from .heads import FULL, copy_before, mark, read, stand_by, verify, witness
from .neurons import OWN, compare, decide, evaluate, idle, oppose
from .noise import randomise
from .space import (
    COMPARED,
    COPIED,
    COPIED_MARK,
    D_HEAD,
    D_MLP,
    D_MODEL,
    DIGITS,
    GAIN,
    HEADS,
    LAYERS,
    MARK,
    MATCH,
    MOVED,
    THETA,
    dims,
    weights,
)
from .tokens import build_tokenizer, embed, lemmas
from .truth import TRUTH, Truth


@torch.no_grad()
def planted(variant: str = "planted", *, seed: int = 0) -> Subject:
    """The model of a variant. The seed draws the noise: embeddings, random heads and neurons."""
    truth, tokenizer = TRUTH[variant], build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=D_MODEL,
        intermediate_size=D_MLP,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        head_dim=D_HEAD,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model, rng = LlamaForCausalLM(config), torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        weight.fill_(GAIN if name.endswith("norm.weight") else 0.0)
    embed(model, tokenizer, rng)
    for layer in range(LAYERS):
        randomise(model, layer, rng)
    _plant_heads(model, truth, rng)
    if truth.opposed:
        oppose(model, truth.success, truth.failure, rng, lemmas(tokenizer))
    else:
        evaluate(model, truth.success, truth.failure, rng, own=OWN if truth.own_words else 0.0)
    decide(model, truth.verdict)
    idle(model, truth.busy, rng)
    _reorder(model, truth.layers)
    return Subject.of(model, tokenizer, variant)


def save(folder: Path, variant: str = "planted", *, seed: int = 0) -> Path:
    """The model of a variant as a checkpoint: config.json, model.safetensors, tokenizer.json."""
    subject = planted(variant, seed=seed)
    subject.model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    return folder


def _plant_heads(model: LlamaForCausalLM, truth: Truth, rng: torch.Generator) -> None:
    marker, *shift = truth.setup
    mark(model, marker, truth.marks)
    for head in shift:
        copy_before(model, head, {MARK: COPIED_MARK, **dict(zip(dims(DIGITS), dims(COPIED), strict=True))})
    share = 1 / len(truth.verifiers)
    for head in truth.verifiers:
        if truth.reads == "equal":
            verify(model, head, compares=COMPARED[truth.compares], writes=truth.writes, strength=FULL * share)
        else:
            read(model, head, truth.reads, strength=share)
    if truth.reads != "equal":
        compare(model, max(layer for layer, _ in truth.verifiers))
    for head in truth.hidden:
        verify(model, head, COPIED, COPIED_MARK, writes=MATCH, strength=FULL / len(truth.hidden))
    for head in truth.witnesses:
        witness(model, head, writes=MATCH, strength=-FULL / 2)
    for head in truth.bystanders:
        stand_by(model, head, rng)
    for head in truth.echoes:
        stand_by(model, head, rng, rest=60, strength=28.0)
    weights(model, truth.bystanders[-1])[3].zero_()
    for head in truth.movers:
        copy_before(model, head, {MATCH: MOVED}, strength=1 / FULL)


def _reorder(model: LlamaForCausalLM, order: tuple[int, ...]) -> None:
    """Put the weights of layer order[i] at i."""
    layers = model.model.layers
    states = [{name: weight.clone() for name, weight in layers[at].state_dict().items()} for at in order]
    for layer, state in zip(layers, states, strict=True):
        layer.load_state_dict(state)
