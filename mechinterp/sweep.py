"""Many interventions on many prompts for the price of a few passes.

sweep      the metric of every prompt under every intervention

Several sweeps of the same prompts share more, see `mechinterp.prepared`, which says how it is done.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mechinterp.interventions import Intervention
from mechinterp.metric import Metric
from mechinterp.positions import Scope
from mechinterp.prepared import Prepared
from mechinterp.store import Store
from mechinterp.subject import Subject
from mechinterp.tokens import token_ids


def sweep(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    interventions: Sequence[Intervention | None],
    metric: Metric,
    *,
    scope: Scope,
    max_rows: int | None = None,
    store: Store | None = None,
    progress: str | None = None,
) -> Tensor:
    """The metric of every prompt under every intervention, (prompts, interventions) or (..., m), on the CPU.

    Args:
        interventions: None is the clean run; a tuple of several is done at once.
        scope: where all of them apply. `at` and `since` name a row for each prompt.
        max_rows: (prompt, intervention) pairs run at once; by default what a fifth of the free memory holds.
        store: where a sweep is kept; one with the same prompts, interventions, scope and metric is read from it.
        progress: name of a progress bar on stderr (only where stderr is a terminal).

    Raises:
        MechinterpError: no prompts, no interventions, one that the model cannot have, a scope that edits nothing in
            one of the prompts, a store with a metric that has no name, or a call inside the `with` block of an edit
            or a capture.
    """
    prepared = Prepared(subject, token_ids(subject, prompts, "sweep: prompts"), [scope], most=0)
    return prepared.run(interventions, metric, max_rows=max_rows, store=store, progress=progress)
