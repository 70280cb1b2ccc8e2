"""Ends of sequences, resumed after what they share: the same numbers as whole sequences give."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp import MechinterpError, Subject, batches, capture, last_logits, resumed

Case = tuple[list[list[int]], list[int]]


@st.composite
def families(draw: st.DrawFn) -> Case:
    """Texts of which some begin alike, of several lengths, and where their ends begin."""
    ids = st.integers(1, 60)
    sequences = []
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.lists(ids, min_size=0, max_size=8))
        width = draw(st.integers(1, 4))
        for _ in range(draw(st.integers(1, 3))):
            sequences.append(start + draw(st.lists(ids, min_size=width, max_size=width)))
    order = draw(st.permutations(range(len(sequences))))
    sequences = [sequences[i] for i in order]
    return sequences, [draw(st.integers(0, len(one) - 1)) for one in sequences]


@settings(max_examples=25, deadline=None)
@given(case=families(), size=st.integers(1, 5))
def test_ends_give_what_whole_sequences_give(tiny: Subject, case: Case, size: int) -> None:
    """Logits, activations and attention rows, for every place at or after `first`."""
    sequences, first = case
    layers, got = range(tiny.anatomy.n_layers), {}
    for rows, batch in resumed(tiny, sequences, first, size=size):
        places = [[first[row], len(sequences[row]) - 1] for row in rows]
        with capture(tiny, places, residual=layers, heads=layers, neurons=layers, attention=layers) as seen:
            logits = last_logits(tiny, batch)
        for at, row in enumerate(rows):
            got[row] = (logits[at], *(of[layer][at] for of in vars(seen).values() for layer in layers))
    assert sorted(got) == list(range(len(sequences)))
    for (row,), batch in batches(tiny, sequences, size=1):
        places = [[first[row], len(sequences[row]) - 1]]
        with capture(tiny, places, residual=layers, heads=layers, neurons=layers, attention=layers) as seen:
            logits = last_logits(tiny, batch)
        expected = (logits[0], *(of[layer][0] for of in vars(seen).values() for layer in layers))
        for mine, theirs in zip(got[row], expected, strict=True):
            torch.testing.assert_close(mine[..., : theirs.shape[-1]], theirs, atol=1e-4, rtol=1e-4)


def test_what_is_shared_is_run_once(tiny: Subject) -> None:
    """Three texts that differ in their last two tokens take one pass over the rest."""
    shared = list(range(1, 21))
    sequences = [[*shared, 30 + i, 40] for i in range(3)]
    seen: list[tuple[int, ...]] = []
    handle = tiny.model.model.embed_tokens.register_forward_pre_hook(lambda m, args: seen.append(tuple(args[0].shape)))
    try:
        for _, batch in resumed(tiny, sequences, [20] * 3):
            last_logits(tiny, batch)
    finally:
        handle.remove()
    assert seen == [(1, 20), (3, 2)]


def test_a_batch_of_ends_is_run_once(tiny: Subject) -> None:
    """Its cache has grown: a second run would silently be of other texts."""
    ((_, batch),) = resumed(tiny, [[1, 2, 3, 4]], [2])
    last_logits(tiny, batch)
    with pytest.raises(MechinterpError, match="run before"):
        last_logits(tiny, batch)


@pytest.mark.parametrize("first", [[], [4], [-1], [0, 0]])
def test_a_place_that_is_not_there_is_refused(tiny: Subject, first: list[int]) -> None:
    with pytest.raises(MechinterpError, match="position"):
        list(resumed(tiny, [[1, 2, 3, 4]], first))
