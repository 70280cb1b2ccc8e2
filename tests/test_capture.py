"""What capture reads, checked against the model's own outputs and against itself in other batches."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from mechinterp import (
    Batch,
    Captured,
    InstrumentError,
    MechinterpError,
    Subject,
    ablate_heads,
    capture,
    head_outputs,
    last_logits,
    mean_heads,
    mean_neurons,
    pad,
    value_vectors,
)
from mechinterp.subject import attention_by
from tests.conftest import tiny_subject

LAYERS = range(3)
KINDS = ("residual", "heads", "neurons", "attention")
ALL = dict.fromkeys(KINDS, LAYERS)
close = {"rtol": 0, "atol": 1e-5}


@torch.no_grad()
def run(subject: Subject, batch: Batch, cuts: tuple[int, ...] = ()) -> None:
    """Run a batch in pieces, cut at these columns, under one KV cache."""
    cache, width = DynamicCache(config=subject.model.config), batch.input_ids.shape[1]
    bounds = [0, *sorted(cut for cut in set(cuts) if 0 < cut < width), width]
    for start, stop in pairwise(bounds):
        subject.model(
            input_ids=batch.input_ids[:, start:stop],
            attention_mask=batch.attention_mask[:, :stop],
            position_ids=batch.position_ids[:, start:stop],
            past_key_values=cache,
            use_cache=True,
        )


def captured(subject: Subject, sequences, positions, cuts=(), **layers) -> Captured:
    with capture(subject, positions, **(layers or ALL)) as found:
        run(subject, pad(subject, sequences), cuts)
    return found


def ends(sequences: list[list[int]]) -> list[list[int]]:
    """Three positions of each row, in no order."""
    return [[len(s) - 1, 0, 4] for s in sequences]


# What is read.


def test_residual_and_attention(tiny, sequences):
    """Residual and attention are those that the model itself outputs."""
    batch = pad(tiny, [sequences[1], sequences[3]])  # of the same length: nothing is padded
    places = [[11, 0, 5], [3, 10, 2]]
    found = captured(tiny, [sequences[1], sequences[3]], places)
    with attention_by(tiny, "eager"), torch.no_grad():
        out = tiny.model(**batch.inputs(), output_hidden_states=True, output_attentions=True, use_cache=False)
    for row, chosen in enumerate(places):
        for layer in LAYERS:
            attention = out.attentions[layer][row][:, chosen].transpose(0, 1)  # (k, n_heads, S)
            torch.testing.assert_close(found.attention[layer][row], attention, **close)
        for layer in (0, 1):  # the hidden states after the last layer have gone through the final norm
            torch.testing.assert_close(found.residual[layer][row], out.hidden_states[layer + 1][row][chosen], **close)
        with torch.no_grad():
            normed = tiny.anatomy.norm(found.residual[2][row])
        torch.testing.assert_close(normed, out.hidden_states[3][row][chosen], **close)


def test_parts_sum_to_the_whole(tiny, sequences):
    """Head outputs plus bias are the attention output; activations times value vectors plus bias the MLP output."""
    whole = {}
    handles = [
        module.register_forward_hook(lambda m, args, output, key=(name, layer): whole.update({key: output}))
        for layer in LAYERS
        for name, module in (("attention", tiny.anatomy.o_proj(layer)), ("mlp", tiny.anatomy.mlp(layer)))
    ]
    places = ends(sequences)
    found = captured(tiny, sequences, places, heads=LAYERS, neurons=LAYERS)
    for handle in handles:
        handle.remove()
    for layer in LAYERS:
        heads = head_outputs(tiny, layer, found.heads[layer]).sum(2)
        neurons = found.neurons[layer] @ value_vectors(tiny, layer)
        for name, total, module in (
            ("attention", heads, tiny.anatomy.o_proj(layer)),
            ("mlp", neurons, tiny.anatomy.down_proj(layer)),
        ):
            total = total if module.bias is None else total + module.bias.detach()
            for row, (s, chosen) in enumerate(zip(sequences, places, strict=True)):
                wanted = whole[name, layer][row, [12 - len(s) + p for p in chosen]]
                torch.testing.assert_close(total[row], wanted, **close)


def test_attention_rows(tiny, sequences):
    """An attention row sums to 1 over token positions, with nothing after its own position or past the last asked."""
    places = ends(sequences)
    found = captured(tiny, sequences, places, attention=LAYERS)
    for rows in found.attention.values():
        assert rows.shape == (4, 3, 4, 12)
        torch.testing.assert_close(rows.sum(-1), torch.ones(4, 3, 4), **close)
        for row, chosen in enumerate(places):
            for slot, position in enumerate(chosen):
                assert (rows[row, slot, :, position + 1 :] == 0).all()
        torch.testing.assert_close(rows[:, 1, :, 0], torch.ones(4, 4), **close)  # position 0 sees itself alone


def test_fp32(sequences):
    """Captured activations of a bf16 model are its bf16 numbers, in fp32."""
    subject = tiny_subject("qwen2")
    subject.model.bfloat16()
    found = captured(subject, sequences, ends(sequences))
    for kind in KINDS:
        for layer in LAYERS:
            values = getattr(found, kind)[layer]
            assert values.dtype == torch.float32
            assert torch.equal(values.bfloat16().float(), values)


def test_order_of_edits(qwen, sequences):
    """Capture sees the edits that were entered before it, and the head itself as it was if entered first."""
    places = ends(sequences)
    with (
        capture(qwen, places, heads=[0]) as before,
        ablate_heads(qwen, [(0, 2)]),
        capture(qwen, places, heads=[0]) as after,
    ):
        run(qwen, pad(qwen, sequences))
    assert (after.heads[0][:, :, 2] == 0).all()
    assert torch.equal(before.heads[0], captured(qwen, sequences, places, heads=[0]).heads[0])


# However it is run.


@settings(max_examples=15)
@given(data=st.data(), cuts=st.lists(st.integers(1, 11), max_size=3))
def test_batches_and_passes(tiny, sequences, data, cuts):
    """A row captured in a padded batch, in any number of passes, is captured as it is alone in one."""
    places = [data.draw(st.permutations(range(len(s))))[:2] for s in sequences]
    together = captured(tiny, sequences, places, tuple(cuts))
    for row, s in enumerate(sequences):
        alone = captured(tiny, [s], [places[row]])
        for kind in KINDS:
            for layer in LAYERS:
                one, other = getattr(together, kind)[layer][row], getattr(alone, kind)[layer][0]
                span = min(one.shape[-1], other.shape[-1])
                torch.testing.assert_close(one[..., :span], other[..., :span], rtol=0, atol=1e-4)


def test_sliding_window(sequences):
    """Attention keeps its token positions where a sliding window has dropped columns from the cache."""
    subject = tiny_subject("mistral", sliding_window=5)
    places = [[len(s) - 1] for s in sequences]
    whole = captured(subject, sequences, places)
    for cuts in ((9,), (6, 8, 10, 11)):
        parts = captured(subject, sequences, places, cuts)
        for kind in KINDS:
            for layer in LAYERS:
                torch.testing.assert_close(getattr(parts, kind)[layer], getattr(whole, kind)[layer], **close)


def test_generation(qwen, sequences):
    """Under generate, positions that are not written yet are captured on the step that reaches them."""
    places = [[len(s) - 1, len(s) + 2] for s in sequences]
    batch = pad(qwen, sequences)
    with capture(qwen, places, **ALL) as found:
        tokens = qwen.model.generate(**batch.for_generate(), max_new_tokens=4, min_new_tokens=4, do_sample=False)
    grown = [s + row[12:].tolist() for s, row in zip(sequences, tokens, strict=True)]
    again = captured(qwen, grown, places)
    for kind in KINDS:
        for layer in LAYERS:
            torch.testing.assert_close(getattr(found, kind)[layer], getattr(again, kind)[layer], rtol=0, atol=1e-4)


def test_rows_without_a_position(qwen, sequences):
    """A slot of -1 stands for no position: it stays zero and is not missed."""
    places = [[3], [-1], [2], [-1]]
    found = captured(qwen, sequences, places)
    for kind in KINDS:
        values = getattr(found, kind)[1]
        assert (values[[1, 3]] == 0).all()
        assert (values[[0, 2]] != 0).any()


# At what price.


def test_memory(qwen, sequences):
    """Only the asked layers are held, each in storage of its own that is as large as the asked positions."""
    found = captured(qwen, sequences, [[4]] * 4, residual=[1], heads=(0, 2), neurons={2}, attention=iter([0]))
    shapes = {
        ("residual", 1): (4, 1, 32),
        ("heads", 0): (4, 1, 4, 8),
        ("heads", 2): (4, 1, 4, 8),
        ("neurons", 2): (4, 1, 48),
        ("attention", 0): (4, 1, 4, 5),
    }
    held = {(kind, layer): values for kind in KINDS for layer, values in getattr(found, kind).items()}
    assert {key: tuple(values.shape) for key, values in held.items()} == shapes
    for values in held.values():
        assert values.untyped_storage().nbytes() == 4 * values.numel()
        assert not values.requires_grad
    assert len({values.untyped_storage().data_ptr() for values in held.values()}) == len(held)


def test_no_graph(qwen, sequences):
    """Captured tensors hold no graph, even where gradients are on."""
    with torch.enable_grad(), capture(qwen, [[1]] * 4, **ALL) as found:
        qwen.model(**pad(qwen, sequences).inputs(), use_cache=False)
    assert not any(getattr(found, kind)[2].requires_grad for kind in KINDS)


def hooks(subject: Subject) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in subject.model.modules())


def test_restored(sequences):
    """The attention kernel and the hooks are as before after the block, after an error inside and after a refusal."""
    subject = tiny_subject("qwen2")
    kernel, before = subject.model.config._attn_implementation, hooks(subject)
    assert kernel != "eager"
    clean = last_logits(subject, pad(subject, sequences))
    with capture(subject, [[0]] * 4, attention=[0]):
        assert subject.model.config._attn_implementation == "eager"
        run(subject, pad(subject, sequences))
    with pytest.raises(KeyboardInterrupt), capture(subject, [[0]] * 4, **ALL):
        raise KeyboardInterrupt
    with pytest.raises(MechinterpError), capture(subject, [[0]] * 4, residual=[0], attention=[3]):
        pass
    with pytest.raises(InstrumentError), capture(subject, [[0]] * 4, attention=[0]):
        pass
    assert subject.model.config._attn_implementation == kernel
    assert hooks(subject) == before
    assert torch.equal(last_logits(subject, pad(subject, sequences)), clean)


def test_kernel_is_left_alone(qwen, sequences):
    """Without attention there is no need for the eager kernel, and it is not switched on."""
    kernel = qwen.model.config._attn_implementation
    with capture(qwen, [[0]] * 4, residual=[0], heads=[0], neurons=[0]):
        assert qwen.model.config._attn_implementation == kernel
        run(qwen, pad(qwen, sequences))


# What is refused.


@pytest.mark.parametrize(
    ("positions", "layers", "names"),
    [
        ([[0]] * 4, {"residual": [3]}, "layer 3.*layers 0 to 2"),
        ([[0]] * 4, {"heads": [-1]}, "layer -1.*layers 0 to 2"),
        ([[0]] * 4, {"attention": [0, 9]}, "layer 9"),
        ([[0]] * 4, {}, "name at least one layer"),
        ([[0]] * 3, {"residual": [0]}, "3 rows of positions for a pass of 4 rows"),
        ([0, 1, 2, 3], {"residual": [0]}, r"capture\(positions\).*\(rows, k\)"),
        ([[0], [1, 2], [0], [0]], {"residual": [0]}, "as many in every row"),
        ([[0.5]] * 4, {"residual": [0]}, "whole numbers"),
    ],
)
def test_refused(qwen, sequences, positions, layers, names):
    """Layers and positions that do not exist are refused in one line that says what there is."""
    with pytest.raises(MechinterpError, match=names) as caught, capture(qwen, positions, **layers):
        run(qwen, pad(qwen, sequences))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_never_reached(qwen, sequences, kind):
    """A position that no pass reached is an instrument error that names the site and how many, never a zero."""
    with pytest.raises(InstrumentError, match=f"{kind} in layer 1: 3 positions were never reached"):
        captured(qwen, sequences, [[8, 9]] * 4, **{kind: [1]})  # the rows have 9, 12, 7 and 12 tokens
    with (
        pytest.raises(InstrumentError, match=f"{kind} in layer 1: 4 positions"),
        capture(qwen, [[0]] * 4, **{kind: [1]}),
    ):
        pass


# Means.


def test_means(tiny, sequences):
    """Mean heads and neurons are means over real tokens: padding counts for nothing, a long row for its length."""
    tokens = {"heads": [], "neurons": []}
    for s in sequences:
        alone = captured(tiny, [s], [list(range(len(s)))], heads=LAYERS, neurons=LAYERS)
        for kind, rows in tokens.items():
            rows.append(torch.stack([getattr(alone, kind)[layer][0].flatten(1) for layer in LAYERS]))
    before = hooks(tiny)
    heads, neurons = mean_heads(tiny, sequences), mean_neurons(tiny, sequences)
    assert hooks(tiny) == before
    assert [*heads] == [*neurons] == [*LAYERS]
    for layer in LAYERS:
        by_hand = torch.cat(tokens["heads"], dim=1)[layer].mean(0)
        torch.testing.assert_close(heads[layer], by_hand.unflatten(0, (4, tiny.anatomy.d_head)), **close)
        torch.testing.assert_close(neurons[layer], torch.cat(tokens["neurons"], dim=1)[layer].mean(0), **close)


def test_mean_of_nothing(qwen):
    """There is no mean over no tokens."""
    with pytest.raises(MechinterpError, match="sequences: none were given"):
        mean_heads(qwen, [])


def test_numbers_that_are_not_finite(sequences):
    """They are an instrument error: the eager kernel makes them of padding in float64, and a half may overflow."""
    subject = tiny_subject("qwen2")
    subject.model.double()
    with pytest.raises(InstrumentError, match="not finite, in a model of"):
        captured(subject, sequences, [[0]] * 4, residual=[1], attention=[0])
    assert captured(subject, sequences, [[0]] * 4, residual=[1]).residual[1].isfinite().all()
