"""Where scopes select: with padding, without, and over the steps of a KV cache."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache

from mechinterp import MechinterpError, Pass, Subject, at, everywhere, last, maybe, pad, since, when_last_is
from mechinterp.passes import watch_passes

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=4)


def tokens_of(lengths: list[int]) -> list[list[int]]:
    return [[4 + row * 10 + i for i in range(n)] for row, n in enumerate(lengths)]


@torch.no_grad()
def passes(subject: Subject, sequences: list[list[int]], cuts: tuple[int, ...] = ()) -> list[Pass]:
    """What the model sees when a padded batch is run in pieces, cut at these columns, under a KV cache."""
    batch, cache = pad(subject, sequences), DynamicCache(config=subject.model.config)
    width, seen = batch.input_ids.shape[1], []
    bounds = [0, *sorted(cut for cut in set(cuts) if 0 < cut < width), width]
    with watch_passes(subject) as watch:
        for start, stop in pairwise(bounds):
            subject.model.model(
                input_ids=batch.input_ids[:, start:stop],
                attention_mask=batch.attention_mask[:, :stop],
                position_ids=batch.position_ids[:, start:stop],
                past_key_values=cache,
                use_cache=True,
            )
            seen.append(watch.current)
    return seen


def row_by_row(slots: torch.Tensor, lengths: list[int]) -> list[list[int]]:
    """Slots (B, T) without their padding; nothing may be selected there."""
    width = slots.shape[1]
    assert all((slots[row, : width - n] == -1).all() for row, n in enumerate(lengths))
    return [slots[row, width - n :].tolist() for row, n in enumerate(lengths)]


@given(lengths=lengths, cuts=st.lists(st.integers(1, 8), max_size=3))
def test_positions_count_from_the_first_real_token(qwen, lengths, cuts):
    """A position is a token's index in its own row, however the row is padded and cut into passes."""
    seen = passes(qwen, tokens_of(lengths), tuple(cuts))
    positions = torch.cat([now.positions for now in seen], dim=1)
    width = max(lengths)
    for row, n in enumerate(lengths):
        assert positions[row].tolist() == [-1] * (width - n) + list(range(n))
        assert seen[-1].first[row] == width - n


@given(lengths=lengths)
def test_everywhere_and_last(qwen, lengths):
    """Everywhere is every real token and last the last of each row; padding belongs to neither."""
    (now,) = passes(qwen, tokens_of(lengths))
    assert row_by_row(everywhere(now), lengths) == [[0] * n for n in lengths]
    assert row_by_row(last(now), lengths) == [[-1] * (n - 1) + [0] for n in lengths]


@given(data=st.data(), lengths=lengths, cuts=st.lists(st.integers(1, 8), max_size=3))
def test_at_and_since(qwen, data, lengths, cuts):
    """At selects exactly the given tokens, by slot, and since exactly the rest of a row, however it is cut."""
    wanted = [data.draw(st.permutations(range(-1, 10)))[:3] for _ in lengths]
    starts = [data.draw(st.integers(0, 10)) for _ in lengths]
    seen = passes(qwen, tokens_of(lengths), tuple(cuts))
    given_at = row_by_row(torch.cat([at(wanted)(now) for now in seen], dim=1), lengths)
    given_since = row_by_row(torch.cat([since(starts)(now) for now in seen], dim=1), lengths)
    for row, n in enumerate(lengths):
        assert given_at[row] == [wanted[row].index(p) if p in wanted[row] else -1 for p in range(n)]
        assert given_since[row] == [0 if p >= starts[row] else -1 for p in range(n)]


def test_decode_steps(qwen):
    """On a decode step, of one column, last and everywhere are the new token, and at and since know its position."""
    sequences = tokens_of([6, 4])  # of columns 0 to 5; positions of the last column: 5 and 3
    prefix, step = passes(qwen, sequences, (5,))
    for scope, first, second in (
        (everywhere, [[0] * 5, [-1, -1, 0, 0, 0]], [[0], [0]]),
        (last, [[-1, -1, -1, -1, 0]] * 2, [[0], [0]]),
        (at([[5], [2]]), [[-1] * 5, [-1, -1, -1, -1, 0]], [[0], [-1]]),
        (since([5, 4]), [[-1] * 5] * 2, [[0], [-1]]),
        (when_last_is({sequences[0][5]}), [[-1] * 5] * 2, [[0], [-1]]),
        (when_last_is({sequences[1][2]}), [[-1] * 5, [-1, -1, 0, 0, 0]], [[-1], [-1]]),
    ):
        assert scope(prefix).tolist() == first
        assert scope(step).tolist() == second


def test_generate_goes_on_counting(qwen, sequences):
    """Under generate every step has the position after the one before, in every row of a padded batch."""
    seen = []
    with watch_passes(qwen) as watch:
        handle = qwen.model.model.register_forward_pre_hook(lambda *_: seen.append(watch.current.positions[:, -1]))
        batch = pad(qwen, sequences)
        qwen.model.generate(**batch.for_generate(), max_new_tokens=4, min_new_tokens=4, do_sample=False)
        handle.remove()
    lengths = torch.tensor([len(s) for s in sequences])
    assert [row.tolist() for row in seen] == [(lengths - 1 + step).tolist() for step in range(4)]


def test_pad(qwen, sequences):
    """The position that the model rotates a token by is the one that scopes count; absolute ones would need it too."""
    batch = pad(qwen, sequences)
    (now,) = passes(qwen, sequences)
    assert torch.equal(batch.position_ids, now.positions.clamp(min=0))
    assert torch.equal(batch.attention_mask, (now.positions >= 0).long())


def test_no_mask_is_no_padding(qwen):
    """Without an attention mask every token is real."""
    with watch_passes(qwen) as watch, torch.no_grad():
        qwen.model(torch.tensor([[5, 6, 7]]))
    assert watch.current.positions.tolist() == [[0, 1, 2]]


def test_padding_alone():
    """A row of nothing but padding is never selected."""
    now = Pass(torch.tensor([[-1, -1], [0, 1]]), torch.tensor([0, 0]), torch.tensor([[5, 5], [5, 5]]))
    for scope in (everywhere, last, at([[-1], [-1]]), since([0, 9]), when_last_is({5})):
        assert (scope(now)[0] == -1).all()


def test_padding_is_no_token():
    """A row that is padded on the right does not end with its padding, whatever token that is made of."""
    now = Pass(torch.tensor([[0, 1, -1], [0, 1, 2]]), torch.tensor([0, 0]), torch.tensor([[5, 6, 0], [5, 6, 0]]))
    assert when_last_is({0})(now).tolist() == [[-1, -1, -1], [0, 0, 0]]
    assert when_last_is({6})(now).tolist() == [[0, 0, -1], [-1, -1, -1]]
    assert last(now).tolist() == [[-1, 0, -1], [-1, -1, 0]]


def test_watching_ends(qwen):
    """After the block, and after an error inside, the model is no longer watched."""
    before = len(qwen.model.model._forward_pre_hooks)
    with pytest.raises(RuntimeError), watch_passes(qwen):
        raise RuntimeError
    assert len(qwen.model.model._forward_pre_hooks) == before


TWO_ROWS = Pass(torch.tensor([[0, 1, 2], [-1, 0, 1]]), torch.tensor([0, 1]), torch.tensor([[5, 6, 7], [0, 5, 6]]))


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: at([1, 2]), r"at\(positions\).*\(rows, k\).*\(2,\)"),
        (lambda: at([[0.5]]), r"whole numbers.*float64"),
        (lambda: at([[1], [-2]]), "-2.*counted from a row's first token"),
        (lambda: at([[], []]), "no positions were given"),
        (lambda: at([]), "whole numbers"),
        (lambda: at([[2**70]]), "whole numbers"),
        (lambda: at("ab"), "whole numbers"),
        (lambda: since([3, -1]), "-1.*counted from a row's first token"),
        (lambda: maybe([1]), r"scope: expected one such as.*\[1\]"),
        (lambda: when_last_is(["x"]), "whole numbers"),
        (lambda: at([[True, False]]), r"whole numbers.*bool"),
        (lambda: at([[1], [2, 3]]), "as many in every row"),
        (lambda: at([[1]])(TWO_ROWS), "1 rows of positions for a pass of 2 rows"),
        (lambda: since(3), r"since\(starts\).*\(rows\)"),
        (lambda: since([[1], [2]]), r"since\(starts\).*\(2, 1\)"),
        (lambda: since([1.0, 2.0]), "whole numbers"),
        (lambda: since([1])(TWO_ROWS), "1 starts for a pass of 2 rows"),
        (lambda: since([1, 2, 3])(TWO_ROWS), "3 starts for a pass of 2 rows"),
        (lambda: when_last_is([]), "no tokens"),
        (lambda: when_last_is([5])(Pass(TWO_ROWS.positions, TWO_ROWS.first, None)), "embeddings"),
    ],
)
def test_bad_scopes(make, names):
    """A scope that fits no pass is refused in one line that says what was given."""
    with pytest.raises(MechinterpError, match=names) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_bad_masks(qwen):
    """A mask that hides the padding, or leaves out the cached columns, is refused: positions would be wrong."""
    ids = torch.tensor([[5, 6, 7]])
    cache = DynamicCache(config=qwen.model.config)
    with watch_passes(qwen), torch.no_grad():
        with pytest.raises(MechinterpError, match="4-D"):
            qwen.model(ids, attention_mask=torch.zeros(1, 1, 3, 3))
        qwen.model(ids, past_key_values=cache)
        with pytest.raises(MechinterpError, match=r"3 columns.*3 cached and 3 new"):
            qwen.model(ids, attention_mask=torch.ones(1, 3), past_key_values=cache)
