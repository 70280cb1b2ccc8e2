"""The checkpoint under test.

Subject         a model with its tokenizer and anatomy
check_subject   refuses what is none
attention_by    switch to another attention kernel, for a block
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mechinterp.anatomy import Anatomy, anatomy_of
from mechinterp.errors import MechinterpError, quote
from mechinterp.inspection import Parts, attention_kernel, check_unchanged, parts_of
from mechinterp.one_token import check_parts, check_weights

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
        parts: its modules as they were when they were checked.
        quantised: how its weights were stored where that rounded them, such as Q4_K; None where it did not.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy
    parts: Parts = field(repr=False)
    quantised: str | None = None

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "subject",
        *,
        quantised: str | None = None,
    ) -> Subject:
        """Wrap a loaded model, set it to eval mode, and see that its parts do what its anatomy says.

        That costs less than one step of decoding and leaves the model as it was, see `check_parts`.

        Raises:
            MechinterpError: the family is not known, or hooks would not act on the model's parts, or its weights are
                not what it computes: it is wrapped, compiled, adapted, quantised or patched. It says what to do.
        """
        anatomy = anatomy_of(model)
        model.eval()
        check_parts(model, anatomy)
        return cls(name, model, tokenizer, anatomy, parts_of(model), quantised)

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    def check_unchanged(self) -> None:
        """Raises MechinterpError for a model that was compiled, wrapped or adapted since its subject was made."""
        check_unchanged(self.model, self.parts)
        check_weights(self.anatomy)

    def check_ready(self) -> None:
        """Before it is run: unchanged, and raises MechinterpError for a model that was set to training mode."""
        self.check_unchanged()
        if any(module.training for module in self.model.modules()):
            raise MechinterpError(
                "the model is in training mode, where dropout changes its numbers and checkpointing drops its cache; "
                "call model.eval()"
            )


def check_subject(given: Any) -> None:
    """Raises MechinterpError for what is no subject, such as a model without one."""
    if not isinstance(given, Subject):
        raise MechinterpError(f"expected a Subject, such as Subject.of(model, tokenizer), got {quote(given)}")


@contextmanager
def attention_by(subject: Subject, kernel: str) -> Iterator[None]:
    """Use one of transformers' attention kernels, such as "eager", the only one that returns attention weights."""
    with attention_kernel(subject.model, kernel):
        yield
