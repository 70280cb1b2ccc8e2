"""Parts of a model held at what they are in a clean run, whatever is edited beside them.

Freeze      which ones: outputs of heads, of MLPs, attention patterns
clean_run   a block in which a run without edits is recorded
CleanRun    what it yields
freeze      the block in which the recorded parts are held
held        the places of a model that a Freeze holds

Heads are held at the input of `o_proj`, MLPs at that of `down_proj`, patterns by the queries and keys of a layer. A
sweep has a clean run of its own: there a Freeze is an intervention beside others, to which it gives way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mechinterp.aim import Edit, aiming
from mechinterp.errors import MechinterpError, quote
from mechinterp.given import layers, pairs, whole_numbers
from mechinterp.passes import Pass, watch_passes
from mechinterp.positions import Scope, everywhere
from mechinterp.replacements import Head, head_features
from mechinterp.row_edits import HEADS, KEYS, NEURONS, QUERIES, Place
from mechinterp.subject import Subject, check_subject


@dataclass(frozen=True, eq=False)
class Freeze:
    """What stays as in the clean run, at all positions but those where an intervention beside it edits the same.

    Attributes:
        heads: (layer, head), whose outputs stay.
        mlps: layers whose MLP writes what it did.
        patterns: layers whose heads attend as they did, to values that may have changed.
    """

    heads: Sequence[Head] = ()
    mlps: Sequence[int] = ()
    patterns: Sequence[int] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "heads", pairs(self.heads, "Freeze: heads"))
        for name in ("mlps", "patterns"):
            given = whole_numbers(getattr(self, name), f"Freeze: {name}", ("layers",))
            object.__setattr__(self, name, tuple(dict.fromkeys(given.tolist())))
        if not (self.heads or self.mlps or self.patterns):
            raise MechinterpError("Freeze: name at least one head, MLP or layer whose patterns are to be held")

    def on(self, subject: Subject, scope: Scope = everywhere) -> AbstractContextManager[Edit]:
        """Raises MechinterpError: a block has no clean run of its own."""
        raise MechinterpError(
            "Freeze: what is held has to be recorded first: with clean_run(subject, it) as clean, then freeze(clean)"
        )


class CleanRun:
    """The parts to be held, as a run without edits had them, by token position.

    Attributes:
        places: which inputs of which places are held.
        found: by place, (B, S, features) over the token positions 0 to S - 1.
        known: by place, (B, S), whether the run reached that position.
    """

    def __init__(self, subject: Subject, places: dict[Place, list[int]]) -> None:
        self.subject, self.places = subject, places
        self.found: dict[Place, Tensor] = {}
        self.known: dict[Place, Tensor] = {}

    def record(self, place: Place, now: Pass, values: Tensor) -> None:
        """values (B, T, features) of a pass."""
        rows, columns = (now.positions >= 0).nonzero(as_tuple=True)
        positions = now.positions[rows, columns]
        span, before = int(positions.max()) + 1, self.found.get(place)
        if before is None or before.shape[1] < span:
            wider = values.new_zeros(len(values), span, values.shape[2])
            known = torch.zeros(len(values), span, dtype=torch.bool)
            if before is not None:
                wider[:, : before.shape[1]], known[:, : before.shape[1]] = before, self.known[place]
            self.found[place], self.known[place] = wider, known
        to = values.device
        self.found[place][rows.to(to), positions.to(to)] = values.detach()[rows.to(to), columns.to(to)]
        self.known[place][rows.cpu(), positions.cpu()] = True

    def at(self, place: Place, rows: Tensor, positions: Tensor, n_rows: int) -> Tensor:
        """(edited, features). Raises MechinterpError for positions of which there was no clean run."""
        known = self.known.get(place)
        if known is None or len(known) != n_rows:
            there = "nothing was run in its block" if known is None else f"the clean run has {len(known)} rows"
            raise MechinterpError(f"freeze: a pass of {n_rows} rows, but {there}; run the same prompts first")
        past = positions.cpu() >= known.shape[1]
        missing = past | ~known[rows.cpu(), positions.cpu().clamp(max=known.shape[1] - 1)]
        if missing.any():
            row, position = int(rows[missing.to(rows.device)][0]), int(positions[missing.to(positions.device)][0])
            raise MechinterpError(
                f"freeze: position {position} of row {row} is not in the clean run; run the same prompts first"
            )
        return self.found[place][rows.to(self.found[place].device), positions.to(self.found[place].device)]


@contextmanager
def clean_run(subject: Subject, held_by: Freeze | Iterable[Any]) -> Iterator[CleanRun]:
    """Record, in the passes of the block, what a Freeze is to hold later; enter it after edits that it should see.

    Args:
        held_by: a Freeze, or a tuple of interventions with one in it.

    Raises:
        MechinterpError: nothing to be held, or parts that the model does not have.
    """
    check_subject(subject)
    found = CleanRun(subject, held(subject, held_by))
    with ExitStack() as stack:
        watch = stack.enter_context(watch_passes(subject))
        for place in found.places:

            def record(values: Tensor, place: Place = place) -> None:
                found.record(place, watch.now(), values)

            stack.callback(_hook(subject, place, record))
        yield found


@contextmanager
def freeze(clean: CleanRun) -> Iterator[None]:
    """Hold what was recorded, for passes over the same rows; edits entered after it are not undone by it.

    Raises:
        MechinterpError: rows or positions of which there was no clean run.
        InstrumentError: when the block ends, a part that no pass has reached.
    """
    if not isinstance(clean, CleanRun):
        raise MechinterpError(f"freeze: expected a clean run, see clean_run, got {quote(clean)}")
    with ExitStack() as stack:
        for place, features in clean.places.items():
            aim = stack.enter_context(aiming(clean.subject, everywhere, [place.layer]))
            which = torch.tensor(features)

            def hold(values: Tensor, place: Place = place, aim: Any = aim, which: Tensor = which) -> Tensor:
                rows, columns, _ = aim.chosen(place.layer, values.device)
                positions = aim.watch.now().positions.to(values.device)[rows, columns]
                before, on = clean.at(place, rows, positions, len(values)), which.to(values.device)
                values = values.clone()
                values[rows[:, None], columns[:, None], on] = before.to(values)[:, on]
                return values

            stack.callback(_hook(clean.subject, place, hold))
        yield


def held(subject: Subject, held_by: Any) -> dict[Place, list[int]]:
    """By place, the features that a Freeze, or all of several interventions, hold.

    Raises:
        MechinterpError: none of them is a Freeze, or it names parts that the model does not have.
    """
    check_subject(subject)
    anatomy, found = subject.anatomy, defaultdict[Place, list[int]](list)
    freezes = list(_freezes(held_by))
    if not freezes:
        raise MechinterpError(f"expected a Freeze, or interventions with one among them, got {quote(held_by)}")
    for one in freezes:
        if one.heads:
            for layer, features in head_features(subject, one.heads).items():
                found[Place(layer, HEADS)] += features
        for layer in layers(one.mlps, anatomy, "Freeze: mlps"):
            found[Place(layer, NEURONS)] += range(anatomy.d_mlp)
        for layer in layers(one.patterns, anatomy, "Freeze: patterns"):
            found[Place(layer, QUERIES)] += range(anatomy.n_heads * anatomy.d_head)
            found[Place(layer, KEYS)] += range(anatomy.n_kv_heads * anatomy.d_head)
    return {place: sorted(set(features)) for place, features in found.items()}


def _freezes(given: Any) -> Iterator[Freeze]:
    if isinstance(given, Freeze):
        yield given
    elif isinstance(given, tuple | list):
        for one in given:
            yield from _freezes(one)


def _hook(subject: Subject, place: Place, look: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
    """Show `look` the values of a place in every pass, and take what it gives in their stead."""
    module = place.module(subject.anatomy)
    if place.is_input:

        def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            new = look(args[0])
            return None if new is None else (new, *args[1:])

        return module.register_forward_pre_hook(before).remove

    def after(module: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        return look(output)

    return module.register_forward_hook(after).remove
