"""A reference's attention, run on what the subject's attention reads.

Shadow      of one layer: what its heads read out, with keys and values of its own
change_of   what inputs write with its weights beyond what they write with the subject's
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from torch import Tensor
from transformers import DynamicCache

from mechinterp.errors import MechinterpError
from mechinterp.subject import Subject, attention_by


class Shadow:
    """The reference's attention in one layer, beside the subject's.

    Queries, keys and values are those of the reference's weights; the stream that they read, the norm before them, the
    angles of positions and the mask are the subject's. Under a KV cache its keys and values are kept here.
    """

    def __init__(self, reference: Subject, layer: int) -> None:
        self.reference, self.layer = reference, layer
        self.cache: DynamicCache | None = None

    def run(self, subject: Subject, given: Mapping[str, Any], cached: int) -> Tensor:
        """What the heads read out, (B, T, n_heads * d_head), in the subject's number format.

        Args:
            given: the keyword arguments of the subject's attention.
            cached: tokens that are in the cache before this pass.

        Raises:
            MechinterpError: earlier tokens were run outside, so that their keys are not known here.
        """
        past = given.get("past_key_values")
        if past is not None:
            self._follow(past, cached)
        kernel = subject.model.config._attn_implementation
        other = self.reference.model.config._attn_implementation != kernel
        with attention_by(self.reference, kernel) if other else nullcontext():
            return self.read_out({**given, "past_key_values": None if past is None else self.cache})

    def read_out(self, given: Mapping[str, Any]) -> Tensor:
        """The same under the reference's own kernel and a given cache."""
        attention, o_proj = self.reference.anatomy.attention(self.layer), self.reference.anatomy.o_proj(self.layer)
        like, hidden = o_proj.weight, given["hidden_states"]
        mask = given.get("attention_mask")
        mask = (
            mask.to(like.device, like.dtype if mask.is_floating_point() else mask.dtype) if mask is not None else None
        )
        fitted = {
            "hidden_states": hidden.to(like),
            "position_embeddings": tuple(angles.to(like) for angles in given["position_embeddings"]),
            "attention_mask": mask,
        }
        found: list[Tensor] = []
        keep = o_proj.register_forward_pre_hook(lambda module, args: found.append(args[0]))
        try:
            attention(**{**given, **fitted})
        finally:
            keep.remove()
        return found[0].to(hidden)

    def _follow(self, past: Any, cached: int) -> None:
        """Begin anew with the subject's cache, or go on with it."""
        if not isinstance(past, DynamicCache):
            raise MechinterpError(
                f"transplant: expected a DynamicCache, got a {type(past).__name__}; pass such a cache"
            )
        if not cached:
            windows = any(past.is_sliding)
            self.cache = DynamicCache(config=self.reference.model.config) if windows else DynamicCache()
        elif self.cache is None or self.cache.get_seq_length(self.layer) != cached:
            raise MechinterpError(
                f"transplant: {cached} tokens are in the cache that were run outside of the block, without the "
                "reference's keys; run them inside"
            )


def change_of(ours: Any, theirs: Any, features: Tensor) -> Tensor:
    """What some inputs of a linear module write with the other's weights beyond ours: (features, d_model), fp32."""
    mine = ours.weight.detach()
    on = features.to(mine.device)
    return (theirs.weight.detach().to(mine.device)[:, on].float() - mine[:, on].float()).T
