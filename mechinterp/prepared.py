"""Prompts that several sweeps share.

prepare    prompts, and the scopes that sweeps of them will name
Prepared   what it gives: `run` is a sweep

An intervention changes nothing before the first position of its scope, and nothing below the first layer that it
touches. So each prompt is run once, without edits; then every (prompt, intervention) is a row of its own that begins at
that position, with the keys and values of its prompt's prefix, and in that layer, with what the one pass has left
there. Rows join the batch in their layer and run on together. A scope that begins with the first token leaves no
prefix to share; the layers below are saved all the same. Of the last layer's output only the last token is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from mechinterp.clean import Wanted
from mechinterp.clean_shadow import run_shadows
from mechinterp.errors import MechinterpError, quote
from mechinterp.given import each, whole_number, whole_numbers
from mechinterp.interventions import Intervention, parts
from mechinterp.kept import CleanPasses, first_edited
from mechinterp.memory import memory_to_keep, rows_at_once
from mechinterp.metric import Metric, checked_metric
from mechinterp.passes import being_watched
from mechinterp.positions import Scope, checked_scope
from mechinterp.prompts import prompt_slots
from mechinterp.row_edits import Frozen
from mechinterp.store import Store, digest
from mechinterp.subject import Subject, check_subject
from mechinterp.tables import begins, tables_of
from mechinterp.tokens import token_ids
from mechinterp.wave import check_hooks, run_wave


def prepare(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    *,
    scope: Scope | Sequence[Scope],
    max_bytes: int | None = None,
) -> Prepared:
    """Prompts for several sweeps. Nothing is run before the first of them needs it.

    Args:
        scope: one or more, where the interventions of those sweeps will apply. `at` and `since` name a row for each
            prompt.
        max_bytes: what may be kept of the clean passes, on the subject's device; by default a quarter of the memory
            that is free now. What does not fit is run again by each sweep that needs it.

    Raises:
        MechinterpError: no prompts, no scope, or one that names a position that a prompt does not have.
    """
    check_subject(subject)
    scopes = [scope] if callable(scope) else each(scope, "prepare: scope", "a scope or several")
    if not scopes:
        raise MechinterpError("prepare: no scope was given; name where the interventions will apply")
    most = memory_to_keep(subject) if max_bytes is None else whole_number(max_bytes, "prepare: max_bytes", least=0)
    return Prepared(subject, token_ids(subject, prompts, "prepare: prompts"), scopes, most)


class Prepared:
    """Prompts whose clean passes are kept between sweeps."""

    def __init__(self, subject: Subject, prompts: list[list[int]], scopes: Sequence[Scope], most: int) -> None:
        self.subject, self.prompts, self.scopes = subject, prompts, tuple(map(checked_scope, scopes))
        self.slots = {id(scope): prompt_slots(subject, prompts, scope) for scope in self.scopes}
        starts = [[first_edited(slots[number]) for slots in self.slots.values()] for number in range(len(prompts))]
        self.passes = CleanPasses(subject, prompts, starts, most)

    @torch.no_grad()
    def run(
        self,
        interventions: Sequence[Intervention | None],
        metric: Metric,
        *,
        scope: Scope | None = None,
        only: Sequence[int] | None = None,
        max_rows: int | None = None,
        store: Store | None = None,
        progress: str | None = None,
    ) -> Tensor:
        """What `sweep` gives for these prompts, (prompts, interventions) or (..., m), on the CPU.

        Args:
            scope: by default the one that was prepared for. Any other is right too, but one that begins earlier than
                those costs a clean pass of its own.
            only: numbers of the prompts to run, in the order of the result; by default all. Scopes and resample
                values name a row for every prepared prompt all the same.

        Raises:
            MechinterpError: as `sweep`, or no scope where several were prepared for.
        """
        if scope is None and len(self.scopes) != 1:
            raise MechinterpError(f"run: prepared for {len(self.scopes)} scopes; name one of them")
        scope = self.scopes[0] if scope is None else scope
        interventions, metric = checked_interventions(interventions, "sweep"), checked_metric(self.subject, metric)
        max_rows = None if max_rows is None else whole_number(max_rows, "sweep: max_rows", least=1)
        self.subject.check_ready()
        if being_watched(self.subject):
            raise MechinterpError(
                "sweep: called inside a `with` block; give its edit as an intervention, close a capture"
            )
        slots = self.slots.get(id(scope)) or prompt_slots(self.subject, self.prompts, scope)
        numbers = self._numbers(only)
        for number in numbers:
            if not (slots[number] >= 0).any():
                raise MechinterpError(
                    f"sweep: the scope edits no token of prompt {number}; it can give only clean runs"
                )

        def make() -> dict[str, Tensor]:
            with tqdm(
                total=len(numbers) * len(interventions), desc=progress, unit="row",
                disable=None if progress else True, leave=False,
            ) as bar:  # fmt: skip
                results = _Results(numbers, len(interventions), bar.update)
                self._sweep(interventions, metric, scope, slots, max_rows, results)
            return {"swept": results.found}

        if store is None:
            return make()["swept"]
        if metric.name is None:
            raise MechinterpError("sweep: a store was given, but the metric has no name to keep it under")
        what = {
            "sweep": self._prompts,
            "only": numbers,
            "slots": slots,
            "interventions": interventions,
            "metric": (metric.name, metric.residual, metric.neurons),
        }
        return store.tensors(what, make)["swept"]

    def _sweep(
        self,
        interventions: Sequence[Intervention | None],
        metric: Metric,
        scope: Scope,
        slots: Sequence[Tensor],
        max_rows: int | None,
        results: _Results,
    ) -> None:
        check_hooks(self.subject, self.prompts[results.numbers[0]])
        untouched = [number for number, one in enumerate(interventions) if one is None]
        edited = [(begins(one), number, one) for number, one in enumerate(interventions) if one is not None]
        edited.sort(key=lambda one: one[:2])
        places, order = [place for place, _, _ in edited], [number for _, number, _ in edited]
        tables = tables_of(self.subject, [one for _, _, one in edited], scope=scope, slots=slots)
        frozen = [place for place, these in tables.items() if any(isinstance(one, Frozen) for one in these)]
        wanted = Wanted.by([*places, *frozen], metric)
        for index, rows in self.passes.parts(results.numbers, max_rows):
            group = [self.passes.groups[index][row] for row in rows]
            start = min(first_edited(slots[number]) for number in group)
            clean = self.passes.clean(index, rows, start, wanted)
            shadows = run_shadows(self.subject, self.prompts, group, start, tables)
            mine = torch.stack([slots[number][start:] for number in group])
            unedited = clean.readout(metric)
            for number in untouched:
                results.put(group, [number], metric.read(unedited))
            at_once = max(1, min(max_rows or 2**31, rows_at_once(self.subject, clean)) // len(group))
            for first in range(0, len(edited), at_once):
                under = range(first, min(first + at_once, len(edited)))
                wave = run_wave(clean, mine, tables, under, places[under.start : under.stop], metric, unedited, shadows)
                results.put(group, order[under.start : under.stop], metric.read(wave))

    @cached_property
    def _prompts(self) -> str:
        return digest(self.prompts)

    def _numbers(self, only: Sequence[int] | None) -> list[int]:
        if only is None:
            return list(range(len(self.prompts)))
        numbers = whole_numbers(only, "run: only", ("prompts",)).tolist()
        if not numbers or len(set(numbers)) < len(numbers) or not 0 <= min(numbers) <= max(numbers) < len(self.prompts):
            raise MechinterpError(
                f"run: only: expected different numbers of prompts, 0 to {len(self.prompts) - 1}, got {quote(numbers)}"
            )
        return numbers


class _Results:
    """The table that a sweep fills."""

    def __init__(self, numbers: Sequence[int], interventions: int, done: Callable[[int], Any]) -> None:
        self.numbers, self.interventions, self.done = numbers, interventions, done
        self.line = {number: line for line, number in enumerate(numbers)}
        self.found = torch.empty(0)

    def put(self, group: Sequence[int], interventions: Sequence[int], values: Tensor) -> None:
        """values (interventions * group[, m]), one intervention after the other."""
        if not self.found.numel():
            shape = (len(self.numbers), self.interventions, *values.shape[1:])
            self.found = torch.empty(shape, dtype=values.dtype)
        if values.shape[1:] != self.found.shape[2:]:
            raise MechinterpError(
                f"Metric: it gave {tuple(values.shape[1:])} numbers a row here, {tuple(self.found.shape[2:])} before"
            )
        lines = torch.tensor([self.line[number] for number in group])
        by_prompt = values.cpu().unflatten(0, (-1, len(group))).transpose(0, 1)
        self.found[lines[:, None], torch.tensor(interventions)] = by_prompt
        self.done(len(values))


def checked_interventions(interventions: Sequence[Intervention | None], what: str) -> list[Intervention | None]:
    """Raises MechinterpError for none, or what are none."""
    every = each(interventions, what, "a list of interventions")
    for one in every:
        parts(one)
    if not every:
        raise MechinterpError(f"{what}: 0 interventions; give at least one, None for the clean run")
    return every
