"""The curves of a finding, as they are drawn: the same ones once, each with its band.

curves_of  all of them
Curve      names, positions, values, band
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from reports.finding import Finding
from reports.text import short

Band = tuple[tuple[float, float] | None, ...]


@dataclass(frozen=True)
class Curve:
    """One curve.

    Attributes:
        name: for the legend; of curves that are the same, the names of all.
        positions: ascending or not, as they were recorded.
        values: NaN where there is none.
        band: an interval at each position; empty for a curve without.
    """

    name: str
    positions: tuple[float, ...]
    values: tuple[float, ...]
    band: Band = ()


def curves_of(finding: Finding) -> list[Curve]:
    """The curves of a finding; those that are the same are one, by the names of all.

    Raises:
        ValueError: there is something that cannot be drawn.
    """
    curves = dict(finding.series)
    positions = curves.pop(finding.series_axis, None)
    if positions is not None and None in positions:
        raise ValueError(f"the positions {finding.series_axis!r} are not all finite")
    drawn: dict[tuple[str, Band], Curve] = {}
    for name, values in curves.items():
        if positions is not None and len(values) != len(positions):
            raise ValueError(f"the curve {name!r} has {len(values)} values for {len(positions)} positions")
        if all(value is None for value in values):
            raise ValueError(f"the curve {name!r} has no finite value")
        points = tuple(float("nan") if value is None else value for value in values)
        band = tuple(finding.bands.get(name, ()))
        if band and len(band) != len(values):
            raise ValueError(f"the band of {name!r} has {len(band)} intervals for {len(values)} values")
        known = drawn.get((repr(points), band))
        if known:
            drawn[repr(points), band] = replace(known, name=short(f"{known.name} = {short(name, 32)}", 66))
        else:
            places = tuple(float(x or 0) for x in positions or range(len(values)))
            drawn[repr(points), band] = Curve(short(name, 32), places, points, band)
    if not drawn:
        raise ValueError("there are positions but no curve")
    return list(drawn.values())
