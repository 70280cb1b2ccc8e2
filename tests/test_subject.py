"""A subject is what it seems: hooks act on its modules, and its weights are what it computes; or it is refused."""

from __future__ import annotations

import copy
import types
import warnings
from contextlib import ExitStack

import pytest
import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from torch.nn.utils import parametrize, prune, weight_norm
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrizations import weight_norm as parametrized_weight_norm
from transformers import Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from mechinterp import (
    MechinterpError,
    Subject,
    ablate_heads,
    ablate_neurons,
    attribution,
    capture,
    generate,
    head_output_weights,
    last,
    log_odds,
    logit_lens,
    mean_heads,
    steer,
    sweep,
    unembed_directions,
    value_vectors,
)
from tests.conftest import FAMILIES, VOCAB, tiny_subject

IDS = torch.tensor([[5, 50, 7, 90]])
TOKENIZER = tiny_subject().tokenizer


def fresh(family="qwen2", **sizes):
    return tiny_subject(family, **sizes).model


def of(model):
    return Subject.of(model, TOKENIZER)


def refusal(model):
    with pytest.raises(MechinterpError) as error:
        of(model)
    assert "\n" not in str(error.value)
    return str(error.value)


def compiled(module):
    return torch.compile(module, backend="eager")


# Compiled.


def in_place(path):
    def change(model):
        model.get_submodule(path).compile(backend="eager")
        return model

    return change


def replaced(path):
    def change(model):
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, compiled(model.get_submodule(path)))
        return model

    return change


def method(path):
    def change(model):
        module = model.get_submodule(path)
        module.forward = compiled(module.forward)
        return model

    return change


PLACES = ["model.layers.1", "model.layers.1.mlp", "model.layers.1.mlp.down_proj", "model.layers.0.self_attn.o_proj"]
WAYS = {
    "whole": compiled,
    **{f"in place {path}": in_place(path) for path in ["", "model", *PLACES]},
    **{f"replaced {path}": replaced(path) for path in ["model", *PLACES]},
    **{f"method of {path}": method(path) for path in ["", "model", *PLACES]},
}


@pytest.mark.parametrize("way", WAYS)
def test_compiled(way):
    """In whichever way a model or a part of it is compiled, it is refused before anything is compiled."""
    torch._dynamo.reset()
    said = refusal(WAYS[way](fresh()))
    assert "is compiled" in said
    assert "uncompiled" in said
    assert "_orig_mod" in said or "load it without" in said


@pytest.mark.parametrize("way", [way for way in WAYS if way != "whole"])
def test_compiled_afterwards(way):
    """A model that is compiled once its subject was made is refused by whatever would run or read it."""
    torch._dynamo.reset()
    subject = of(fresh())
    WAYS[way](subject.model)
    for use in [*RUNS.values(), *READS.values()]:
        with pytest.raises(MechinterpError, match="is compiled"):
            use(subject)


@pytest.mark.parametrize("first", [True, False])
def test_compiled_out_of_sight(first):
    """So is a part that calls compiled code from a method that does not show it, run before or not."""
    torch._dynamo.reset()
    model = fresh()
    for layer in model.model.layers:
        code = compiled(layer.mlp.forward)
        layer.mlp.forward = lambda x, code=code: code(x)
    if first:
        model(IDS)
    refusal(model)


@pytest.mark.parametrize("first", [True, False])
def test_compiled_beside(first):
    """A compiled handle of a subject's model runs with the edits that are open, and without them afterwards."""
    torch._dynamo.reset()
    subject = of(fresh())
    handle = compiled(subject.model)
    clean = handle(IDS).logits if first else subject.model(IDS).logits
    with ablate_heads(subject, [(0, 0)]):
        edited = subject.model(IDS).logits
    with ablate_heads(subject, [(0, 0)]) as edit, steer(subject, 1, torch.ones(32), coefficient=0.0):
        torch.testing.assert_close(handle(IDS).logits, edited)
    assert edit.passes == {0: 1}
    torch.testing.assert_close(handle(IDS).logits, clean)
    assert not torch.allclose(edited, clean, atol=1e-3)


# Wrapped.


class Wrapper(nn.Module):
    """The model is deeper inside; its attributes shine through."""

    def __init__(self, inner):
        super().__init__()
        self.base_model = nn.Module()
        self.base_model.model = inner

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.base_model.model, name)


def test_wrapped():
    """What stands around a model is refused, and the model in it named."""
    model = fresh()
    assert "pass model.module" in refusal(nn.DataParallel(model))
    assert "pass model.base_model.model" in refusal(Wrapper(model))
    assert of(model).anatomy.n_layers == 3


def test_distributed():
    """So is a model made parallel or sharded over processes."""
    distributed = pytest.importorskip("torch.distributed")
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        assert "pass model.module" in refusal(nn.parallel.DistributedDataParallel(fresh()))
        sharded = fresh()
        mesh = distributed.init_device_mesh("cpu", (1,))
        for layer in sharded.model.layers:
            fully_shard(layer, mesh=mesh)
        assert "DTensor" in refusal(sharded)
        partly = fresh()
        with warnings.catch_warnings(action="ignore"):
            partly.model.layers[0] = FullyShardedDataParallel(partly.model.layers[0], device_id=torch.device("cpu"))
        assert "sharded" in refusal(partly)
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("thing", [None, [1], "base", nn.Linear(2, 2), nn.Sequential()])
def test_no_model(thing):
    assert "transformers" in refusal(thing)


def test_no_unembedding():
    assert "AutoModelForCausalLM" in refusal(fresh().model)


# Weights that are read are those that are computed with.


class Adapted(nn.Module):
    """A linear layer with a low-rank change beside it; its `weight` is the base layer's."""

    def __init__(self, base, scale):
        super().__init__()
        self.base_layer = base
        self.down = nn.Parameter(torch.randn(2, base.in_features))
        self.up = nn.Parameter(scale * torch.randn(base.out_features, 2))

    weight = property(lambda self: self.base_layer.weight)
    bias = property(lambda self: self.base_layer.bias)

    def forward(self, x):
        return self.base_layer(x) + x @ self.down.T.to(x) @ self.up.T.to(x)


class Scaled(Adapted):
    """Its outputs are scaled, as by IA3."""

    def forward(self, x):
        return self.base_layer(x) * 1.01


class Rounded(nn.Linear):
    """It computes with 8 bits of what its weight has."""

    def forward(self, x):
        step = self.weight.abs().max() / 127
        return linear(x, (self.weight / step).round() * step, self.bias)


class Packed(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = [base]
        self.weight = nn.Parameter(base.weight.detach().to(torch.int8), requires_grad=False)
        self.bias = base.bias

    def forward(self, x):
        return self.base[0](x)


class Eight(nn.Module):
    """Its weight has 8 bits and a float's name, and a scale of its own."""

    def __init__(self, base):
        super().__init__()
        self.weight = nn.Parameter((base.weight.detach() * 100).to(torch.float8_e4m3fn), requires_grad=False)
        self.bias = base.bias

    def forward(self, x):
        return linear(x, self.weight.to(x) / 100, self.bias)


class Called(nn.Module):
    """Its weight is a method, as of torch's dynamic quantisation."""

    def __init__(self, base):
        super().__init__()
        self.base = base

    def weight(self):
        return self.base.weight

    def forward(self, x):
        return self.base(x)


class Subclassed(torch.Tensor):
    """A tensor that may hold its numbers in any way."""


def subclassed(base):
    base.weight = nn.Parameter(base.weight.detach().as_subclass(Subclassed))
    return base


READ = ["model.layers.0.self_attn.o_proj", "model.layers.2.mlp.down_proj", "lm_head"]
CHANGES = {
    "adapted": lambda base: Adapted(base, 0.3),
    "hardly adapted": lambda base: Adapted(base, 1e-3),
    "scaled": lambda base: Scaled(base, 0.0),
    "rounded": lambda base: like(Rounded(base.in_features, base.out_features, base.bias is not None), base),
    "packed": Packed,
    "eight bits": Eight,
    "called": Called,
    "subclassed": subclassed,
    "two layers": lambda base: nn.Sequential(base, nn.Linear(base.out_features, base.out_features)),
    "not there": lambda base: nn.Identity(),
}


def like(module, base):
    """The module with the numbers of another, in their format."""
    module.load_state_dict(base.state_dict())
    return module.to(next(base.parameters()).dtype)


def exchange(model, path, change):
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, change(model.get_submodule(path)))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_are_not_all(change, path, dtype):
    """A layer that computes something else than the weight that would be read from it is refused."""
    said = refusal(exchange(fresh().to(dtype), path, CHANGES[change]))
    assert path.rpartition(".")[2].replace("lm_head", "unembedding") in said or "keeps it" in said


def written(subject):
    """Value vectors and W_O are what the layers write of one active neuron, of one number of a head, at a time."""
    anatomy = subject.anatomy
    for layer in range(anatomy.n_layers):
        for module, read in (
            (anatomy.down_proj(layer), value_vectors(subject, layer)),
            (anatomy.o_proj(layer), head_output_weights(subject, layer).flatten(0, 1)),
        ):
            with torch.no_grad():
                silent = module(torch.zeros(1, len(read)))
                torch.testing.assert_close(read, module(torch.eye(len(read))) - silent, rtol=0, atol=1e-5)
    return True


@pytest.mark.parametrize("change", [parametrized_weight_norm, spectral_norm, weight_norm,
                                    lambda m: prune.l1_unstructured(m, "weight", 0.5)])  # fmt: skip
def test_parametrized(change):
    """A weight that is computed from others, whenever it is, is read as it is computed with."""
    model = fresh()
    with warnings.catch_warnings(action="ignore"):
        for path in READ[:2]:
            change(model.get_submodule(path))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(tuple(READ[:2])):
                parameter.mul_(1.5)  # an old weight is stale until the layer runs
    assert written(of(model))


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_adapters_elsewhere():
    """Layers that are only run may be adapted: q, k, v, gate and up."""
    model = fresh()
    for layer in model.model.layers:
        layer.self_attn.q_proj = Adapted(layer.self_attn.q_proj, 0.3)
        layer.mlp.gate_proj = Adapted(layer.mlp.gate_proj, 0.3)
        parametrize.register_parametrization(layer.mlp.up_proj, "weight", Doubled())
    assert written(of(model))


def test_peft():
    """A model of peft is refused while its adapters stand beside what is read, and read right once they are merged."""
    peft = pytest.importorskip("peft")
    wide = peft.LoraConfig(target_modules=["o_proj", "down_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(fresh(), wide)
    assert "merge_and_unload()" in refusal(adapted)
    assert "merge_and_unload()" in refusal(adapted.get_base_model())
    assert written(of(adapted.merge_and_unload()))
    narrow = peft.LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    assert written(of(peft.get_peft_model(fresh(), narrow).get_base_model()))


def test_no_numbers():
    """Weights on the meta device hold none."""
    assert "meta device" in refusal(fresh().to("meta"))
    model = fresh()
    model.model.layers[1].mlp.to("meta")
    assert "layers.1.mlp.gate_proj.weight is on the meta device" in refusal(model)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_number_formats(family, dtype):
    """A model in any one format is a subject; one in two that cannot be run is refused."""
    model = fresh(family).to(dtype)
    assert of(model).model.dtype == dtype
    model.lm_head.float()
    if dtype != torch.float64:
        assert "dtype" in refusal(model)


# Parts that do something else.


class Gemma(nn.Module):
    """A norm that scales by 1 + weight."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight.detach() - 1)

    def forward(self, x):
        return x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


class Capped(Qwen2ForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = 30 * torch.tanh(output.logits / 30)
        return output


class Tempered(Qwen2ForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits / 1.01
        return output


class OwnAttention(nn.Module):
    """It computes attention itself, whatever kernel is asked for."""

    def __init__(self, base):
        super().__init__()
        self.base = [base]
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = base.q_proj, base.k_proj, base.v_proj, base.o_proj

    def forward(self, hidden_states, position_embeddings, attention_mask, **kwargs):
        shape = (*hidden_states.shape[:2], -1, self.base[0].head_dim)
        q, k, v = (one(hidden_states).view(shape).transpose(1, 2) for one in (self.q_proj, self.k_proj, self.v_proj))
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2)), None


def patched(path, forward):
    def change(model):
        module = model.get_submodule(path)
        module.forward = types.MethodType(forward(module.forward), module)
        return model

    return change


def hooked(path, hook, *, before=False):
    def change(model):
        module = model.get_submodule(path)
        (module.register_forward_pre_hook if before else module.register_forward_hook)(hook)
        return model

    return change


def set_in(path, make):
    return lambda model: exchange(model, path, make)


def anew(kind):
    return lambda model: like(kind(model.config), model)


def shared(model):
    model.model.layers[2] = model.model.layers[1]
    return model


def shorter(model):
    model.config.num_hidden_layers = 2
    return model


def dynamic(base):
    config = copy.deepcopy(base.config)
    config.rope_parameters = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    return Qwen2RotaryEmbedding(config)


def fused(self, x):
    return linear(self.act_fn(self.gate_proj(x)) * self.up_proj(x), self.down_proj.weight)


LAYER = "model.layers.1"
PATCHES = {
    "a norm of 1 + weight": (set_in("model.norm", lambda base: Gemma(base.weight)), "final norm"),
    "a norm that subtracts the mean": (set_in("model.norm", lambda base: nn.LayerNorm(32)), "final norm"),
    "capped logits": (anew(Capped), "logits"),
    "logits at a temperature": (anew(Tempered), "logits"),
    "a bias of the unembedding": (set_in("lm_head", lambda base: nn.Linear(32, VOCAB)), "unembedding"),
    "a layer left out": (patched(LAYER, lambda old: lambda self, x, **more: x), "0 times"),
    "a layer scaled": (patched(LAYER, lambda old: lambda self, x, **more: x + 0.9 * (old(x, **more) - x)), "layer 1"),
    "an attention scaled": (
        patched(f"{LAYER}.self_attn", lambda old: lambda self, **more: (1.1 * old(**more)[0], None)),
        "layer 1",
    ),
    "a fused MLP": (patched(f"{LAYER}.mlp", lambda old: fused), "down_proj of layer 1 is called 0 times"),
    "attention by no kernel": (set_in(f"{LAYER}.self_attn", OwnAttention), "kernel"),
    "one layer twice": (shared, "2 times"),
    "fewer layers run": (shorter, "3 layers.*2"),
    "rotary angles by length": (set_in("model.rotary_emb", dynamic), "longest text"),
    "a hook after a layer": (hooked(LAYER, lambda module, args, output: output + 1), "layer 1"),
    "a hook after attention": (hooked(f"{LAYER}.self_attn", lambda m, args, out: (out[0] * 2, None)), "layer 1"),
    "a hook after down_proj": (hooked(f"{LAYER}.mlp.down_proj", lambda m, args, out: out * 2), "down_proj"),
    "a hook before o_proj": (
        hooked(f"{LAYER}.self_attn.o_proj", lambda m, args: (args[0] * 2,), before=True),
        "hook changes what its o_proj reads",
    ),
    "a hook before a norm": (
        hooked(f"{LAYER}.input_layernorm", lambda m, args: (args[0] * 2,), before=True),
        "hook changes what its attention_norm reads",
    ),
}


@pytest.mark.parametrize("what", PATCHES)
def test_parts_that_do_something_else(what):
    """A model of a known family in which a part does not do what the others rely on is refused."""
    change, says = PATCHES[what]
    with pytest.raises(MechinterpError, match=says):
        of(change(fresh()))


HARMLESS = {
    "a method that does the same": patched(
        f"{LAYER}.mlp", lambda old: lambda self, x: self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))
    ),
    "a hook that looks": hooked(LAYER, lambda module, args, output: None),
    "another RMS norm": set_in("model.norm", lambda base: nn.RMSNorm(32, eps=1e-6)),
    "adapters that are merged": set_in(READ[0], lambda base: Adapted(base, 0.0)),
}


@pytest.mark.parametrize("what", HARMLESS)
def test_parts_that_do_the_same(what):
    """What looks odd and does the same is used."""
    assert written(of(HARMLESS[what](fresh())))


# What a subject leaves alone, and what it watches.


@pytest.mark.parametrize("family", FAMILIES)
def test_leaves_no_trace(family):
    """No hook, no gradient, no random number and no kernel is left otherwise than it was."""
    model = fresh(family)
    model.set_attn_implementation("eager")
    logits, before, state = model(IDS).logits, torch.get_rng_state(), copy.deepcopy(model.state_dict())
    assert torch.is_grad_enabled()
    of(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert model.config._attn_implementation == "eager"
    assert torch.equal(model(IDS).logits, logits)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_under_another_default(dtype):
    """The default number format is the user's, not the model's."""
    model = fresh()
    torch.set_default_dtype(dtype)
    try:
        assert of(model).model.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def run(subject, block):
    with block:
        subject.model(IDS)


RUNS = {
    "ablate heads": lambda s: run(s, ablate_heads(s, [(0, 0)])),
    "ablate neurons": lambda s: run(s, ablate_neurons(s, [(0, 0)])),
    "steer": lambda s: run(s, steer(s, 0, torch.ones(32))),
    "capture": lambda s: run(s, capture(s, [[0]], residual=[0])),
    "means": lambda s: mean_heads(s, [[5, 6]]),
    "sweep": lambda s: sweep(s, [[5, 6]], [None], log_odds(5, 6), scope=last),
    "generate": lambda s: generate(s, [[5, 6]], [None], scope=last, max_new_tokens=1),
    "attribution": lambda s: attribution(s, [[5, 6]], log_odds(5, 6), scope=last),
}
READS = {
    "value vectors": lambda s: value_vectors(s, 0),
    "W_O": lambda s: head_output_weights(s, 0),
    "the lens": lambda s: logit_lens(s, torch.ones(32)),
    "directions": lambda s: unembed_directions(s, torch.ones(32)),
}


@pytest.mark.parametrize("use", RUNS)
def test_in_training_mode(use):
    """A model that was set to training mode, or a part of it, is not run."""
    for path in ("", "model.layers.1.self_attn"):
        subject = of(fresh(attention_dropout=0.5))
        subject.model.get_submodule(path).train()
        with pytest.raises(MechinterpError, match=r"training mode.*model.eval\(\)"):
            RUNS[use](subject)


@pytest.mark.parametrize("use", {**RUNS, **READS})
def test_changed_afterwards(use):
    """A subject is refused once its model has other modules; made anew, the model is checked anew."""
    subject = of(fresh())
    exchange(subject.model, READ[1], lambda base: Adapted(base, 0.3))
    with pytest.raises(MechinterpError, match=r"Subject\.of"):
        {**RUNS, **READS}[use](subject)
    assert "down_proj" in refusal(subject.model)


@pytest.mark.parametrize("use", {**RUNS, **READS})
def test_adapters_switched_on(use):
    """An adapter that changed nothing when the subject was made is seen once it does."""
    subject = of(exchange(fresh(), READ[1], lambda base: Adapted(base, 0.0)))
    {**RUNS, **READS}[use](subject)
    with torch.no_grad():
        subject.model.get_submodule(READ[1]).up += 0.3
    with pytest.raises(MechinterpError, match="layer 2: its down_proj does not compute"):
        {**RUNS, **READS}[use](subject)


def test_used_all_the_same():
    """Edits inside edits, other weights and other number formats are no change of modules."""
    subject = of(fresh())
    layer = subject.anatomy.layers[1]
    layer.forward = layer.forward  # as a patch leaves it that was taken back
    with ExitStack() as stack:
        for use in (ablate_heads(subject, [(0, 0)]), steer(subject, 1, torch.ones(32))):
            stack.enter_context(use)
        subject.model(IDS)
    subject.model.bfloat16()
    with torch.no_grad():
        subject.anatomy.down_proj(0).weight.mul_(2)
    for use in READS.values():
        use(subject)
    sweep(subject, [[5, 6]], [None], log_odds(5, 6), scope=last)
