"""Through the unembedding.

logit_lens        what the model would say if it stopped here
lens_probability  the probability that the logit lens gives to a set of tokens
nearest_tokens    the tokens that a direction in the residual stream promotes most
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear
from tqdm import tqdm

from mechinterp.errors import MechinterpError, quote
from mechinterp.given import each, real_numbers, whole_number, whole_numbers
from mechinterp.subject import Subject, check_subject
from mechinterp.vocabulary import token_texts


@torch.no_grad()
def logit_lens(subject: Subject, residual: Tensor) -> Tensor:
    """Final norm and unembedding applied to a residual stream (..., d_model): logits (..., vocab), fp32.

    Source: nostalgebraist, "interpreting GPT: the logit lens" (2020).
    """
    stream = _directions(subject, residual, "logit_lens: residual")
    norm, weight = subject.anatomy.norm, subject.anatomy.unembed.weight
    return linear(norm(stream.to(norm.weight.device).float()).to(weight.device).float(), weight.float())


@torch.no_grad()
def lens_probability(
    subject: Subject, residual: Tensor, words: Sequence[Sequence[int]], *, rows: int = 64, progress: str | None = None
) -> Tensor:
    """Total probability of each set of tokens under the logit lens, fp32, on the CPU.

    Args:
        residual: (..., d_model).
        words: m sets of token ids.
        rows: positions unembedded at a time; the full distribution is never held for more than these.

    Returns:
        (..., m).
    """
    stream, rows = _directions(subject, residual, "lens_probability: residual"), whole_number(rows, "rows", least=1)
    sets = [_tokens(subject, tokens) for tokens in each(words, "lens_probability: words", "sets of token ids")]
    if not sets or not all(sets):
        raise MechinterpError("lens_probability: expected at least one set of tokens, none of them empty")
    weight = subject.anatomy.unembed.weight
    member = torch.zeros(weight.shape[0], len(sets), dtype=torch.float32)
    for column, tokens in enumerate(sets):
        member[tokens, column] = 1
    member = member.to(weight.device)
    parts = stream.reshape(-1, stream.shape[-1]).split(rows)
    bar = tqdm(parts, desc=progress, disable=None if progress else True, leave=False)
    probabilities = torch.cat([(logit_lens(subject, part).softmax(-1) @ member).cpu() for part in bar])
    return probabilities.reshape(*stream.shape[:-1], len(sets))


@torch.no_grad()
def unembed_directions(subject: Subject, directions: Tensor) -> Tensor:
    """What directions (..., d_model) add to the logits, (..., vocab), up to the norm's positive scale; fp32.

    The final norm's gain is applied: it stands between every direction and the unembedding.
    """
    given = _directions(subject, directions, "unembed_directions: directions")
    anatomy = subject.anatomy
    weight = anatomy.unembed.weight
    gained = given.to(weight.device).float() * anatomy.norm.weight.float().to(weight.device)
    return gained @ weight.float().T


def nearest_tokens(subject: Subject, directions: Tensor, k: int = 10) -> list[list[tuple[int, str, float]]]:
    """The k tokens that each direction (n, d_model) promotes most: (id, text, logit) in falling order.

    The text is as `token_texts` gives it: with the space that a token begins with.
    """
    logits, k = unembed_directions(subject, directions), whole_number(k, "nearest_tokens: k", least=1)
    if logits.ndim != 2 or k > logits.shape[1]:
        raise MechinterpError(
            f"nearest_tokens: k = {k} and {logits.ndim - 1} dimensions, but directions are (n, d_model) and the "
            f"unembedding has {logits.shape[-1]} rows"
        )
    top = logits.topk(k, dim=-1)
    return [
        list(zip(ids, token_texts(subject.tokenizer, ids), values, strict=True))
        for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def _directions(subject: Subject, given: Tensor, what: str) -> Tensor:
    """Vectors of this model's residual stream, (..., d_model)."""
    check_subject(subject)
    subject.check_unchanged()
    vectors, d_model = real_numbers(given, what, finite=False).detach(), subject.anatomy.d_model
    if not vectors.ndim or vectors.shape[-1] != d_model:
        raise MechinterpError(f"{what}: expected (..., {d_model}), got shape {tuple(vectors.shape)}")
    return vectors


def _tokens(subject: Subject, given: Sequence[int]) -> list[int]:
    """Ids that the unembedding has."""
    what, rows = "lens_probability: words", len(subject.anatomy.unembed.weight)
    tokens = whole_numbers(each(given, what, "sets of token ids"), what, ("tokens",)).tolist()
    if any(not 0 <= token < rows for token in tokens):
        raise MechinterpError(f"{what}: {quote(tokens)}, but this model has the ids 0 to {rows - 1}")
    return tokens
