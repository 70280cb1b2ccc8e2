"""The checkpoint under test.

Subject         a model with its tokenizer and anatomy
attention_by    switch to another attention kernel, for a block
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mechinterp.anatomy import Anatomy, anatomy_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Subject:
    """A causal language model that can be examined.

    Attributes:
        name: how reports call it.
        model: in eval mode, its weights float matrices (dequantised).
        tokenizer: the tokenizer that belongs to it.
        anatomy: where its parts are, see `anatomy_of`.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str = "subject") -> Subject:
        """Wrap a loaded model. Raises MechinterpError for a family whose anatomy is not known."""
        return cls(name, model.eval(), tokenizer, anatomy_of(model))

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device


@contextmanager
def attention_by(subject: Subject, kernel: str) -> Iterator[None]:
    """Use one of transformers' attention kernels, such as "eager", the only one that returns attention weights."""
    before = subject.model.config._attn_implementation
    subject.model.set_attn_implementation(kernel)
    try:
        yield
    finally:
        subject.model.set_attn_implementation(before)
