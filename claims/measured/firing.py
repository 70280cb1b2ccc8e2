"""How value vectors fire after right and after wrong attempts, one by one.

fired        activations at ` (`
activations  those of some neurons
Firing       pairs of the test half: what vectors write along the probe, and which of them push the other way
Flips        how many are negative and so write towards a class, after its attempts and after the others
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.named_values import SIGN
from claims.measured.once import once
from mechinterp import Neuron

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory


@dataclass(frozen=True, eq=False)
class Flips:
    """(pairs,) each.

    Attributes:
        own, other: share of the vectors that are negative and write towards the class, after its attempts and others.
        written: what those write along it, own minus other.
    """

    own: np.ndarray
    other: np.ndarray
    written: np.ndarray

    @property
    def more(self) -> np.ndarray:
        return self.own - self.other


def fired(lab: Laboratory, rows: np.ndarray) -> dict[int, Tensor]:
    """By layer of the second half, activations at ` (` of some attempts (rows, d_mlp)."""
    sited, layers = [lab.observed.sited[i] for i in rows], list(lab.values.second_half)
    prompts, places = [one.input_ids for one in sited], [one.open_paren for one in sited]

    def make() -> dict[str, Tensor]:
        found = {str(layer): torch.empty(len(sited), lab.subject.anatomy.d_mlp) for layer in layers}
        for chosen, batch in mi.resumed(lab.subject, prompts, places, progress="value vectors fire"):
            with mi.capture(lab.subject, [[places[i]] for i in chosen], neurons=layers) as seen:
                mi.last_logits(lab.subject, batch)
            for layer in layers:
                found[str(layer)][chosen] = seen.neurons[layer][:, 0].cpu()
        return found

    return {int(layer): part for layer, part in lab.kept(("fired", layers, prompts), make).items()}


def paired_rows(lab: Laboratory, pairs: str, says: str) -> tuple[np.ndarray, np.ndarray]:
    """A pair a problem of the test half: the attempts of the class meant, and the others."""
    observed = lab.observed
    if pairs == "role_swapped":
        rows = [observed.rows(observed.test, pairs, right=side, single=True) for side in (True, False)]
    else:
        rows = [observed.rows(observed.test, kind) for kind in ("correct", pairs)]
    own, other = rows[:: SIGN[says]]
    return own, other


def activations(by_layer: dict[int, Tensor], neurons: Sequence[Neuron]) -> Tensor:
    """(rows, n) of some neurons."""
    return torch.stack([by_layer[layer][:, i] for layer, i in neurons], dim=1).double()


@dataclass(frozen=True, eq=False)
class Firing:
    """Pairs of attempts of the test half, one a problem, at ` (`; `says` is the class meant."""

    lab: Laboratory
    pairs: str
    says: str

    @once
    def rows(self) -> list[np.ndarray]:
        """The attempts of the class meant, and the others."""
        observed = self.lab.observed
        if self.pairs == "role_swapped":
            rows = [observed.rows(observed.test, self.pairs, right=side, single=True) for side in (True, False)]
        else:
            rows = [observed.rows(observed.test, kind) for kind in ("correct", self.pairs)]
        return rows[:: SIGN[self.says]]

    @once
    def sides(self) -> list[dict[int, Tensor]]:
        """Activations, see `fired`."""
        return [fired(self.lab, rows) for rows in self.rows]

    def along(self, neurons: Sequence[Neuron]) -> Tensor:
        """(n,) what each writes along the probe of its layer towards the class meant, a unit of activation."""
        vectors, values = self.lab.values.vectors(neurons), self.lab.values
        towards = [values.direction(layer, SIGN[self.says]) for layer, _ in neurons]
        return (vectors * torch.stack(towards)).sum(1).double()

    def gap(self, neurons: Sequence[Neuron]) -> np.ndarray:
        """(pairs,): what they write along the probe, own minus other."""
        own, other = (activations(side, neurons) for side in self.sides)
        return ((own - other) @ self.along(neurons)).numpy()

    def flips(self, neurons: Sequence[Neuron]) -> Flips:
        writes, shares, written = self.along(neurons), [], []
        for fires in (activations(side, neurons) for side in self.sides):
            flipped = (fires < 0) & (fires * writes > 0)
            shares.append(flipped.double().mean(1).numpy())
            written.append((fires * writes * flipped).sum(1).numpy())
        return Flips(shares[0], shares[1], written[0] - written[1])
