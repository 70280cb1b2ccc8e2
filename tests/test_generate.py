"""Many continuations at once are those that `generate` of transformers writes one intervention at a time."""

from contextlib import ExitStack

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechinterp import (
    AblateHeads,
    AblateNeurons,
    MechinterpError,
    Steer,
    at,
    everywhere,
    generate,
    last,
    maybe,
    pad,
    since,
    when_last_is,
)
from mechinterp.interventions import parts
from tests.conftest import VOCAB, tiny_subject

LENGTHS = (5, 8, 5, 11)
STOP = [*range(40, 52)]  # an eighth of the vocabulary, so that rows stop at different steps
NEW = 12
AT = [[4, 6, 7], [7, 8, 9], [0, 5, 6], [10, 11, 13]]


@pytest.fixture(scope="module")
def prompts():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]


def one_by_one(subject, prompts, interventions, scope, stop=STOP):
    """By prompt and intervention; a prompt of its own batch, so that scopes with rows are cut to it by the caller."""
    batch = pad(subject, prompts)
    texts = [[] for _ in prompts]
    for one in interventions:
        with ExitStack() as stack:
            for part in parts(one):
                stack.enter_context(part.on(subject, maybe(scope)))  # a text may end before
            made = subject.model.generate(
                **batch.for_generate(), do_sample=False, max_new_tokens=NEW, eos_token_id=stop, pad_token_id=0
            )
        for text, row in zip(texts, made[:, batch.input_ids.shape[1] :].tolist(), strict=True):
            ended = next((i + 1 for i, token in enumerate(row) if token in stop), len(row))
            text.append(row[:ended])
    return texts


heads = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=5)
neurons = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 47)), min_size=1, max_size=9)
interventions = st.one_of(
    st.none(),
    st.builds(AblateHeads, heads),
    st.builds(AblateNeurons, neurons),
    st.builds(lambda layer, by: Steer(layer, by * torch.linspace(-1, 1, 32)), st.integers(0, 2), st.floats(-3, 3)),
)
scopes = st.sampled_from([
    everywhere, last, since([4, 7, 4, 10]), since([9, 12, 6, 11]), since([0, 3, 2, 8]),
    at(AT), when_last_is(range(20, 60)),
])  # fmt: skip


@settings(max_examples=15)
@given(chosen=st.lists(interventions, min_size=1, max_size=5), scope=scopes, max_rows=st.sampled_from([None, 1, 3, 7]))
def test_one_by_one(tiny, prompts, chosen, scope, max_rows):
    """In any portions, though rows stop at different steps and leave."""
    made = generate(tiny, prompts, chosen, scope=scope, max_new_tokens=NEW, stop=STOP, max_rows=max_rows)
    assert made == one_by_one(tiny, prompts, chosen, scope)


@settings(max_examples=10)
@given(
    chosen=st.lists(st.tuples(heads, neurons, st.integers(0, 9), st.booleans()), min_size=1, max_size=4),
    max_rows=st.sampled_from([None, 1, 3, 7]),
)
def test_values_and_tuples(qwen, prompts, chosen, max_rows):
    """Slot by slot, in the prompts and in what is written, several interventions at once."""
    made = []
    for some_heads, some_neurons, seed, both in chosen:
        generator = torch.Generator().manual_seed(seed)
        of_heads = {layer: torch.randn(4, 3, 4, 8, generator=generator) for layer, _ in some_heads}
        of_neurons = {layer: torch.randn(48, generator=generator) for layer, _ in some_neurons}
        one = AblateHeads(some_heads, of_heads)
        made.append((one, AblateNeurons(some_neurons, of_neurons), Steer(1, torch.ones(32))) if both else one)
    found = generate(qwen, prompts, made, scope=at(AT), max_new_tokens=NEW, stop=STOP, max_rows=max_rows)
    assert found == one_by_one(qwen, prompts, made, at(AT))


def test_stopped_rows_leave(qwen, prompts):
    """No row is run after its end but for the few that wait for others."""
    rows = []
    handle = qwen.anatomy.layers[0].register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    chosen = [None, *(AblateHeads([(layer, head)]) for layer in range(3) for head in range(4))]
    made = generate(qwen, prompts, chosen, scope=last, max_new_tokens=NEW, stop=STOP)
    handle.remove()
    needed = [sum(len(text) > step for texts in made for text in texts) for step in range(NEW)]
    steps = rows[1:]  # after the shared prefix
    assert len(steps) == next((i for i, n in enumerate(needed) if n == 0), NEW)
    assert all(n <= r <= n / (1 - 1 / 8) + 1 for n, r in zip(needed[: len(steps)], steps, strict=True))
    assert steps[-1] < steps[0]


@pytest.mark.parametrize("named", ["tokenizer", "config", "generation_config"])
def test_every_end_token(prompts, named):
    """A text ends at whatever end token the tokenizer, the configuration or the generation configuration names."""
    subject = tiny_subject("qwen2")
    (whole,) = generate(subject, prompts[:1], [None], scope=last, max_new_tokens=NEW, stop=[])[0]
    ends = whole[3]
    if named == "tokenizer":
        subject.tokenizer.eos_token = f"w{ends}"
    else:
        getattr(subject.model, named).eos_token_id = [2, ends]
    (text,) = generate(subject, prompts[:1], [None], scope=last, max_new_tokens=NEW)[0]
    assert text == whole[: whole.index(ends) + 1]


def test_sampling(qwen, prompts):
    """Seeded, in portions as in one batch, with the same chances under every intervention."""
    chosen = [None, None, AblateHeads([(0, 1)])]

    def sample(**more):
        return generate(qwen, prompts, chosen, scope=last, max_new_tokens=NEW, temperature=1.0, **more)

    made = sample(seed=3)
    assert made == sample(seed=3, max_rows=2)
    assert made != sample(seed=4)
    assert all(first == second for first, second, _ in made)
    assert any(first != third for first, _, third in made)


def test_sampled_frequencies(qwen, prompts):
    """Tokens come as often as their probabilities say."""
    n = 4000
    made = generate(qwen, [prompts[0]] * n, [None], scope=last, max_new_tokens=1, temperature=0.7)
    drawn = torch.bincount(torch.tensor([text[0][0] for text in made]), minlength=VOCAB) / n
    logits = qwen.model(**pad(qwen, [prompts[0]]).inputs()).logits[0, -1]
    expected = (logits / 0.7).softmax(-1)
    assert ((drawn - expected).abs() < 5 * (expected * (1 - expected) / n).sqrt() + 1e-3).all()


@pytest.mark.parametrize(
    ("chosen", "more", "says"),
    [
        ([], {}, "0 interventions"),
        ([None], {"max_new_tokens": 0}, "max_new_tokens: expected a whole number of 1 or more"),
        ([AblateHeads([(7, 0)])], {}, "layer 7"),
    ],
)
def test_bad_input(qwen, prompts, chosen, more, says):
    with pytest.raises(MechinterpError, match=says):
        generate(qwen, prompts, chosen, **{"scope": last, "max_new_tokens": 1, **more})


def test_not_inside_a_block(qwen, prompts):
    with AblateHeads([(0, 0)]).on(qwen), pytest.raises(MechinterpError, match="inside a `with` block"):
        generate(qwen, prompts, [None], scope=last, max_new_tokens=1)
