"""Run the end of many sequences again and again without paying for their beginning.

prefill   run all but the last tokens of each sequence once and keep the KV cache
Resumed   call it for the logits after the last token, under whatever edits are active

An edit at positions that the prefix holds cannot reach them any more: scope edits to `Resumed.start` and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from mechinterp.errors import MechinterpError
from mechinterp.subject import Subject
from mechinterp.tokens import Batch, pad, unembed_last


@dataclass(frozen=True, eq=False)
class Resumed:
    """A batch whose prefix has been run. `start` (B,): the first position of each row that is run again."""

    subject: Subject
    batch: Batch
    cache: DynamicCache
    keep: int
    start: Tensor

    @torch.no_grad()
    def __call__(self, tokens: Sequence[int] | None = None) -> Tensor:
        """Logits after each row's last token, (B, vocab), fp32; with `tokens`, of these alone, (B, len(tokens))."""
        inputs = self.batch.inputs()
        inputs["input_ids"] = self.batch.input_ids[:, -self.keep :]
        inputs["position_ids"] = self.batch.position_ids[:, -self.keep :]
        try:
            out = self.subject.model.model(**inputs, past_key_values=self.cache, use_cache=True)
            return unembed_last(self.subject, out.last_hidden_state, tokens)
        finally:
            prefix = self.batch.input_ids.shape[1] - self.keep
            for layer in self.cache.layers:  # each by itself: an error may have stopped the pass half way
                if (added := layer.get_seq_length() - prefix) > 0:
                    layer.crop(-added)


@torch.no_grad()
def prefill(subject: Subject, sequences: Sequence[Sequence[int]], keep: int) -> Resumed:
    """Run all but the last `keep` tokens of every sequence and keep the KV cache.

    Raises:
        MechinterpError: a sequence of `keep` tokens or fewer.
    """
    if keep < 1 or min(len(s) for s in sequences) <= keep:
        raise MechinterpError(f"prefill: every sequence needs more than keep = {keep} tokens, and keep at least 1")
    batch = pad(subject, sequences)
    cache = DynamicCache(config=subject.model.config)
    inputs = {name: tensor[:, :-keep] for name, tensor in batch.inputs().items()}
    subject.model.model(**inputs, past_key_values=cache, use_cache=True)
    for layer in cache.layers:
        if layer.is_sliding:
            layer.activate_past_recording()  # else it forgets what `crop` must bring back
    start = batch.attention_mask.sum(1) - keep
    return Resumed(subject, batch, cache, keep, start)
