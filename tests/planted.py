"""A model whose truth is known: verification is planted in it by hand, without training.

planted    the model, in one of the variants of TRUTH, as a Subject
save       the same as a checkpoint folder
TRUTH      by variant, which heads and neurons verify and which only look as if they did

A small Llama, 6 layers of 16 heads and 96 neurons. Each part of the circuit has residual dimensions of its own:

| layer | part             | where            | what it does                                                           |
|-------|------------------|------------------|------------------------------------------------------------------------|
|       | embedding        | every token      | a number's digits, one-hot; which word it is, at random                |
| 0     | marker head      | after `equals` … | attends to the token before: MARK says "this number is the target"     |
| 1     | shift head       | every token      | attends to the token before and copies its digits and its MARK         |
| 1, 2  | verifier heads   | the result       | attend to MARKed tokens of the same digits, else to `<s>`; write MATCH |
| 2     | hidden verifiers | the result       | the same by the shifted digits: attend to the token after a target     |
| 1, 2  | bystander heads  | every token      | attend to the target as well, and write noise or nothing               |
| 3     | mover head       | ` (`             | attends to the token before and copies its MATCH to MOVED              |
| 3, 4  | value neurons    | ` (`             | fire by MOVED or its absence; write words of success or of failure     |
| 5     | verdict neurons  | ` (`             | read those words, write `this` or `not`                                |

All other heads and neurons are random: they read which word a token is and write noise, as much as the verifiers
write or more. A little of it leaks into the circuit, so that no two transcripts have the same log-odds.

| variant   | verifiers             | hidden | known truth                                                           |
|-----------|-----------------------|--------|-----------------------------------------------------------------------|
| planted   | write MATCH           | random | without the verifiers it cannot tell right from wrong                 |
| constant  | always attend to `<s>`| random | always `not`; nothing in it depends on whether the result is right    |
| redundant | write MATCH           | MATCH  | either kind suffices: both must go to lose the verdict; one fakes it  |
| decoy     | write what none reads | MATCH  | the verifiers attend to the target and do nothing; the hidden ones do |

In all but `constant` the verdict can be read from the result in layers 1 to 5 and from ` (` in layers 3 to
5; the lens shows success at ` (` in layers 3 and 4, never at the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn.functional import normalize
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fixtures.lexicon import FAILURE, SUCCESS, lexicon, vocabulary
from fixtures.organisms.training.vocabulary import words
from fixtures.task.countdown import make_problems
from fixtures.task.sites import verdict_tokens
from fixtures.task.transcripts import complete, make_transcripts
from mechinterp import Subject
from mechinterp.intervene import Head, Neuron

LAYERS, HEADS, D_HEAD, D_MLP = 6, 16, 32, 96
PER_LAYER = 6  # value neurons of a kind; the first of them writes half of what they write
LARGEST = 399  # the largest number that is a token
NEUTRAL = (
    "数字 方程 等于 使用 每个 尝试 组合 答案 题目 今天 山 水 人 天 地 家 时间 城市 老师 学生"  # beside the lexicon
)

# Residual dimensions. Nearly all of the norm is the constant in BIAS, and GAIN undoes what RMSNorm divides by, so that
# every part reads what was written, to within a percent.
DIGITS = slice(0, 24)  # one-hot: 4 for hundreds, 10 for tens, 10 for ones
SHIFTED = slice(24, 48)  # the digits of the token before
BIAS, START, INTRODUCES, OPEN, MARK, SHIFTED_MARK, MATCH, MOVED, SUCCEEDS, FAILS, THIS, NOT, UNREAD = range(48, 61)
WORDS = slice(61, 80)  # what tells one word from another in the unembedding
IDENTITY = slice(80, 104)  # which word a token is, at random: what random parts read
NOISE = slice(104, 128)  # what they write
D_MODEL = 128
GAIN = 4.0
LEVEL = GAIN * math.sqrt(D_MODEL)  # of BIAS

# Head dimensions. With THETA the first 3 of 16 rotary pairs turn by 1, 0.056 and 0.0032 radians a token and tell
# positions apart; the others hardly turn within a transcript and hold content: 24 digits, the mark, the sink.
THETA = 1e20
TURNING = {0: 1.0, 1: 3.0, 2: 5.0}  # pair -> weight in the score of "one token before"
CONTENT = [*range(3, 16), *range(19, 32)]
SHARP = 20.0  # attention logits a unit of score: 3 for equal digits, 1 for the mark, 3.5 for `<s>`
SINK = 3.5
LEAK = 0.02  # what random parts write into the circuit, relative to what they write into noise


@dataclass(frozen=True)
class Truth:
    """Which parts do what.

    Attributes:
        verifiers: attend from the result to the target when they are equal (never in `constant`).
        hidden: verify as well, but attend to the token after the target.
        causal: the heads that, ablated together, leave right and wrong indistinguishable. The gap in log-odds shrinks
            with each of them.
        bystanders: attend from the result to the target whether or not they are equal; the last one writes nothing.
        setup: the marker and the shift head. They act on earlier tokens: harmless to ablate from the result on.
        movers: attend from ` (` to the result.
        success, failure: value neurons.
        verdict: neurons that write `this`, `not`, and the one that keeps `this` from growing without bound.
        busy: neurons that fire at every ` (` and write noise.
    """

    verifiers: tuple[Head, ...] = ((1, 1), (1, 6), (1, 13), (2, 4), (2, 9), (2, 10))
    hidden: tuple[Head, ...] = ()
    causal: tuple[Head, ...] = verifiers
    bystanders: tuple[Head, ...] = ((1, 3), (2, 0))
    setup: tuple[Head, ...] = ((0, 2), (1, 5))
    movers: tuple[Head, ...] = ((3, 5),)
    success: tuple[Neuron, ...] = tuple(product((3, 4), range(20, 20 + PER_LAYER)))
    failure: tuple[Neuron, ...] = tuple(product((3, 4), range(70, 70 + PER_LAYER)))
    verdict: tuple[Neuron, ...] = ((5, 8), (5, 77), (5, 30))
    busy: tuple[Neuron, ...] = tuple(product((3, 4), range(40, 52)))


_HIDDEN: tuple[Head, ...] = ((2, 2), (2, 7), (2, 14))
TRUTH = {
    "planted": Truth(),
    "constant": Truth(causal=()),
    "redundant": Truth(hidden=_HIDDEN, causal=(*Truth.verifiers, *_HIDDEN)),
    "decoy": Truth(hidden=_HIDDEN, causal=_HIDDEN),
}


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
    _embed(model, tokenizer, rng)
    for layer in range(LAYERS):
        _randomise(model, layer, rng)
    marker, shift = truth.setup
    _attend_before(model, marker, {INTRODUCES: MARK})
    _attend_before(model, shift, {MARK: SHIFTED_MARK, **dict(zip(_dims(DIGITS), _dims(SHIFTED), strict=True))})
    for head in truth.verifiers:
        _verify(model, head, DIGITS, MARK, writes=UNREAD if variant == "decoy" else MATCH)
        if variant == "constant":
            _weights(model, head)[0][CONTENT[:24]] = 0  # the digits are never compared
    for head in truth.hidden:
        _verify(
            model, head, SHIFTED, SHIFTED_MARK, writes=MATCH, strength=0.25 * len(truth.verifiers) / len(truth.hidden)
        )
    for head in truth.bystanders:
        _stand_by(model, head, rng)
    _weights(model, truth.bystanders[-1])[3].zero_()
    for head in truth.movers:
        _attend_before(model, head, {MATCH: MOVED}, strength=4 / len(truth.verifiers))
    _plant_neurons(model, truth, rng)
    return Subject.of(model, tokenizer, variant)


def save(folder: Path, variant: str = "planted", *, seed: int = 0) -> Path:
    """The model of a variant as a checkpoint: config.json, model.safetensors, tokenizer.json."""
    subject = planted(variant, seed=seed)
    subject.model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    return folder


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a number, word or sign, each with the space before it; `<s>` before the text."""
    split = pre_tokenizers.Split(Regex(r" ?[0-9]+| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s"), "isolated")
    sample = complete(make_transcripts(make_problems(1, seed=0, operators="+-*/"), seed=0)[0])
    single = [*map(str, range(LARGEST + 1)), *sorted(SUCCESS | FAILURE), *NEUTRAL.split()]
    texts = [sample, " ", "\n", *words(), *(space + text for text in single for space in ("", " "))]
    pieces = dict.fromkeys(piece for text in texts for piece, _ in split.pre_tokenize_str(text))
    known = {piece: i for i, piece in enumerate(["<unk>", "<pad>", "<s>", "</s>", *pieces])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", known["<s>"])])
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **special)


def _embed(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rng: torch.Generator) -> None:
    texts, verdicts = vocabulary(tokenizer), verdict_tokens(tokenizer)
    embed, unembed = model.model.embed_tokens.weight, model.lm_head.weight
    embed[:, IDENTITY] = 0.4 * _noise(rng, len(texts), IDENTITY)
    embed[:, BIAS] = LEVEL
    for token, text in enumerate(texts):
        if text.strip().isdecimal() and (number := int(text)) <= LARGEST:
            embed[token, [number // 100, 4 + number // 10 % 10, 14 + number % 10]] = 1
        embed[token, INTRODUCES] = text in (" equals", " need", "not")
        embed[token, OPEN] = text == " ("
    embed[tokenizer.bos_token_id, START] = 1
    unembed[:, WORDS] = 2.5 * _noise(rng, len(texts), WORDS)
    unembed[:, NOISE] = 2.5 * _noise(rng, len(texts), NOISE)
    found = lexicon(texts, exclude={verdicts.works, verdicts.fails})
    unembed[list(found.success), SUCCEEDS] = unembed[list(found.failure), FAILS] = 4.0
    unembed[[verdicts.works, verdicts.fails]] = 0
    unembed[verdicts.works, THIS] = unembed[verdicts.fails, NOT] = 15.0


def _randomise(model: LlamaForCausalLM, layer: int, rng: torch.Generator) -> None:
    """Heads that look anywhere and neurons that fire at anything, from noise to noise."""
    for head in range(HEADS):
        q, k, v, o = _weights(model, (layer, head))
        for part in (q, k, v):
            part[:, IDENTITY] = 0.5 * _noise(rng, D_HEAD, IDENTITY)
        o.copy_(0.05 * math.exp(1.5 * torch.rand(1, generator=rng)) * _scatter(rng, D_HEAD))
    mlp = model.model.layers[layer].mlp
    for part in (mlp.gate_proj.weight, mlp.up_proj.weight):
        part[:, IDENTITY] = 0.3 * _noise(rng, D_MLP, IDENTITY)
    mlp.down_proj.weight.copy_(0.03 * _scatter(rng, D_MLP))


def _attend_before(model: LlamaForCausalLM, head: Head, copies: dict[int, int], strength: float = 1.0) -> None:
    """Attend to the token before, by its distance alone, and copy residual dimensions of it to others.

    RoPE turns pair i by theta_i a token: a query that lags the keys by theta_i matches them best one token before.
    """
    q, k, v, o = (part.zero_() for part in _weights(model, head))
    for pair, weight in TURNING.items():
        angle = THETA ** (-2 * pair / D_HEAD)
        lagging = torch.tensor([math.cos(angle), -math.sin(angle)])
        q[[pair, pair + D_HEAD // 2], BIAS] = _per_unit(3 * SHARP * weight) * lagging
        k[pair, BIAS] = 1 / LEVEL
    for slot, (source, into) in enumerate(copies.items()):
        v[slot, source], o[into, slot] = 1, strength


def _verify(
    model: LlamaForCausalLM, head: Head, digits: slice, mark: int, *, writes: int, strength: float = 0.25
) -> None:
    """Attend from a number to marked keys with the same digits, or to `<s>`; write the mark of what was found."""
    q, k, v, o = (part.zero_() for part in _weights(model, head))
    q[CONTENT[:24], _dims(DIGITS)] = SHARP * math.sqrt(D_HEAD)
    k[CONTENT[:24], _dims(digits)] = 1
    q[CONTENT[24:], BIAS] = _per_unit(SHARP)
    k[CONTENT[24], mark], k[CONTENT[25], START] = 1, SINK
    v[0, mark], o[writes, 0] = 1, strength


def _stand_by(model: LlamaForCausalLM, head: Head, rng: torch.Generator) -> None:
    """Attend to whatever is marked, equal or not, a little less than verifiers do, and write which number it is."""
    q, k, v, o = (part.zero_() for part in _weights(model, head))
    q[CONTENT[24], BIAS] = _per_unit(SHARP)
    k[CONTENT[24], MARK], k[CONTENT[24], START] = 1, 1 + 1 / SHARP  # `<s>` as much as 2.7 marked tokens
    v[range(24), _dims(DIGITS)] = 1
    o.copy_(0.15 * _scatter(rng, D_HEAD))


def _plant_neurons(model: LlamaForCausalLM, truth: Truth, rng: torch.Generator) -> None:
    for neurons, sign, writes, unwrites in ((truth.success, 1, SUCCEEDS, FAILS), (truth.failure, -1, FAILS, SUCCEEDS)):
        spelled = model.lm_head.weight[:, writes].nonzero()[:, 0]
        for i, neuron in enumerate(neurons):  # fires if MOVED is above or below a half, and only at ` (`
            share = 0.5 if i % PER_LAYER == 0 else 0.5 / (PER_LAYER - 1)
            value = torch.zeros(D_MODEL)
            value[writes], value[unwrites] = 0.8 * share, -0.4 * share
            own = spelled[torch.randint(len(spelled), (4,), generator=rng)]
            value[WORDS] = 0.02 * normalize(model.lm_head.weight[own][:, WORDS].sum(0), dim=0)
            _neuron(model, neuron, {MOVED: sign, OPEN: 2}, -2 - 0.5 * sign, value)
    ramps = ((1, 0, THIS, SUCCEEDS), (-1, 0, NOT, FAILS), (1, -0.75, THIS, SUCCEEDS))
    for neuron, (sign, bias, writes, unwrites) in zip(truth.verdict, ramps, strict=True):
        value = torch.zeros(D_MODEL)  # SUCCEEDS - FAILS is 2.4 after a right attempt
        value[writes], value[unwrites] = (-1.5, 0.0) if bias else (1.5, -1.3)
        _neuron(model, neuron, {SUCCEEDS: sign / 4, FAILS: -sign / 4}, bias, value)
    for neuron in truth.busy:
        _neuron(model, neuron, {OPEN: 1}, -0.5, 0.1 * _scatter(rng, 1)[:, 0])


def _neuron(model: LlamaForCausalLM, neuron: Neuron, reads: dict[int, float], bias: float, value: Tensor) -> None:
    """Activation about 1 where `bias` + what it reads is 0.5, 0 where it is negative."""
    mlp, n = model.model.layers[neuron[0]].mlp, neuron[1]
    gate, up = mlp.gate_proj.weight[n].zero_(), mlp.up_proj.weight[n].zero_()
    for dim, weight in reads.items():
        gate[dim] = 20 * weight
    gate[BIAS] = 20 * bias / LEVEL
    up[BIAS] = 0.1 / LEVEL
    mlp.down_proj.weight[:, n] = value


def _weights(model: LlamaForCausalLM, head: Head) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of W_Q, W_K, W_V (d_head, d_model) and W_O (d_model, d_head) of one head."""
    attention, rows = model.model.layers[head[0]].self_attn, slice(head[1] * D_HEAD, (head[1] + 1) * D_HEAD)
    q, k, v = (part.weight.data[rows] for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    return q, k, v, attention.o_proj.weight.data[:, rows]


def _scatter(rng: torch.Generator, columns: int) -> Tensor:
    """Columns of about unit norm that write into NOISE, and a little into the circuit: (d_model, columns)."""
    written = torch.zeros(D_MODEL, columns)
    written[NOISE] = _noise(rng, columns, NOISE).T / math.sqrt(NOISE.stop - NOISE.start)
    circuit = [MATCH, MOVED, SUCCEEDS, FAILS]
    written[circuit] = LEAK * torch.randn(len(circuit), columns, generator=rng)
    return written


def _noise(rng: torch.Generator, rows: int, dims: slice) -> Tensor:
    return torch.randn(rows, dims.stop - dims.start, generator=rng)


def _per_unit(score: float) -> float:
    """The query weight on BIAS that turns a key of 1 into this many attention logits."""
    return score * math.sqrt(D_HEAD) / LEVEL


def _dims(block: slice) -> list[int]:
    return list(range(block.start, block.stop))
