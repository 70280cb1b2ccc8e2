"""What heads write of what they read: their OV circuits, W_V W_O, by head (a head has the values of its group).

head_value_weights   W_V, head by head
ov_outputs           what each head makes of vectors that it attends to
ov_diagonal          how much of a direction each head writes back along it: the diagonal of W_V W_O
ov_matrix            W_V W_O of one head

A head reads the residual stream through the norm before it. Vectors are directions in that stream: the norm's gain is
applied to them and its positive scale, which depends on the rest of the stream, is not; nor are biases, which a head
writes whatever it reads. Source: Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError
from mechinterp.given import real_numbers
from mechinterp.subject import Subject, check_subject
from mechinterp.values import head_output_weights


def head_value_weights(subject: Subject, layer: int) -> Tensor:
    """W_V by head: (n_heads, d_model, d_head), fp32. A head reads `x @ W_V[head]`, plus a bias if there is one.

    Heads that share their values have the same. `x` is what the norm before it gives: its gain is not in W_V.
    """
    check_subject(subject)
    anatomy = subject.anatomy
    anatomy.check_layer(layer)
    subject.check_unchanged()
    attention: Any = anatomy.attention(layer)
    weight = attention.v_proj.weight.detach().float().T  # (d_model, n_kv_heads * d_head)
    by_group = weight.unflatten(1, (anatomy.n_kv_heads, anatomy.d_head)).transpose(0, 1)
    return by_group.repeat_interleave(anatomy.n_heads // anatomy.n_kv_heads, dim=0)


@torch.no_grad()
def ov_outputs(subject: Subject, layer: int, vectors: Tensor) -> Tensor:
    """What each head writes of directions (..., d_model) that it attends to fully: (n_heads, ..., d_model), fp32.

    How much of that lies along other directions (m, d_model), such as value vectors: `ov_outputs(...) @ other.T`.
    """
    read = _read(subject, layer, vectors, "ov_outputs: vectors")
    values = torch.einsum("...m,hmd->h...d", read, head_value_weights(subject, layer))
    return torch.einsum("h...d,hdm->h...m", values, head_output_weights(subject, layer))


@torch.no_grad()
def ov_diagonal(subject: Subject, layer: int, directions: Tensor | None = None) -> Tensor:
    """How much of each direction a head writes back along it: (n_heads, n), fp32.

    Args:
        directions: (n, d_model), taken as long as they are. By default the dimensions of the residual stream: the
            diagonal of W_V W_O, by which the source ranks heads together with the value vectors.
    """
    if directions is not None:
        written = ov_outputs(subject, layer, directions)
        along = _directions(subject, directions, "ov_diagonal: directions").to(written)
        if along.ndim != 2:
            raise MechinterpError(f"ov_diagonal: directions: expected (n, d_model), got shape {tuple(along.shape)}")
        return torch.einsum("hnm,nm->hn", written, along)
    gain = _gain(subject, layer)
    values, outputs = head_value_weights(subject, layer), head_output_weights(subject, layer)
    return torch.einsum("hmd,hdm->hm", values, outputs) * gain.to(values)


@torch.no_grad()
def ov_matrix(subject: Subject, layer: int, head: int) -> Tensor:
    """W_V W_O of one head with the norm's gain: (d_model, d_model), fp32. It writes `direction @ ov_matrix(...)`."""
    check_subject(subject)
    subject.anatomy.check_head(layer, head)
    values, outputs = head_value_weights(subject, layer)[head], head_output_weights(subject, layer)[head]
    return _gain(subject, layer).to(values)[:, None] * values @ outputs


def _read(subject: Subject, layer: int, vectors: Tensor, what: str) -> Tensor:
    """Directions of the residual stream as the heads of a layer read them."""
    given = _directions(subject, vectors, what)
    gain = _gain(subject, layer)
    return given.to(gain.device).float() * gain


def _directions(subject: Subject, given: Tensor, what: str) -> Tensor:
    check_subject(subject)
    vectors, d_model = real_numbers(given, what, finite=False).detach(), subject.anatomy.d_model
    if not vectors.ndim or vectors.shape[-1] != d_model:
        raise MechinterpError(f"{what}: expected (..., {d_model}), got shape {tuple(vectors.shape)}")
    return vectors


def _gain(subject: Subject, layer: int) -> Tensor:
    check_subject(subject)
    subject.anatomy.check_layer(layer)
    norm: Any = subject.anatomy.attention_norm(layer)
    return norm.weight.detach().float()
