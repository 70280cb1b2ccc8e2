"""How far the subject verifies at all: what every finding on it is read by.

Ladder  the rung it stands on, with the figures that put it there
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from reports.fields import Details, Strict, Text

Rung = Literal["verifies", "latent", "repetition", "none"]


class Ladder(Strict):
    """How far the subject tells right attempts from wrong ones."""

    rung: Rung
    """verifies: it says so, and by the number's role. latent: by role, without saying so. repetition: it tells numbers
    seen before from new ones. none: not even that."""
    sentence: Text
    """The same in one plain sentence, for a reader who knows none of these words."""
    figures: Details = Field(default_factory=dict)
    """What was measured to find the rung, by name."""
