"""Value vectors and head output weights are the model's own writing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechinterp import MechinterpError, head_output_weights, head_outputs, nearest_values, value_vectors
from tests.conftest import tiny_subject


def test_value_vectors(tiny):
    """One active neuron makes the MLP write its value vector, times its activation."""
    for layer in range(3):
        vectors, down = value_vectors(tiny, layer), tiny.anatomy.down_proj(layer)
        assert vectors.shape == (48, 32)
        with torch.no_grad():
            silent = down(torch.zeros(48))
            for neuron in (0, 17, 47):
                written = down(2.5 * torch.eye(48)[neuron]) - silent
                torch.testing.assert_close(written, 2.5 * vectors[neuron], rtol=0, atol=1e-5)


def test_head_outputs(tiny):
    """Each head writes what W_O makes of it alone; together, and with the bias, what W_O makes of all."""
    anatomy = tiny.anatomy
    z = torch.randn(2, 3, anatomy.n_heads, anatomy.d_head, generator=torch.Generator().manual_seed(0))
    for layer in range(3):
        weights, written = head_output_weights(tiny, layer), head_outputs(tiny, layer, z)
        assert weights.shape == (anatomy.n_heads, anatomy.d_head, anatomy.d_model)
        assert written.shape == (2, 3, anatomy.n_heads, anatomy.d_model)
        o_proj = anatomy.o_proj(layer)
        with torch.no_grad():
            whole, silent = o_proj(z.flatten(-2)), o_proj(torch.zeros(anatomy.n_heads * anatomy.d_head))
            torch.testing.assert_close(written.sum(-2) + silent, whole, rtol=0, atol=1e-5)
            for head in range(anatomy.n_heads):
                alone = torch.zeros_like(z)
                alone[..., head, :] = z[..., head, :]
                torch.testing.assert_close(written[..., head, :], o_proj(alone.flatten(-2)) - silent, **tight)
                torch.testing.assert_close(written[..., head, :], z[..., head, :] @ weights[head], **tight)


tight = {"rtol": 0, "atol": 1e-5}


def test_fp32():
    """The weights of a bf16 model are given in fp32 and unchanged."""
    subject = tiny_subject("qwen2")
    subject.model.bfloat16()
    assert value_vectors(subject, 0).dtype == head_output_weights(subject, 0).dtype == torch.float32
    assert torch.equal(value_vectors(subject, 0), subject.anatomy.down_proj(0).weight.float().T)
    z = torch.randn(4, 8).bfloat16()
    assert head_outputs(subject, 0, z).dtype == torch.float32


@given(neuron=st.integers(0, 47), scale=st.floats(0.01, 100), k=st.integers(1, 48))
def test_nearest_values(qwen, neuron, scale, k):
    """The nearest to a neuron's own vector is the neuron, whatever the scale; the farthest from its opposite."""
    vectors = value_vectors(qwen, 1)
    found = nearest_values(qwen, 1, scale * vectors[neuron], k)
    assert found[0] == neuron
    assert len(set(found)) == k
    cosines = (vectors @ vectors[neuron]) / vectors.norm(dim=1) / vectors[neuron].norm()
    assert found == sorted(found, key=lambda other: -float(cosines[other]))
    assert set(found) == set(cosines.topk(k).indices.tolist())
    assert nearest_values(qwen, 1, -vectors[neuron], 48)[-1] == neuron


def test_not_by_inner_product(qwen):
    """Nearness is cosine: a long vector gains nothing by its length."""
    subject = tiny_subject("qwen2")
    with torch.no_grad():
        subject.anatomy.down_proj(1).weight[:, 5] *= 1000
    wanted = value_vectors(qwen, 1)[9]
    assert nearest_values(subject, 1, wanted, 48) == nearest_values(qwen, 1, wanted, 48)


@pytest.mark.parametrize(
    ("ask", "names"),
    [
        (lambda s: value_vectors(s, 3), "layer 3.*layers 0 to 2"),
        (lambda s: head_output_weights(s, -1), "layer -1"),
        (lambda s: nearest_values(s, 5, torch.ones(32), 1), "layer 5"),
        (lambda s: nearest_values(s, 0, torch.ones(32), 0), "k = 0.*48 value vectors"),
        (lambda s: nearest_values(s, 0, torch.ones(32), 49), "k = 49.*48 value vectors"),
    ],
)
def test_refused(qwen, ask, names):
    """A layer or a number of neurons that does not exist is refused."""
    with pytest.raises(MechinterpError, match=names):
        ask(qwen)
