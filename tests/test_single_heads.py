"""Each head off alone, and nothing but some heads, against one full pass under each edit."""

import pytest
import torch

from mechinterp import (
    AblateHeads,
    MechinterpError,
    Metric,
    at,
    capture,
    circuit_only,
    last,
    last_logits,
    log_odds,
    mean_heads,
    other_heads,
    pad,
    prepare,
    single_heads,
    sweep,
    under,
)
from mechinterp.single_heads import SingleHeads
from tests.conftest import VOCAB

close = {"rtol": 0, "atol": 1e-4}
LENGTHS = (9, 12, 7)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in LENGTHS]


@pytest.fixture(scope="module")
def corrupted(prompts) -> list[list[int]]:
    """The same, two tokens exchanged for others; all end in the same tokens as their partner."""
    return [
        [*prompt[:3], (prompt[3] + 7) % 90 + 4, *prompt[4:5], (prompt[5] + 9) % 90 + 4, *prompt[6:]]
        for prompt in prompts
    ]


def odds(subject, prompts) -> torch.Tensor:
    logits = last_logits(subject, pad(subject, prompts)).double()
    return logits[:, 5] - logits[:, 6]


def z_of(subject, prompts, positions):
    layers = range(subject.anatomy.n_layers)
    with capture(subject, positions, heads=layers, neurons=layers) as seen:
        last_logits(subject, pad(subject, prompts))
    return seen


@pytest.mark.parametrize("by", ["zero", "mean", "resample"])
def test_naive_loop(tiny, prompts, corrupted, by):
    """The loss without a head is that of a full pass without it, for every head, however it is replaced."""
    places = [[n - 1, n - 2] for n in LENGTHS]
    values = {"zero": None, "mean": mean_heads(tiny, prompts), "resample": z_of(tiny, corrupted, places).heads}[by]
    found = single_heads(prepare(tiny, prompts, scope=at(places)), log_odds(5, 6), values=values)
    clean = odds(tiny, prompts)
    torch.testing.assert_close(found.clean, clean, **close)
    for layer, head in other_heads(tiny, []):
        with AblateHeads([(layer, head)], values).on(tiny, at(places)):
            torch.testing.assert_close(found.effects[:, layer, head], clean - odds(tiny, prompts), **close)


def test_summary():
    """Necessity is the mean loss over the mean gap, and heads are ranked by it, equal ones in the model's order."""
    clean, without = torch.tensor([2.0, 4.0]), torch.tensor([[[2.0, 1.0], [0.0, 2.0]], [[4.0, 4.0], [4.0, 3.0]]])
    found = SingleHeads(clean, without)
    torch.testing.assert_close(found.necessity(), torch.tensor([[0, 0.5], [1, 0.5]]).double())
    torch.testing.assert_close(found.necessity([1.0, 3.0]), torch.tensor([[0, 0.25], [0.5, 0.25]]).double())
    assert found.ranked() == [(1, 0), (0, 1), (1, 1), (0, 0)]
    assert found.ranked(1) == [(1, 0)]
    for gap in ([1.0], [1.0, -1.0], [[1.0, 1.0]]):
        with pytest.raises(MechinterpError, match="necessity: gap"):
            found.necessity(gap)


def test_only_some_prompts(qwen, prompts):
    """Of some prompts, the rows of all."""
    prepared = prepare(qwen, prompts, scope=last)
    every, some = (single_heads(prepared, log_odds(5, 6), only=only) for only in (None, [2, 0]))
    torch.testing.assert_close(some.without, every.without[[2, 0]], **close)


def test_one_number_a_prompt(qwen, prompts):
    """A metric of several numbers has no single loss."""
    with pytest.raises(MechinterpError, match="one number a prompt, got 2"):
        single_heads(prepare(qwen, prompts, scope=last), Metric(lambda read: read.logits([5, 6])))
    with pytest.raises(MechinterpError, match="expected prepared prompts"):
        single_heads(prompts, log_odds(5, 6))


# Circuits.


def by_hand(subject, prompts, z, spared, neurons=None) -> torch.Tensor:
    """One prompt after the other, o_proj (and down_proj) read what hooks of our own put there, at all positions."""
    anatomy, found = subject.anatomy, []
    for row, prompt in enumerate(prompts):
        handles = []
        for layer in range(anatomy.n_layers):

            def put(module, args, layer=layer, row=row):
                new = z[layer][row, : args[0].shape[1]].clone()  # (n, n_heads, d_head)
                for head in range(anatomy.n_heads):
                    if (layer, head) in spared:
                        new[:, head] = args[0][0].unflatten(-1, (anatomy.n_heads, -1))[:, head]
                return (new.flatten(1)[None],)

            handles.append(anatomy.o_proj(layer).register_forward_pre_hook(put))
            if neurons is not None:

                def other(module, args, layer=layer, row=row):
                    return (neurons[layer][row, : args[0].shape[1]][None],)

                handles.append(anatomy.down_proj(layer).register_forward_pre_hook(other))
        with torch.no_grad():
            logits = subject.model(torch.tensor([prompt])).logits[0, -1].double()
        found.append(logits[5] - logits[6])
        for handle in handles:
            handle.remove()
    return torch.stack(found)


@pytest.mark.parametrize("with_neurons", [False, True])
def test_circuit_only(tiny, prompts, corrupted, with_neurons):
    """In a block and in a sweep it is a pass in which hooks put the other run's outputs everywhere else."""
    places = [[*range(n), *[-1] * (12 - n)] for n in LENGTHS]
    other, circuit = z_of(tiny, corrupted, places), [(0, 1), (1, 2), (2, 3)]
    neurons = other.neurons if with_neurons else None
    one = circuit_only(tiny, circuit, other.heads, neurons=neurons)
    wanted = by_hand(tiny, prompts, other.heads, circuit, neurons)
    with under(tiny, one, at(places)) as edits:
        torch.testing.assert_close(odds(tiny, prompts), wanted, **close)
    assert [sum(edit.positions.values()) for edit in edits] == [3 * sum(LENGTHS)] * len(edits)
    swept = sweep(tiny, prompts, [one, None], log_odds(5, 6), scope=at(places))
    torch.testing.assert_close(swept[:, 0], wanted, **close)
    assert not torch.allclose(swept[:, 0], swept[:, 1], atol=1e-2)


def test_nothing_left(tiny, prompts, corrupted):
    """With no head left and the MLPs exchanged too, a prompt reads as the other one, whose last token it shares."""
    places = [[*range(n), *[-1] * (12 - n)] for n in LENGTHS]
    other = z_of(tiny, corrupted, places)
    one = circuit_only(tiny, [], other.heads, neurons=other.neurons)
    swept = sweep(tiny, prompts, [one], log_odds(5, 6), scope=at(places))[:, 0]
    torch.testing.assert_close(swept, odds(tiny, corrupted), **close)


def test_all_heads(qwen):
    """With all heads spared there is nothing to replace, which is refused; a head that is not there, too."""
    every = other_heads(qwen, [])
    assert len(every) == 12
    assert other_heads(qwen, every[1:]) == [(0, 0)]
    with pytest.raises(MechinterpError, match="nothing would be replaced"):
        circuit_only(qwen, every, {})
    with pytest.raises(MechinterpError, match="head 4 of layer 0"):
        other_heads(qwen, [(0, 4)])


def test_under_undoes_itself(qwen, prompts):
    """After the block, and after one that failed, the model is as before; None is the clean run."""
    clean = odds(qwen, prompts)
    with under(qwen, None) as edits:
        assert edits == []
        assert torch.equal(odds(qwen, prompts), clean)
    both = (AblateHeads([(0, 1)]), AblateHeads([(2, 1)]))
    with pytest.raises(KeyboardInterrupt), under(qwen, both):
        raise KeyboardInterrupt
    assert torch.equal(odds(qwen, prompts), clean)
