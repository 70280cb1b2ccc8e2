"""Which heads are chosen, and which they are compared with."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechinterp import MechinterpError
from mechinterp.heads import attending_heads, matched_head_sets

N_HEADS = 12
chosen_heads = st.lists(st.tuples(st.integers(0, 3), st.integers(0, N_HEADS - 1)), min_size=1, max_size=12, unique=True)


def norms_of(seed: int) -> torch.Tensor:
    return torch.rand(4, N_HEADS, generator=torch.Generator().manual_seed(seed)) * 5 + 0.1


@given(seed=st.integers(0, 99), above=st.floats(0, 1), at_most=st.integers(1, 12))
def test_attending_heads(seed, above, at_most):
    """The heads whose mean mass is above the threshold, the most attending first, and no more than asked for."""
    mass = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(seed))
    found = attending_heads(mass, above=above, at_most=at_most)
    mean = {(layer, head): float(mass[:, layer, head].mean()) for layer in range(3) for head in range(4)}
    assert len(set(found)) == len(found) == min(at_most, sum(value > above for value in mean.values()))
    assert all(mean[one] >= mean[other] for one, other in pairwise(found))
    left_out = [value for head, value in mean.items() if head not in found]
    if found:
        assert mean[found[-1]] > above
        assert len(found) == at_most or all(value <= above for value in left_out)
        assert all(value <= mean[found[-1]] for value in left_out)


def test_attending_heads_by_hand():
    """One head of a layer that attends is found by layer and number, as ints; a mass at the threshold is not above."""
    mass = torch.zeros(2, 3, 4)
    mass[:, 1, 2], mass[:, 2, 0], mass[0, 0, 3] = 0.5, 0.25, 0.5  # the last is 0.25 in the mean as well
    assert attending_heads(mass, above=0.25, at_most=9) == [(1, 2)]
    assert sorted(attending_heads(mass, above=0.2, at_most=9)) == [(0, 3), (1, 2), (2, 0)]
    assert all(type(number) is int for head in attending_heads(mass, above=0.2, at_most=9) for number in head)
    assert attending_heads(mass, above=0.6, at_most=9) == []


@pytest.mark.parametrize("mass", [torch.full((2, 3, 4), math.nan), torch.zeros(0, 3, 4)])
def test_no_mass(mass):
    """Attention that is not a number, or of no sequence, is not the same as heads that do not attend."""
    with pytest.raises(MechinterpError, match="not finite"):
        attending_heads(mass, above=0.1, at_most=4)


@given(heads=chosen_heads, seed=st.integers(0, 99))
def test_matched(heads, seed):
    """Matched sets hold none of the heads, as many in every layer as can be, and no set comes twice."""
    sets = matched_head_sets(heads, norms_of(seed), draws=20, seed=seed).sets
    wanted = Counter(layer for layer, _ in heads)
    for one in sets:
        assert not set(one) & set(heads)
        assert len(set(one)) == len(one)
        assert Counter(layer for layer, _ in one) == {
            layer: min(n, N_HEADS - n) for layer, n in wanted.items() if n < N_HEADS
        }
        assert all(0 <= head < N_HEADS for _, head in one)
    assert len({frozenset(one) for one in sets}) == len(sets)


@given(seed=st.integers(0, 99))
def test_seeded(seed):
    """The same seed draws the same sets, whatever the order of the heads; another seed draws others."""
    heads = [(0, 0), (1, 3), (1, 4), (2, 7)]
    first = matched_head_sets(heads, norms_of(0), draws=5, seed=seed)
    np.random.seed(seed)  # noqa: NPY002
    assert matched_head_sets(heads[::-1], norms_of(0), draws=5, seed=seed) == first
    assert matched_head_sets(heads, norms_of(0), draws=5, seed=seed + 1) != first


def test_nearness():
    """Heads of a matched set are nearer in log norm to the ones they stand for than heads of the layer are at large."""
    heads = [(0, 0), (1, 3), (1, 4), (2, 7)]
    near, far = [], []
    for seed in range(20):
        norms = norms_of(seed).log()
        for one in matched_head_sets(heads, norms.exp(), draws=10, seed=seed).sets:
            for layer in range(3):
                target = torch.stack([norms[head] for head in heads if head[0] == layer]).mean()
                near += [abs(float(norms[head] - target)) for head in one if head[0] == layer]
                others = [h for h in range(N_HEADS) if (layer, h) not in heads]
                far += [abs(float(norms[layer, h] - target)) for h in others]
    assert np.mean(near) < 0.6 * np.mean(far)


def test_fewer():
    """Where fewer sets exist than were asked for, every one of them comes, once."""
    norms = torch.ones(2, 4)
    alone = matched_head_sets([(0, 1)], norms, draws=50, seed=0)
    assert sorted(alone.sets) == [((0, 0),), ((0, 2),), ((0, 3),)]
    assert alone.distinct == 3
    both = matched_head_sets([(0, 1), (1, 0)], norms, draws=50, seed=0)
    assert both.distinct == 9
    assert {frozenset(one) for one in both.sets} == {frozenset({(0, a), (1, b)}) for a in (0, 2, 3) for b in (1, 2, 3)}
    assert len(matched_head_sets([(0, 0), (0, 1), (0, 2)], norms, draws=50, seed=0).sets[0]) == 1  # one is left


def test_draws():
    """Where enough sets exist, as many come as were asked for."""
    found = matched_head_sets([(0, 0), (1, 1), (2, 2)], norms_of(0), draws=40, seed=0)
    assert len(found.sets) == 40 < found.distinct
    assert matched_head_sets([(0, 0), (1, 1), (2, 2)], norms_of(0), draws=60, seed=0).sets[:40] == found.sets


def test_excluded_heads_are_in_no_set():
    """What the same rule would have chosen too is no control."""
    excluded = [(0, 3), (0, 4), (1, 0)]
    found = matched_head_sets([(0, 0), (1, 1)], norms_of(0), draws=40, seed=0, exclude=excluded)
    assert not {head for one in found.sets for head in one} & set(excluded)


def test_matched_on_several_sizes():
    """A head that is near in one size and far in the other is not near."""
    sizes = torch.tensor([[[1.0, 1.0], [1.0, 9.0], [9.0, 1.0], [1.1, 1.1], [1.2, 0.9], [0.9, 1.2], [1.1, 0.9]]])
    found = matched_head_sets([(0, 0)], sizes, draws=20, seed=0)
    assert {head for one in found.sets for _, head in one} == {3, 4, 5, 6}


def test_nothing_to_compare():
    """No heads, or no others beside them, is refused."""
    with pytest.raises(MechinterpError, match="no heads were given"):
        matched_head_sets([], torch.ones(2, 4), draws=3, seed=0)
    with pytest.raises(MechinterpError, match="no other heads"):
        matched_head_sets([(0, h) for h in range(4)], torch.ones(2, 4), draws=3, seed=0)


def test_a_head_that_writes_nothing_is_matched_too():
    """A chosen head of norm 0 is matched with the heads that write least, not with any."""
    norms = torch.tensor([[1.0, 9, 8, 7, 6, 5, 1.1, 0.0, 1.2, 1.3]])
    for chosen in ([(0, 7)], [(0, 0), (0, 7)]):
        for one in matched_head_sets(chosen, norms, draws=6, seed=0).sets:
            assert {head for _, head in one} <= {0, 5, 6, 8, 9}


def test_norms_that_are_not_finite_are_refused():
    with pytest.raises(MechinterpError, match="not finite"):
        matched_head_sets([(0, 0)], torch.tensor([[1.0, float("nan"), 2.0]]), draws=2, seed=0)
