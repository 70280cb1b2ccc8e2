"""Attention mass is a sum over positions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechinterp import MechinterpError, attention_to, capture, last_logits, pad

targets = st.lists(st.lists(st.integers(0, 7)), min_size=3, max_size=3)


@given(targets=targets)
def test_sum(targets):
    """The mass of a row on a set of positions is the sum over the set; a position named twice counts once."""
    rows = torch.rand(3, 2, 4, 8, generator=torch.Generator().manual_seed(0)).softmax(-1)
    mass = attention_to(rows, targets)
    assert mass.shape == (3, 2, 4)
    for row, positions in enumerate(targets):
        wanted = sum((rows[row, :, :, p] for p in set(positions)), torch.zeros(2, 4))
        torch.testing.assert_close(mass[row], wanted)


def test_of_a_model(tiny, sequences):
    """Captured rows have mass 1 on all their positions, none on later ones, and the parts add up."""
    with capture(tiny, [[len(s) - 1] for s in sequences], attention=[1]) as found:
        last_logits(tiny, pad(tiny, sequences))
    rows = found.attention[1]
    whole = attention_to(rows, [range(len(s)) for s in sequences])
    torch.testing.assert_close(whole, torch.ones(4, 1, 4), rtol=0, atol=1e-5)
    later = attention_to(rows, [range(len(s), 12) for s in sequences])
    assert (later == 0).all()
    parts = attention_to(rows, [[0, 1]] * 4) + attention_to(rows, [range(2, len(s)) for s in sequences])
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        ([[0]], "1 lists of positions for 3 rows"),
        ([[0], [8], [0]], "outside 0 to 7 in row 1"),
        ([[0], [0], [-1]], "outside 0 to 7 in row 2"),
    ],
)
def test_refused(targets, names):
    """Positions that a row does not have are refused: -1 would be its end."""
    with pytest.raises(MechinterpError, match=names):
        attention_to(torch.rand(3, 2, 4, 8), targets)
