"""How much attention goes where.

attention_to   attention mass from captured rows to groups of positions
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mechinterp.errors import MechinterpError
from mechinterp.given import each, real_numbers, whole_numbers


def attention_to(rows: Tensor, targets: Sequence[Sequence[int]]) -> Tensor:
    """Attention mass to the given token positions of each row.

    Args:
        rows: (B, k, n_heads, S), as `capture` gives them for a layer.
        targets: for each of the B rows the positions to sum over, all below S.

    Returns:
        (B, k, n_heads), between 0 and 1.
    """
    mass = real_numbers(rows, "attention_to: rows", finite=False).detach()
    mass = mass if mass.dtype == torch.float64 else mass.float()
    if mass.ndim != 4:
        raise MechinterpError(f"attention_to: expected rows (B, k, n_heads, S), got shape {tuple(mass.shape)}")
    targets = each(targets, "attention_to: targets", "a list of positions for each row")
    if len(targets) != len(mass):
        raise MechinterpError(f"attention_to: {len(targets)} lists of positions for {len(mass)} rows")
    mask = torch.zeros(len(mass), mass.shape[-1], dtype=mass.dtype, device=mass.device)
    for row, positions in enumerate(targets):
        chosen = whole_numbers(positions, f"attention_to: positions of row {row}", ("positions",)).to(mass.device)
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < mass.shape[-1]:
            raise MechinterpError(f"attention_to: position outside 0 to {mass.shape[-1] - 1} in row {row}")
        mask[row, chosen] = 1
    return torch.einsum("bkhs,bs->bkh", mass, mask)
