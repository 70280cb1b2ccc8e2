"""A sweep is the naive loop: one full pass under each intervention."""

from contextlib import ExitStack

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
    at,
    capture,
    everywhere,
    last,
    last_logits,
    log_odds,
    pad,
    since,
    sweep,
    when_last_is,
)
from mechinterp.heads import matched_head_sets
from mechinterp.interventions import parts
from tests.conftest import VOCAB, tiny_subject

LENGTHS = (9, 7, 9, 12)
LAYERS, HEADS, D_HEAD, D_MODEL, D_MLP = 3, 4, 8, 32, 48
everything = Metric(
    lambda read: torch.cat([read.logits(), read.residual[1], read.neurons[1], read.neurons[2]], dim=1),
    residual=(1,),
    neurons=(1, 2),
)


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]


@pytest.fixture(scope="module", params=["qwen2 sdpa", "qwen2 eager", "llama sdpa", "llama eager", "windows", "qwen3"])
def subject(request):
    family, _, attention = request.param.partition(" ")
    if family == "windows":
        return tiny_subject("mistral", sliding_window=4)
    subject = tiny_subject(family, **({"head_dim": D_HEAD} if family == "qwen3" else {}))
    subject.model.set_attn_implementation(attention or "sdpa")
    return subject


def naive(subject, prompts, interventions, scope):
    """What `everything` measures, prompts in one padded batch, one pass for each intervention."""
    results = []
    for one in interventions:
        final = [[len(prompt) - 1] for prompt in prompts]
        with ExitStack() as stack:
            for part in parts(one):
                stack.enter_context(part.on(subject, scope))
            seen = stack.enter_context(capture(subject, final, residual=[1], neurons=[1, 2]))
            logits = last_logits(subject, pad(subject, prompts))
        results.append(torch.cat([logits, seen.residual[1][:, 0], seen.neurons[1][:, 0], seen.neurons[2][:, 0]], 1))
    return torch.stack(results, dim=1)


SLOTS = 5
heads = st.lists(st.tuples(st.integers(0, LAYERS - 1), st.integers(0, HEADS - 1)), min_size=1, max_size=5)
neurons = st.lists(st.tuples(st.integers(0, LAYERS - 1), st.integers(0, D_MLP - 1)), min_size=1, max_size=5)


def values_of(kind, seed, layers, *unit):
    if kind == "zero":
        return None
    generator = torch.Generator().manual_seed(seed)
    shape = unit if kind == "mean" else (len(LENGTHS), SLOTS, *unit)
    return {layer: torch.randn(shape, generator=generator) for layer in sorted(layers)}


def layers_of(chosen):
    return {layer for layer, _ in chosen}


def apart(several):
    """Whether no head and no neuron is replaced twice."""
    heads = [head for one in several if isinstance(one, AblateHeads) for head in one.heads]
    neurons = [neuron for one in several if isinstance(one, AblateNeurons) for neuron in one.neurons]
    return len(set(heads)) == len(heads) and len(set(neurons)) == len(neurons)


def interventions(kinds):
    """None, one of each kind, or a tuple of several; with values for the layers that they touch and for no others."""
    seeds, by = st.integers(0, 9), st.sampled_from([-2.0, 0.5, 1.0])
    singles = st.one_of(
        st.builds(lambda c, kind, seed: AblateHeads(c, values_of(kind, seed, layers_of(c), HEADS, D_HEAD)),
                  heads, kinds, seeds),
        st.builds(lambda c, kind, seed: AblateNeurons(c, values_of(kind, seed, layers_of(c), D_MLP)),
                  neurons, kinds, seeds),
        st.builds(lambda layer, seed, by: Steer(layer, values_of("mean", seed, [0], D_MODEL)[0], by),
                  st.integers(0, LAYERS - 1), seeds, by),
    )  # fmt: skip
    return st.one_of(st.none(), singles, st.lists(singles, min_size=1, max_size=3).filter(apart).map(tuple))


without_slots = st.one_of(
    st.sampled_from([everywhere, last]),
    st.builds(lambda shares: since([int(share * n) for share, n in zip(shares, LENGTHS, strict=True)]),
              st.tuples(*[st.floats(0, 0.99)] * len(LENGTHS))),
)  # fmt: skip
with_slots = st.builds(
    lambda *rows: at([row + [-1] * (SLOTS - len(row)) for row in rows]),
    *[st.lists(st.integers(0, n - 1), min_size=1, max_size=SLOTS, unique=True) for n in LENGTHS],
)


def sweeps(most):
    """A scope, and interventions that it allows."""
    return st.one_of(
        st.tuples(without_slots, st.lists(interventions(st.sampled_from(["zero", "mean"])), min_size=1, max_size=most)),
        st.tuples(
            with_slots,
            st.lists(interventions(st.sampled_from(["zero", "mean", "resample"])), min_size=1, max_size=most),
        ),
    )


@settings(max_examples=40)
@given(run=sweeps(8), max_rows=st.sampled_from([None, 1, 3, 8]))
def test_naive_loop(subject, prompts, run, max_rows):
    """Of every kind, mixed in one sweep, at any positions, in any portions."""
    scope, chosen = run
    swept = sweep(subject, prompts, chosen, everything, scope=scope, max_rows=max_rows)
    torch.testing.assert_close(swept, naive(subject, prompts, chosen, scope), rtol=1e-5, atol=1e-4)


def test_every_head(qwen, prompts):
    """Each of them moves the metric by its own amount, and the clean run is the last column."""
    chosen = [AblateHeads([(layer, head)]) for layer in range(LAYERS) for head in range(HEADS)] + [None]
    swept = sweep(qwen, prompts, chosen, log_odds(5, 6), scope=last)
    assert swept.shape == (len(LENGTHS), LAYERS * HEADS + 1)
    assert len(swept.unique()) == swept.numel()
    clean = last_logits(qwen, pad(qwen, prompts)).double()
    torch.testing.assert_close(swept[:, -1], clean[:, 5] - clean[:, 6], rtol=0, atol=1e-5)


def test_passes_are_saved(qwen, prompts):
    """The prefix is run once, and no row is run below the layer where its intervention begins."""
    rows, tokens = [0] * LAYERS, [0] * LAYERS

    def count(layer):
        def hook(module, args, kwargs):
            hidden = kwargs["hidden_states"]
            rows[layer] += hidden.shape[0]
            tokens[layer] += hidden.shape[0] * hidden.shape[1]

        return hook

    handles = [
        qwen.anatomy.attention(layer).register_forward_pre_hook(count(layer), with_kwargs=True)
        for layer in range(LAYERS)
    ]
    sweep(qwen, prompts, [AblateHeads([(layer, 1)]) for layer in range(LAYERS)], log_odds(5, 6), scope=last)
    for handle in handles:
        handle.remove()
    n = len(prompts)
    assert rows == [n, n + n, n + 2 * n]  # the clean pass; rows attend from the layer after the one they begin in
    assert tokens == [sum(LENGTHS), sum(LENGTHS) + n, sum(LENGTHS) + 2 * n]


def test_metrics_that_know_the_prompt(qwen, prompts):
    """Each prompt can have an answer of its own."""
    answers = torch.tensor([5, 6, 7, 8])
    own = Metric(lambda read: read.logits().gather(1, answers[read.prompt][:, None])[:, 0])
    chosen = [None, AblateHeads([(1, 1)])]
    swept = sweep(qwen, prompts, chosen, own, scope=last)
    logits = naive(qwen, prompts, chosen, last)[..., :VOCAB]
    torch.testing.assert_close(swept, logits[torch.arange(4), :, answers], rtol=0, atol=1e-4)


def test_leaves_no_trace(qwen, prompts):
    """After a sweep, and after one that failed, the model is as before."""
    clean = last_logits(qwen, pad(qwen, prompts))

    def fails(read):
        raise KeyboardInterrupt

    sweep(qwen, prompts, [AblateHeads([(1, 1)])], log_odds(5, 6), scope=last)
    with pytest.raises(KeyboardInterrupt):
        sweep(qwen, prompts, [AblateHeads([(1, 1)])], Metric(fails), scope=last)
    assert torch.equal(last_logits(qwen, pad(qwen, prompts)), clean)
    assert qwen.model.config._attn_implementation == "sdpa"


def test_half_precision(prompts):
    """In bfloat16 rows differ from full passes by no more than full passes among themselves."""
    subject = tiny_subject("qwen2")
    subject.model.to(torch.bfloat16)
    chosen = [None, AblateHeads([(0, 1)]), Steer(1, torch.ones(D_MODEL))]
    for scope in (last, everywhere):
        swept = sweep(subject, prompts, chosen, everything, scope=scope).float()
        torch.testing.assert_close(swept, naive(subject, prompts, chosen, scope), rtol=0.05, atol=0.2)


@pytest.mark.parametrize(
    ("given_", "scope", "says"),
    [
        ([], last, "0 interventions"),
        ([AblateHeads([])], last, "no heads were given"),
        ([AblateHeads([(9, 0)])], last, "layer 9"),
        ([AblateNeurons([(0, 99)])], last, "neuron 99"),
        ([Steer(0, torch.ones(5))], last, "a finite vector of 32 numbers"),
        ([AblateHeads([(0, 0)])], when_last_is([96]), "edits no token of prompt 0"),
        ([AblateHeads([(0, 0)], {0: torch.zeros(2, 5, HEADS, D_HEAD)})], last, "2 rows for 4 prompts"),
        ([AblateHeads([(0, 0)], {0: torch.zeros(4, 1, HEADS, D_HEAD)})], at([[1, 2]] * 4), r"1 slots.*has \(4, 2\)"),
        ([AblateHeads([(0, 0)], {0: torch.zeros(4, 5, HEADS, D_HEAD)})], last, "last does not say which slot"),
        ([AblateNeurons([(0, 0)], {0: torch.zeros(4, 9, D_MLP)})], everywhere, "everywhere does not say which slot"),
        ([AblateNeurons([(0, 0)], {0: torch.zeros(4, 1, D_MLP)})], since([5] * 4), "since does not say which slot"),
        ([AblateHeads([(0, 0)])], at([[6], [7], [1], [1]]), "position 7 of prompt 1, which has 7 tokens"),
        ([AblateHeads([(0, 0)])], since([6, 7, 1, 1]), "position 7 of prompt 1, which has 7 tokens"),
        ([AblateHeads([(0, 0)])], [[1]] * 4, "expected one such as"),
        ([AblateHeads([(0, 0)], {1: torch.zeros(HEADS, D_HEAD)})], last, "none for layer 0"),
        ([()], last, "expected an intervention"),
        ([(AblateHeads([(0, 0)]), None)], last, "expected an intervention"),
        ([(AblateHeads([(0, 0), (1, 1)]), AblateHeads([(1, 1)]))], last, "the same in layer 1 twice"),
    ],
)  # fmt: skip
def test_bad_input(qwen, prompts, given_, scope, says):
    with pytest.raises(MechinterpError, match=says):
        sweep(qwen, prompts, given_, log_odds(5, 6), scope=scope)


def test_metrics_that_read_what_they_have_not_named(qwen, prompts):
    """A layer that is not kept is named in the refusal."""
    for what in ("residual", "neurons"):
        metric = Metric(lambda read, what=what: getattr(read, what)[2][:, 0], **{what: (1,)})
        with pytest.raises(MechinterpError, match=rf"reads {what} of layer 2, but has named \[1\]"):
            sweep(qwen, prompts, [None], metric, scope=last)


def test_not_inside_a_block(qwen, prompts):
    """Another edit's hooks would see rows that they do not know."""
    with AblateHeads([(0, 0)]).on(qwen), pytest.raises(MechinterpError, match="inside a `with` block"):
        sweep(qwen, prompts, [AblateHeads([(0, 0)])], log_odds(5, 6), scope=last)


def test_matched_sets_as_interventions(qwen, prompts):
    """Sets of a null differ from each other."""
    sets = matched_head_sets([(1, 0), (2, 3)], torch.ones(LAYERS, HEADS), draws=9, seed=0).sets
    swept = sweep(qwen, prompts, [AblateHeads(one) for one in sets], log_odds(5, 6), scope=everywhere)
    assert len(swept[0].unique()) == len(sets)
