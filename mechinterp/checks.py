"""Instrument checks: on this very model, do the instruments read what they should?

check_instruments   raise InstrumentError unless every one of them does
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mechinterp.capture import capture
from mechinterp.evidence import InstrumentError
from mechinterp.intervene import ablate_heads, ablate_neurons
from mechinterp.positions import at, maybe
from mechinterp.subject import Subject
from mechinterp.tokens import last_logits, pad, token_ids
from mechinterp.values import head_outputs

NOWHERE = -1


@torch.no_grad()
def check_instruments(subject: Subject, sequences: Sequence[Sequence[int]]) -> None:
    """Check hooks and decompositions on a padded batch of these sequences.

    - An edit that selects no position leaves the logits bit for bit the same.
    - An edit at one position of each row fires exactly once a row.
    - In every layer the heads' outputs (plus bias) sum to the attention output, and the activations times the value
      vectors (plus bias) to the MLP output, within the rounding of the model's number format.

    Raises:
        InstrumentError: names the check that failed, the layer and by how much.
    """
    sequences = token_ids(subject, sequences)
    anatomy, batch = subject.anatomy, pad(subject, sequences)
    clean = last_logits(subject, batch)
    everything = [(layer, head) for layer in range(anatomy.n_layers) for head in range(anatomy.n_heads)]
    nowhere = maybe(at([[NOWHERE]] * len(sequences)))
    with ablate_heads(subject, everything, scope=nowhere), ablate_neurons(subject, [(0, 0)], scope=nowhere):
        if not torch.equal(last_logits(subject, batch), clean):
            raise InstrumentError("hooks that edit nothing changed the logits")
    final = [[len(s) - 1] for s in sequences]
    with ablate_heads(subject, everything, scope=at(final)) as edit:
        last_logits(subject, batch)
    edit.require(positions=len(sequences))

    layers = range(anatomy.n_layers)
    outputs: dict[str, Tensor] = {}
    handles = []
    try:
        for layer in layers:
            for name, module in (("attention", anatomy.o_proj(layer)), ("mlp", anatomy.down_proj(layer))):

                def keep(m: object, args: object, output: Tensor, *, key: str = f"{name} {layer}") -> None:
                    outputs[key] = output[:, -1].float().cpu()  # left padding: the last column is real in every row

                handles.append(module.register_forward_hook(keep))
        with capture(subject, final, heads=layers, neurons=layers) as seen:
            last_logits(subject, batch)
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        heads = head_outputs(subject, layer, seen.heads[layer])[:, 0].sum(1)
        down = anatomy.down_proj(layer)
        neurons = seen.neurons[layer][:, 0] @ down.weight.float().T
        for name, total, bias in (("attention", heads, anatomy.o_proj(layer).bias), ("mlp", neurons, down.bias)):
            total = (total if bias is None else total + bias.float()).cpu()
            wanted = outputs[f"{name} {layer}"]
            error = float((total - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6))
            if not error <= tolerance(subject):
                raise InstrumentError(f"layer {layer}: the parts do not sum to the {name} output (off by {error:.1%})")


def tolerance(subject: Subject) -> float:
    """Relative rounding that a sum in the model's number format may show."""
    return 1e-3 if subject.model.dtype == torch.float32 else 5e-2
