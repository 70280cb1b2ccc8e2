"""Prompts that several sweeps share.

prepare    prompts and the scopes that sweeps of them will name
Prepared   what it gives: `run` is a sweep
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mechinterp.errors import MechinterpError
from mechinterp.given import each
from mechinterp.interventions import Intervention
from mechinterp.positions import Scope, checked_scope
from mechinterp.store import Store
from mechinterp.subject import Subject
from mechinterp.sweep import Metric, sweep
from mechinterp.tokens import token_ids


@dataclass(frozen=True, eq=False)
class Prepared:
    """Prompts whose clean pass the sweeps share."""

    subject: Subject
    prompts: Sequence[Sequence[int]]
    scopes: tuple[Scope, ...]

    def run(
        self,
        interventions: Sequence[Intervention | None],
        metric: Metric,
        *,
        scope: Scope | None = None,
        max_rows: int | None = None,
        store: Store | None = None,
        progress: str | None = None,
    ) -> Tensor:
        """What `sweep` gives for these prompts, (prompts, interventions) or (..., m), on the CPU.

        Args:
            scope: by default the one that was prepared for. Any other is right too; the clean pass is shared by
                those that begin no earlier than the ones that were prepared for.

        Raises:
            MechinterpError: as `sweep`, or no scope where several were prepared for.
        """
        if scope is None and len(self.scopes) != 1:
            raise MechinterpError(f"run: prepared for {len(self.scopes)} scopes; name one of them")
        return sweep(
            self.subject,
            self.prompts,
            interventions,
            metric,
            scope=self.scopes[0] if scope is None else scope,
            max_rows=max_rows,
            store=store,
            progress=progress,
        )


def prepare(subject: Subject, prompts: Sequence[Sequence[int]], *, scope: Scope | Sequence[Scope]) -> Prepared:
    """Prompts for several sweeps.

    Args:
        scope: one or more, where the interventions of those sweeps will apply.
    """
    scopes = [scope] if callable(scope) else each(scope, "prepare: scope", "a scope or several")
    if not scopes:
        raise MechinterpError("prepare: no scope was given; name where the interventions will apply")
    return Prepared(subject, token_ids(subject, prompts, "prepare: prompts"), tuple(map(checked_scope, scopes)))
