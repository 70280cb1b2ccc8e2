"""Sweeps of prepared prompts are sweeps, for one clean pass in all."""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp import (
    AblateHeads,
    AblateNeurons,
    MechinterpError,
    Metric,
    Steer,
    Store,
    at,
    everywhere,
    last,
    log_odds,
    prepare,
    since,
    sweep,
)
from mechinterp.memory import bytes_of_clean
from tests.conftest import VOCAB, tiny_subject
from tests.test_sweep import D_HEAD, D_MODEL, HEADS, LAYERS, LENGTHS, everything, naive, sweeps

BOTH = [AblateHeads([(1, 1)]), (AblateNeurons([(0, 3)]), Steer(2, torch.ones(D_MODEL))), None]
ENDS = at([[n - 3, n - 1] for n in LENGTHS])
close = {"rtol": 1e-5, "atol": 1e-4}


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]


@contextmanager
def counted(subject):
    """How many rows of how many tokens enter the first layer: those of clean passes, as no row begins below it."""
    seen = []
    first = subject.anatomy.attention(0)
    handle = first.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["hidden_states"].shape[:2].numel()), with_kwargs=True
    )
    try:
        yield seen
    finally:
        handle.remove()


@settings(max_examples=20)
@given(
    runs=st.lists(sweeps(4), min_size=1, max_size=4),
    prepared_for=st.integers(1, 4),
    max_rows=st.sampled_from([None, 1, 3, 8]),
    max_bytes=st.sampled_from([None, 0, 5_000, 20_000, 40_000]),
)
def test_naive_loop(qwen, prompts, runs, prepared_for, max_rows, max_bytes):
    """In any order, at scopes that were prepared for or not, with any memory."""
    scopes = [scope for scope, _ in runs]
    prepared = prepare(qwen, prompts, scope=scopes[:prepared_for], max_bytes=max_bytes)
    for scope, chosen in runs:
        swept = prepared.run(chosen, everything, scope=scope, max_rows=max_rows)
        torch.testing.assert_close(swept, naive(qwen, prompts, chosen, scope), **close)
        kept = sum(clean.nbytes for clean in prepared.passes.kept.values())
        assert max_bytes is None or kept <= max_bytes


@pytest.mark.parametrize("family", ["qwen3", "llama", "mistral"])
def test_families(prompts, family):
    """Biases, norms of queries and keys, and windows are those of each family."""
    subject = tiny_subject(family, **({"sliding_window": 4} if family == "mistral" else {}))
    prepared = prepare(subject, prompts, scope=[last, everywhere, ENDS])
    for scope in (ENDS, everywhere, last):
        found = prepared.run(BOTH, everything, scope=scope)
        torch.testing.assert_close(found, naive(subject, prompts, BOTH, scope), **close)


def test_one_clean_pass(qwen, prompts):
    """It is run once, whatever the sweeps' scopes, interventions and metrics."""
    prepared = prepare(qwen, prompts, scope=[last, since([0] * 4), ENDS])
    values = {2: torch.randn(4, 2, HEADS, D_HEAD, generator=torch.Generator().manual_seed(0))}
    with counted(qwen) as seen:
        for scope in (last, ENDS, prepared.scopes[1], everywhere):
            for metric in (log_odds(5, 6), everything, Metric(lambda read: read.neurons[0], neurons=(0,))):
                prepared.run([AblateHeads([(1, 0)]), AblateNeurons([(1, 0)]), None], metric, scope=scope)
        prepared.run([AblateHeads([(2, 1)], values)], everything, scope=ENDS)
    assert sum(seen) == sum(LENGTHS)


def test_nothing_is_run_early(qwen, prompts):
    with counted(qwen) as seen:
        prepare(qwen, prompts, scope=last)
    assert not seen


def test_batches_of_a_null(qwen, prompts):
    """Drawn a few at a time, interventions cost no more rows than at once."""
    chosen = [AblateHeads([(layer, head)]) for layer in range(LAYERS) for head in range(HEADS)]
    rows = []
    handle = qwen.anatomy.mlp(LAYERS - 1).register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    at_once = sweep(qwen, prompts, chosen, log_odds(5, 6), scope=ENDS)
    whole, prepared = sum(rows), prepare(qwen, prompts, scope=ENDS)
    rows.clear()
    few = [prepared.run(chosen[first : first + 3], log_odds(5, 6)) for first in range(0, len(chosen), 3)]
    handle.remove()
    torch.testing.assert_close(torch.cat(few, dim=1), at_once, rtol=0, atol=1e-5)
    assert sum(rows) == whole


def test_memory(qwen, prompts):
    """What fits is kept, from the earliest start that fits on; what does not is run again, and no more than that."""
    groups = [(2, 9), (1, 7), (1, 12)]  # prompts of one length
    narrow = sum(bytes_of_clean(qwen, n, length, length - 3) for n, length in groups)
    wide = sum(bytes_of_clean(qwen, n, length, 0) for n, length in groups)

    def tokens(max_bytes, *scopes):
        prepared = prepare(qwen, prompts, scope=[everywhere, ENDS], max_bytes=max_bytes)
        with counted(qwen) as seen:
            for scope in scopes:
                prepared.run([AblateHeads([(1, 1)])], log_odds(5, 6), scope=scope)
        return sum(seen), sum(clean.nbytes for clean in prepared.passes.kept.values())

    whole = sum(LENGTHS)
    assert tokens(wide, ENDS, everywhere, ENDS) == (whole, wide)
    assert tokens(narrow, ENDS, ENDS, ENDS)[0] == whole
    assert tokens(0, ENDS, everywhere, ENDS) == (3 * whole, 0)
    some, kept = tokens((narrow + wide) // 2, ENDS, everywhere, ENDS, everywhere)
    assert whole < some < 4 * whole
    assert kept <= (narrow + wide) // 2


@torch.no_grad()
def test_another_model(prompts):
    """What was kept of a model is not used for what it has become."""
    subject = tiny_subject("qwen2")
    prepared = prepare(subject, prompts, scope=last)

    def check():
        found = prepared.run(BOTH, everything)
        torch.testing.assert_close(found, naive(subject, prompts, BOTH, last), **close)
        return found

    before = check()
    subject.anatomy.o_proj(0).weight.mul_(0.5)
    changed = check()
    assert not torch.isclose(before, changed).all()
    handle = subject.anatomy.mlp(0).register_forward_hook(lambda module, args, output: output * 1.5)
    assert not torch.isclose(check(), changed).all()
    handle.remove()
    assert torch.equal(check(), changed)
    subject.model.double()
    assert prepared.run(BOTH, log_odds(5, 6)).isfinite().all()


def test_hooks_of_others(prompts):
    """Rows are run past those on whole layers: one that only looks does no harm, one that changes them is refused."""
    subject = tiny_subject("qwen2")
    layer, seen = subject.anatomy.layers[1], []
    wanted = sweep(subject, prompts, BOTH, everything, scope=ENDS)
    handle = layer.register_forward_hook(lambda module, args, output: seen.append(output))
    torch.testing.assert_close(sweep(subject, prompts, BOTH, everything, scope=ENDS), wanted)
    assert seen
    handle.remove()
    handle = layer.register_forward_hook(lambda module, args, output: output * 1.5)
    with pytest.raises(MechinterpError, match="hooks of others"):
        sweep(subject, prompts, BOTH, everything, scope=ENDS)
    handle.remove()
    torch.testing.assert_close(sweep(subject, prompts, BOTH, everything, scope=ENDS), wanted)


@given(data=st.data())
def test_some_of_the_prompts(qwen, prompts, data):
    """They give their lines of the whole, in the order asked for; scopes and values go on naming all prompts."""
    only = data.draw(st.permutations(range(4)))[: data.draw(st.integers(1, 4))]
    values = {1: torch.randn(4, 2, HEADS, D_HEAD, generator=torch.Generator().manual_seed(0))}
    chosen = [AblateHeads([(1, 2)], values), *BOTH]
    whole = prepare(qwen, prompts, scope=ENDS).run(chosen, everything)
    found = prepare(qwen, prompts, scope=ENDS).run(chosen, everything, only=only)
    torch.testing.assert_close(found, whole[only], **close)


def test_scopes_of_some_prompts(qwen, prompts):
    """A scope may name none of the prompts that are not run."""
    scope = at([[-1], [2], [-1], [5]])
    prepared = prepare(qwen, prompts, scope=scope)
    found = prepared.run(BOTH, log_odds(5, 6), only=[3, 1])
    alone = sweep(qwen, [prompts[3], prompts[1]], BOTH, log_odds(5, 6), scope=at([[5], [2]]))
    torch.testing.assert_close(found, alone, **close)
    with pytest.raises(MechinterpError, match="no token of prompt 0"):
        prepared.run(BOTH, log_odds(5, 6))


@pytest.mark.parametrize("only", [[], [4], [-1], [0, 0], [0.5], 1, "ab"])
def test_prompts_that_there_are_not(qwen, prompts, only):
    with pytest.raises(MechinterpError, match="only"):
        prepare(qwen, prompts, scope=last).run(BOTH, log_odds(5, 6), only=only)


def test_in_inference_mode(qwen, prompts):
    """What was kept there is used outside, and the other way round."""
    wanted = sweep(qwen, prompts, BOTH, everything, scope=ENDS)
    for first, second in ((torch.inference_mode, torch.enable_grad), (torch.enable_grad, torch.inference_mode)):
        prepared = prepare(qwen, prompts, scope=ENDS)
        for mode in (first, second):
            with mode():
                torch.testing.assert_close(prepared.run(BOTH, everything), wanted, **close)


def test_store(qwen, prompts, tmp_path):
    """Batches are kept one by one, under the names that sweeps have."""
    store, metric = Store(tmp_path, qwen), log_odds(5, 6)
    found = [prepare(qwen, prompts, scope=ENDS).run([one], metric, store=store) for one in BOTH]
    with counted(qwen) as seen:
        prepared = prepare(qwen, prompts, scope=[last, ENDS])
        again = [prepared.run([one], metric, scope=ENDS, store=store) for one in BOTH]
        swept = sweep(qwen, prompts, BOTH[:1], metric, scope=ENDS, store=store)
        assert not seen
        prepared.run(BOTH[:1], metric, scope=ENDS, only=[2], store=store)
        prepared.run(BOTH[:1], metric, scope=last, store=store)
        assert seen
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    assert torch.equal(swept, found[0])


def test_several_scopes_need_a_name(qwen, prompts):
    with pytest.raises(MechinterpError, match="2 scopes; name one"):
        prepare(qwen, prompts, scope=[last, everywhere]).run([None], log_odds(5, 6))


def test_positions_that_there_are_not(qwen, prompts):
    """They are refused when prompts are prepared."""
    with pytest.raises(MechinterpError, match="position 8 of prompt 1, which has 7 tokens"):
        prepare(qwen, prompts, scope=[last, at([[8]] * 4)])
