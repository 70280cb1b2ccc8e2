"""How much attention goes where.

attention_to   attention mass from captured rows to groups of positions
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError


def attention_to(rows: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """Attention mass to the given token positions of each row.

    Args:
        rows: (B, k, n_heads, S), as `capture` gives them for a layer.
        targets: for each of the B rows the positions to sum over, all below S.

    Returns:
        (B, k, n_heads), between 0 and 1.
    """
    if len(targets) != rows.shape[0]:
        raise MechinterpError(f"attention_to: {len(targets)} lists of positions for {rows.shape[0]} rows")
    mask = torch.zeros(rows.shape[0], rows.shape[-1], dtype=rows.dtype, device=rows.device)
    for row, positions in enumerate(targets):
        if any(not 0 <= p < rows.shape[-1] for p in positions):
            raise MechinterpError(f"attention_to: position outside 0 to {rows.shape[-1] - 1} in row {row}")
        mask[row, list(positions)] = 1
    return torch.einsum("bkhs,bs->bkh", rows, mask)
