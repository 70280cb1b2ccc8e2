"""How much memory a measurement may take.

memory_for_rows  bytes for the rows of a batch
"""

from __future__ import annotations

import psutil
import torch

from mechinterp.subject import Subject

SHARE = 0.2
"""Of the free memory that the rows of a batch may take."""


def memory_for_rows(subject: Subject, most: int) -> float:
    """Bytes, at most `most`: beyond some size larger batches are no faster."""
    on_cpu = subject.device.type == "cpu"
    free = psutil.virtual_memory().available if on_cpu else torch.cuda.mem_get_info(subject.device)[0]
    return min(SHARE * free, most)
