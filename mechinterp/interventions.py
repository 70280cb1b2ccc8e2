"""Interventions as values: what a sweep runs hundreds of, and a `with` block one.

AblateHeads, AblateNeurons, Steer   what is done, without saying where; `on(subject, scope)` is the `with` block
TransplantHeads, TransplantValues   the same with the weights of another subject
Intervention                        one of them, or several at once: a tuple
under                               the `with` block of any of them, also of several at once
parts                               an intervention -> those that it consists of
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from torch import Tensor

from mechinterp.errors import MechinterpError, quote
from mechinterp.freezing import CleanRun, Freeze, freeze
from mechinterp.given import pairs, real_numbers, whole_number
from mechinterp.intervene import Edit, Head, Neuron, ablate_heads, ablate_neurons, steer
from mechinterp.positions import Scope, everywhere
from mechinterp.subject import Subject, check_subject
from mechinterp.transplants import transplant_heads, transplant_values


@dataclass(frozen=True, eq=False)
class AblateHeads:
    """`ablate_heads`. Resample values have a row for each prompt: (prompts, k, n_heads, d_head), slot by slot."""

    heads: Sequence[Head]
    values: Mapping[int, Tensor] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", pairs(self.heads, "heads"))

    def on(self, subject: Subject, scope: Scope = everywhere) -> AbstractContextManager[Edit]:
        return ablate_heads(subject, self.heads, values=self.values, scope=scope)


@dataclass(frozen=True, eq=False)
class AblateNeurons:
    """`ablate_neurons`. Resample values have a row for each prompt: (prompts, k, d_mlp), slot by slot."""

    neurons: Sequence[Neuron]
    values: Mapping[int, Tensor] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "neurons", pairs(self.neurons, "neurons"))

    def on(self, subject: Subject, scope: Scope = everywhere) -> AbstractContextManager[Edit]:
        return ablate_neurons(subject, self.neurons, values=self.values, scope=scope)


@dataclass(frozen=True, eq=False)
class Steer:
    """`steer`: `coefficient * vector` (d_model,) is added to the residual stream after `layer`."""

    layer: int
    vector: Tensor
    coefficient: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", whole_number(self.layer, "Steer: layer"))
        object.__setattr__(self, "vector", real_numbers(self.vector, "Steer: vector", finite=False))

    def on(self, subject: Subject, scope: Scope = everywhere) -> AbstractContextManager[Edit]:
        return steer(subject, self.layer, self.vector, coefficient=self.coefficient, scope=scope)


@dataclass(frozen=True, eq=False)
class TransplantHeads:
    """`transplant_heads`: these heads work with the reference's weights."""

    reference: Subject
    heads: Sequence[Head]

    def __post_init__(self) -> None:
        check_subject(self.reference)
        object.__setattr__(self, "heads", pairs(self.heads, "heads"))

    def on(self, subject: Subject, scope: Scope = everywhere) -> AbstractContextManager[Edit]:
        return transplant_heads(subject, self.reference, self.heads, scope=scope)


@dataclass(frozen=True, eq=False)
class TransplantValues:
    """`transplant_values`: these neurons write with the reference's value vectors."""

    reference: Subject
    neurons: Sequence[Neuron]

    def __post_init__(self) -> None:
        check_subject(self.reference)
        object.__setattr__(self, "neurons", pairs(self.neurons, "neurons"))

    def on(self, subject: Subject, scope: Scope = everywhere) -> AbstractContextManager[Edit]:
        return transplant_values(subject, self.reference, self.neurons, scope=scope)


Transplant = TransplantHeads | TransplantValues
Single = AblateHeads | AblateNeurons | Steer | Transplant | Freeze
Intervention = Single | tuple["Intervention", ...]


@contextmanager
def under(
    subject: Subject, intervention: Intervention | None, scope: Scope = everywhere, *, clean: CleanRun | None = None
) -> Iterator[list[Edit]]:
    """The block of an intervention, or of several at once; yields what each edit says of how often it fired.

    Args:
        clean: what a Freeze among them holds, recorded in a `clean_run` of the same intervention.

    Raises:
        MechinterpError, InstrumentError: as the blocks of its parts.
    """
    edits = [part for part in parts(intervention) if clean is None or not isinstance(part, Freeze)]
    with ExitStack() as stack:
        if clean is not None:
            stack.enter_context(freeze(clean))  # first: what is edited beside it is not held
        yield [stack.enter_context(part.on(subject, scope)) for part in edits]


def parts(intervention: Intervention | None) -> list[Single]:
    """None is the clean run, which has none. Raises MechinterpError for anything that is no intervention."""
    if intervention is None:
        return []
    if isinstance(intervention, Single):
        return [intervention]
    if not isinstance(intervention, tuple | list) or not intervention or None in intervention:
        raise MechinterpError(
            f"expected an intervention, a tuple of several, or None for the clean run, got {quote(intervention)}"
        )
    return [part for one in intervention for part in parts(one)]
