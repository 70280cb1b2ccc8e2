"""What training has moved, component by component, against loops written out by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechinterp import MechinterpError, Subject, weight_changes
from mechinterp.weights import KINDS, PARTS_OF_LAYERS, PARTS_OF_NEURONS
from tests.conftest import tiny_subject

ROWS = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}


def moved(subject: Subject, by: float = 0.1, seed: int = 1) -> Subject:
    """A copy whose every weight has moved by random numbers."""
    model, generator = copy.deepcopy(subject.model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)
    return Subject.of(model, subject.tokenizer, "moved")


def by_hand(subject: Subject, layer: int, kind: str, number: int) -> torch.Tensor:
    """The weights of one head (or group of heads), neuron or norm, sliced from the matrix."""
    anatomy = subject.anatomy
    attention, mlp, d = anatomy.attention(layer), anatomy.mlp(layer), anatomy.d_head
    part, _, bias = kind.partition(" ")
    if kind in PARTS_OF_LAYERS:
        return {"attention norm": anatomy.attention_norm, "mlp norm": anatomy.mlp_norm}[kind](layer).weight
    if kind == "value vector":
        return mlp.down_proj.weight[:, number]
    if part in ("gate", "up"):
        return getattr(mlp, f"{part}_proj").weight[number]
    if part == "output":
        return attention.o_proj.weight[:, number * d : (number + 1) * d]
    module = getattr(attention, ROWS[part])
    return (module.bias if bias else module.weight)[number * d : (number + 1) * d]


@pytest.mark.parametrize("kind", KINDS)
def test_naive_loop(tiny, kind):
    """Each component's distance, cosine and norms are those of its slice alone, in every family."""
    other = moved(tiny)
    if kind.endswith("bias") and tiny.anatomy.attention(0).q_proj.bias is None:
        with pytest.raises(MechinterpError, match=f"has no {kind}"):
            weight_changes(other, tiny, kind)
        return
    found = weight_changes(other, tiny, kind)
    anatomy = tiny.anatomy
    units = {"key": anatomy.n_kv_heads, "value": anatomy.n_kv_heads}.get(kind.partition(" ")[0], anatomy.n_heads)
    units = anatomy.d_mlp if kind in PARTS_OF_NEURONS else 1 if kind in PARTS_OF_LAYERS else units
    assert found.distance.shape == found.cosine.shape == (anatomy.n_layers, units)
    for layer in range(anatomy.n_layers):
        for number in {0, units // 2, units - 1}:
            ours, theirs = (by_hand(one, layer, kind, number).detach().flatten().double() for one in (other, tiny))
            assert float(found.distance[layer, number]) == pytest.approx(
                float((ours - theirs).norm() / theirs.norm()), rel=1e-5
            )
            assert float(found.cosine[layer, number]) == pytest.approx(
                float(torch.cosine_similarity(ours, theirs, dim=0)), rel=1e-4
            )
            assert float(found.norm[layer, number]) == pytest.approx(float(ours.norm()), rel=1e-5)
            assert float(found.reference_norm[layer, number]) == pytest.approx(float(theirs.norm()), rel=1e-5)


def test_one_component_moves(qwen):
    """Only the slice that was changed has a distance, and it stands above all others."""
    for kind, change in {
        "query": lambda m: m.model.layers[1].self_attn.q_proj.weight[16:24].mul_(1.5),
        "output": lambda m: m.model.layers[1].self_attn.o_proj.weight[:, 16:24].mul_(1.5),
        "value vector": lambda m: m.model.layers[1].mlp.down_proj.weight[:, 2].mul_(1.5),
        "gate": lambda m: m.model.layers[1].mlp.gate_proj.weight[2].mul_(1.5),
    }.items():
        model = copy.deepcopy(qwen.model)
        with torch.no_grad():
            change(model)
        found = weight_changes(Subject.of(model, qwen.tokenizer), qwen, kind)
        assert found.distance.nonzero().tolist() == [[1, 2]]
        assert float(found.distance[1, 2]) == pytest.approx(0.5, rel=1e-5)
        assert float(found.cosine[1, 2]) == pytest.approx(1, abs=1e-6)  # which hides it
        units = found.distance.numel()
        assert found.percentile([(1, 2), (0, 0)]).tolist() == pytest.approx([1 - 0.5 / units, 0.5 - 0.5 / units])


def test_heads_share_keys_and_values(qwen):
    """A query head is told the keys and values of its group: heads 2 and 3 have those of group 1."""
    model = copy.deepcopy(qwen.model)
    with torch.no_grad():
        model.model.layers[2].self_attn.v_proj.weight[8:16] *= 2
    found = weight_changes(Subject.of(model, qwen.tokenizer), qwen, "value")
    assert found.distance.shape == (3, 2)
    assert found.of([(2, 0), (2, 1), (2, 2), (2, 3)]).tolist() == pytest.approx([0, 0, 1, 1])
    assert weight_changes(Subject.of(model, qwen.tokenizer), qwen, "value vector").heads_a_unit == 1


@given(st.lists(st.integers(0, 5), min_size=6, max_size=6))
def test_percentile_is_a_share(sizes):
    """Of all components, those that moved less, and half of those that moved as much."""
    subject = tiny_subject("qwen2", num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2)
    model = copy.deepcopy(subject.model)
    with torch.no_grad():
        for unit, size in enumerate(sizes):
            rows = slice(unit % 2 * 16, unit % 2 * 16 + 16)
            model.model.layers[unit // 2].self_attn.q_proj.weight[rows] *= 1 + size / 8
    found = weight_changes(Subject.of(model, subject.tokenizer), subject, "query")
    every = [(unit // 2, unit % 2) for unit in range(6)]
    wanted = [sum((other < size) + (other == size) / 2 for other in sizes) / 6 for size in sizes]
    distances = found.of(every)
    torch.testing.assert_close(distances, torch.tensor(sizes) / 8, atol=1e-6, rtol=0)
    order = found.percentile(every)
    for one, other in [(a, b) for a in range(6) for b in range(6) if sizes[a] < sizes[b]]:
        assert order[one] < order[other]
    if len(set(sizes)) == 1 and sizes[0] == 0:
        assert order.tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("formats", [(torch.bfloat16, torch.float32), (torch.float32, torch.float16)])
def test_formats_are_compared_in_fp32(qwen, formats):
    """A copy in another number format is as far as its rounding, and a difference far below it is not lost in fp32."""
    ours, theirs = (Subject.of(copy.deepcopy(qwen.model).to(dtype), qwen.tokenizer) for dtype in formats)
    found = weight_changes(ours, theirs, "output")
    assert found.distance.dtype == torch.float32
    assert 0 < float(found.distance.max()) < 2**-8
    near = copy.deepcopy(qwen.model)
    with torch.no_grad():
        near.model.layers[0].self_attn.o_proj.weight *= 1 + 1e-4
    assert float(weight_changes(Subject.of(near, qwen.tokenizer), qwen, "output").distance[0, 0]) == pytest.approx(
        1e-4, rel=0.05
    )


def test_zeros():
    """Zeros beside zeros have not moved; beside something they have moved further than anything."""
    subject = tiny_subject("qwen2")
    with torch.no_grad():
        subject.model.model.layers[0].mlp.down_proj.weight[:, :2] = 0
    model = copy.deepcopy(subject.model)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[:, 1] = 1
    found = weight_changes(Subject.of(model, subject.tokenizer), subject, "value vector")
    assert found.of([(0, 0), (0, 1)]).tolist() == [0, torch.inf]
    assert found.cosine[0, :2].tolist() == [1, 0]
    assert float(found.percentile([(0, 1)])) > 0.99


@pytest.mark.parametrize(
    ("family", "sizes", "says"),
    [
        ("qwen2", {"num_hidden_layers": 2}, "n_layers 3, other has 2"),
        ("qwen2", {"num_key_value_heads": 4}, "n_kv_heads 2, other has 4"),
        ("qwen2", {"intermediate_size": 64}, "d_mlp 48, other has 64"),
        ("llama", {}, "family qwen2, other has llama"),
    ],
)
def test_other_shapes(qwen, family, sizes, says):
    """Weights that do not correspond are refused in a line that says which shape is other."""
    other = tiny_subject(family, **sizes)
    other = Subject.of(other.model, other.tokenizer, "other")
    with pytest.raises(MechinterpError, match=says):
        weight_changes(qwen, other, "query")


def test_quantised(qwen):
    """What was quantised is refused, also where it has been unpacked: its distance would be that of the rounding."""
    model = copy.deepcopy(qwen.model)
    model.config.quantization_config = {"quant_method": "bitsandbytes"}
    with pytest.raises(MechinterpError, match="is quantised"):
        weight_changes(qwen, Subject.of(model, qwen.tokenizer), "query")
    unpacked = Subject.of(copy.deepcopy(qwen.model), qwen.tokenizer, "small", quantised="Q4_K")
    for pair in ((qwen, unpacked), (unpacked, qwen)):
        with pytest.raises(MechinterpError, match=r"small is quantised \(Q4_K\)"):
            weight_changes(*pair, "query")


@pytest.mark.parametrize("components", [[(3, 0)], [(0, 4)], [(-1, 0)], [], [(0,)], 3])
def test_no_such_component(qwen, components):
    """A component that the models do not have is refused."""
    with pytest.raises(MechinterpError):
        weight_changes(qwen, qwen, "query").percentile(components)


def test_unknown_kind(qwen):
    with pytest.raises(MechinterpError, match="expected one of query, key"):
        weight_changes(qwen, qwen, "W_Q")
