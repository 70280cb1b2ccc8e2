"""Weights of one model inside another: as if they had been copied there."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from mechinterp import (
    AblateHeads,
    AblateNeurons,
    Freeze,
    InstrumentError,
    MechinterpError,
    Steer,
    Store,
    Subject,
    TransplantHeads,
    TransplantValues,
    ablate_heads,
    ablate_neurons,
    at,
    capture,
    clean_run,
    digest,
    direct,
    everywhere,
    generate,
    last,
    last_logits,
    log_odds,
    pad,
    prepare,
    since,
    sweep,
    transplant_heads,
    transplant_values,
    under,
)
from tests.conftest import FAMILIES, VOCAB, tiny_subject
from tests.test_sweep import everything, with_slots, without_slots

close = {"rtol": 0, "atol": 1e-4}
LENGTHS = (9, 7, 9, 12)
KINDS = {**{family: (family, {}) for family in FAMILIES}, "windows": ("mistral", {"sliding_window": 4})}


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]


@pytest.fixture(scope="module", params=KINDS)
def pair(request) -> tuple[Subject, Subject]:
    """Two random models of one shape; the gains of norms differ too."""
    family, sizes = KINDS[request.param]
    return tiny_subject(family, 0, **sizes), tiny_subject(family, 1, **sizes)


def ungrouped(subject: Subject) -> Subject:
    """The same model with keys and values of its own for every head, so that each can be copied alone."""
    config, shared = copy.deepcopy(subject.model.config), subject.anatomy.n_heads // subject.anatomy.n_kv_heads
    config.num_key_value_heads = subject.anatomy.n_heads
    model = type(subject.model)(config)
    state = dict(subject.model.state_dict())
    for name, value in state.items():
        if ".k_proj." in name or ".v_proj." in name:
            by_group = value.unflatten(0, (subject.anatomy.n_kv_heads, -1))
            state[name] = by_group.repeat_interleave(shared, 0).flatten(0, 1)
    model.load_state_dict(state)
    return Subject.of(model, subject.tokenizer)


def copied(subject: Subject, reference: Subject, heads=(), neurons=()) -> Subject:
    """The naive way: slices of the reference's matrices copied into those of the subject, keys and values ungrouped."""
    ours, theirs = ungrouped(subject), ungrouped(reference)
    d = subject.anatomy.d_head
    with torch.no_grad():
        for layer, head in heads:
            here, there = (one.anatomy.attention(layer) for one in (ours, theirs))
            rows = slice(head * d, (head + 1) * d)
            for name in ("q_proj", "k_proj", "v_proj"):
                into, of = getattr(here, name), getattr(there, name)
                into.weight[rows] = of.weight[rows]
                if into.bias is not None:
                    into.bias[rows] = of.bias[rows]
            here.o_proj.weight[:, rows] = there.o_proj.weight[:, rows]
        for layer, neuron in neurons:
            into, of = (one.anatomy.down_proj(layer).weight for one in (ours, theirs))
            into[:, neuron] = of[:, neuron]
    return ours


def same_head_norms(subject: Subject, reference: Subject) -> None:
    """Qwen3 norms queries and keys of all heads alike: no head has its own, so that copying needs the same ones."""
    for layer in range(subject.anatomy.n_layers):
        for name in ("q_norm", "k_norm"):
            if hasattr(subject.anatomy.attention(layer), name):
                theirs = getattr(reference.anatomy.attention(layer), name)
                with torch.no_grad():
                    theirs.weight.copy_(getattr(subject.anatomy.attention(layer), name).weight)


HEADS = [(0, 1), (0, 2), (1, 3), (2, 0)]
NEURONS = [(0, 5), (1, 7), (1, 40), (2, 0)]


def test_heads_are_as_if_copied(pair, prompts):
    """At all positions a transplanted head is one whose weights were copied, also out of a group with shared keys."""
    subject, reference = pair
    same_head_norms(subject, reference)
    batch = pad(subject, prompts)
    wanted = last_logits(copied(subject, reference, heads=HEADS), batch)
    with transplant_heads(subject, reference, HEADS) as edit:
        torch.testing.assert_close(last_logits(subject, batch), wanted, **close)
    edit.require(positions=sum(LENGTHS))
    assert not torch.allclose(wanted, last_logits(subject, batch), atol=1e-2)


def test_values_are_as_if_copied(pair, prompts):
    """A transplanted value vector is one that was copied, whatever it is multiplied by."""
    subject, reference = pair
    batch = pad(subject, prompts)
    wanted = last_logits(copied(subject, reference, neurons=NEURONS), batch)
    with transplant_values(subject, reference, NEURONS) as edit:
        torch.testing.assert_close(last_logits(subject, batch), wanted, **close)
    edit.require(positions=sum(LENGTHS))
    assert not torch.allclose(wanted, last_logits(subject, batch), atol=1e-3)


def test_all_of_a_layer(pair, prompts):
    """All heads of a layer, norms and biases alike, make its attention the reference's."""
    subject, reference = pair
    same_head_norms(subject, reference)
    batch, every = pad(subject, prompts), [(1, head) for head in range(4)]
    whole = Subject.of(copy.deepcopy(subject.model), subject.tokenizer)
    state = {k: v for k, v in reference.anatomy.attention(1).state_dict().items() if k != "o_proj.bias"}
    whole.anatomy.attention(1).load_state_dict(state, strict=False)
    with transplant_heads(subject, reference, every):
        torch.testing.assert_close(last_logits(subject, batch), last_logits(whole, batch), **close)


def test_only_in_scope(pair, prompts):
    """There heads read out what the copied ones do of the same stream; elsewhere, and beside them, nothing changes."""
    subject, reference = pair
    same_head_norms(subject, reference)
    batch, heads = pad(subject, prompts), [(1, 3), (1, 0)]
    places = [[*range(n), *[-1] * (12 - n)] for n in LENGTHS]
    found = {}
    for name, one in (("own", subject), ("copied", copied(subject, reference, heads=heads))):
        with capture(one, places, heads=[1]) as seen:
            last_logits(one, batch)
        found[name] = seen.heads[1]
    scoped = [[n - 1, n - 3] for n in LENGTHS]
    with transplant_heads(subject, reference, heads, scope=at(scoped)), capture(subject, places, heads=[1]) as seen:
        last_logits(subject, batch)
    wanted = found["own"].clone()
    for row, chosen in enumerate(scoped):
        for _, head in heads:
            wanted[row, chosen, head] = found["copied"][row, chosen, head]
    torch.testing.assert_close(seen.heads[1], wanted, **close)
    assert not torch.allclose(wanted, found["own"], atol=1e-2)


def test_edits_inside_see_it(pair, prompts):
    """Ablated inside the block a transplanted head or neuron is silent, ablated beside it the copied one goes on."""
    subject, reference = pair
    same_head_norms(subject, reference)
    batch, whole = pad(subject, prompts), copied(subject, reference, HEADS, NEURONS)
    with (
        transplant_heads(subject, reference, HEADS),
        transplant_values(subject, reference, NEURONS),
        ablate_heads(subject, [HEADS[1], (2, 2)]),
        ablate_neurons(subject, [NEURONS[2], (1, 1)]),
    ):
        ours = last_logits(subject, batch)
    with ablate_heads(whole, [HEADS[1], (2, 2)]), ablate_neurons(whole, [NEURONS[2], (1, 1)]):
        torch.testing.assert_close(ours, last_logits(whole, batch), **close)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("cache", ["plain", "of the model"])
def test_steps_under_a_cache(pair, prompts, cache, kernel):
    """Run piece by piece under a KV cache, with the reference's keys kept beside, as in one pass."""
    subject, reference = pair
    subject.model.set_attn_implementation(kernel)
    try:
        with transplant_heads(subject, reference, HEADS, scope=since([3])):
            whole = last_logits(subject, pad(subject, prompts[:1]))[0]
            for sizes in ((4, 5), (3, 1, 1, 4)):
                given = DynamicCache() if cache == "plain" else DynamicCache(config=subject.model.config)
                torch.testing.assert_close(steps(subject, prompts[0], sizes, given), whole, **close)
    finally:
        subject.model.set_attn_implementation("sdpa")


def steps(subject: Subject, prompt: list[int], sizes: tuple[int, ...], cache: DynamicCache) -> torch.Tensor:
    first = 0
    for size in sizes:
        with torch.no_grad():
            ids = torch.tensor([prompt[first : first + size]])
            logits = subject.model(ids, past_key_values=cache, use_cache=True).logits[0, -1]
        first += size
    return logits


def test_a_prefix_from_outside(qwen, prompts):
    """Tokens that were run before the block have no keys of the reference: refused, not left out."""
    cache = DynamicCache()
    with torch.no_grad():
        qwen.model(torch.tensor([prompts[0][:4]]), past_key_values=cache, use_cache=True)
    with pytest.raises(MechinterpError, match="4 tokens are in the cache that were run outside"):
        run_with(qwen, prompts, cache)


def run_with(subject, prompts, cache):
    with transplant_heads(subject, tiny_subject("qwen2", 1), [(1, 1)]), torch.no_grad():
        subject.model(torch.tensor([prompts[0][4:]]), past_key_values=cache, use_cache=True)


def test_a_copy_changes_nothing(pair, prompts):
    """With a copy's weights, all of them, at all positions or some, the model says what it says."""
    subject, _ = pair
    copy_of = Subject.of(copy.deepcopy(subject.model), subject.tokenizer)
    batch = pad(subject, prompts)
    before = last_logits(subject, batch)
    heads = [(layer, head) for layer in range(3) for head in range(4)]
    neurons = [(layer, neuron) for layer in range(3) for neuron in range(48)]
    for scope in (everywhere, last):
        with transplant_heads(subject, copy_of, heads, scope=scope), transplant_values(subject, copy_of, neurons):
            torch.testing.assert_close(last_logits(subject, batch), before, **close)


def test_other_formats(prompts):
    """The reference may be in another number format, and lie under another attention kernel."""
    subject, reference = tiny_subject("qwen2", 0), tiny_subject("qwen2", 1)
    half = Subject.of(copy.deepcopy(reference.model).bfloat16(), reference.tokenizer)
    half.model.set_attn_implementation("eager")
    batch = pad(subject, prompts)
    with transplant_heads(subject, reference, HEADS), transplant_values(subject, reference, NEURONS):
        wanted = last_logits(subject, batch)
    with transplant_heads(subject, half, HEADS), transplant_values(subject, half, NEURONS):
        torch.testing.assert_close(last_logits(subject, batch), wanted, rtol=0.05, atol=0.1)
    assert half.model.config._attn_implementation == "eager"


def test_leaves_no_trace(qwen, prompts):
    """After the block, and after one that failed, both models are as before."""
    reference, batch = tiny_subject("qwen2", 1), pad(qwen, prompts)
    before = [last_logits(one, batch) for one in (qwen, reference)]
    with transplant_heads(qwen, reference, HEADS), transplant_values(qwen, reference, NEURONS):
        last_logits(qwen, batch)
    with pytest.raises(KeyboardInterrupt), transplant_heads(qwen, reference, HEADS):
        raise KeyboardInterrupt
    for one, logits in zip((qwen, reference), before, strict=True):
        assert torch.equal(last_logits(one, batch), logits)
        assert not any(m._forward_pre_hooks for m in one.model.model.layers.modules())


def test_never_fired(qwen, prompts):
    """A scope that selects nothing is an error when the block ends."""
    reference = tiny_subject("qwen2", 1)
    with (
        pytest.raises(InstrumentError, match="never"),
        transplant_heads(qwen, reference, [(0, 0)], scope=since([50] * 4)),
    ):
        last_logits(qwen, pad(qwen, prompts))


@pytest.mark.parametrize(
    ("other", "heads", "says"),
    [
        (lambda s: s, [(0, 0)], "the reference is the subject itself"),
        (lambda s: tiny_subject("qwen2", num_hidden_layers=2), [(0, 0)], "n_layers 3"),
        (lambda s: tiny_subject("llama"), [(0, 0)], "family qwen2"),
        (lambda s: tiny_subject("qwen2", 1), [(0, 4)], "head 4 of layer 0"),
        (lambda s: tiny_subject("qwen2", 1), [], "no heads"),
        (lambda s: s.model, [(0, 0)], "expected a Subject"),
    ],
)
def test_refused(qwen, other, heads, says):
    """A reference that cannot stand in, and heads that are not there, are refused in a line."""
    with pytest.raises(MechinterpError, match=says), transplant_heads(qwen, other(qwen), heads):
        pass


# In a sweep.

chosen_heads = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=4)
chosen_neurons = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 47)), min_size=1, max_size=4)


THIRD: dict[int, Subject] = {}


def scaled(subject: Subject) -> Subject:
    """Another reference: a copy whose weights are all half as large again."""
    model = copy.deepcopy(subject.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.5
    return Subject.of(model, subject.tokenizer)


def in_block(subject, prompts, one, scope) -> torch.Tensor:
    """What `everything` measures in one full pass under an intervention."""
    final = [[len(prompt) - 1] for prompt in prompts]
    with under(subject, one, scope), capture(subject, final, residual=[1], neurons=[1, 2]) as seen:
        logits = last_logits(subject, pad(subject, prompts))
    return torch.cat([logits, seen.residual[1][:, 0], seen.neurons[1][:, 0], seen.neurons[2][:, 0]], 1)


@settings(max_examples=12)
@given(
    scope=st.one_of(without_slots, with_slots),
    heads=st.lists(st.tuples(chosen_heads, st.booleans()), min_size=1, max_size=3),
    neurons=st.lists(chosen_neurons, max_size=2),
    max_rows=st.sampled_from([None, 1, 5]),
)
def test_naive_loop(pair, prompts, scope, heads, neurons, max_rows):
    """Of heads, value vectors and both, from two references, beside other edits: each row is its own full pass."""
    subject, reference = pair
    third = THIRD.setdefault(id(reference), scaled(reference))
    several = [TransplantHeads(reference if first else third, these) for these, first in heads]
    several += [TransplantValues(reference, these) for these in neurons]
    mixed = [(several[0], several[-1])] if neurons else []
    free = next((layer, head) for layer in range(3) for head in range(4) if (layer, head) not in several[0].heads)
    mixed += [(several[0], AblateHeads([free]), Steer(1, torch.linspace(-1, 1, 32))), AblateHeads([(0, 0)]), None]
    swept = sweep(subject, prompts, [*several, *mixed], everything, scope=scope, max_rows=max_rows)
    for number, one in enumerate([*several, *mixed]):
        torch.testing.assert_close(swept[:, number], in_block(subject, prompts, one, scope), rtol=1e-5, atol=1e-4)


def test_direct_effect(pair, prompts):
    """Held downstream, a transplant moves the last stream by what the heads themselves write differently."""
    subject, reference = pair
    one = direct(subject, (TransplantHeads(reference, HEADS), TransplantValues(reference, NEURONS)))
    swept = sweep(subject, prompts, [one], everything, scope=last)
    with clean_run(subject, one) as clean:
        last_logits(subject, pad(subject, prompts))
    with under(subject, one, last, clean=clean):
        torch.testing.assert_close(swept[:, 0, :VOCAB], last_logits(subject, pad(subject, prompts)), **close)
    assert isinstance(one[1], Freeze)


def test_prepared_and_kept(qwen, prompts, tmp_path):
    """Prepared prompts and a store give the same; the store tells references by their weights, not by their names."""
    reference, another = tiny_subject("qwen2", 1), tiny_subject("qwen2", 2)
    metric, store = log_odds(5, 6), Store(tmp_path, qwen)
    prepared = prepare(qwen, prompts, scope=last)
    found = [
        prepared.run([TransplantHeads(one, HEADS)], metric, store=store) for one in (reference, another, reference)
    ]
    torch.testing.assert_close(found[0], sweep(qwen, prompts, [TransplantHeads(reference, HEADS)], metric, scope=last))
    assert torch.equal(found[0], found[2])
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert digest(reference) == digest(tiny_subject("qwen2", 1)) != digest(another)
    before = digest(another)
    with torch.no_grad():
        another.model.model.layers[2].mlp.down_proj.weight[0, 0] += 1
    assert digest(another) != before
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


def test_half_precision(prompts):
    """In bfloat16 rows differ from full passes by no more than full passes among themselves."""
    subject, reference = (
        Subject.of(one.model.to(torch.bfloat16), one.tokenizer)
        for one in (tiny_subject("qwen2"), tiny_subject("qwen2", 1))
    )
    several = [TransplantHeads(reference, HEADS), TransplantValues(reference, NEURONS)]
    swept = sweep(subject, prompts, several, everything, scope=last).float()
    for number, one in enumerate(several):
        torch.testing.assert_close(swept[:, number], in_block(subject, prompts, one, last), rtol=0.05, atol=0.2)


def test_what_cannot_be_swept(qwen, prompts):
    """The same head replaced twice, a subject as its own donor, and texts with transplanted heads are refused."""
    reference = tiny_subject("qwen2", 1)
    for one, says in (
        ((TransplantHeads(reference, [(1, 1)]), AblateHeads([(1, 1)])), "replaces the same in layer 1 twice"),
        ((TransplantValues(reference, [(1, 1)]), AblateNeurons([(1, 1)])), "replaces the same in layer 1 twice"),
        (TransplantHeads(qwen, [(1, 1)]), "the reference is the subject itself"),
        (TransplantHeads(reference, []), "no heads"),
        (TransplantHeads(tiny_subject("qwen2", intermediate_size=64), [(1, 1)]), "d_mlp 48"),
    ):
        with pytest.raises(MechinterpError, match=says):
            sweep(qwen, prompts, [one], log_odds(5, 6), scope=last)
    with pytest.raises(MechinterpError, match="not transplanted here"):
        generate(qwen, prompts, [TransplantHeads(reference, [(1, 1)])], scope=everywhere, max_new_tokens=2)
    texts = generate(
        qwen, prompts[:1], [TransplantValues(reference, NEURONS), None], scope=everywhere, max_new_tokens=6
    )
    with transplant_values(qwen, reference, NEURONS):
        ids = torch.tensor(prompts[:1])
        alone = qwen.model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
    assert texts[0][0] == alone.tolist()[: len(texts[0][0])]
