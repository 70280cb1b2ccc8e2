"""Where the parts of a model are.

anatomy_of(model)   the parts of a loaded model: layers, heads, projections, final norm, unembedding

Known: pre-norm decoders with separate q, k, v projections, grouped-query attention and a gated MLP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mechinterp.configuration import FAMILIES, unsupported
from mechinterp.errors import MechinterpError
from mechinterp.given import whole_number
from mechinterp.inspection import check_whole

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True, eq=False)
class Anatomy:
    """The parts of a decoder. Layers and heads are counted from 0."""

    family: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    layers: tuple[nn.Module, ...]
    norm: Any
    unembed: nn.Linear

    def attention(self, layer: int) -> nn.Module:
        return self.layers[layer].self_attn  # type: ignore[return-value]

    def o_proj(self, layer: int) -> nn.Linear:
        """Its input is the concatenation of the heads' outputs, (..., n_heads * d_head)."""
        return self.attention(layer).o_proj  # type: ignore[return-value]

    def attention_norm(self, layer: int) -> nn.Module:
        """Its input is the residual stream that enters the layer."""
        return self.layers[layer].input_layernorm  # type: ignore[return-value]

    def mlp_norm(self, layer: int) -> nn.Module:
        """Its input is the residual stream between attention and MLP."""
        return self.layers[layer].post_attention_layernorm  # type: ignore[return-value]

    def mlp(self, layer: int) -> nn.Module:
        return self.layers[layer].mlp  # type: ignore[return-value]

    def down_proj(self, layer: int) -> nn.Linear:
        """Its input is the neurons' activations, (..., d_mlp); its columns are the value vectors."""
        return self.mlp(layer).down_proj  # type: ignore[return-value]

    def check_layer(self, layer: int) -> None:
        layer = whole_number(layer, "layer")
        if not 0 <= layer < self.n_layers:
            raise MechinterpError(f"layer {layer}: this model has layers 0 to {self.n_layers - 1}")

    def check_head(self, layer: int, head: int) -> None:
        self.check_layer(layer)
        head = whole_number(head, "head")
        if not 0 <= head < self.n_heads:
            raise MechinterpError(f"head {head} of layer {layer}: a layer has heads 0 to {self.n_heads - 1}")

    def check_neuron(self, layer: int, neuron: int) -> None:
        self.check_layer(layer)
        neuron = whole_number(neuron, "neuron")
        if not 0 <= neuron < self.d_mlp:
            raise MechinterpError(f"neuron {neuron} of layer {layer}: a layer has neurons 0 to {self.d_mlp - 1}")


def anatomy_of(model: Any) -> Anatomy:
    """The anatomy of a transformers causal language model.

    Raises:
        MechinterpError: the family is not known, or a part is not where its family keeps it
            (a headless, wrapped or compiled model, projections fused or packed).
    """
    check_whole(model)
    config = model.config
    if reason := unsupported(config):
        raise MechinterpError(reason)
    body, unembed = getattr(model, "model", None), model.get_output_embeddings()
    if body is None or unembed is None:
        raise MechinterpError(
            f"{type(model).__name__} has no unembedding; load it with AutoModelForCausalLM, not AutoModel"
        )
    if len(body.layers) != config.num_hidden_layers:
        raise MechinterpError(
            f"the model has {len(body.layers)} layers, but its configuration runs {config.num_hidden_layers} "
            "(num_hidden_layers); make them the same"
        )
    try:
        anatomy = Anatomy(
            family=config.model_type,
            n_layers=len(body.layers),
            n_heads=config.num_attention_heads,
            n_kv_heads=config.num_key_value_heads,
            d_model=config.hidden_size,
            d_head=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            d_mlp=config.intermediate_size,
            layers=tuple(body.layers),
            norm=body.norm,
            unembed=unembed,
        )
        _check_shapes(anatomy)
    except AttributeError as error:
        raise MechinterpError(f"a part is not where {FAMILIES[config.model_type]} keeps it: {error}") from error
    return anatomy


def _check_shapes(anatomy: Anatomy) -> None:
    """Weights that are read must be plain matrices: packed ones hold other numbers, or only some of them."""
    heads, rows = anatomy.n_heads * anatomy.d_head, getattr(anatomy.unembed.weight, "shape", ("vocab",))[0]
    matrices = [("the unembedding", anatomy.unembed, (rows, anatomy.d_model))]
    for layer in range(anatomy.n_layers):
        matrices.append((f"layer {layer} o_proj", anatomy.o_proj(layer), (anatomy.d_model, heads)))
        matrices.append((f"layer {layer} down_proj", anatomy.down_proj(layer), (anatomy.d_model, anatomy.d_mlp)))
    for name, module, expected in matrices:
        weight: Any = getattr(module, "weight", None)
        if type(weight) in (torch.Tensor, nn.Parameter) and weight.dtype in FLOATS and weight.shape == expected:
            continue
        found = "no weight" if weight is None else type(weight).__name__
        if isinstance(weight, torch.Tensor):
            found += f" {weight.dtype} {tuple(weight.shape)}"
        raise MechinterpError(
            f"{name}: expected a float matrix {expected}, found {found}; load quantised weights dequantised, "
            "and sharded ones whole"
        )
