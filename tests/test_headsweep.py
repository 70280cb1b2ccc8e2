"""What a head sweep says of the planted circuit."""

import numpy as np
import pytest
from planted import TRUTH, planted

from claims.headsweep import single_heads, sweep_heads
from claims.laboratory import SWEEP_DRAWS, Laboratory


@pytest.fixture(scope="module")
def lab() -> Laboratory:
    return Laboratory(planted("planted"), n_problems=16, seed=0)


def test_every_head_alone(lab):
    """The mover carries most of the gap, then the verifiers; all others together less than a tenth of one of these."""
    truth = TRUTH["planted"]
    found = single_heads(lab, most=20)
    lost = found["log_odds_gap_lost"]
    first, others = list(lost)[:7], list(lost.values())[7:]
    assert first[0] == "L{}H{}".format(*truth.movers[0])
    assert set(first[1:]) == {f"L{layer}H{head}" for layer, head in truth.causal}
    assert sum(others) < 0.1 * lost[first[-1]]
    assert found["rank correlation of the first-order estimate"] > 0.9


@pytest.mark.parametrize("replaced_by", ["zero", "minimal_pair"])
def test_draws(lab, replaced_by):
    """Each null has at least 200 draws where there are so many sets, and the clean rows are the observed ones."""
    swept = sweep_heads(lab, replaced_by)
    assert len(swept.log_odds_random) == len(swept.activation_random) >= min(200, SWEEP_DRAWS)
    np.testing.assert_allclose(swept.log_odds_clean, swept.log_odds_observed, atol=1e-3)
    assert swept.log_odds.shape == swept.right.shape == swept.log_odds_everywhere.shape
