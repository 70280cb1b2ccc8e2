"""What the logit lens shows, layer by layer.

Lens   probability of the lexicon in every layer, how much more the middle shows than the last, and V read by the lens
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

import mechinterp as mi
from claims.measured.naming import Naming
from claims.measured.observations import Observations
from claims.measured.once import kept
from claims.measured.remarks import Remarks
from mechinterp import Store, Subject

SIGN = {"success": 1, "failure": -1}
"""Of which class the words are: right attempts, or wrong ones."""


@dataclass(eq=False)
class Lens:
    """The logit lens on the residual stream of the observed attempts."""

    subject: Subject
    observed: Observations
    naming: Naming
    seed: int
    store: Store | None
    found: dict[tuple[str, int, str], np.ndarray] = field(default_factory=dict, repr=False)

    @property
    def middle(self) -> list[int]:
        """From a quarter to seven eighths of the depth: the last layers say the remark itself."""
        depth = self.subject.anatomy.n_layers
        return list(range(depth // 4, max(depth // 4 + 1, depth * 7 // 8)))

    @property
    def last(self) -> int:
        return self.subject.anatomy.n_layers - 1

    def probability(self, site: str, rows: np.ndarray, layers: Sequence[int], says: str) -> np.ndarray:
        """(rows, layers): probability of the words of success or failure; each attempt and layer is read once."""
        column = list(SIGN).index(says)
        out = np.empty((len(rows), len(layers)))
        for j, layer in enumerate(layers):
            known = self.found.setdefault((site, layer, "words"), np.full((len(self.observed.sited), 2), np.nan))
            missing = rows[np.isnan(known[rows, 0])]
            if len(missing):
                known[missing] = self._read(site, missing, layer)
            out[:, j] = known[rows, column]
        return out

    def _read(self, site: str, rows: np.ndarray, layer: int) -> np.ndarray:
        words = [self.naming.words(says) for says in SIGN]
        residual = self.observed.residual[site][rows, layer]

        def make() -> dict[str, Tensor]:
            label = f"logit lens, layer {layer}"
            return {"p": mi.lens_probability(self.subject, residual, words, progress=label)}

        return kept(self.store, ("lens", residual, words), make)["p"].double().numpy()

    def v(self, site: str, layers: Sequence[int], remarks: Remarks) -> np.ndarray:
        """(n, layers): V of every attempt as the lens of each layer reads it, in nats."""
        tokens = [*remarks.accept, *remarks.reject]
        weight = self.subject.anatomy.unembed.weight[tokens].detach().float()
        norm = self.subject.anatomy.norm
        with torch.no_grad():
            logits = torch.stack(
                [norm(self.observed.residual[site][:, layer].to(weight.device)).float() @ weight.T for layer in layers],
                dim=1,
            )  # (n, layers, tokens)
        ours, theirs = logits[..., : len(remarks.accept)], logits[..., len(remarks.accept) :]
        return (ours.logsumexp(-1) - theirs.logsumexp(-1)).double().cpu().numpy()

    def sides(self, pairs: str, *, fit: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the right and of the wrong attempts of pairs, pair by pair."""
        observed, half = self.observed, self.observed.fit if fit else self.observed.test
        if pairs == "role_swapped":
            right, wrong = (observed.rows(half, pairs, right=side) for side in (True, False))
            return right, wrong
        return observed.rows(half, "correct"), observed.rows(half, pairs)

    def excess(self, site: str, layer: int, says: str, pairs: str) -> np.ndarray:
        """By problem of the test half: how much more the layer shows the words after attempts of their own class than
        after those of the other, minus the same in the last layer.
        """
        gap = self._gap(site, [layer, self.last], says, pairs)
        beyond, problems = gap[:, 0] - gap[:, 1], self.observed.problem[self.sides(pairs)[0]]
        return np.array([beyond[problems == p].mean() for p in np.unique(problems)])

    def chosen_layer(self, site: str, says: str, pairs: str) -> int:
        """The middle layer in which the fit half shows most."""
        gap = self._gap(site, self.middle, says, pairs, fit=True)
        return self.middle[int(gap.mean(0).argmax())]

    def _gap(self, site: str, layers: Sequence[int], says: str, pairs: str, *, fit: bool = False) -> np.ndarray:
        """(pairs, layers)."""
        own, other = self.sides(pairs, fit=fit)[:: SIGN[says]]
        return self.probability(site, own, layers, says) - self.probability(site, other, layers, says)

    def stand_ins(self, site: str, layer: int, says: str, pairs: str, lexicons: np.ndarray) -> np.ndarray:
        """(draws,): the mean excess of random lexicons (draws, words), token ids."""
        right, wrong = self.sides(pairs)
        total = np.zeros(len(self.naming.texts))
        for at, sign in ((layer, 1.0), (self.last, -1.0)):
            for rows, of_class in ((right, SIGN[says]), (wrong, -SIGN[says])):
                for part in np.array_split(rows, -(-len(rows) // 8)):  # distributions over a vocabulary are large
                    p = mi.logit_lens(self.subject, self.observed.residual[site][part, at]).softmax(-1)
                    total += sign * of_class * p.double().sum(0).cpu().numpy()[: len(total)] / len(rows)
        return total[lexicons].sum(1)

    def top(self, site: str, layer: int, rows: np.ndarray, k: int = 10) -> list[str]:
        """The tokens with the highest mean probability over these attempts."""
        mean = mi.logit_lens(self.subject, self.observed.residual[site][rows, layer]).softmax(-1).mean(0)
        return [self.naming.texts[int(i)] for i in mean[: len(self.naming.texts)].topk(k).indices]
