"""A sweep of resumed passes is the naive loop of full passes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp import ablate_heads, ablate_neurons, last_logits, pad, prefill, since
from mechinterp.sweep import sweep

head_sets = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=5, unique=True),
    min_size=1,
    max_size=4,
)
KEEP = 2


@settings(max_examples=10)
@given(sets=head_sets)
def test_naive_loop(tiny, sequences, sets):
    """Every row of every batch under every head set is what a full pass under that set gives."""
    parts = [sequences[:3], sequences[3:]]
    interventions = [
        lambda batch, heads=heads: ablate_heads(batch.subject, heads, scope=since(batch.start)) for heads in sets
    ]
    swept = sweep([prefill(tiny, part, KEEP) for part in parts], interventions, lambda resumed: resumed())
    naive = []
    for heads in sets:
        rows = []
        for part in parts:
            with ablate_heads(tiny, heads, scope=since([len(s) - KEEP for s in part])):
                rows.append(last_logits(tiny, pad(tiny, part)))
        naive.append(torch.cat(rows))
    assert swept.shape == (len(sets), 4, 97)
    torch.testing.assert_close(swept, torch.stack(naive), rtol=0, atol=1e-5)


def test_metrics(qwen, sequences):
    """The metrics are kept in the order of interventions and rows, fp32, and every edit fires as often as it should."""
    resumed, edits = [prefill(qwen, sequences, KEEP)], []

    class Counted:
        def __init__(self, neurons):
            self.block = ablate_neurons(qwen, neurons, scope=since(resumed[0].start))

        def __enter__(self):
            edits.append(self.block.__enter__())
            return edits[-1]

        def __exit__(self, *error):
            return self.block.__exit__(*error)

    choices = [[(0, 1)], [(1, 5), (2, 6)]]
    swept = sweep(
        resumed,
        [lambda _, neurons=neurons: Counted(neurons) for neurons in choices],
        lambda batch: batch()[:, :2].double(),
    )
    assert swept.dtype == torch.float32
    for row, neurons in enumerate(choices):
        with ablate_neurons(qwen, neurons, scope=since(resumed[0].start)):
            torch.testing.assert_close(swept[row], resumed[0]()[:, :2], rtol=0, atol=1e-6)
    for edit in edits:
        edit.require(KEEP * len(sequences))


def test_leaves_no_trace(qwen, sequences):
    """After a sweep, and after one that failed, the model and the prefixes are as before."""
    resumed = prefill(qwen, sequences, KEEP)
    clean = resumed()
    ablate = [lambda batch: ablate_heads(batch.subject, [(1, 1)], scope=since(batch.start))]

    def failing(batch):
        batch()
        raise KeyboardInterrupt

    sweep([resumed], ablate, lambda batch: batch())
    with pytest.raises(KeyboardInterrupt):
        sweep([resumed], ablate, failing)
    assert torch.equal(resumed(), clean)
