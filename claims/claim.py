"""What a claim says of itself, before anything is measured.

Claim   a finding's id, statement, published figure, control and threshold
claim   the decorator that puts a Claim on a test
CASES   how many cases the suite tries, which share alpha
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from mechinterp import Threshold

CASES = 15
"""Every case of every claim is one more chance of a false "holds": Bonferroni over all of them, whether or not a run
selects fewer, so that a verdict does not depend on what else was run. A test counts them."""

DISCUSSION = 'Lee et al., "Mechanisms of Verifications and Backtracking", ARBOR discussion #6'
PAPER = "Lee et al., The Geometry of Self-Verification in a Task-Specific Reasoning Model, arXiv 2504.14379"


@dataclass(frozen=True)
class Claim:
    """A published finding and what it has to show here.

    Attributes:
        id: component.finding, such as heads.ablation_disables.
        statement: the finding, in a sentence.
        measure: what the effect is, with its unit.
        published: the source's figure; data for the reader, never a value to reach.
        source: where it was published.
        control: what the null is drawn from, and which rivals are ruled out.
        threshold: written before the run.
        tier: `audited`, or `as_published` for the source's own protocol.
    """

    id: str
    statement: str
    measure: str
    published: str
    source: str
    control: str
    threshold: Threshold
    tier: Literal["audited", "as_published"] = "audited"


def claim(
    id: str,
    *,
    statement: str,
    measure: str,
    published: str,
    source: str,
    control: str,
    threshold: Threshold,
) -> pytest.MarkDecorator:
    """Mark a test as a claim. See `Claim` for the arguments."""
    return pytest.mark.claim(Claim(id, statement, measure, published, source, control, threshold))
