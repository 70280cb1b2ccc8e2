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

from mechinterp.errors import MechinterpError
from mechinterp.subject import Subject
from mechinterp.vocabulary import token_texts


@torch.no_grad()
def logit_lens(subject: Subject, residual: Tensor) -> Tensor:
    """Final norm and unembedding applied to a residual stream (..., d_model): logits (..., vocab), fp32.

    Source: nostalgebraist, "interpreting GPT: the logit lens" (2020).
    """
    subject.check_unchanged()
    norm, weight = subject.anatomy.norm, subject.anatomy.unembed.weight
    return linear(norm(residual.to(norm.weight.device).float()).to(weight.device).float(), weight.float())


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
    if not words or not all(len(one) for one in words):
        raise MechinterpError("lens_probability: expected at least one set of tokens, none of them empty")
    weight = subject.anatomy.unembed.weight
    member = torch.zeros(weight.shape[0], len(words))
    for column, tokens in enumerate(words):
        member[list(tokens), column] = 1
    member = member.to(weight.device)
    parts = residual.reshape(-1, residual.shape[-1]).split(rows)
    bar = tqdm(parts, desc=progress, disable=None if progress else True, leave=False)
    probabilities = torch.cat([(logit_lens(subject, part).softmax(-1) @ member).cpu() for part in bar])
    return probabilities.reshape(*residual.shape[:-1], len(words))


@torch.no_grad()
def unembed_directions(subject: Subject, directions: Tensor) -> Tensor:
    """What directions (..., d_model) add to the logits, (..., vocab), up to the norm's positive scale; fp32.

    The final norm's gain is applied: it stands between every direction and the unembedding.
    """
    subject.check_unchanged()
    anatomy = subject.anatomy
    weight = anatomy.unembed.weight
    gained = directions.to(weight.device).float() * anatomy.norm.weight.float().to(weight.device)
    return gained @ weight.float().T


def nearest_tokens(subject: Subject, directions: Tensor, k: int = 10) -> list[list[tuple[int, str, float]]]:
    """The k tokens that each direction (n, d_model) promotes most: (id, text, logit) in falling order.

    The text is as `token_texts` gives it: with the space that a token begins with.
    """
    rows = len(subject.anatomy.unembed.weight)
    if not 0 < k <= rows:
        raise MechinterpError(f"nearest_tokens: k = {k}, but the unembedding has {rows} rows")
    top = unembed_directions(subject, directions).topk(k, dim=-1)
    return [
        list(zip(ids, token_texts(subject.tokenizer, ids), values, strict=True))
        for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
