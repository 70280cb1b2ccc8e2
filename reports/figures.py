"""Pictures of findings: their curves, and their effect beside the null. One SVG a finding.

draw     the pictures of all findings
Picture  a file, or the reason why there is none
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.curves import Curve, curves_of
from reports.schema import Finding
from reports.text import file_name, plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MAX_CURVES = 10
MIN_DRAWS = 5
INK, EFFECT, THRESHOLD = "#333333", "#c1440e", "#666666"
MARKERS, DASHES = "osD^vPX<>h", ("-", "-", "-", "--", "--", "--", "-.", "-.", "-.", ":")
COLOURS = ("#0b6e8f", "#c1440e", "#5b8c2a", "#7a4fa3", "#b8860b", "#444444", "#d16ba5", "#2a9d8f", "#8d5524", "#9aa5b1")
STYLE = {
    "svg.fonttype": "none",  # text stays text: searchable, and tokens of any script show in the reader's own fonts
    "svg.hashsalt": "reports",  # the same finding gives the same file
    "text.parse_math": False,  # a `$` in a token is a dollar
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class Picture:
    """What became of a finding's picture. Both are None for a finding that has nothing to draw."""

    path: str | None = None
    """File name, relative to the folder of the run."""
    problem: str | None = None
    """Why there is no picture of what there was to draw."""


def draw(findings: Sequence[Finding], folder: Path) -> list[Picture]:
    """Draw every finding that has curves or a null into `folder`; one that cannot be drawn never stops the others."""
    taken: set[str] = set()
    return [_picture(finding, folder, taken) for finding in findings]


def _picture(finding: Finding, folder: Path, taken: set[str]) -> Picture:
    with_null = len(finding.null) >= MIN_DRAWS
    if not finding.series and not with_null:
        return Picture()
    try:
        curves = curves_of(finding) if finding.series else []
        name = _unused(finding, taken)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(_svg(finding, curves, with_null))
    except Exception as error:  # a picture is never worth the report
        return Picture(problem=plain(str(error)) or type(error).__name__)
    return Picture(path=f"{folder.name}/{name}")


def _svg(finding: Finding, curves: list[Curve], with_null: bool) -> bytes:
    import matplotlib
    from matplotlib.figure import Figure

    panels = bool(curves) + with_null
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fonts that lack a token's glyphs: the reader's will not
        legend = min(len(curves), MAX_CURVES) / 2  # rows, which must not press the curves flat
        figure = Figure(figsize=(6.4 if panels == 1 else 10.4, 3.2 + 0.2 * max(legend, 2)), layout="constrained")
        axes = list(figure.subplots(1, panels, squeeze=False)[0])
        if curves:
            _draw_curves(axes.pop(0), finding, curves)
        if with_null:
            _draw_null(axes.pop(0), finding)
        file = BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw_curves(axes: Axes, finding: Finding, curves: list[Curve]) -> None:
    handles: list[Any] = []
    for place, curve in enumerate(curves[:MAX_CURVES]):
        few = len(curve.positions) <= 60
        # Ever thinner, so that a curve below others still shows; and told apart without colours.
        style: dict[str, Any] = {
            "color": COLOURS[place],
            "ls": DASHES[place],
            "lw": 2.6 - 0.15 * place,
            "clip_on": False,
        }
        handles += axes.plot(
            curve.positions, curve.values, marker=MARKERS[place] if few else None, markersize=4, **style
        )
        if curve.band:
            low, high = zip(*(ends or (float("nan"), float("nan")) for ends in curve.band), strict=True)
            axes.fill_between(curve.positions, low, high, color=COLOURS[place], alpha=0.15, lw=0)
    labels = [curve.name for curve in curves[:MAX_CURVES]]
    if finding.at_least is not None and finding.series_unit and finding.series_unit == finding.measure:
        handles.append(axes.axhline(finding.at_least, color=THRESHOLD, lw=1.2, ls="--"))
        labels.append(f"threshold {finding.at_least:g}")
    left_out = len(curves) - MAX_CURVES
    title = f"{MAX_CURVES} of {len(curves)} curves" if left_out > 0 else ""
    if len(curves) == 1 and len(handles) == 1 and not finding.series_unit:
        axes.set_ylabel(labels[0])
    else:
        _legend(axes, handles, labels, title)
        axes.set_ylabel(short(finding.series_unit, 60))
    axes.set_xlabel(short(finding.series_axis, 60))
    if all(x == int(x) for curve in curves for x in curve.positions):
        _whole_ticks(axes.xaxis)
    _plain_frame(axes)


def _draw_null(axes: Axes, finding: Finding) -> None:
    draws = [draw for draw in finding.null if draw is not None]
    if not draws:
        raise ValueError("the null has no finite draw")
    name = short(finding.null_of, 44) or "matched controls"
    exist = "" if finding.distinct is None else f" of the {finding.distinct} that exist"
    *_, bars = axes.hist(draws, bins=min(30, max(8, len(draws) // 8)), color="#9db4c0")
    handles: list[Any] = [bars]
    labels = [f"{name}, {len(draws)} draws{exist}"]
    if finding.effect is not None:
        handles.append(axes.axvline(finding.effect, color=EFFECT, lw=2))
        labels.append(f"effect {finding.effect:.3g}")
    if finding.at_least is not None:
        handles.append(axes.axvline(finding.at_least, color=THRESHOLD, lw=1.2, ls="--"))
        labels.append(f"threshold {finding.at_least:g}")
    _legend(axes, handles, labels)
    _whole_ticks(axes.yaxis)
    axes.set_xlabel(short(finding.measure, 60) or "effect")
    axes.set_ylabel("draws")
    _plain_frame(axes)


def _legend(axes: Axes, handles: list[Any], labels: list[str], title: str = "") -> None:
    """Above the axes, where it covers no data."""
    names = [f" {label}" if label.startswith("_") else label for label in labels]  # matplotlib hides `_names`
    where = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": 1 if len(names) <= 4 else 2}
    axes.legend(handles, names, frameon=False, fontsize=9, title=title or None, alignment="left", **where)


def _whole_ticks(axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def _plain_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e5e5", lw=0.8)
    axes.set_axisbelow(True)


def _unused(finding: Finding, taken: set[str]) -> str:
    """`<claim>-<case>.svg`, told apart from the names already given, whatever the case of their letters."""
    parts = [finding.claim, finding.case, "as_published" if finding.tier == "as_published" else ""]
    stem = file_name("-".join(part for part in parts if part), longest=100)
    name, again = stem, 1
    while name.lower() in taken:
        again += 1
        name = f"{stem}-{again}"
    taken.add(name.lower())
    return f"{name}.svg"
