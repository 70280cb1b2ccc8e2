"""A pass resumed from its prefix is the full pass, again and again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp import (
    MechinterpError,
    ablate_heads,
    ablate_neurons,
    at,
    capture,
    last,
    last_logits,
    pad,
    prefill,
    since,
    steer,
)
from tests.conftest import tiny_subject

close = {"rtol": 0, "atol": 1e-5}
HEADS, NEURONS = [(0, 1), (1, 2), (2, 0)], [(0, 3), (2, 40)]


@pytest.mark.parametrize("keep", [1, 3, 6])
def test_full_pass(tiny, sequences, keep):
    """The logits of a resumed pass are those of the full pass."""
    resumed = prefill(tiny, sequences, keep)
    assert resumed.start.tolist() == [len(s) - keep for s in sequences]
    torch.testing.assert_close(resumed(), last_logits(tiny, pad(tiny, sequences)), **close)


@settings(max_examples=10)
@given(
    heads=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6),
    neurons=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 47)), min_size=1, max_size=6),
    keep=st.integers(1, 6),
)
def test_under_edits(tiny, sequences, heads, neurons, keep):
    """Under edits of the kept part too: heads, neurons and steering, by start, position or last token."""
    resumed, batch = prefill(tiny, sequences, keep), pad(tiny, sequences)
    vector = torch.linspace(-1, 1, 32)
    for scope in (since(resumed.start), last, at([[len(s) - keep, len(s) - 1] for s in sequences])):
        with (
            ablate_heads(tiny, heads, scope=scope) as edit,
            ablate_neurons(tiny, neurons, scope=scope),
            steer(tiny, 1, vector, scope=scope),
        ):
            full = last_logits(tiny, batch)
            fired = dict(edit.positions)
            torch.testing.assert_close(resumed(), full, **close)
            assert dict(edit.positions) == {layer: 2 * times for layer, times in fired.items()}


def test_again_and_again(tiny, sequences):
    """Any number of calls, with edits in between, give bit for bit the same logits."""
    resumed = prefill(tiny, sequences, 3)
    first = resumed()
    for _ in range(3):
        with ablate_heads(tiny, HEADS), ablate_neurons(tiny, NEURONS):
            assert not torch.equal(resumed(), first)
        assert torch.equal(resumed(), first)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_after_an_error(tiny, sequences, layer, when):
    """A pass that broke off half way leaves nothing behind in the cache."""
    resumed = prefill(tiny, sequences, 3)
    first = resumed()
    block = tiny.anatomy.layers[layer]
    register = block.register_forward_pre_hook if when == "before" else block.register_forward_hook

    def break_off(*_: object) -> None:
        raise KeyboardInterrupt

    handle = register(break_off)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            resumed()
    handle.remove()
    assert torch.equal(resumed(), first)


@pytest.mark.parametrize("window", [2, 5, 11])
def test_sliding_window(sequences, window):
    """The same holds where a sliding window forgets the beginning."""
    subject = tiny_subject("mistral", sliding_window=window)
    resumed = prefill(subject, sequences, 3)
    first = resumed()
    torch.testing.assert_close(first, last_logits(subject, pad(subject, sequences)), **close)
    with ablate_heads(subject, HEADS, scope=since(resumed.start)):
        torch.testing.assert_close(resumed(), last_logits(subject, pad(subject, sequences)), **close)
    assert torch.equal(resumed(), first)


def test_capture(qwen, sequences):
    """Capture counts positions on from the prefix."""
    places = [[len(s) - 1, len(s) - 3] for s in sequences]
    resumed = prefill(qwen, sequences, 3)
    with capture(qwen, places, residual=[2], attention=[1]) as kept:
        resumed()
    with capture(qwen, places, residual=[2], attention=[1]) as full:
        last_logits(qwen, pad(qwen, sequences))
    torch.testing.assert_close(kept.residual[2], full.residual[2], **close)
    torch.testing.assert_close(kept.attention[1], full.attention[1], **close)


@pytest.mark.parametrize("keep", [0, -1, 7, 12])
def test_refused(qwen, sequences, keep):
    """Nothing to keep, or a sequence without a prefix, is refused."""
    with pytest.raises(MechinterpError, match=f"keep = {keep}"):
        prefill(qwen, sequences, keep)
