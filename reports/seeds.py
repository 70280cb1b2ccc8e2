"""One case on several seeds.

over_seeds  the finding that joins those of the seeds
jaccard     how well sets agree
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from mechinterp.evidence import verdict_of_seeds
from reports.finding import Finding, SeedRecord


def over_seeds(findings: Mapping[int, Finding]) -> Finding:
    """One case's findings, by seed, as one finding.

    Its verdict is the one that four of five seeds agree on. Effect, null and details are those of the first seed that
    found this verdict, else of the first that measured anything; `seeds`, `spread` and `jaccard` say how far the
    others differ. A single finding stays as it is.

    Raises:
        ValueError: there is no finding, or they are of different cases.
    """
    found = list(findings.values())
    if len({(each.subject, each.label) for each in found}) != 1:
        raise ValueError(f"expected the findings of one case on one subject, got {[each.label for each in found]}")
    if len(found) == 1:
        return found[0]
    verdict, reasons = verdict_of_seeds([each.verdict for each in found])
    shown = next((each for each in found if each.verdict == verdict), None)
    if shown is None:
        shown = next((each for each in found if each.effect is not None), found[0])
        reasons = [*reasons, *_first_dissent(findings)]
    else:
        reasons = [*reasons, *shown.reasons]
    effects = [each.effect for each in found if each.effect is not None]
    changed = {
        "verdict": verdict,
        "reasons": reasons,
        "seeds": [_record(seed, finding) for seed, finding in findings.items()],
        "spread": max(effects) - min(effects) if len(effects) > 1 else None,
        "jaccard": jaccard([each.selected for each in found if each.effect is not None]),
        "by_problem": _parts(findings, shown),
        "seconds": sum(each.seconds or 0.0 for each in found) or None,
    }
    return Finding.model_validate(shown.model_dump() | changed)


def jaccard(sets: Sequence[Collection[str]]) -> float | None:
    """Mean of |A and B| / |A or B| over all pairs; None for fewer than two sets, or where nothing is in any of them."""
    pairs = [(set(one), set(other)) for one, other in combinations(sets, 2)]
    if not any(map(len, sets)) or not pairs:
        return None
    return sum(len(one & other) / len(one | other) if one | other else 1.0 for one, other in pairs) / len(pairs)


def _parts(findings: Mapping[int, Finding], shown: Finding) -> dict[str, float | None]:
    """By seed and problem: two runs may show different seeds, and the problems of each are its own."""
    seed = next(seed for seed, finding in findings.items() if finding is shown)
    return {f"seed {seed}, {problem}": part for problem, part in shown.by_problem.items()}


def _first_dissent(findings: Mapping[int, Finding]) -> list[str]:
    """Why the first seed that gave reasons did not find that the claim holds."""
    return next(
        ([f"{each.verdict} on seed {seed}: {each.reasons[0]}"] for seed, each in findings.items() if each.reasons), []
    )


def _record(seed: int, finding: Finding) -> SeedRecord:
    return SeedRecord(
        seed=seed,
        verdict=finding.verdict,
        effect=finding.effect,
        interval=finding.interval,
        p_value=finding.p_value,
        reasons=finding.reasons,
        selected=finding.selected,
    )
