"""What a claim says of itself, before anything is measured.

Claim      a published finding; its methods mark the tests that measure it, one for each tier
Protocol   how one tier measures it, and what is demanded
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pytest

from mechinterp.errors import MechinterpError
from mechinterp.evidence import Threshold

Tier = Literal["as_published", "audited"]
DISCUSSION = 'Lee et al., "Mechanisms of Verifications and Backtracking", ARBOR discussion #6'
TINYZERO = "Qwen2.5-3B after TinyZero reinforcement learning on Countdown: 36 layers x 16 heads"
PAPER = "Lee et al., The Geometry of Self-Verification in a Task-Specific Reasoning Model, arXiv 2504.14379"


@dataclass(frozen=True)
class Claim:
    """A published finding, written once at the top of its file.

    Attributes:
        id: component.finding, such as heads.ablation_disables.
        statement: the finding, in a sentence.
        source: where it was published.
        published: the source's figure; data for the reader, never a value to reach.
    """

    id: str
    statement: str
    source: str
    published: str

    def as_published(
        self, *, measure: str, threshold: Threshold, quirks: Sequence[str], setting: str = TINYZERO
    ) -> pytest.MarkDecorator:
        """Mark a test as the source's own protocol. See `Protocol` for the arguments.

        Raises:
            MechinterpError: the threshold asks for a p-value, or `quirks` is a text.
        """
        if threshold.alpha is not None:
            raise MechinterpError(f"{self.id}: as published there is no null to exceed; give Threshold(alpha=None)")
        if isinstance(quirks, str):
            raise MechinterpError(f"{self.id}: quirks is a text; give a tuple of sentences")
        return pytest.mark.claim(
            Protocol(self, "as_published", measure, threshold, setting=setting, quirks=tuple(quirks))
        )

    def audited(self, *, measure: str, null: str, threshold: Threshold) -> pytest.MarkDecorator:
        """Mark a test as the measurement with its controls. See `Protocol` for the arguments.

        Raises:
            MechinterpError: the threshold asks for no p-value.
        """
        if threshold.alpha is None:
            raise MechinterpError(f"{self.id}: audited, an effect has to exceed a null; leave alpha in its Threshold")
        return pytest.mark.claim(Protocol(self, "audited", measure, threshold, null=null))


@dataclass(frozen=True)
class Protocol:
    """How one tier measures a claim.

    Attributes:
        tier: `as_published`, the source's own protocol, or `audited`, with the controls that make it mean something.
        measure: what the effect is, with its unit.
        threshold: what is demanded of it, written before the run.
        null: what the draws of the null are, such as random heads of the same layers.
        setting: what the published figure was measured on, and how.
        quirks: what of the source's protocol is known to mislead, kept on purpose.
    """

    claim: Claim
    tier: Tier
    measure: str
    threshold: Threshold
    null: str = ""
    setting: str = ""
    quirks: tuple[str, ...] = ()
