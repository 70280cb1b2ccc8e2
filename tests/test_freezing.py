"""Parts held at a clean run: by hand, in blocks, in sweeps, and beside transformer-lens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from mechinterp import (
    AblateHeads,
    AblateNeurons,
    Freeze,
    MechinterpError,
    Metric,
    Steer,
    ablate_heads,
    at,
    capture,
    clean_run,
    direct,
    everywhere,
    freeze,
    generate,
    head_outputs,
    last,
    last_logits,
    logit_lens,
    pad,
    sweep,
    under,
    value_vectors,
)
from tests.conftest import VOCAB, tiny_subject
from tests.test_sweep import everything, interventions, with_slots, without_slots
from tests.test_transformer_lens import TOKENS, pair, theirs  # noqa: F401 (pair is a fixture)

close = {"rtol": 0, "atol": 1e-4}
LENGTHS = (9, 7, 9, 12)
said = Metric(lambda read: read.logits())


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "llama", "windows"])
def subject(request):
    if request.param == "windows":
        return tiny_subject("mistral", sliding_window=4)
    return tiny_subject(request.param, **({"head_dim": 8} if request.param == "qwen3" else {}))


def in_block(subject, prompts, one, scope) -> torch.Tensor:
    """What `everything` measures, held at a run of the same prompts in another batch."""
    final = [[len(prompt) - 1] for prompt in prompts]
    with clean_run(subject, one) as clean:
        last_logits(subject, pad(subject, prompts))
    with (
        under(subject, one, scope, clean=clean),
        capture(subject, final, residual=[1], neurons=[1, 2]) as seen,
    ):
        logits = last_logits(subject, pad(subject, prompts))
    return torch.cat([logits, seen.residual[1][:, 0], seen.neurons[1][:, 0], seen.neurons[2][:, 0]], 1)


freezes = st.builds(
    Freeze,
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6),
    st.lists(st.integers(0, 2), max_size=2),
    st.lists(st.integers(0, 2), max_size=2),
)
edits = interventions(st.sampled_from(["zero", "mean"])).filter(lambda one: one is not None)


@settings(max_examples=20)
@given(
    scope=without_slots,
    several=st.lists(st.tuples(edits, freezes), min_size=1, max_size=3),
    max_rows=st.sampled_from([None, 1, 5]),
)
def test_sweeps_are_blocks(subject, prompts, scope, several, max_rows):
    """In a sweep, of any parts held beside any edits, each row is the block of its own."""
    swept = sweep(subject, prompts, [*several, None], everything, scope=scope, max_rows=max_rows)
    for number, one in enumerate(several):
        torch.testing.assert_close(swept[:, number], in_block(subject, prompts, one, scope), rtol=1e-5, atol=1e-4)


@settings(max_examples=12)
@given(scope=with_slots, one=st.tuples(interventions(st.just("resample")).filter(lambda one: one is not None), freezes))
def test_beside_resampled_heads(subject, prompts, scope, one):
    """Also beside outputs of another run, at chosen positions."""
    swept = sweep(subject, prompts, [one], everything, scope=scope)
    torch.testing.assert_close(swept[:, 0], in_block(subject, prompts, one, scope), rtol=1e-5, atol=1e-4)


def final_stream(subject, prompts):
    layers = range(subject.anatomy.n_layers)
    with capture(subject, [[len(p) - 1] for p in prompts], residual=layers, heads=layers, neurons=layers) as seen:
        last_logits(subject, pad(subject, prompts))
    return seen


@pytest.mark.parametrize("scope", [last, everywhere], ids=["last", "everywhere"])
def test_direct_effect_is_what_is_written(subject, prompts, scope):
    """With all downstream held, the last stream moves by what the edited parts write at the last token, and no more."""
    seen, heads, neurons = final_stream(subject, prompts), [(0, 1), (2, 3), (1, 0)], [(0, 5), (2, 7), (2, 40)]
    vector = torch.linspace(-1, 1, 32)
    stream = seen.residual[2][:, 0]
    lost = sum(head_outputs(subject, layer, seen.heads[layer][:, 0])[:, head] for layer, head in heads)
    fired = sum(seen.neurons[layer][:, 0, n, None] * value_vectors(subject, layer)[n] for layer, n in neurons)
    wanted = {
        AblateHeads(heads): stream - lost,
        AblateNeurons(neurons): stream - fired,
        Steer(0, vector): stream + vector,
        (AblateHeads(heads), AblateNeurons(neurons), Steer(2, vector)): stream - lost - fired + vector,
    }
    swept = sweep(subject, prompts, [direct(subject, one) for one in wanted], said, scope=scope)
    for number, moved in enumerate(wanted.values()):
        torch.testing.assert_close(swept[:, number], logit_lens(subject, moved), **close)


def test_edits_elsewhere_have_no_direct_effect(qwen, prompts):
    """What is edited before the last token reaches it through other components alone."""
    scope = at([[len(prompt) - 2] for prompt in prompts])
    one = AblateHeads([(0, 1), (0, 2)])
    swept = sweep(qwen, prompts, [one, direct(qwen, one), None], said, scope=scope)
    torch.testing.assert_close(swept[:, 1], swept[:, 2], **close)
    assert not torch.allclose(swept[:, 0], swept[:, 2], atol=1e-2)


def test_nothing_downstream(qwen):
    """After the last layer there is nothing to hold: the edit is all of it."""
    for one in (AblateNeurons([(2, 1)]), Steer(2, torch.ones(32))):
        assert direct(qwen, one) is one
    _, held = direct(qwen, AblateHeads([(2, 1)]))
    assert (held.heads, held.mlps) == ((), (2,))
    with pytest.raises(MechinterpError, match="the clean run has no effect"):
        direct(qwen, None)


def test_transformer_lens(pair):  # noqa: F811
    """Heads, MLPs and patterns held at what its cache has: the same logits as with its hooks."""
    subject, bridge = pair
    _, cache = bridge.run_with_cache(TOKENS)

    def off(z, hook):
        z = z.clone()
        z[:, :, 1] = 0
        return z

    def hold(name):
        return name, lambda activation, hook: cache[name]

    def some(z, hook):
        z = z.clone()
        z[:, :, 2] = cache["blocks.2.attn.hook_z"][:, :, 2]
        return z

    cases = {
        "patterns": (Freeze(patterns=[1, 2]), [hold(f"blocks.{layer}.attn.hook_pattern") for layer in (1, 2)]),
        "mlps": (Freeze(mlps=[0, 2]), [hold(f"blocks.{layer}.mlp.hook_post") for layer in (0, 2)]),
        "a head": (Freeze(heads=[(2, 2)]), [("blocks.2.attn.hook_z", some)]),
    }
    for name, (frozen, hooks) in cases.items():
        one = (AblateHeads([(0, 1)]), frozen)
        with clean_run(subject, one) as clean, torch.no_grad():
            last_logits(subject, pad(subject, TOKENS.tolist()))
        with under(subject, one, clean=clean), torch.no_grad():
            ours = subject.model(**pad(subject, TOKENS.tolist()).inputs(), use_cache=False).logits
        wanted = theirs(bridge, [("blocks.0.attn.hook_z", off), *hooks])
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-5, msg=name)
        assert not torch.allclose(ours, theirs(bridge, [("blocks.0.attn.hook_z", off)]), atol=1e-3), name


def test_patterns_alone_let_values_through(qwen, prompts):
    """Patterns held, heads still read what the edit has changed: more moves than with the heads held."""
    edit = AblateHeads([(0, 1), (0, 2)])
    several = [
        edit,
        (edit, Freeze(patterns=[1, 2])),
        (edit, Freeze([(1, h) for h in range(4)] + [(2, h) for h in range(4)])),
    ]
    swept = sweep(qwen, prompts, several, said, scope=everywhere)
    assert not any(torch.allclose(swept[:, a], swept[:, b], atol=1e-3) for a, b in ((0, 1), (1, 2), (0, 2)))


EVERYTHING = Freeze([(layer, head) for layer in range(3) for head in range(4)], range(3), range(3))


def test_leaves_no_trace(qwen, prompts):
    """Held without an edit, nothing changes, bit for bit; after the block the model is as before."""
    batch = pad(qwen, prompts)
    before = last_logits(qwen, batch)
    with clean_run(qwen, EVERYTHING) as clean:
        assert torch.equal(last_logits(qwen, batch), before)
    with freeze(clean):
        assert torch.equal(last_logits(qwen, batch), before)
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in qwen.model.modules())
    with pytest.raises(KeyboardInterrupt), freeze(clean):
        raise KeyboardInterrupt
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in qwen.model.modules()) == hooks
    assert torch.equal(last_logits(qwen, batch), before)


def test_order_of_blocks(qwen, prompts):
    """An edit inside the block of a freeze acts; around it, it is undone where it is held."""
    held, batch = Freeze(heads=[(1, 1)]), pad(qwen, prompts)
    before = last_logits(qwen, batch)
    with clean_run(qwen, held) as clean:
        last_logits(qwen, batch)
    with freeze(clean), ablate_heads(qwen, [(1, 1)]):
        assert not torch.allclose(last_logits(qwen, batch), before, atol=1e-3)
    with ablate_heads(qwen, [(1, 1)]), freeze(clean):
        torch.testing.assert_close(last_logits(qwen, batch), before, **close)


def test_padding_and_cache(qwen, prompts):
    """Positions are the tokens' own: a run in one padded batch is held in another, and in steps under a cache."""
    one, scope = (AblateHeads([(0, 1)]), Freeze(heads=[(1, 0), (2, 2)], mlps=[1], patterns=[2])), everywhere
    with clean_run(qwen, one) as clean:
        last_logits(qwen, pad(qwen, prompts))
    with under(qwen, one, scope, clean=clean):
        whole = last_logits(qwen, pad(qwen, prompts))
    wider = pad(qwen, [*prompts[:1], [9] * 20])
    with clean_run(qwen, one) as other:
        last_logits(qwen, wider)
    with under(qwen, one, scope, clean=other):
        torch.testing.assert_close(last_logits(qwen, wider)[0], whole[0], **close)
    with clean_run(qwen, one) as alone:
        steps(qwen, prompts[0], (4, 5))
    with under(qwen, one, scope, clean=alone):
        torch.testing.assert_close(steps(qwen, prompts[0], (2, 3, 4)), whole[0], **close)


def steps(subject, prompt, sizes) -> torch.Tensor:
    """Logits after a prompt that is run piece by piece under a cache."""
    cache, first = DynamicCache(), 0
    for size in sizes:
        ids = torch.tensor([prompt[first : first + size]])
        with torch.no_grad():
            logits = subject.model(ids, past_key_values=cache, use_cache=True).logits[0, -1]
        first += size
    return logits


def test_of_other_prompts(qwen, prompts):
    """Other rows, longer ones and a block in which nothing was run are refused."""
    held = Freeze(mlps=[1])
    with clean_run(qwen, held) as nothing:
        pass
    with clean_run(qwen, held) as clean:
        last_logits(qwen, pad(qwen, prompts[:2]))
    for recorded, rows, says in (
        (nothing, prompts, "nothing was run in its block"),
        (clean, prompts, "a pass of 4 rows, but the clean run has 2 rows"),
        (clean, [prompts[0], [*prompts[1], 5]], "position 7 of row 1 is not in the clean run"),
    ):
        with pytest.raises(MechinterpError, match=says), freeze(recorded):
            last_logits(qwen, pad(qwen, rows))


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: Freeze(), "name at least one head"),
        (lambda s: Freeze(heads=[(0, 4)]), "head 4 of layer 0"),
        (lambda s: Freeze(mlps=[3]), "layer 3"),
        (lambda s: Freeze(mlps=[0.5]), "Freeze: mlps"),
        (lambda s: Freeze(patterns=[-1]), "layer -1"),
        (lambda s: Freeze(heads=3), "Freeze: heads"),
    ],
)
def test_refused(qwen, prompts, ask, says):
    """Parts that the model does not have are refused, in a block and in a sweep."""
    for run in (
        lambda one: sweep(qwen, prompts, [(AblateHeads([(0, 0)]), one)], said, scope=last),
        lambda one: clean_run(qwen, one).__enter__(),
    ):
        with pytest.raises(MechinterpError, match=says):
            run(ask(qwen))


def test_what_holds_nothing(qwen, prompts):
    """Alone a Freeze edits nothing, a block needs a clean run, and texts have none."""
    held = Freeze(mlps=[1])
    with pytest.raises(MechinterpError, match="alone it edits nothing"):
        sweep(qwen, prompts, [held], said, scope=last)
    with (
        pytest.raises(MechinterpError, match="has to be recorded first"),
        under(qwen, (Steer(0, torch.ones(32)), held)),
    ):
        pass
    with pytest.raises(MechinterpError, match="another way"):
        generate(qwen, prompts, [(Steer(0, torch.ones(32)), held)], scope=last, max_new_tokens=2)
    with pytest.raises(MechinterpError, match="expected a Freeze"), clean_run(qwen, AblateHeads([(0, 0)])):
        pass
    with pytest.raises(MechinterpError, match="expected a clean run"), freeze(held):
        pass


def test_half_precision(prompts):
    """In bfloat16 the direct effect is that of fp32 within its rounding."""
    subject = tiny_subject("qwen2")
    one = direct(subject, AblateHeads([(0, 1)]))
    exact = sweep(subject, prompts, [one], said, scope=last)
    subject.model.to(torch.bfloat16)
    torch.testing.assert_close(sweep(subject, prompts, [one], said, scope=last).float(), exact, rtol=0.05, atol=0.2)
