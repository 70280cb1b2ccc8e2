"""Linear probes, one a layer, all layers at once.

LinearProbe   what a fit gives: a direction and a bias by layer
fit_probes    L2-regularised logistic regression for every layer, and for every labelling, in one solve
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError


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
        return torch.einsum("nld,...ld->...nl", residual.double(), self.directions) + self.biases[..., None, :]

    def correct(self, residual: Tensor, labels: Tensor) -> Tensor:
        """1 where the probe reads the label (..., n), else 0: (..., n, layers)."""
        return ((self.scores(residual) > 0) == (labels > 0)[..., None]).double()

    def __getitem__(self, index: int) -> LinearProbe:
        """The probes of one labelling."""
        return LinearProbe(self.directions[index], self.biases[index])


def fit_probes(
    residual: Tensor, labels: Tensor, *, weights: Tensor | None = None, penalty: float = 1.0, steps: int = 50
) -> LinearProbe:
    """Fit a logistic regression for every layer.

    Minimises sum_i w_i log(1 + exp(-y_i f(x_i))) + penalty / 2 * |beta|^2 with an unpenalised bias, on activations
    centred and scaled by one number a layer (so that the penalty means the same in each, and directions stay those
    of the residual stream). Solved by Newton's method in the dual, where a problem has the size of the sample.

    Args:
        residual: (n, layers, d_model).
        labels: (n,) or (labellings, n), 0 or 1: one fit for each labelling.
        weights: of the samples, shaped (n,) or as the labels; 1 by default.

    Raises:
        MechinterpError: shapes that do not fit, a single class, numbers that are not finite, or no convergence.
    """
    if residual.ndim != 3 or labels.shape[-1] != residual.shape[0]:
        raise MechinterpError(
            f"fit_probes: expected residual (n, layers, d_model) and labels (..., n), "
            f"got {tuple(residual.shape)} and {tuple(labels.shape)}"
        )
    rows = labels[None] if labels.ndim == 1 else labels
    weights = torch.ones(rows.shape[-1:]) if weights is None else weights
    if rows.ndim != 2 or weights.shape not in (rows.shape[-1:], labels.shape):
        raise MechinterpError(
            f"fit_probes: expected labels (n,) or (labellings, n) and weights (n,) or as the labels, "
            f"got {tuple(labels.shape)} and {tuple(weights.shape)}"
        )
    if not all(torch.isfinite(given).all() for given in (residual, labels, weights)) or (weights < 0).any():
        raise MechinterpError("fit_probes: activations, labels and weights must be finite, and no weight negative")
    weights = weights.double().expand(rows.shape)
    if not (((rows > 0) & (weights > 0)).any(-1) & ((rows <= 0) & (weights > 0)).any(-1)).all():
        raise MechinterpError("fit_probes: both classes are needed, got one")
    x = residual.double().transpose(0, 1)  # (L, n, d)
    mean = x.mean(1, keepdim=True)
    scale = (x - mean).pow(2).mean((1, 2), keepdim=True).sqrt().clamp(min=1e-12) * x.shape[2] ** 0.5
    x = (x - mean) / scale
    kernel = x @ x.transpose(1, 2) / penalty  # (L, n, n)
    duals, biases = zip(*(_newton(kernel, y, w, steps) for y, w in zip(rows, weights, strict=True)), strict=True)
    beta = torch.einsum("pln,lnd->pld", torch.stack(duals), x) / penalty / scale[:, 0]
    bias = torch.stack(biases) - torch.einsum("pld,ld->pl", beta, mean[:, 0])
    probe = LinearProbe(beta, bias)
    return probe[0] if labels.ndim == 1 else probe


def _newton(kernel: Tensor, labels: Tensor, weights: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Dual coefficients (L, n) and biases (L,) of kernel logistic regression (iteratively reweighted ridge)."""
    layers, n, _ = kernel.shape
    y = (labels > 0).double().expand(layers, n)
    dual, bias = torch.zeros(layers, n, dtype=torch.float64), torch.zeros(layers, dtype=torch.float64)
    for _ in range(steps):
        f = torch.einsum("lij,lj->li", kernel, dual) + bias[:, None]
        p = torch.sigmoid(f)
        if (dual - weights * (y - p)).abs().max() <= 1e-9 * weights.max():  # at the minimum they are equal
            return dual, bias
        curvature = (weights * p * (1 - p)).clamp(min=1e-9)
        target = f + weights * (y - p) / curvature
        factor = torch.linalg.cholesky(kernel + torch.diag_embed(1 / curvature))
        solved = torch.cholesky_solve(torch.stack([target, torch.ones_like(target)], dim=-1), factor)
        bias = solved[..., 0].sum(1) / solved[..., 1].sum(1)  # with it the dual coefficients sum to 0
        dual = solved[..., 0] - bias[:, None] * solved[..., 1]
    raise MechinterpError(f"fit_probes: no minimum was found in {steps} steps; use a larger penalty")
