"""An independent library, on its own instance of the same weights, gives the same numbers.

transformer-lens wraps the model in its bridge with the weights as they are (no folding, no centring: that would be
`enable_compatibility_mode`). Llama is compared with and without biases, Qwen2 with the biases that it has.
"""

from collections.abc import Callable

import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from mechinterp import (
    Subject,
    ablate_heads,
    ablate_neurons,
    capture,
    everywhere,
    last,
    mean_heads,
    mean_neurons,
    pad,
    steer,
)
from tests.conftest import tiny_subject

CONFIGS = {
    "qwen2": ("qwen2", {}),
    "llama": ("llama", {"attention_bias": False, "mlp_bias": False}),
    "llama with biases": ("llama", {}),
}
close = {"rtol": 0, "atol": 1e-5}
TOKENS = torch.randint(4, 97, (3, 11), generator=torch.Generator().manual_seed(11))
SCOPES = {"all positions": (everywhere, slice(None)), "last position": (last, slice(-1, None))}
scopes = pytest.mark.parametrize("where", SCOPES.values(), ids=SCOPES)
seeds = pytest.mark.parametrize("seed", range(3))


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS)
def pair(request, tmp_path_factory) -> tuple[Subject, TransformerBridge]:
    """A subject, and the same weights read from disk by transformer-lens."""
    family, sizes = request.param
    folder = tmp_path_factory.mktemp("weights")
    subject = tiny_subject(family, **sizes)
    subject.model.save_pretrained(folder)
    subject.tokenizer.save_pretrained(folder)
    return subject, TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32)


@torch.no_grad()
def ours(subject: Subject) -> torch.Tensor:
    return subject.model(**pad(subject, TOKENS.tolist()).inputs(), use_cache=False).logits


@torch.no_grad()
def theirs(bridge: TransformerBridge, hooks: list[tuple[str, Callable]]) -> torch.Tensor:
    return bridge.run_with_hooks(TOKENS, fwd_hooks=hooks)


def choose(seed: int, count: int, units: int) -> list[tuple[int, int]]:
    """A random set of (layer, unit) in three layers."""
    order = torch.randperm(3 * units, generator=torch.Generator().manual_seed(seed))
    return [divmod(int(i), units) for i in order[:count]]


def put(unit: int, where: slice, value: torch.Tensor | float) -> Callable:
    """A hook that sets a head of hook_z (B, T, n_heads, d_head) or a neuron of hook_post (B, T, d_mlp)."""

    def hook(activation: torch.Tensor, hook: object) -> torch.Tensor:
        activation = activation.clone()
        activation[:, where, unit] = value
        return activation

    return hook


def test_unedited(pair):
    """The same logits without any edit, from two instances that share no weight."""
    subject, bridge = pair
    torch.testing.assert_close(ours(subject), theirs(bridge, []), **close)
    storages = {p.untyped_storage().data_ptr() for p in subject.model.parameters()}
    assert not storages & {p.untyped_storage().data_ptr() for p in bridge.parameters()}


@scopes
@seeds
def test_zero_heads(pair, where, seed):
    """The same logits under zero ablation of a random set of heads."""
    (subject, bridge), (scope, columns) = pair, where
    heads = choose(seed, 4, 4)
    with ablate_heads(subject, heads, scope=scope):
        edited = ours(subject)
    hooks = [(f"blocks.{layer}.attn.hook_z", put(head, columns, 0)) for layer, head in heads]
    torch.testing.assert_close(edited, theirs(bridge, hooks), **close)
    assert not torch.isclose(edited[:, -1], theirs(bridge, [])[:, -1], **close).all()


@scopes
@seeds
def test_zero_neurons(pair, where, seed):
    """The same logits under zero ablation of a random set of neurons."""
    (subject, bridge), (scope, columns) = pair, where
    neurons = choose(seed, 25, 48)
    with ablate_neurons(subject, neurons, scope=scope):
        edited = ours(subject)
    hooks = [(f"blocks.{layer}.mlp.hook_post", put(neuron, columns, 0)) for layer, neuron in neurons]
    torch.testing.assert_close(edited, theirs(bridge, hooks), **close)
    assert not torch.isclose(edited[:, -1], theirs(bridge, [])[:, -1], **close).all()


@scopes
def test_means(pair, where):
    """The same logits under mean ablation of heads and neurons, each library with its own means."""
    (subject, bridge), (scope, columns) = pair, where
    heads, neurons = choose(0, 4, 4), choose(0, 25, 48)
    _, cache = bridge.run_with_cache(TOKENS)
    z = [cache[f"blocks.{layer}.attn.hook_z"].mean((0, 1)) for layer in range(3)]
    post = [cache[f"blocks.{layer}.mlp.hook_post"].mean((0, 1)) for layer in range(3)]
    own_z, own_post = mean_heads(subject, TOKENS.tolist()), mean_neurons(subject, TOKENS.tolist())
    with (
        ablate_heads(subject, heads, values=own_z, scope=scope),
        ablate_neurons(subject, neurons, values=own_post, scope=scope),
    ):
        edited = ours(subject)
    hooks = [(f"blocks.{layer}.attn.hook_z", put(head, columns, z[layer][head])) for layer, head in heads]
    hooks += [(f"blocks.{layer}.mlp.hook_post", put(n, columns, post[layer][n])) for layer, n in neurons]
    torch.testing.assert_close(edited, theirs(bridge, hooks), **close)


@scopes
def test_steering(pair, where):
    """The same logits when a vector is added to the residual stream after a layer."""
    (subject, bridge), (scope, columns) = pair, where
    vector = torch.linspace(-1, 1, 32)

    def add(stream: torch.Tensor, hook: object) -> torch.Tensor:
        stream = stream.clone()
        stream[:, columns] += 2 * vector
        return stream

    with steer(subject, 1, vector, coefficient=2, scope=scope):
        torch.testing.assert_close(ours(subject), theirs(bridge, [("blocks.1.hook_resid_post", add)]), **close)


def test_capture(pair):
    """The same activations at every site."""
    subject, bridge = pair
    _, cache = bridge.run_with_cache(TOKENS)
    every = range(3)
    with capture(subject, [[*range(11)]] * 3, residual=every, heads=every, neurons=every, attention=every) as found:
        ours(subject)
    for layer in every:
        torch.testing.assert_close(found.residual[layer], cache[f"blocks.{layer}.hook_resid_post"], **close)
        torch.testing.assert_close(found.heads[layer], cache[f"blocks.{layer}.attn.hook_z"], **close)
        torch.testing.assert_close(found.neurons[layer], cache[f"blocks.{layer}.mlp.hook_post"], **close)
        pattern = cache[f"blocks.{layer}.attn.hook_pattern"].transpose(1, 2)  # (B, T, n_heads, S)
        torch.testing.assert_close(found.attention[layer], pattern, **close)
