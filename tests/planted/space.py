"""Which dimensions of the residual stream and of a head hold what.

Nearly all of the norm of the residual stream is the constant in BIAS, and GAIN undoes what RMSNorm divides by, so that
every part reads what was written, to within a percent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from mechinterp.intervene import Head

LAYERS, HEADS, D_HEAD, D_MLP = 6, 16, 20, 96

# Residual dimensions.
DIGITS = slice(0, 12)  # of a number, see `digits`: 2 dimensions for hundreds, 5 for tens, 5 for ones
COMPARED = {"all digits": DIGITS, "tens": slice(2, 7), "last digit": slice(7, 12)}
COPIED = slice(12, 24)  # the digits of another token
NUMBER, BIAS, START, OPEN, MARK, COPIED_MARK, MATCH, MOVED, SUCCEEDS, FAILS, THIS, NOT, UNREAD = range(24, 37)
GIVES = {"target": 37, "rival": 38, "input": 39, "none": 40}  # the role that a word gives to the number after it
WORDS = slice(41, 80)  # what tells one word from another in the unembedding
IDENTITY = slice(80, 104)  # which word a token is, at random: what random parts read
NOISE = slice(104, 128)  # what they write
D_MODEL = 128
GAIN = 4.0
LEVEL = GAIN * math.sqrt(D_MODEL)  # of BIAS

# Head dimensions. The first 3 of 10 rotary pairs turn by 1, 0.056 and 0.0032 radians a token and tell positions apart;
# the others hardly turn within a transcript and hold content: 12 dimensions for digits, the mark, the sink.
ANGLES = [10 ** (-1.25 * pair) for pair in range(3)]
THETA = 10 ** (1.25 * D_HEAD / 2)
CONTENT = [*range(3, D_HEAD // 2), *range(D_HEAD // 2 + 3, D_HEAD)]


def digits(number: int) -> Tensor:
    """(12,) one dimension of +1 or -1 a digit: two digits score 1 where they are equal, otherwise 0 or -1."""
    code = torch.zeros(12)
    for start, size, digit in ((0, 2, number // 100), (2, 5, number // 10 % 10), (7, 5, number % 10)):
        code[start + digit % size] = 1 if digit < size else -1
    return code


def dims(block: slice) -> list[int]:
    return list(range(block.start, block.stop))


def per_unit(score: float) -> float:
    """The query weight on a dimension of 1 that turns a key of 1 into this many attention logits."""
    return score * math.sqrt(D_HEAD)


def weights(model: LlamaForCausalLM, head: Head) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of W_Q, W_K, W_V (d_head, d_model) and W_O (d_model, d_head) of one head."""
    attention, rows = model.model.layers[head[0]].self_attn, slice(head[1] * D_HEAD, (head[1] + 1) * D_HEAD)
    q, k, v = (part.weight.data[rows] for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    return q, k, v, attention.o_proj.weight.data[:, rows]
