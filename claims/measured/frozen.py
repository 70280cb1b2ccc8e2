"""What one run chose, applied to another subject: a finding that moved is not one that vanished.

Frozen        heads, probes and value vectors that a run chose on its own subject
chosen        what a laboratory has chosen, as tensors
save, load    the same in a file; nothing in it is unpickled
frozen_heads  what the heads of the other run do here, beside those that are chosen anew
frozen_probe  the same of its probe at a site
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import mechinterp as mi
from claims.measured.bars import SITES
from claims.measured.once import is_made
from mechinterp import Head, Interval, LinearProbe, MechinterpError

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory

Effect = tuple[float, Interval]


@dataclass(frozen=True, eq=False)
class Frozen:
    """Attributes:
    heads: those that attended to the target, the most attending first.
    probes: one a layer, by site, of the sites at which probes were fitted.
    best: by the same sites, the layer with the least loss.
    success: the value vectors that fired for success, where they were asked for.
    """

    heads: list[Head]
    probes: dict[str, LinearProbe]
    best: dict[str, int]
    success: list[mi.Neuron]


def chosen(lab: Laboratory) -> dict[str, Tensor]:
    """Pairs (n, 2) of layer and number; probes of every layer, fp64. Only what the claims have measured."""
    if not is_made(lab, "observed"):
        return {}
    found = {"heads": torch.tensor(lab.heads.selected, dtype=torch.int64).reshape(-1, 2)}
    if is_made(lab.values, "success"):
        found["success"] = torch.tensor(lab.values.success, dtype=torch.int64).reshape(-1, 2)
    for site, probing in lab.probing.items():
        if not is_made(probing, "fitted") or not is_made(probing, "loss"):
            continue
        found[f"{site} directions"] = probing.fitted.directions.double().contiguous()
        found[f"{site} biases"] = probing.fitted.biases.double().contiguous()
        found[f"{site} best"] = torch.tensor(int(probing.loss.argmin()))
    return found


def save(lab: Laboratory, path: Path) -> bool:
    """False where nothing was measured, and nothing is written. Raises OSError where it cannot be."""
    if found := chosen(lab):
        save_file(found, path)
    return bool(found)


def load(path: Path) -> Frozen:
    """Raises MechinterpError: the file is not what `save` writes."""
    try:
        found = load_file(path)
        sites = [site for site in SITES if f"{site} best" in found]
        return Frozen(
            heads=[(int(layer), int(head)) for layer, head in found["heads"]],
            probes={site: LinearProbe(found[f"{site} directions"], found[f"{site} biases"]) for site in sites},
            best={site: int(found[f"{site} best"]) for site in sites},
            success=[(int(layer), int(neuron)) for layer, neuron in found.get("success", ())],
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise MechinterpError(
            f"{path.name}: it does not hold what a run has chosen ({type(error).__name__}); expected the file that was "
            "written beside the report; run the claims again to write one"
        ) from error


def frozen_heads(
    lab: Laboratory, effect_of: Callable[[Sequence[Head]], Effect], anew: Interval, *, at_least: float
) -> dict[str, Any]:
    """For the details of a finding; nothing where there is no other run.

    Args:
        effect_of: the claim's effect and interval, of these heads.
        anew: interval of the effect of the heads that were chosen on this subject.
    """
    if lab.frozen is None:
        return {}
    anatomy, heads = lab.subject.anatomy, lab.frozen.heads
    if not heads or any(layer >= anatomy.n_layers or head >= anatomy.n_heads for layer, head in heads):
        return {"frozen": "not comparable: " + ("it has other layers or heads" if heads else "no head was chosen then")}
    return _beside(effect_of(heads), anew, at_least, what=[f"L{layer}H{head}" for layer, head in heads])


def frozen_probe(
    lab: Laboratory, site: str, effect_of: Callable[[Tensor, int], Effect], anew: Interval, *, at_least: float
) -> dict[str, Any]:
    """The same; `effect_of` is given the scores (n, layers) of all attempts and the layer that was best then."""
    if lab.frozen is None:
        return {}
    if site not in lab.frozen.probes:
        return {"frozen": "not comparable: no probe was fitted then"}
    probe, best, residual = lab.frozen.probes[site], lab.frozen.best[site], lab.observed.residual[site]
    if probe.directions.shape != residual.shape[1:] or not 0 <= best < residual.shape[1]:
        return {"frozen": "not comparable: it has another depth or width"}
    return _beside(effect_of(probe.scores(residual), best), anew, at_least, what=f"the probe of layer {best}")


def _beside(then: Effect, anew: Interval, at_least: float, *, what: Any) -> dict[str, Any]:
    effect, (low, high) = then
    kept, found = low >= at_least, anew[0] >= at_least
    says = {
        (True, True): "kept: what was chosen then does it here too",
        (True, False): "kept, but not found anew: what was chosen then does it, what is chosen here does not",
        (False, True): "moved: what was chosen then does not do it, what is chosen here does",
        (False, False): "vanished: neither what was chosen then nor what is chosen here does it",
    }[kept, found]
    return {"frozen": {"says": says, "chosen then": what, "effect": effect, "interval": [low, high]}}
