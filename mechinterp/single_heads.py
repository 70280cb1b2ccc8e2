"""Every head turned off alone: which ones does an answer need?

single_heads   the metric without each head, in one sweep
SingleHeads    what it gives: necessity by layer and head, and the heads in its order
circuit_only   nothing but some heads: all others are as in another run
other_heads    all heads but these
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mechinterp.errors import MechinterpError, quote
from mechinterp.given import pairs, real_numbers, whole_number
from mechinterp.interventions import AblateHeads, AblateNeurons, Intervention
from mechinterp.metric import Metric
from mechinterp.positions import Scope
from mechinterp.prepared import Prepared
from mechinterp.replacements import Head
from mechinterp.store import Store
from mechinterp.subject import Subject, check_subject


@dataclass(frozen=True, eq=False)
class SingleHeads:
    """The metric with all heads, (prompts,), and without each one, (prompts, layers, n_heads)."""

    clean: Tensor
    without: Tensor

    @property
    def effects(self) -> Tensor:
        """What the metric loses without each head: (prompts, layers, n_heads)."""
        return self.clean[:, None, None] - self.without

    def necessity(self, gap: Tensor | None = None) -> Tensor:
        """Mean loss, (layers, n_heads); as a share of the mean `gap`, (prompts,), if that is given.

        Self-repair makes it an underestimate: what stands in for one head alone may not stand in for several.

        Raises:
            MechinterpError: gaps of other prompts, or a mean gap that is not above 0, of which nothing is a share.
        """
        lost = self.effects.double().mean(0)
        if gap is None:
            return lost
        apart = real_numbers(gap, "necessity: gap").detach().double().cpu()
        if apart.shape != self.clean.shape or float(apart.mean()) <= 0:
            raise MechinterpError(
                f"necessity: gap: expected one number for each of {len(self.clean)} prompts with a mean above 0, got "
                f"shape {tuple(apart.shape)}"
            )
        return lost / apart.mean()

    def ranked(self, k: int | None = None) -> list[Head]:
        """The heads by mean loss, the most needed first; all of them, or k. Equal ones in the order of the model."""
        n_heads = self.without.shape[2]
        order = self.necessity().flatten().argsort(descending=True, stable=True).tolist()
        most = len(order) if k is None else whole_number(k, "ranked: k", least=1)
        return [divmod(int(one), n_heads) for one in order[:most]]


def single_heads(
    prepared: Prepared,
    metric: Metric,
    *,
    values: Mapping[int, Tensor] | None = None,
    scope: Scope | None = None,
    only: Sequence[int] | None = None,
    max_rows: int | None = None,
    store: Store | None = None,
    progress: str | None = None,
) -> SingleHeads:
    """The metric with each head of the model off alone, at the positions of the scope.

    Args:
        prepared: the prompts, see `prepare`.
        metric: one number a prompt.
        values: what heads are replaced by, see `ablate_heads`: nothing, their mean, or their outputs in another run.
        scope, only, max_rows, store, progress: as `Prepared.run`.

    Raises:
        MechinterpError: as `Prepared.run`, or a metric of several numbers.
    """
    if not isinstance(prepared, Prepared):
        raise MechinterpError(f"single_heads: expected prepared prompts, such as prepare(...), got {quote(prepared)}")
    anatomy = prepared.subject.anatomy
    every: list[Intervention | None] = [AblateHeads([head], values) for head in other_heads(prepared.subject, ())]
    swept = prepared.run(
        [*every, None], metric, scope=scope, only=only, max_rows=max_rows, store=store, progress=progress
    )
    if swept.ndim != 2:
        raise MechinterpError(f"single_heads: expected a metric of one number a prompt, got {swept.shape[2]}")
    return SingleHeads(swept[:, -1], swept[:, :-1].unflatten(1, (anatomy.n_layers, anatomy.n_heads)))


def other_heads(subject: Subject, heads: Iterable[Head]) -> list[Head]:
    """All heads of the model but these, in its order."""
    check_subject(subject)
    anatomy, spared = subject.anatomy, set(pairs(heads, "heads"))
    for layer, head in spared:
        anatomy.check_head(layer, head)
    every = ((layer, head) for layer in range(anatomy.n_layers) for head in range(anatomy.n_heads))
    return [head for head in every if head not in spared]


def circuit_only(
    subject: Subject, heads: Iterable[Head], values: Mapping[int, Tensor], *, neurons: Mapping[int, Any] | None = None
) -> Intervention:
    """An intervention that leaves nothing but these heads: all others read out what they do in another run.

    The reverse, these heads alone as in another run, is `AblateHeads(heads, values)`.

    Args:
        values: of every layer, what the heads read out in the other run, slot by slot, or their means; see
            `ablate_heads`.
        neurons: the same of the neurons. Without them the MLPs go on reading what the heads write; with them nothing
            but what the heads write into the last residual stream is left.

    Raises:
        MechinterpError: heads that the model does not have, or all of them, with nothing left to replace.
    """
    others = other_heads(subject, heads)
    found: list[Any] = [AblateHeads(others, values)] if others else []
    if neurons is not None:
        anatomy = subject.anatomy
        every = [(layer, neuron) for layer in range(anatomy.n_layers) for neuron in range(anatomy.d_mlp)]
        found.append(AblateNeurons(every, neurons))
    if not found:
        raise MechinterpError("circuit_only: these are all heads of the model, so that nothing would be replaced")
    return tuple(found) if len(found) > 1 else found[0]
