"""Names that fit a narrow column and can still be told apart.

abbreviated  claims with their cases, each in so many cells
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

CUT = "~"


def abbreviated(names: Sequence[tuple[str, str]], width: int) -> list[str]:
    """`claim[case]` in at most `width` cells: of the case the longest parts are cut, `~` says where.

    `heads.ablation_disables[role_swapped/minimal_pair]` becomes `heads.ablation_disables[role_~/minim~]`. The claim is
    whole as long as three cells are left for its case. Two names that would look the same are numbered.
    """
    shown = {name: _fitted(*name, width) for name in names}
    taken: dict[str, tuple[str, str]] = {}
    for name, text in shown.items():
        again = 1
        while taken.setdefault(shown[name], name) != name:
            again += 1
            shown[name] = _cut(text, width - len(f"{again}")) + f"{again}"
    return [shown[name] for name in names]


def _fitted(claim: str, case: str, width: int) -> str:
    if not case:
        return _cut(claim, width)
    budget = width - cell_len(claim) - 2
    if budget < 3:
        claim, budget = _cut(claim, width - 5), 3
    parts = case.split("/")
    widths = [cell_len(part) for part in parts]
    while sum(widths) + len(parts) - 1 > budget and max(widths) > 2:
        widths[widths.index(max(widths))] -= 1
    fitted = "/".join(
        part if cell_len(part) == cells else _cut(part, cells) for part, cells in zip(parts, widths, strict=True)
    )
    return f"{claim}[{_cut(fitted, budget)}]"


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + CUT
