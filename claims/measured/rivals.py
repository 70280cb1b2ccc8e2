"""What else might read the verdict: the rivals of a probe.

lens_accuracy       the logit lens of the remark in the same layer
untrained_accuracy  probes of a model with random weights
surface_accuracy    attempt index and length
own_remarks         how well the probes read what the model itself says
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from claims.measured.bars import ONE_PROMPT
from claims.measured.probing import Probing, balanced, fit_even

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory


def lens_accuracy(lab: Laboratory, site: str, *, fit: bool = False) -> np.ndarray:
    """(problems, layers): balanced accuracy on the test half of V as the lens reads it, cut where the fit half is read
    best; with `fit`, (1, layers) on the fit half itself.
    """
    observed = lab.observed
    v = lab.lens.v(site, range(lab.subject.anatomy.n_layers), lab.remarks)  # (n, layers)
    rows = observed.rows(observed.fit, *ONE_PROMPT)
    right = observed.right[rows]
    reads = np.zeros_like(v, dtype=bool)
    for layer in range(v.shape[1]):
        order = np.unique(v[rows, layer])
        cuts = (order[1:] + order[:-1]) / 2 if len(order) > 1 else order
        said = v[rows, layer] > cuts[:, None]  # (cuts, rows)
        best = int((said[:, right].mean(1) - said[:, ~right].mean(1)).argmax())
        reads[:, layer] = v[:, layer] > cuts[best]
    if not fit:
        return balanced(observed, reads, observed.right)
    return ((reads[rows][right].mean(0) + (~reads[rows][~right]).mean(0)) / 2)[None]


def untrained_accuracy(lab: Laboratory, site: str) -> np.ndarray:
    """(problems, layers), on the first problems of the test half."""
    observed, rows = lab.observed, lab.twin_rows
    on_fit = np.isin(observed.problem[rows], observed.fit.problems)
    right, residual = torch.from_numpy(observed.right[rows]), lab.untrained[site]
    probe = fit_even(residual[on_fit], right[on_fit], observed.kind[rows][on_fit])
    correct = probe.correct(residual[~on_fit], right[~on_fit]).numpy()
    by_problem = correct.reshape(-1, len(ONE_PROMPT), correct.shape[1])
    truth = observed.right[rows][~on_fit].reshape(-1, len(ONE_PROMPT), 1)
    return ((by_problem * truth).sum(1) + (by_problem * ~truth).sum(1) / (len(ONE_PROMPT) - 1)) / 2


def surface_accuracy(lab: Laboratory) -> np.ndarray:
    """(problems,)."""
    observed = lab.observed
    features = np.array([(s.transcript.failed, len(s.transcript.text), len(s.input_ids)) for s in observed.sited])
    rows = observed.rows(observed.fit, *ONE_PROMPT)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    model.fit(features[rows], observed.right[rows])
    return balanced(observed, model.predict(features), observed.right)


def own_remarks(lab: Laboratory, probing: Probing, layers: Sequence[int]) -> float | None:
    """Balanced accuracy of the probes for V > 0 on the test half; None where the model says one thing only."""
    rows = lab.observed.rows(lab.observed.test)
    said = lab.v[rows] > 0
    if said.all() or not said.any():
        return None
    reads = probing.scores[rows][:, layers] > 0
    return float((reads[said].mean() + (~reads[~said]).mean()) / 2)
