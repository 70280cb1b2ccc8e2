"""How much memory a sweep may take.

free_memory      bytes on the subject's device
memory_for_rows  bytes for the rows of a batch
rows_at_once     rows of a sweep in one batch
memory_to_keep   bytes for clean passes between sweeps
bytes_of_clean   what one of them takes
"""

from __future__ import annotations

import psutil
import torch

from mechinterp.clean import Clean
from mechinterp.subject import Subject

ROWS = 0.2
"""Of the free memory, what the rows of a batch may take."""
KEPT = 0.25
"""Of the free memory, what the clean passes of prepared prompts may keep."""
MOST = {"cpu": 2**25}
"""Bytes of a sweep's rows. With four times as many the small models take twice as long on a CPU, whose caches end."""
MOST_ELSEWHERE = 2**30


def free_memory(subject: Subject) -> int:
    device = subject.device
    if device.type != "cuda":
        return psutil.virtual_memory().available
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, to be used again
    return torch.cuda.mem_get_info(device)[0] + unused


def memory_for_rows(subject: Subject, most: int) -> float:
    """Bytes, at most `most`: beyond some size larger batches are no faster."""
    return min(ROWS * free_memory(subject), most)


def memory_to_keep(subject: Subject) -> int:
    return int(KEPT * free_memory(subject))


def rows_at_once(subject: Subject, clean: Clean) -> int:
    """Rows that begin where `clean` does."""
    anatomy, columns = subject.anatomy, clean.columns
    features = 4 * anatomy.d_model + 4 * anatomy.n_heads * anatomy.d_head + 3 * anatomy.d_mlp
    keys = 2 * anatomy.n_heads * (clean.start + columns if clean.start else 1)
    most = MOST.get(subject.device.type, MOST_ELSEWHERE)
    return max(1, int(memory_for_rows(subject, most) / (4 * columns * (features + keys))))


def bytes_of_clean(subject: Subject, prompts: int, length: int, start: int) -> int:
    """What a clean pass keeps: keys and values of every token, stream and heads of every layer from `start` on."""
    anatomy = subject.anatomy
    keys = 2 * anatomy.n_layers * anatomy.n_kv_heads * anatomy.d_head
    kept = (anatomy.n_layers + 1) * anatomy.d_model + anatomy.n_layers * anatomy.n_heads * anatomy.d_head
    return prompts * (length * keys + (length - start) * kept + anatomy.d_model) * subject.model.dtype.itemsize
