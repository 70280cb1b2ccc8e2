"""What an intervention changes, and what it must leave alone to the last bit."""

import copy
import math
from contextlib import ExitStack

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp import (
    Edit,
    InstrumentError,
    MechinterpError,
    Subject,
    ablate_heads,
    ablate_neurons,
    at,
    capture,
    everywhere,
    last,
    maybe,
    mean_heads,
    mean_neurons,
    pad,
    since,
    steer,
    when_last_is,
)
from tests.conftest import tiny_subject

HEADS = [(0, 1), (1, 0), (1, 3), (2, 2)]
NEURONS = [(0, 5), (1, 0), (1, 47), (2, 30)]
LAYERS = range(3)


def direction(subject: Subject) -> torch.Tensor:
    return torch.linspace(-1, 1, subject.anatomy.d_model)


EDITS = {
    "heads": lambda subject, scope: ablate_heads(subject, HEADS, scope=scope),
    "neurons": lambda subject, scope: ablate_neurons(subject, NEURONS, scope=scope),
    "steer": lambda subject, scope: steer(subject, 1, direction(subject), coefficient=3, scope=scope),
}
edits = pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)


@torch.no_grad()
def logits(subject: Subject, sequences: list[list[int]]) -> torch.Tensor:
    """Logits of a padded batch, (B, T, vocab)."""
    return subject.model(**pad(subject, sequences).inputs(), use_cache=False).logits


@torch.no_grad()
def generate(subject: Subject, sequences: list[list[int]], new: int = 6) -> torch.Tensor:
    """The `new` greedy tokens of each row, (B, new), under a KV cache."""
    batch = pad(subject, sequences)
    out = subject.model.generate(**batch.for_generate(), max_new_tokens=new, min_new_tokens=new, do_sample=False)
    return out[:, batch.input_ids.shape[1] :]


def hooks(subject: Subject) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in subject.model.modules())


def everything(sequences: list[list[int]]) -> list[list[int]]:
    """Every position of every row; short rows are filled with -1."""
    width = max(map(len, sequences))
    return [[p if p < len(s) else -1 for p in range(width)] for s in sequences]


def without(subject: Subject, columns: dict[int, list[int]], what: str, means=None) -> Subject:
    """The oracle: a copy of the model whose weights, not activations, take the columns out (or fix them at a mean)."""
    model = copy.deepcopy(subject.model)
    with torch.no_grad():
        for layer, chosen in columns.items():
            block = model.model.layers[layer]
            module = block.self_attn.o_proj if what == "heads" else block.mlp.down_proj
            if means is not None:
                added = module.weight[:, chosen] @ means[layer].flatten()[chosen]
                module.bias = torch.nn.Parameter(added if module.bias is None else module.bias + added)
            module.weight[:, chosen] = 0
    return Subject.of(model, subject.tokenizer)


def head_columns(subject: Subject, heads: list[tuple[int, int]]) -> dict[int, list[int]]:
    d = subject.anatomy.d_head
    return {
        layer: [h * d + i for at_layer, h in heads if at_layer == layer for i in range(d)]
        for layer in {layer for layer, _ in heads}
    }


def neuron_columns(neurons: list[tuple[int, int]]) -> dict[int, list[int]]:
    return {layer: [n for at_layer, n in neurons if at_layer == layer] for layer in {layer for layer, _ in neurons}}


# Outside its scope an edit changes nothing.


@edits
def test_nowhere(tiny, sequences, edit):
    """An edit whose scope selects nothing leaves every logit bit for bit the same, and says that it did not fire."""
    clean = logits(tiny, sequences)
    for scope in (at([[-1]] * 4), at([[99]] * 4), since([99] * 4), when_last_is({96 + 1000})):
        with edit(tiny, maybe(scope)) as fired:
            assert torch.equal(logits(tiny, sequences), clean)
        fired.require(0)


@edits
def test_nowhere_in_bf16(edit, sequences):
    """The same holds in bf16."""
    subject = tiny_subject("qwen2")
    subject.model.bfloat16()
    clean = logits(subject, sequences)
    with edit(subject, maybe(at([[-1]] * 4))):
        assert torch.equal(logits(subject, sequences), clean)
    with edit(subject, since([5] * 4)):
        edited = logits(subject, sequences)
    for row, s in enumerate(sequences):
        start = 12 - len(s) + 5
        assert torch.equal(edited[row, 12 - len(s) : start], clean[row, 12 - len(s) : start])
        assert not torch.equal(edited[row, start:], clean[row, start:])


@edits
@settings(max_examples=8)
@given(starts=st.lists(st.integers(0, 7), min_size=4, max_size=4))
def test_causality(qwen, sequences, edit, starts):
    """Logits before the scope are bit for bit those of the unedited run; from the scope on they differ."""
    clean = logits(qwen, sequences)
    with edit(qwen, maybe(since(starts))):
        edited = logits(qwen, sequences)
    for row, (s, start) in enumerate(zip(sequences, starts, strict=True)):
        column = 12 - len(s) + start
        assert torch.equal(edited[row, 12 - len(s) : column], clean[row, 12 - len(s) : column])
        if start < len(s):
            assert not torch.isclose(edited[row, column], clean[row, column]).all()


@edits
def test_other_rows(qwen, sequences, edit):
    """An edit in one row leaves the others bit for bit the same."""
    clean = logits(qwen, sequences)
    with edit(qwen, at([[-1], [3], [-1], [-1]])) as fired:
        edited = logits(qwen, sequences)
    fired.require(1)
    assert [torch.equal(edited[row], clean[row]) for row in range(4)] == [True, False, True, True]


@edits
def test_padding_shifts_nothing(tiny, sequences, edit):
    """A row of a padded batch under an edit gives the logits that it gives alone under the same edit."""
    for batch, alone in (
        (everywhere, everywhere),
        (last, last),
        (at([[4, 1]] * 4), at([[4, 1]])),
        (since([3] * 4), since([3])),
        (when_last_is({sequences[0][-1]}), maybe(when_last_is({sequences[0][-1]}))),
    ):
        with edit(tiny, batch):
            together = logits(tiny, sequences)
        for row, s in enumerate(sequences):
            with edit(tiny, alone):
                single = logits(tiny, [s])[0]
            torch.testing.assert_close(together[row, 12 - len(s) :], single, rtol=0, atol=1e-4)


@edits
def test_edits_a_copy(qwen, sequences, edit):
    """What others hold of an activation is not written into."""
    sites = [qwen.anatomy.o_proj(1), qwen.anatomy.down_proj(1), qwen.anatomy.layers[2]]
    held = []
    handles = [
        site.register_forward_pre_hook(lambda module, args: held.append((args[0], args[0].clone()))) for site in sites
    ]
    handles.append(qwen.anatomy.layers[1].register_forward_hook(lambda m, args, out: held.append((out, out.clone()))))
    with edit(qwen, everywhere):
        logits(qwen, sequences)
    for handle in handles:
        handle.remove()
    assert len(held) == 4
    assert all(torch.equal(kept, copied) for kept, copied in held)


# An edit undoes itself.


@edits
def test_undone(qwen, sequences, edit):
    """After the block, or an error inside it, the model has no hook of ours and its old logits."""
    clean, before = logits(qwen, sequences), hooks(qwen)
    with edit(qwen, everywhere):
        assert hooks(qwen) > before
        assert not torch.equal(logits(qwen, sequences), clean)
    assert hooks(qwen) == before
    with pytest.raises(KeyboardInterrupt), edit(qwen, everywhere):
        raise KeyboardInterrupt
    with pytest.raises(MechinterpError, match="rows"), edit(qwen, at([[1]])):
        logits(qwen, sequences)
    assert hooks(qwen) == before
    assert torch.equal(logits(qwen, sequences), clean)


NAN, WIDE = torch.full((32,), math.nan), torch.ones(33)
REFUSED = [
    (lambda s: ablate_heads(s, []), "no heads were given"),
    (lambda s: ablate_heads(s, [(3, 0)]), "layer 3.*layers 0 to 2"),
    (lambda s: ablate_heads(s, [(-1, 0)]), "layer -1.*layers 0 to 2"),
    (lambda s: ablate_heads(s, [(0, 4)]), "head 4 of layer 0.*heads 0 to 3"),
    (lambda s: ablate_heads(s, [(0, 0), (1, 0)], values={0: torch.zeros(4, 8)}), r"none for layer 1.*\[0\]"),
    (lambda s: ablate_heads(s, [(0, 0)], values={0: torch.zeros(8, 4)}), r"\(4, 8\).*got shape \(8, 4\)"),
    (lambda s: ablate_heads(s, [(0, 0)], values={0: torch.zeros(32)}), r"\(4, 8\).*got shape \(32,\)"),
    (lambda s: ablate_heads(s, [(0, 0)], values={0: torch.zeros(2, 4, 8)}), r"\(4, 8\).*got shape \(2, 4, 8\)"),
    (lambda s: ablate_heads(s, [(0, 0)], values={0: torch.full((4, 8), math.inf)}), "finite"),
    (lambda s: ablate_neurons(s, []), "no neurons were given"),
    (lambda s: ablate_neurons(s, [(0, 48)]), "neuron 48 of layer 0.*neurons 0 to 47"),
    (lambda s: ablate_neurons(s, [(0, 1)], values={1: torch.zeros(48)}), "none for layer 0"),
    (lambda s: ablate_neurons(s, [(0, 1)], values={0: torch.zeros(47)}), r"48.*got shape \(47,\)"),
    (lambda s: ablate_neurons(s, [(0, 1)], values={0: torch.full((48,), math.nan)}), "finite"),
    (lambda s: steer(s, 3, direction(s)), "layer 3.*layers 0 to 2"),
    (lambda s: steer(s, 0, WIDE), r"32 numbers.*\(33,\)"),
    (lambda s: steer(s, 0, NAN), "finite vector"),
    (lambda s: steer(s, 0, direction(s), coefficient=math.nan), "nan times"),
]


@pytest.mark.parametrize(("make", "names"), REFUSED)
def test_refused(qwen, make, names):
    """What cannot be edited is refused before any hook is set, in one line: what was given and what there is."""
    before = hooks(qwen)
    with pytest.raises(MechinterpError, match=names) as caught, make(qwen):
        pass
    assert "\n" not in str(caught.value)
    assert hooks(qwen) == before


def test_values_fit_the_pass(qwen, sequences):
    """Values for other rows, or for fewer slots than the scope has, are refused, never taken from a wrong row."""
    for rows, slots in ((5, 2), (1, 2), (4, 1)):
        given_values = {0: torch.zeros(rows, slots, 4, 8)}
        with (
            pytest.raises(MechinterpError, match=f"{rows} rows and {slots} slots"),
            ablate_heads(qwen, [(0, 0)], values=given_values, scope=at([[1, 2]] * 4)),
        ):
            logits(qwen, sequences)


# What an edit puts in its place.


def test_zero_heads(tiny, sequences):
    """Ablating heads is what taking their columns out of W_O does."""
    with ablate_heads(tiny, HEADS) as edit:
        edited = logits(tiny, sequences)
    oracle = logits(without(tiny, head_columns(tiny, HEADS), "heads"), sequences)
    for row, s in enumerate(sequences):
        torch.testing.assert_close(edited[row, -len(s) :], oracle[row, -len(s) :], rtol=0, atol=1e-4)
    edit.require(sum(map(len, sequences)))


def test_zero_neurons(tiny, sequences):
    """Ablating neurons is what taking their columns out of down_proj does."""
    with ablate_neurons(tiny, NEURONS):
        edited = logits(tiny, sequences)
    oracle = logits(without(tiny, neuron_columns(NEURONS), "neurons"), sequences)
    for row, s in enumerate(sequences):
        torch.testing.assert_close(edited[row, -len(s) :], oracle[row, -len(s) :], rtol=0, atol=1e-4)


def test_mean(tiny, sequences):
    """Mean ablation is what a bias of the mean in place of the columns does."""
    heads, neurons = mean_heads(tiny, sequences), mean_neurons(tiny, sequences)
    for edit, columns, what, means in (
        (ablate_heads(tiny, HEADS, values=heads), head_columns(tiny, HEADS), "heads", heads),
        (ablate_neurons(tiny, NEURONS, values=neurons), neuron_columns(NEURONS), "neurons", neurons),
    ):
        with edit:
            edited = logits(tiny, sequences)
        oracle = logits(without(tiny, columns, what, means), sequences)
        for row, s in enumerate(sequences):
            torch.testing.assert_close(edited[row, -len(s) :], oracle[row, -len(s) :], rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resample_from_itself(sequences, dtype):
    """Heads and neurons replaced by what they are anyway change no bit."""
    subject = tiny_subject("llama")
    subject.model.to(dtype)
    places = everything(sequences)
    with capture(subject, places, heads=LAYERS, neurons=LAYERS) as own:
        clean = logits(subject, sequences)
    with (
        ablate_heads(subject, HEADS, values=own.heads, scope=at(places)) as heads,
        ablate_neurons(subject, NEURONS, values=own.neurons, scope=at(places)),
    ):
        assert torch.equal(logits(subject, sequences), clean)
    heads.require(sum(map(len, sequences)))


def test_resample_slot_by_slot(tiny, sequences):
    """Slot j of a row's values lands at position j of its scope, whatever their order, in the named heads alone."""
    places = [[5, 2], [0, 11], [6, 3], [1, 7]]
    generator = torch.Generator().manual_seed(3)
    anatomy = tiny.anatomy
    other = torch.randn(4, 2, anatomy.n_heads, anatomy.d_head, generator=generator)
    others = torch.randn(4, 2, anatomy.d_mlp, generator=generator)
    with capture(tiny, everything(sequences), heads=[0], neurons=[0]) as clean:
        logits(tiny, sequences)
    with (
        ablate_heads(tiny, [(0, 1), (0, 3)], values={0: other}, scope=at(places)) as edit,
        capture(tiny, everything(sequences), heads=[0]) as edited,
    ):
        logits(tiny, sequences)
    wanted = clean.heads[0].clone()
    for row in range(4):
        for slot in range(2):
            wanted[row, places[row][slot], [1, 3]] = other[row, slot, [1, 3]]
    assert torch.equal(edited.heads[0], wanted)
    edit.require(8)
    with (
        ablate_neurons(tiny, [(0, 7)], values={0: others}, scope=at(places)),
        capture(tiny, everything(sequences), neurons=[0]) as edited,
    ):
        logits(tiny, sequences)
    wanted = clean.neurons[0].clone()
    for row in range(4):
        for slot in range(2):
            wanted[row, places[row][slot], 7] = others[row, slot, 7]
    assert torch.equal(edited.neurons[0], wanted)


def test_query_heads_share_no_edit(tiny, sequences):
    """Under grouped-query attention the other heads of a group keep every bit of their output."""
    assert tiny.anatomy.n_kv_heads < tiny.anatomy.n_heads
    with capture(tiny, everything(sequences), heads=[1]) as clean:
        logits(tiny, sequences)
    for head in range(4):
        with ablate_heads(tiny, [(1, head)]), capture(tiny, everything(sequences), heads=[1]) as edited:
            logits(tiny, sequences)
        others = [h for h in range(4) if h != head]
        assert torch.equal(edited.heads[1][:, :, others], clean.heads[1][:, :, others])
        assert (edited.heads[1][:, :, head] == 0).all()


def test_all_heads(tiny, sequences):
    """With all its heads ablated a layer's attention writes its bias and nothing else."""
    written = []
    attention = tiny.anatomy.attention(1)
    handle = attention.register_forward_hook(lambda module, args, output: written.append(output[0]))
    with ablate_heads(tiny, [(1, head) for head in range(4)], scope=since([2] * 4)):
        logits(tiny, sequences)
    handle.remove()
    bias = attention.o_proj.bias
    expected = torch.zeros(tiny.anatomy.d_model) if bias is None else bias
    for row, s in enumerate(sequences):
        torch.testing.assert_close(written[0][row, 12 - len(s) + 2 :], expected.expand(len(s) - 2, -1))
        assert not torch.isclose(written[0][row, 12 - len(s) + 1], expected).all()


def test_steer(tiny, sequences):
    """Steering adds coefficient times the vector after its layer, at the scoped positions and nowhere else."""
    vector, places = direction(tiny), everything(sequences)
    with capture(tiny, places, residual=[0, 1]) as clean:
        logits(tiny, sequences)
    scope = at([[2, 4]] * 4)
    with (
        steer(tiny, 1, vector, coefficient=-2.5, scope=scope) as edit,
        capture(tiny, places, residual=[0, 1]) as steered,
    ):
        logits(tiny, sequences)
    assert torch.equal(steered.residual[0], clean.residual[0])
    added = steered.residual[1] - clean.residual[1]
    wanted = torch.zeros_like(added)
    wanted[:, [2, 4]] = -2.5 * vector
    torch.testing.assert_close(added, wanted, rtol=0, atol=1e-5)
    assert (added[wanted == 0].reshape(-1) == 0).all()
    edit.require(8)


# Edits stack.


def test_stacking(tiny, sequences):
    """Edits stack in any order: two ablations are the ablation of both, two steerings the sum."""
    with ablate_heads(tiny, HEADS), ablate_neurons(tiny, NEURONS):
        together = logits(tiny, sequences)
    assert not torch.equal(together, logits(tiny, sequences))
    for order in (HEADS, HEADS[::-1]):
        with ExitStack() as stack:
            for neuron in NEURONS:
                stack.enter_context(ablate_neurons(tiny, [neuron]))
            for head in order:
                stack.enter_context(ablate_heads(tiny, [head]))
            assert torch.equal(logits(tiny, sequences), together)
    vector = direction(tiny)
    with steer(tiny, 1, vector, coefficient=0.5), steer(tiny, 1, vector.flip(0), coefficient=-2):
        twice = logits(tiny, sequences)
    with steer(tiny, 1, 0.5 * vector - 2 * vector.flip(0)):
        torch.testing.assert_close(twice, logits(tiny, sequences), rtol=0, atol=1e-4)


# Edits say how often they fired.


def test_counts(qwen, sequences):
    """An edit counts its passes and positions in each layer exactly."""
    starts = [0, 3, 6, 11]
    with ablate_heads(qwen, HEADS, scope=since(starts)) as edit:
        logits(qwen, sequences)
        logits(qwen, sequences)
    each = sum(len(s) - start for s, start in zip(sequences, starts, strict=True))
    assert dict(edit.passes) == dict.fromkeys(LAYERS, 2)
    assert dict(edit.positions) == dict.fromkeys(LAYERS, 2 * each)
    edit.require(2 * each)
    for wrong in (2 * each - 1, 2 * each + 1, 0):
        with pytest.raises(InstrumentError, match=f"fired at {2 * each} positions, expected {wrong}"):
            edit.require(wrong)


def test_never_ran(qwen):
    """An edit that saw no pass is an instrument error, even where nothing was expected of it."""
    with ablate_heads(qwen, HEADS) as edit:
        pass
    with pytest.raises(InstrumentError, match="never ran"):
        edit.require(0)
    with pytest.raises(InstrumentError, match="never ran"):
        Edit().require(0)


# Edits follow generation.


SCOPES = {
    "everywhere": lambda lengths: everywhere,
    "last": lambda lengths: last,
    "at": lambda lengths: at([[2, n + 1, n + 3] for n in lengths]),
    "since": lambda lengths: since([n - 1 for n in lengths]),
    "when_last_is": lambda lengths: when_last_is(range(50)),
}


@edits
@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_generation(qwen, sequences, edit, scope):
    """Each row of a padded batch generates under an edit, with a KV cache, what it generates alone without padding."""
    lengths = [len(s) for s in sequences]
    with edit(qwen, scope(lengths)):
        together = generate(qwen, sequences)
    assert not torch.equal(together, generate(qwen, sequences))
    for row, s in enumerate(sequences):
        with edit(qwen, scope([len(s)])):
            assert torch.equal(together[row], generate(qwen, [s])[0])


@edits
def test_generation_is_a_full_pass(tiny, sequences, edit):
    """What a model generates under an edit with a KV cache is what full passes without a cache choose under it."""
    lengths = [len(s) for s in sequences]
    scope = since([n - 1 for n in lengths])
    with edit(tiny, scope):
        tokens = generate(tiny, sequences, new=4)
        grown = [s + row.tolist() for s, row in zip(sequences, tokens, strict=True)]
        full = logits(tiny, grown)
    full[..., 2] = -math.inf  # generate was told not to end
    assert torch.equal(full[:, -5:-1].argmax(-1), tokens)


def test_decode_step(qwen, sequences):
    """An edit at a position that is not generated yet fires once a row, on the step that reaches it."""
    lengths = [len(s) for s in sequences]
    clean = generate(qwen, sequences)
    with steer(qwen, 1, direction(qwen), coefficient=50, scope=at([[n + 2] for n in lengths])) as edit:
        edited = generate(qwen, sequences)
    edit.require(4)
    assert edit.passes[1] == 6  # the prompt, then one pass for each token but the last
    assert torch.equal(edited[:, :3], clean[:, :3])
    assert (edited[:, 3] != clean[:, 3]).any()
