"""Many interventions on the same prompts.

Intervention   a function that opens a `with` block for a batch whose prefix has been run
sweep          measure every batch under every intervention
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from tqdm import tqdm

from mechinterp.intervene import Edit
from mechinterp.resume import Resumed

Intervention = Callable[[Resumed], AbstractContextManager[Edit]]


@torch.no_grad()
def sweep(
    resumed: Sequence[Resumed],
    interventions: Sequence[Intervention],
    measure: Callable[[Resumed], Tensor],
    *,
    progress: str | None = None,
) -> Tensor:
    """Metrics under each intervention, (interventions, rows of all batches, metrics), fp32, on the CPU.

    The prefixes are not run again: an intervention must be scoped to positions from `Resumed.start` on.

    Args:
        measure: runs the batch and returns (rows, metrics).
    """
    results = []
    for intervention in tqdm(interventions, desc=progress, disable=None if progress else True, leave=False):
        parts = []
        for batch in resumed:
            with intervention(batch):
                parts.append(measure(batch).float().cpu())
        results.append(torch.cat(parts))
    return torch.stack(results)
