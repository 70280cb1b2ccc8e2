"""First-order estimates of what every ablation would do, from one forward and one backward pass.

attribution       the estimate for every head and every neuron
Attribution       what it gives
rank_correlation  how well an estimate orders what a sweep has measured

An estimate shows where to look. It misses saturation and whatever else is not linear, so no verdict rests on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from mechinterp.errors import MechinterpError
from mechinterp.given import real_numbers
from mechinterp.metric import Metric, Readout, checked_metric
from mechinterp.passes import being_watched
from mechinterp.positions import Scope
from mechinterp.prompts import prompt_slots
from mechinterp.replacements import check_value
from mechinterp.subject import Subject, check_subject
from mechinterp.tokens import same_length, token_ids

PROMPTS_AT_ONCE = 4  # every activation of these is held


@dataclass(frozen=True, eq=False)
class Attribution:
    """Estimated change of the metric when this one is replaced at all positions in scope, fp32 on the CPU.

    Attributes:
        heads: (prompts, layers, n_heads).
        neurons: (prompts, layers, d_mlp).
    """

    heads: Tensor
    neurons: Tensor


def attribution(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    metric: Metric,
    *,
    scope: Scope,
    heads: Mapping[int, Tensor] | None = None,
    neurons: Mapping[int, Tensor] | None = None,
) -> Attribution:
    """sum over positions of (new - old) * d metric / d old, for the inputs of `o_proj` and `down_proj`.

    Source: Nanda, "Attribution patching" (2023); Syed et al., arXiv 2310.10348.

    Args:
        metric: one number a prompt, (R,), that can be differentiated; it may read logits, residuals and neurons.
        heads, neurons: what by: zero if None, or a layer's mean (n_heads, d_head), (d_mlp,), see `mean_heads`.

    Raises:
        MechinterpError: no prompts, a scope that selects nothing in one of them, means of another shape, a metric with
            several numbers or without a gradient, or a call inside the `with` block of an edit or a capture.
    """
    check_subject(subject)
    subject.check_ready()
    prompts, metric = token_ids(subject, prompts, "attribution: prompts"), checked_metric(subject, metric)
    if being_watched(subject):
        raise MechinterpError("attribution: called inside a `with` block; close it first")
    anatomy = subject.anatomy
    slots = prompt_slots(subject, prompts, scope)
    for number, row in enumerate(slots):
        if not (row >= 0).any():
            raise MechinterpError(f"attribution: the scope selects no token of prompt {number}")
    of_heads = torch.zeros(len(prompts), anatomy.n_layers, anatomy.n_heads, dtype=torch.float32)
    of_neurons = torch.zeros(len(prompts), anatomy.n_layers, anatomy.d_mlp, dtype=torch.float32)
    means = {
        (what, layer): _mean(subject, given, layer, what)
        for what, given in (("heads", heads), ("neurons", neurons))
        for layer in range(anatomy.n_layers)
    }
    for group in same_length(prompts, PROMPTS_AT_ONCE):
        here = torch.stack([slots[i] for i in group]) >= 0  # (P, T)
        for kind, layer, before, gradient in _gradients(subject, group, [prompts[i] for i in group], metric):
            change = (
                ((means[kind, layer].to(before) - before) * gradient * here[..., None].to(before.device))
                .float()
                .sum(1)
                .cpu()
            )
            if kind == "heads":
                of_heads[group, layer] = change.unflatten(-1, (anatomy.n_heads, anatomy.d_head)).sum(-1)
            else:
                of_neurons[group, layer] = change
    return Attribution(of_heads, of_neurons)


def _mean(subject: Subject, given: Mapping[int, Tensor] | None, layer: int, what: str) -> Tensor:
    """What a layer's heads or neurons are replaced by, (features,) or () for zero."""
    if given is None:
        return torch.zeros(())
    new = check_value(subject, given, layer, what)
    if new.ndim != 1:
        raise MechinterpError(f"attribution: {what} of layer {layer}: expected a mean, got shape {tuple(new.shape)}")
    return new.detach()


def rank_correlation(estimate: Tensor | np.ndarray, exact: Tensor | np.ndarray) -> float:
    """Spearman's, over all entries. NaN where either is constant.

    Raises:
        MechinterpError: shapes that differ, fewer than two entries, or some that are not finite.
    """
    one, other = (real_numbers(given, f"rank_correlation: {name}").detach().cpu().double().numpy()
                  for name, given in (("estimate", estimate), ("exact", exact)))  # fmt: skip
    if one.shape != other.shape or one.size < 2:
        raise MechinterpError(f"rank_correlation: expected two of one shape, got {one.shape} and {other.shape}")
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def _gradients(
    subject: Subject, group: list[int], prompts: Sequence[Sequence[int]], metric: Metric
) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """Of each place: "heads" or "neurons", the layer, activations and the metric's gradient, (P, T, features)."""
    anatomy, residual, neurons = subject.anatomy, {}, {}
    values: dict[tuple[str, int], Tensor] = {}
    probes: dict[tuple[str, int], Tensor] = {}  # zeros that are added: their gradient is that of what they are added to
    with ExitStack() as stack, torch.inference_mode(False), torch.enable_grad():
        for layer in range(anatomy.n_layers):
            for kind, module in (("heads", anatomy.o_proj(layer)), ("neurons", anatomy.down_proj(layer))):

                def tap(module: nn.Module, args: tuple[Tensor], kind: str = kind, layer: int = layer) -> tuple[Tensor]:
                    values[kind, layer] = args[0].detach()
                    probes[kind, layer] = torch.zeros_like(args[0], requires_grad=True)
                    tapped = args[0] + probes[kind, layer]
                    if kind == "neurons" and layer in metric.neurons:
                        neurons[layer] = tapped[:, -1]
                    return (tapped,)

                stack.callback(module.register_forward_pre_hook(tap).remove)
        for layer in metric.residual:

            def keep(module: nn.Module, args: Any, output: Any, layer: int = layer) -> None:
                residual[layer] = (output[0] if isinstance(output, tuple) else output)[:, -1]

            stack.callback(anatomy.layers[layer].register_forward_hook(keep).remove)
        ids = torch.tensor([list(prompt) for prompt in prompts], device=subject.device)
        final = subject.model.model(ids, use_cache=False).last_hidden_state[:, -1]
        numbers = torch.tensor(group, device=subject.device)
        measured = metric.read(Readout(subject, numbers, final, residual, neurons))
        if measured.shape != (len(prompts),) or not measured.requires_grad:
            raise MechinterpError(
                f"attribution: the metric gave shape {tuple(measured.shape)} for {len(prompts)} prompts"
                f"{'' if measured.requires_grad else ', without a gradient'}; expected one differentiable number each"
            )
        gradients = torch.autograd.grad(measured.sum(), list(probes.values()), materialize_grads=True)
    for key, gradient in zip(probes, gradients, strict=True):
        yield *key, values[key], gradient
