"""Linear probes, one a layer, all layers at once.

LinearProbe   what a fit gives: a direction and a bias by layer
fit_probes    L2-regularised logistic regression for every layer, and for every labelling, in one solve
two_classes   labels as truth values
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError, quote
from mechinterp.given import real_number, real_numbers, whole_number


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """score = residual @ direction + bias, in nats; above 0 reads as label 1.

    Attributes:
        directions: (..., layers, d_model). In a 2-way softmax this is the difference of its two columns.
        biases: (..., layers).
    """

    directions: Tensor
    biases: Tensor

    def scores(self, residual: Tensor) -> Tensor:
        """residual (n, layers, d_model) -> (..., n, layers)."""
        given = real_numbers(residual, "probe: residual", finite=False).detach().to(self.directions.device)
        if given.ndim != 3 or given.shape[1:] != self.directions.shape[-2:]:
            layers, d_model = self.directions.shape[-2:]
            raise MechinterpError(
                f"probe: expected residual (n, {layers} layers, {d_model}), got shape {tuple(given.shape)}"
            )
        return torch.einsum("nld,...ld->...nl", given.double(), self.directions) + self.biases[..., None, :]

    def correct(self, residual: Tensor, labels: Tensor) -> Tensor:
        """1 where the probe reads the label (..., n), else 0: (..., n, layers)."""
        scores, right = self.scores(residual), two_classes(labels, "probe: labels").to(self.directions.device)
        if right.shape[-1:] != scores.shape[-2:-1]:
            raise MechinterpError(f"probe: {tuple(right.shape)} labels for {scores.shape[-2]} samples")
        return ((scores > 0) == right[..., None]).double()

    def __getitem__(self, index: int) -> LinearProbe:
        """The probes of one labelling. Raises MechinterpError where there is only one."""
        if self.directions.ndim < 3:
            raise MechinterpError("probe: it was fitted to one labelling; there are no others to choose from")
        number, count = whole_number(index, "probe: labelling"), len(self)
        if not -count <= number < count:
            raise MechinterpError(f"probe: labelling {number}, but it was fitted to {count}")
        return LinearProbe(self.directions[number], self.biases[number])

    def __len__(self) -> int:
        """Labellings that it was fitted to."""
        return len(self.directions) if self.directions.ndim > 2 else 1

    def __iter__(self) -> Iterator[LinearProbe]:
        return (self[number] for number in range(len(self)))


def fit_probes(
    residual: Tensor, labels: Tensor, *, weights: Tensor | None = None, penalty: float = 1.0, steps: int = 50
) -> LinearProbe:
    """Fit a logistic regression for every layer.

    Minimises sum_i w_i log(1 + exp(-y_i f(x_i))) + penalty / 2 * |beta|^2 with an unpenalised bias, on activations
    centred and scaled by one number a layer (so that the penalty means the same in each, and directions stay those
    of the residual stream). Solved by Newton's method in the dual, where a problem has the size of the sample.

    Args:
        residual: (n, layers, d_model).
        labels: (n,) or (labellings, n), truth values, 0 and 1, or -1 and 1: one fit for each labelling.
        weights: of the samples, shaped (n,) or as the labels; 1 by default.

    Raises:
        MechinterpError: shapes that do not fit, a single class, numbers that are not finite, or no convergence.
    """
    penalty, steps = real_number(penalty, "fit_probes: penalty"), whole_number(steps, "fit_probes: steps", least=1)
    if penalty <= 0:
        raise MechinterpError(f"fit_probes: penalty: {penalty:g}; expected a number above 0")
    given = real_numbers(residual, "fit_probes: residual").detach()
    to = given.device
    right = two_classes(labels, "fit_probes: labels").to(to)
    if given.ndim != 3 or not given.numel() or right.shape[-1] != given.shape[0]:
        raise MechinterpError(
            f"fit_probes: expected residual (n, layers, d_model) and labels (..., n), "
            f"got {tuple(given.shape)} and {tuple(right.shape)}"
        )
    rows = right[None] if right.ndim == 1 else right
    of = torch.ones(rows.shape[-1:]) if weights is None else real_numbers(weights, "fit_probes: weights").detach()
    if rows.ndim != 2 or of.shape not in (rows.shape[-1:], right.shape):
        raise MechinterpError(
            f"fit_probes: expected labels (n,) or (labellings, n) and weights (n,) or as the labels, "
            f"got {tuple(right.shape)} and {tuple(of.shape)}"
        )
    if (of < 0).any():
        raise MechinterpError("fit_probes: activations, labels and weights must be finite, and no weight negative")
    of = of.to(to).double().expand(rows.shape)
    if not ((rows & (of > 0)).any(-1) & (~rows & (of > 0)).any(-1)).all():
        raise MechinterpError("fit_probes: both classes are needed, got one")
    x = given.double().transpose(0, 1)  # (L, n, d)
    mean = x.mean(1, keepdim=True)
    scale = (x - mean).pow(2).mean((1, 2), keepdim=True).sqrt().clamp(min=1e-12) * x.shape[2] ** 0.5
    x = (x - mean) / scale
    kernel = x @ x.transpose(1, 2) / penalty  # (L, n, n)
    duals, biases = zip(*(_newton(kernel, y, w, steps) for y, w in zip(rows, of, strict=True)), strict=True)
    beta = torch.einsum("pln,lnd->pld", torch.stack(duals), x) / penalty / scale[:, 0]
    bias = torch.stack(biases) - torch.einsum("pld,ld->pl", beta, mean[:, 0])
    probe = LinearProbe(beta, bias)
    return probe[0] if right.ndim == 1 else probe


def _newton(kernel: Tensor, labels: Tensor, weights: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Dual coefficients (L, n) and biases (L,) of kernel logistic regression (iteratively reweighted ridge)."""
    layers, n, _ = kernel.shape
    y = labels.double().expand(layers, n)
    dual, bias = kernel.new_zeros(layers, n), kernel.new_zeros(layers)
    for _ in range(steps):
        f = torch.einsum("lij,lj->li", kernel, dual) + bias[:, None]
        p = torch.sigmoid(f)
        if (dual - weights * (y - p)).abs().max() <= 1e-9 * weights.max():  # at the minimum they are equal
            return dual, bias
        curvature = (weights * p * (1 - p)).clamp(min=1e-9)
        target = f + weights * (y - p) / curvature
        factor, failed = torch.linalg.cholesky_ex(kernel + torch.diag_embed(1 / curvature))
        if failed.any():
            break
        solved = torch.cholesky_solve(torch.stack([target, torch.ones_like(target)], dim=-1), factor)
        bias = solved[..., 0].sum(1) / solved[..., 1].sum(1)  # with it the dual coefficients sum to 0
        dual = solved[..., 0] - bias[:, None] * solved[..., 1]
    raise MechinterpError(f"fit_probes: no minimum was found in {steps} steps; use a larger penalty")


def two_classes(labels: Any, what: str) -> Tensor:
    """Labels as truth values: booleans, 0 and 1, or -1 and 1. Raises MechinterpError for others."""
    given = real_numbers(labels, what).detach()
    if not given.ndim or not (((given == 0) | (given == 1)).all() or ((given == -1) | (given == 1)).all()):
        raise MechinterpError(f"{what}: expected truth values, 0 and 1, or -1 and 1, got {quote(labels)}")
    return given > 0
