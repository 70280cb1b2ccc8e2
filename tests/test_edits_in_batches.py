"""An edit acts where it is said, however rows are padded and cut into passes, or it is an error."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache

from mechinterp import (
    AblateHeads,
    AblateNeurons,
    Batch,
    InstrumentError,
    MechinterpError,
    Steer,
    ablate_heads,
    at,
    capture,
    everywhere,
    generate,
    last,
    last_logits,
    log_odds,
    maybe,
    pad,
    since,
    steer,
    sweep,
    when_last_is,
)

WIDTH, LAYERS, HEADS, D_HEAD, D_MLP, D_MODEL = 8, 3, 4, 8, 48, 32
close = {"rtol": 0, "atol": 1e-4}


@st.composite
def layouts(draw, rows=3):
    """Rows of tokens with padding on either side or both, and columns to cut them at."""
    texts, starts = [], []
    for _ in range(rows):
        length = draw(st.integers(1, WIDTH))
        texts.append(draw(st.lists(st.integers(4, 12), min_size=length, max_size=length)))
        starts.append(draw(st.integers(0, WIDTH - length)))
    cuts = draw(st.sets(st.integers(1, WIDTH - 1), max_size=2))
    return texts, starts, [0, *sorted(cuts), WIDTH]


def laid_out(texts, starts):
    ids, mask = torch.zeros(len(texts), WIDTH, dtype=torch.long), torch.zeros(len(texts), WIDTH, dtype=torch.long)
    for row, (text, start) in enumerate(zip(texts, starts, strict=True)):
        ids[row, start : start + len(text)] = torch.tensor(text)
        mask[row, start : start + len(text)] = 1
    return Batch(ids, mask, (mask.cumsum(1) - 1).clamp(min=0))


@torch.no_grad()
def run(subject, batch, bounds):
    """Logits (B, WIDTH, vocab) of a batch run in pieces under one KV cache."""
    cache = DynamicCache(config=subject.model.config)
    return torch.cat(
        [
            subject.model(
                input_ids=batch.input_ids[:, start:stop],
                attention_mask=batch.attention_mask[:, :stop],
                position_ids=batch.position_ids[:, start:stop],
                past_key_values=cache,
                use_cache=True,
            ).logits
            for start, stop in pairwise(bounds)
        ],
        dim=1,
    )


def passes_of(text, start, bounds):
    """The positions of a row in each pass."""
    return [[p for p in range(len(text)) if a <= start + p < b] for a, b in pairwise(bounds)]


@st.composite
def scopes(draw, texts, starts, bounds):
    """A scope and, by its definition and without looking at its code, what it selects: row -> position -> slot.

    None for what must be an error: a position that is never reached, or nothing selected at all.
    """
    kind = draw(st.sampled_from(["everywhere", "last", "at", "since", "when_last_is"]))
    by_pass = [passes_of(text, start, bounds) for text, start in zip(texts, starts, strict=True)]
    if kind == "everywhere":
        return everywhere, [dict.fromkeys(range(len(text)), 0) for text in texts]
    if kind == "last":
        return last, [{here[-1]: 0 for here in row if here} for row in by_pass]
    if kind == "when_last_is":
        tokens = draw(st.sets(st.integers(4, 12), min_size=1, max_size=4))
        chosen = [
            {p: 0 for here in row if here and text[here[-1]] in tokens for p in here}
            for text, row in zip(texts, by_pass, strict=True)
        ]
        return when_last_is(tokens), chosen if any(chosen) else None
    beyond = draw(st.sampled_from([0, 0, 0, 1]))
    if kind == "since":
        begins = [draw(st.integers(0, len(text) - 1 + beyond)) for text in texts]
        chosen = [dict.fromkeys(range(begin, len(text)), 0) for begin, text in zip(begins, texts, strict=True)]
        return since(begins), chosen if all(chosen) else None
    places = [draw(st.lists(st.integers(-1, len(text) - 1 + beyond), min_size=3, max_size=3)) for text in texts]
    chosen = [{p: row.index(p) for p in row if p >= 0} for row in places]
    reached = all(p < len(text) for row, text in zip(chosen, texts, strict=True) for p in row)
    return at(places), chosen if reached and any(chosen) else None


def naive(subject, text, chosen, intervention, row):
    """Logits (n, vocab) of one row alone, in one pass, edited by hand at the chosen positions."""
    with ExitStack() as stack:

        def inputs(module, edit):
            stack.callback(module.register_forward_pre_hook(lambda m, args: (edit(args[0].clone()),)).remove)

        if isinstance(intervention, Steer):

            def add(module, args, output):
                output = output.clone()
                for p in chosen:
                    output[0, p] += intervention.coefficient * intervention.vector
                return output

            stack.callback(subject.anatomy.layers[intervention.layer].register_forward_hook(add).remove)
        else:
            of_heads = isinstance(intervention, AblateHeads)
            for layer, number in intervention.heads if of_heads else intervention.neurons:

                def edit(z, layer=layer, number=number):
                    wide = slice(number * D_HEAD, (number + 1) * D_HEAD) if of_heads else slice(number, number + 1)
                    for p, slot in chosen.items():
                        values = intervention.values
                        z[0, p, wide] = 0 if values is None else values[layer][row, slot][number]
                    return z

                inputs(subject.anatomy.o_proj(layer) if of_heads else subject.anatomy.down_proj(layer), edit)
        with torch.no_grad():
            return subject.model(torch.tensor([text]), use_cache=False).logits[0]


def interventions(scope_has_slots):
    """For three rows and three slots; a position named twice gets the same values from both slots, all being alike."""
    generator = torch.Generator().manual_seed(0)
    heads, neurons = [(0, 1), (2, 3), (0, 1)], [(1, 5), (1, 47)]
    yield AblateHeads(heads)
    yield AblateNeurons(neurons)
    yield Steer(1, torch.linspace(-3, 3, D_MODEL), -1.5)
    if scope_has_slots:
        rows = {layer: torch.randn(3, 1, HEADS, D_HEAD, generator=generator).repeat(1, 3, 1, 1) for layer in (0, 2)}
        yield AblateHeads(heads, rows)
        yield AblateNeurons(neurons, {1: torch.randn(3, 1, D_MLP, generator=generator).repeat(1, 3, 1)})


@settings(max_examples=100)
@given(data=st.data(), layout=layouts())
def test_as_alone(qwen, data, layout):
    """In every padding and every cut into passes a row is edited as it is alone, or there is an error."""
    texts, starts, bounds = layout
    scope, chosen = data.draw(scopes(texts, starts, bounds))
    intervention = data.draw(st.sampled_from(list(interventions(hasattr(scope, "positions")))))
    batch = laid_out(texts, starts)
    if chosen is None:
        with pytest.raises(InstrumentError, match="never fired"), intervention.on(qwen, scope):
            run(qwen, batch, bounds)
        return
    with intervention.on(qwen, scope) as edit:
        logits = run(qwen, batch, bounds)
    edit.require(sum(map(len, chosen)))
    for row, (text, start) in enumerate(zip(texts, starts, strict=True)):
        alone = naive(qwen, text, chosen[row], intervention, row)
        torch.testing.assert_close(logits[row, start : start + len(text)], alone, **close)


@settings(max_examples=40)
@given(data=st.data(), layout=layouts())
def test_captured_as_alone(qwen, data, layout):
    """Positions in any order, repeated or not, give what each row gives alone, under any padding and cut."""
    texts, starts, bounds = layout
    places = [data.draw(st.lists(st.integers(-1, len(text) - 1), min_size=4, max_size=4)) for text in texts]
    places[0][0] = 0
    with capture(qwen, places, residual=[1], heads=[2], attention=[1]) as seen:
        run(qwen, laid_out(texts, starts), bounds)
    for row, text in enumerate(texts):
        each = [list(range(len(text)))]
        with capture(qwen, each, residual=[1], heads=[2], attention=[1]) as alone, torch.no_grad():
            qwen.model(torch.tensor([text]), use_cache=False)
        for kind in ("residual", "heads", "attention"):
            (layer,) = getattr(alone, kind)
            for slot, position in enumerate(places[row]):
                found, wanted = getattr(seen, kind)[layer][row, slot], getattr(alone, kind)[layer][0]
                if position < 0:
                    assert not found.any()
                    continue
                span = min(found.shape[-1], wanted.shape[-1])
                torch.testing.assert_close(found[..., :span], wanted[position][..., :span], **close)
                assert not found[..., span:].any()


@given(layout=layouts())
def test_last_logits(qwen, layout):
    """The last token of a row is its last real one, wherever the padding is."""
    texts, starts, _ = layout
    found = last_logits(qwen, laid_out(texts, starts))
    for row, text in enumerate(texts):
        torch.testing.assert_close(found[row], last_logits(qwen, pad(qwen, [text]))[0], **close)


def test_nothing_but_padding(qwen):
    """Such a row has no last token."""
    batch = laid_out([[5, 6], [7]], [0, 3])
    batch.attention_mask[1] = 0
    with pytest.raises(MechinterpError, match="nothing but padding"):
        last_logits(qwen, batch)
    with ablate_heads(qwen, [(0, 0)], scope=at([[1], [-1]])) as edit:
        run(qwen, batch, [0, WIDTH])
    edit.require(1)
    with (
        pytest.raises(InstrumentError, match="position 0 of row 1"),
        ablate_heads(qwen, [(0, 0)], scope=at([[1], [0]])),
    ):
        run(qwen, batch, [0, WIDTH])


# What a block owes when it ends.


def logits(subject, *texts):
    with torch.no_grad():
        return subject.model(torch.tensor(texts), use_cache=False).logits


def test_every_run_of_a_block(qwen):
    """A position that one text reaches and the next one does not is an error, whichever comes first."""
    long, short = [5, 6, 7, 8], [6, 5]

    def one_after_the_other(order):
        with ablate_heads(qwen, [(1, 1)], scope=at([[3]])):
            for text in order:
                logits(qwen, text)

    for order in ((long, short), (short, long)):
        with pytest.raises(InstrumentError, match="position 3 of row 0"):
            one_after_the_other(order)
    with ablate_heads(qwen, [(1, 1)], scope=at([[3]])) as edit:
        logits(qwen, long)
        logits(qwen, long)
    edit.require(2)


@pytest.mark.parametrize("use_cache", [True, False])
def test_generation_with_and_without_a_cache(qwen, use_cache):
    """Without one each step runs the text so far again: a position that it does not reach yet is not missed."""
    batch = pad(qwen, [[5, 6, 7, 8], [5, 6]])
    with ablate_heads(qwen, [(1, 1)], scope=at([[1, 5], [0, 4]])) as edit:
        qwen.model.generate(
            **batch.for_generate(), max_new_tokens=4, min_new_tokens=4, do_sample=False, use_cache=use_cache
        )
    edit.require(4 if use_cache else 2 * 4 + 1 + 2)  # rows reach the second position in the third pass, and the second
    beyond = ablate_heads(qwen, [(1, 1)], scope=at([[1, 5], [0, 5]]))
    with pytest.raises(InstrumentError, match="position 5 of row 1"), beyond:
        qwen.model.generate(
            **batch.for_generate(), max_new_tokens=4, min_new_tokens=4, do_sample=False, use_cache=use_cache
        )


def test_several_suffixes_of_one_prefix(qwen):
    """What stands in the cache was edited when it was made."""
    with ablate_heads(qwen, [(1, 1)], scope=at([[1, 4]])) as edit, torch.no_grad():
        for suffix in ([8, 9], [9, 8]):
            cache = DynamicCache(config=qwen.model.config)
            qwen.model(torch.tensor([[5, 6, 7]]), past_key_values=cache)
            qwen.model(torch.tensor([suffix]), past_key_values=cache)
        cache.crop(-2)
        qwen.model(torch.tensor([[7, 7]]), past_key_values=cache)
    edit.require(5)


def test_no_pass_no_error(qwen):
    """A block in which nothing was run owes nothing, and another error is not covered by ours."""
    with ablate_heads(qwen, [(0, 0)], scope=at([[50]])):
        pass

    def fails():
        logits(qwen, [5, 6])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ablate_heads(qwen, [(0, 0)], scope=at([[50]])):
        fails()
    with ablate_heads(qwen, [(0, 0)], scope=at([[1]])), pytest.raises(MechinterpError, match="1 rows"):
        logits(qwen, [5, 6], [5, 7])


def test_maybe(qwen):
    """What may select nothing is said to; where it selects something it is edited as ever."""
    clean = logits(qwen, [5, 6, 7])
    for scope in (at([[9]]), at([[-1]]), since([3]), when_last_is([50])):
        with pytest.raises(InstrumentError, match="never fired"), ablate_heads(qwen, [(0, 0)], scope=scope):
            logits(qwen, [5, 6, 7])
        with ablate_heads(qwen, [(0, 0)], scope=maybe(scope)) as edit:
            assert torch.equal(logits(qwen, [5, 6, 7]), clean)
        edit.require(0)
    with ablate_heads(qwen, [(0, 0)], scope=maybe(at([[2, 9]]))) as edit:
        logits(qwen, [5, 6, 7])
    edit.require(1)


def test_layers_that_are_passed_by(qwen):
    """An edited module that the model does not call is an error, not an ablation without effect."""
    layer, block = qwen.anatomy.layers[1], ablate_heads(qwen, [(0, 0), (1, 0)])
    block.__enter__()
    layer.forward = lambda hidden_states, *args, **kwargs: hidden_states
    try:
        logits(qwen, [5, 6, 7])
        with pytest.raises(InstrumentError, match="layer 1 never ran"):
            block.__exit__(None, None, None)
    finally:
        del layer.forward


def test_a_part_called_by_itself(qwen):
    """Its positions are not known."""
    hidden = torch.zeros(1, 3, D_MODEL)
    with ablate_heads(qwen, [(0, 0)]), pytest.raises(MechinterpError, match="called by itself"):
        qwen.anatomy.o_proj(0)(torch.zeros(1, 3, D_MODEL))
    with ablate_heads(qwen, [(0, 0)]), steer(qwen, 0, torch.ones(D_MODEL)):
        logits(qwen, [5, 6, 7])
        with pytest.raises(MechinterpError, match="called by itself"):
            qwen.anatomy.o_proj(0)(hidden)


# What the model is called with.


def test_embeddings(qwen):
    """Given as embeddings a text is edited as given as tokens."""
    ids = torch.tensor([[5, 6, 7, 8]])
    embedded = qwen.model.get_input_embeddings()(ids)
    with torch.no_grad(), ablate_heads(qwen, [(1, 1)], scope=at([[2]])):
        torch.testing.assert_close(qwen.model(inputs_embeds=embedded).logits, qwen.model(ids).logits, **close)
    with pytest.raises(MechinterpError, match="embeddings"), ablate_heads(qwen, [(1, 1)], scope=when_last_is([8])):
        qwen.model(inputs_embeds=embedded)


def test_called_by_position(qwen):
    """Arguments by position are read as by name."""
    ids, mask = torch.tensor([[0, 5, 6, 7]]), torch.tensor([[0, 1, 1, 1]])
    with torch.no_grad(), steer(qwen, 0, torch.ones(D_MODEL), scope=at([[0]])) as edit:
        by_position = qwen.model.model(ids, mask).last_hidden_state
        by_name = qwen.model.model(input_ids=ids, attention_mask=mask).last_hidden_state
    assert torch.equal(by_position, by_name)
    edit.require(2)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"attention_mask": torch.zeros(1, 1, 4, 4)}, "4-D"),
        ({"attention_mask": torch.tensor([[0.0, 0.0, float("-inf"), 0.0]])}, "ones for tokens"),
        ({"attention_mask": torch.tensor([[1, 1, 2, 2]])}, "ones for tokens"),
        ({"attention_mask": torch.ones(2, 4)}, "2 rows and 4 columns"),
        ({"position_ids": torch.tensor([[0, 1, 0, 1]])}, "one text a row"),
        ({"position_ids": torch.tensor([[0, 1, 2, 2]])}, "one text a row"),
        ({"position_ids": torch.arange(3)[None]}, "one for each token"),
    ],
)
def test_refused_calls(qwen, call, says):
    """Masks and positions that do not say which token is which."""
    ids = torch.tensor([[5, 6, 7, 8]])
    with ablate_heads(qwen, [(0, 0)]), pytest.raises(MechinterpError, match=says) as caught:
        qwen.model(ids, **call)
    assert "\n" not in str(caught.value)


def test_shifted_positions(qwen):
    """Positions that begin elsewhere change nothing of which token is which, and padding's do not matter."""
    ids, mask = torch.tensor([[0, 5, 6, 7]]), torch.tensor([[0, 1, 1, 1]])
    for ids_given in (torch.tensor([[9, 0, 1, 2]]), torch.tensor([[0, 1, 2, 3]]), torch.arange(3, 7)[None]):
        with torch.no_grad(), steer(qwen, 0, torch.ones(D_MODEL), scope=at([[2]])) as edit:
            qwen.model(ids, attention_mask=mask, position_ids=ids_given)
        edit.require(1)


# Scopes of one's own.


@pytest.mark.parametrize(
    ("scope", "says"),
    [
        (lambda now: now.positions >= 0, "bool"),
        (lambda now: now.positions[:, -1:], r"\(1, 1\)"),
        (lambda now: now.positions.float(), "float32"),
        (lambda now: None, "NoneType"),
    ],
)
def test_scopes_that_say_nothing(qwen, scope, says):
    """A mask of truth values would edit everywhere: both of them are 0 or more."""
    with ablate_heads(qwen, [(0, 0)], scope=scope), pytest.raises(MechinterpError, match=f"whole numbers.*{says}"):
        logits(qwen, [5, 6, 7])
    with pytest.raises(MechinterpError, match=f"whole numbers.*{says}"):
        sweep(qwen, [[5, 6, 7]], [AblateHeads([(0, 0)])], log_odds(5, 6), scope=scope)


def own(now):
    """Slot 1 at the first token, slot 0 at the last."""
    slots = torch.full_like(now.positions, -1)
    slots[now.positions == 0] = 1
    return torch.where(last(now) >= 0, 0, slots)


def test_own_scopes(qwen):
    """They are edited as `at` would, slot by slot; padding is left alone whatever they say."""
    values = {0: torch.randn(2, 2, HEADS, D_HEAD, generator=torch.Generator().manual_seed(0))}
    texts = [[5, 6, 7], [8, 9, 10]]
    for one in (AblateHeads([(0, 1)]), AblateHeads([(0, 1)], values)):
        with one.on(qwen, own):
            mine = logits(qwen, *texts)
        with one.on(qwen, at([[2, 0]] * 2)):
            assert torch.equal(mine, logits(qwen, *texts))
        swept = sweep(qwen, texts, [one], log_odds(5, 6), scope=own)[:, 0]
        torch.testing.assert_close(swept, (mine[:, -1, 5] - mine[:, -1, 6]).double(), **close)
    with ablate_heads(qwen, [(0, 0)], scope=lambda now: torch.zeros_like(now.positions)) as edit:
        run(qwen, laid_out([[5, 6], [7]], [1, 3]), [0, WIDTH])
    edit.require(3)


def test_a_slot_is_for_one_position(qwen):
    """A scope that puts one slot at several positions gets no values slot by slot."""
    one = AblateHeads([(0, 1)], {0: torch.zeros(1, 2, HEADS, D_HEAD)})
    everything = lambda now: torch.zeros_like(now.positions)  # noqa: E731
    with one.on(qwen, everything), pytest.raises(MechinterpError, match="several positions"):
        logits(qwen, [5, 6, 7])
    with pytest.raises(MechinterpError, match="several positions"):
        sweep(qwen, [[5, 6, 7]], [one], log_odds(5, 6), scope=everything)


@pytest.mark.parametrize(
    ("scope", "slots", "says"),
    [
        (everywhere, 3, "everywhere does not say"),
        (everywhere, 1, "everywhere does not say"),
        (since([0]), 3, "since does not say"),
        (last, 3, "last does not say"),
        (when_last_is([7]), 3, "when_last_is does not say"),
        (maybe(everywhere), 3, "everywhere does not say"),
        (at([[0, 1]]), 3, r"3 slots.*\(1, 2\)"),
        (at([[0, 1, 2, 2]]), 3, r"3 slots.*\(1, 4\)"),
        (at([[0, 1, 2], [0, 1, 2]]), 3, r"1 rows.*\(2, 3\)"),
        (at([[1, 1, 2]]), 3, "named twice in a row, with different values"),
    ],
)
def test_slots_that_do_not_fit(qwen, scope, slots, says):
    """Refused by every way of editing, before anything is run."""
    values = {0: torch.randn(1, slots, HEADS, D_HEAD, generator=torch.Generator().manual_seed(0))}
    one, text = AblateHeads([(0, 1)], values), [5, 6, 7]
    with pytest.raises(MechinterpError, match=says), one.on(qwen, scope):
        pass
    if "2 rows" in says or r"\(2, 3\)" in says:
        return  # a scope for other prompts
    with pytest.raises(MechinterpError, match=says):
        sweep(qwen, [text], [one], log_odds(5, 6), scope=scope)
    with pytest.raises(MechinterpError, match=says):
        generate(qwen, [text], [one], scope=scope, max_new_tokens=2)


def test_one_slot_at_the_last_token(qwen):
    """`last` is one position a row: values of one slot go there."""
    values = {0: torch.randn(2, 1, HEADS, D_HEAD, generator=torch.Generator().manual_seed(0))}
    texts = [[5, 6, 7], [8, 9, 10]]
    with ablate_heads(qwen, [(0, 1)], values=values, scope=last):
        mine = logits(qwen, *texts)
    with ablate_heads(qwen, [(0, 1)], values=values, scope=at([[2], [2]])):
        assert torch.equal(mine, logits(qwen, *texts))


def test_positions_twice_with_one_value(qwen):
    """Both slots say the same, so it is clear what is meant."""
    texts, twice, once = [[5, 6, 7]], at([[1, 1]]), at([[1]])
    with capture(qwen, [[2, 2]], heads=[0]) as seen:
        logits(qwen, *texts)
    with ablate_heads(qwen, [(0, 1)], values=seen.heads, scope=twice) as edit:
        mine = logits(qwen, *texts)
    edit.require(1)
    with ablate_heads(qwen, [(0, 1)], values={0: seen.heads[0][:, :1]}, scope=once):
        assert torch.equal(mine, logits(qwen, *texts))


# Generation and sweeps.


def test_generation_that_never_gets_there(qwen):
    """A position that no text can reach is refused; an intervention that fired in no text is an error."""
    prompts, chosen = [[5, 6, 7], [5, 6]], [None, AblateHeads([(0, 0)])]
    with pytest.raises(MechinterpError, match="position 4 of prompt 1, which has 2 tokens and grows by 2 at most"):
        generate(qwen, prompts, chosen, scope=at([[4], [4]]), max_new_tokens=3, stop=[])
    made = generate(qwen, prompts, chosen, scope=at([[4], [3]]), max_new_tokens=3, stop=[])
    assert all(len(text) == 3 for texts in made for text in texts)
    with pytest.raises(InstrumentError, match="intervention 1 never fired"):
        generate(qwen, prompts, chosen, scope=when_last_is([96]), max_new_tokens=2)
    made = generate(qwen, prompts, chosen, scope=maybe(when_last_is([96])), max_new_tokens=2)
    assert all(clean == edited for clean, edited in made)


def test_positions_beyond_a_prompt(qwen):
    """In a sweep nothing follows a prompt."""
    prompts, chosen = [[5, 6, 7], [5, 6]], [AblateHeads([(0, 0)])]
    with pytest.raises(MechinterpError, match="position 2 of prompt 1, which has 2 tokens"):
        sweep(qwen, prompts, chosen, log_odds(5, 6), scope=at([[2, 1], [1, 2]]))
    swept = sweep(qwen, prompts, chosen, log_odds(5, 6), scope=maybe(at([[2, 1], [1, 2]])))
    filled = sweep(qwen, prompts, chosen, log_odds(5, 6), scope=at([[2, 1], [1, -1]]))
    assert torch.equal(swept, filled)
