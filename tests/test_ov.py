"""What heads write of what they read is what the model itself does with a token that attends to itself alone."""

import copy

import pytest
import torch
from torch.nn.functional import linear

from mechinterp import (
    MechinterpError,
    Subject,
    capture,
    head_output_weights,
    head_outputs,
    head_value_weights,
    last_logits,
    ov_diagonal,
    ov_matrix,
    ov_outputs,
    pad,
    value_vectors,
)
from tests.conftest import tiny_subject

close = {"rtol": 1e-4, "atol": 1e-5}


def test_one_token(tiny):
    """A token that is alone attends to itself: its heads write what OV makes of its stream, scaled by the norm."""
    anatomy = tiny.anatomy
    for layer in range(1, anatomy.n_layers):
        with capture(tiny, [[0]] * 3, residual=[layer - 1], heads=[layer]) as seen:
            last_logits(tiny, pad(tiny, [[5], [40], [96]]))
        stream = seen.residual[layer - 1][:, 0]  # (3, d_model)
        v_proj, norm = anatomy.attention(layer).v_proj, anatomy.attention_norm(layer)
        written = head_outputs(tiny, layer, seen.heads[layer][:, 0]).transpose(0, 1)  # (n_heads, 3, d_model)
        if v_proj.bias is not None:  # what it writes whatever it reads
            shared = anatomy.n_heads // anatomy.n_kv_heads
            bias = v_proj.bias.unflatten(0, (anatomy.n_kv_heads, -1)).repeat_interleave(shared, 0)
            written = written - torch.einsum("hd,hdm->hm", bias, head_output_weights(tiny, layer))[:, None]
        scale = (stream.square().mean(1) + norm.variance_epsilon).rsqrt()
        torch.testing.assert_close(ov_outputs(tiny, layer, stream) * scale[None, :, None], written, **close)


def test_matrix(tiny):
    """One head's matrix does to a vector what the function for all heads does."""
    vectors = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    written = ov_outputs(tiny, 2, vectors)
    assert written.shape == (tiny.anatomy.n_heads, 2, 5, 32)
    for head in range(tiny.anatomy.n_heads):
        torch.testing.assert_close(vectors @ ov_matrix(tiny, 2, head), written[head], **close)


def test_values_of_the_group(tiny):
    """Heads of one group read the same values, those of the next group others; by slices of v_proj."""
    anatomy, weights = tiny.anatomy, head_value_weights(tiny, 1)
    assert weights.shape == (anatomy.n_heads, anatomy.d_model, anatomy.d_head)
    shared = anatomy.n_heads // anatomy.n_kv_heads
    x = torch.randn(7, 32, generator=torch.Generator().manual_seed(1))
    whole = linear(x, anatomy.attention(1).v_proj.weight).unflatten(1, (anatomy.n_kv_heads, anatomy.d_head))
    for head in range(anatomy.n_heads):
        torch.testing.assert_close(x @ weights[head], whole[:, head // shared], **close)
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[1], weights[2])


def test_diagonal(tiny):
    """Along dimensions of the stream it is the matrix's diagonal; along directions, what is written back along each."""
    directions = value_vectors(tiny, 0)[:6]
    for head in range(tiny.anatomy.n_heads):
        matrix = ov_matrix(tiny, 1, head)
        torch.testing.assert_close(ov_diagonal(tiny, 1)[head], matrix.diagonal(), **close)
        back = (directions @ matrix @ directions.T).diagonal()
        torch.testing.assert_close(ov_diagonal(tiny, 1, directions)[head], back, **close)
    torch.testing.assert_close(ov_diagonal(tiny, 1, torch.eye(32)), ov_diagonal(tiny, 1), **close)


def test_fp32():
    """Weights of a bf16 model are multiplied in fp32, vectors of any format too."""
    subject = tiny_subject("qwen2")
    half = Subject.of(copy.deepcopy(subject.model).bfloat16(), subject.tokenizer)
    vectors = torch.randn(3, 32)
    exact = Subject.of(copy.deepcopy(half.model).float(), subject.tokenizer)
    torch.testing.assert_close(ov_outputs(half, 1, vectors), ov_outputs(exact, 1, vectors), rtol=0, atol=0)
    assert ov_outputs(half, 1, vectors.double()).dtype == ov_diagonal(half, 1).dtype == torch.float32


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: ov_outputs(s, 3, torch.ones(32)), "layer 3"),
        (lambda s: ov_outputs(s, 0, torch.ones(2, 31)), r"expected \(\.\.\., 32\)"),
        (lambda s: ov_diagonal(s, 0, torch.ones(32)), r"expected \(n, d_model\)"),
        (lambda s: ov_matrix(s, 0, 4), "head 4 of layer 0"),
        (lambda s: head_value_weights(s, -1), "layer -1"),
    ],
)
def test_refused(qwen, ask, says):
    with pytest.raises(MechinterpError, match=says):
        ask(qwen)
