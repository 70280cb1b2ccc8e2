"""Many interventions on many prompts for the price of a few passes.

sweep      the metric of every prompt under every intervention
Metric     what is measured: a function of a Readout, and the activations that it reads
Readout    the last token of some rows
log_odds   the metric of a verdict

An intervention changes nothing before the first position of its scope, and nothing below the first layer that it
touches. So each prompt is run once, without edits; then every (prompt, intervention) is a row of its own that begins at
that position, with the keys and values of its prompt's prefix, and in that layer, with what the one pass has left
there. Rows join the batch in their layer and run on together. A scope that begins with the first token leaves no
prefix to share; the layers below are saved all the same. Of the last layer's output only the last token is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from tqdm import tqdm
from transformers import DynamicCache

from mechinterp.errors import MechinterpError, quote
from mechinterp.given import each, whole_number, whole_numbers
from mechinterp.interventions import Intervention, parts
from mechinterp.memory import memory_for_rows
from mechinterp.passes import being_watched
from mechinterp.positions import Scope
from mechinterp.prompts import prompt_slots
from mechinterp.row_edits import (
    HEADS,
    NEURONS,
    RESIDUAL,
    Place,
    RowEditor,
    Rows,
    Table,
    edit_rows,
)
from mechinterp.shared_prefix import Prefix, shared_prefix
from mechinterp.store import Store
from mechinterp.subject import Subject
from mechinterp.tables import begins, tables_of
from mechinterp.tokens import same_length, token_ids

PROMPTS_AT_ONCE = 16
MOST = 2**27  # bytes of a batch's rows: with four times as many the real 0.5B takes 15 % longer


@dataclass(frozen=True, eq=False)
class Readout:
    """The last token of R rows.

    Attributes:
        prompt: (R,) number of the prompt.
        final: (R, d_model), after the final norm.
        residual: by layer, (R, d_model), the residual stream after the layer.
        neurons: by layer, (R, d_mlp), activations after the gate.
    """

    subject: Subject
    prompt: Tensor
    final: Tensor
    residual: Mapping[int, Tensor]
    neurons: Mapping[int, Tensor]

    def logits(self, tokens: Sequence[int] | None = None) -> Tensor:
        """(R, vocab), or of some tokens only (R, len(tokens)), fp32."""
        weight = self.subject.anatomy.unembed.weight
        if tokens is not None:
            weight = weight[vocabulary(self.subject, tokens).to(weight.device)]
        return linear(self.final.to(weight.device).float(), weight.float())


@dataclass(frozen=True)
class Metric:
    """What is measured at the last token.

    Attributes:
        of: maps a Readout to (R,) or (R, m).
        residual, neurons: the layers that it reads.
        name: says all that decides its values, so that sweeps of it can be kept in a Store; None if they are not.
    """

    of: Callable[[Readout], Tensor]
    residual: tuple[int, ...] = ()
    neurons: tuple[int, ...] = ()
    name: str | None = None

    def __post_init__(self) -> None:
        if not callable(self.of):
            raise MechinterpError(f"Metric: expected a function of a Readout, got {quote(self.of)}")
        for what in ("residual", "neurons"):
            given = whole_numbers(getattr(self, what), f"Metric: {what}", ("layers",))
            object.__setattr__(self, what, tuple(given.tolist()))

    def read(self, readout: Readout) -> Tensor:
        """(R,) or (R, m). Raises MechinterpError where the function gives something else."""
        found, rows = self.of(readout), len(readout.prompt)
        if not isinstance(found, Tensor) or found.ndim not in (1, 2) or len(found) != rows:
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else quote(found)
            raise MechinterpError(f"Metric: expected a tensor ({rows},) or ({rows}, m), one for each row, got {got}")
        return found


def log_odds(token: int, against: int) -> Metric:
    """log p(token) - log p(against), in nats."""
    token, against = (whole_number(one, "log_odds: token", least=0) for one in (token, against))

    def of(read: Readout) -> Tensor:
        ours, theirs = read.logits([token, against]).double().T
        return ours - theirs

    return Metric(of, name=f"log p({token}) - log p({against})")


def vocabulary(subject: Subject, tokens: Sequence[int]) -> Tensor:
    """Ids of tokens that the model can say. Raises MechinterpError for others."""
    ids, most = whole_numbers(tokens, "tokens", ("tokens",)), subject.anatomy.unembed.weight.shape[0]
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < most:
        raise MechinterpError(f"tokens: {quote(ids.tolist())}, but this model has the ids 0 to {most - 1}")
    return ids


def checked_metric(subject: Subject, metric: Metric) -> Metric:
    """Raises MechinterpError for what is no metric, or reads layers that the model does not have."""
    if not isinstance(metric, Metric):
        raise MechinterpError(f"expected a Metric, such as log_odds(token, against), got {quote(metric)}")
    for layer in (*metric.residual, *metric.neurons):
        subject.anatomy.check_layer(layer)
    return metric


def checked_interventions(interventions: Sequence[Intervention | None], what: str) -> list[Intervention | None]:
    """Raises MechinterpError for none, or what are none."""
    every = each(interventions, what, "a list of interventions")
    for one in every:
        parts(one)
    if not every:
        raise MechinterpError(f"{what}: 0 interventions; give at least one, None for the clean run")
    return every


@torch.no_grad()
def sweep(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    interventions: Sequence[Intervention | None],
    metric: Metric,
    *,
    scope: Scope,
    max_rows: int | None = None,
    store: Store | None = None,
    progress: str | None = None,
) -> Tensor:
    """The metric of every prompt under every intervention, (prompts, interventions) or (..., m), on the CPU.

    Args:
        interventions: None is the clean run; a tuple of several is done at once.
        scope: where all of them apply. `at` and `since` name a row for each prompt.
        max_rows: (prompt, intervention) pairs run at once; by default what a fifth of the free memory holds.
        store: where a sweep is kept; one with the same prompts, interventions, scope and metric is read from it.
        progress: name of a progress bar on stderr (only where stderr is a terminal).

    Raises:
        MechinterpError: no prompts, no interventions, one that the model cannot have, a scope that edits nothing in
            one of the prompts, a store with a metric that has no name, or a call inside the `with` block of an edit
            or a capture.
    """
    subject.check_ready()
    prompts, interventions = (
        token_ids(subject, prompts, "sweep: prompts"),
        checked_interventions(interventions, "sweep"),
    )
    checked_metric(subject, metric)
    max_rows = None if max_rows is None else whole_number(max_rows, "sweep: max_rows", least=1)
    if being_watched(subject):
        raise MechinterpError("sweep: called inside a `with` block; give its edit as an intervention, close a capture")
    slots = prompt_slots(subject, prompts, scope)
    for number, row in enumerate(slots):
        if not (row >= 0).any():
            raise MechinterpError(f"sweep: the scope edits no token of prompt {number}; it can give only clean runs")
    if store is None:
        return _sweep(subject, prompts, interventions, metric, scope, slots, max_rows, progress)
    if metric.name is None:
        raise MechinterpError("sweep: a store was given, but the metric has no name to keep it under")
    what = {
        "sweep": prompts,
        "slots": slots,
        "interventions": interventions,
        "metric": (metric.name, metric.residual, metric.neurons),
    }

    def make() -> dict[str, Tensor]:
        return {"swept": _sweep(subject, prompts, interventions, metric, scope, slots, max_rows, progress)}

    return store.tensors(what, make)["swept"]


def _sweep(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    interventions: Sequence[Intervention | None],
    metric: Metric,
    scope: Scope,
    slots: Sequence[Tensor],
    max_rows: int | None,
    progress: str | None,
) -> Tensor:
    numbered = sorted(
        ((i, one) for i, one in enumerate(interventions) if one is not None), key=lambda pair: begins(pair[1])
    )
    numbers, some = [i for i, _ in numbered], [one for _, one in numbered]
    tables = tables_of(subject, some, scope=scope, slots=slots)
    places = [begins(one) for one in some]
    untouched = [i for i, one in enumerate(interventions) if one is None]
    results = torch.empty(0)
    total = len(prompts) * len(interventions)
    with tqdm(total=total, desc=progress, unit="row", disable=None if progress else True, leave=False) as bar:

        def put(group: list[int], columns: list[int], values: Tensor) -> None:
            """values (columns * group[, m]), column by column."""
            nonlocal results
            if not results.numel():
                results = values.new_empty(len(prompts), len(interventions), *values.shape[1:], device="cpu")
            if values.shape[1:] != results.shape[2:]:
                raise MechinterpError(
                    f"Metric: it gave {tuple(values.shape[1:])} numbers a row here, {tuple(results.shape[2:])} before"
                )
            by_column = values.cpu().unflatten(0, (-1, len(group)))
            results[torch.tensor(group)[:, None], torch.tensor(columns)] = by_column.transpose(0, 1)
            bar.update(len(values))

        for group in same_length(prompts, min(PROMPTS_AT_ONCE, max_rows or PROMPTS_AT_ONCE)):
            clean = _run(subject, group, prompts, slots, set(places), metric)
            for i in untouched:
                put(group, [i], metric.read(clean.readout))
            at_once = max(1, _rows_at_once(subject, clean, max_rows) // len(group))
            for first in range(0, len(some), at_once):
                chosen = range(first, min(first + at_once, len(some)))
                wave = _Wave(subject, clean, tables, chosen, places, metric)
                put(group, [numbers[i] for i in chosen], metric.read(wave.run()))
    return results


@dataclass(eq=False)
class _Clean:
    """One pass over P prompts without edits; of it the columns that rows run again, S of them."""

    prompt: Tensor  # (P,)
    slots: Tensor  # (P, S)
    start: int  # of these columns
    prefix: Prefix | None
    stream: dict[int, Tensor] = field(default_factory=dict)  # (P, S, d_model), what enters a layer, or the final norm
    heads: dict[int, Tensor] = field(default_factory=dict)  # (P, S, n_heads * d_head)
    middle: dict[int, Tensor] = field(default_factory=dict)  # (P, S, d_model), between attention and MLP
    neurons: dict[int, Tensor] = field(default_factory=dict)  # (P, S, d_mlp), for the metric
    readout: Readout = field(init=False)


def _run(
    subject: Subject,
    group: list[int],
    prompts: Sequence[Sequence[int]],
    slots: Sequence[Tensor],
    places: set[Place],
    metric: Metric,
) -> _Clean:
    anatomy = subject.anatomy
    mine = torch.stack([slots[i] for i in group])
    start = int((mine >= 0).any(0).nonzero()[0])
    clean = _Clean(torch.tensor(group, device=subject.device), mine[:, start:], start, None)
    cache = DynamicCache()  # without the configuration: layers with a sliding window, too, keep every key
    with ExitStack() as stack:

        def keep(into: dict[int, Tensor], layers: Iterable[int], module_of: Callable[[int], nn.Module]) -> None:
            for layer in sorted(set(layers)):

                def store(module: nn.Module, args: tuple[Tensor], layer: int = layer) -> None:
                    into[layer] = args[0][:, start:].clone()  # not a view: it would keep every column

                stack.callback(module_of(layer).register_forward_pre_hook(store).remove)

        def entered(layer: int) -> nn.Module:
            return anatomy.attention_norm(layer) if layer < anatomy.n_layers else anatomy.norm

        by_kind = {kind: [place.layer for place in places if place.kind == kind] for kind in (HEADS, NEURONS, RESIDUAL)}
        left = [layer + 1 for layer in [*by_kind[RESIDUAL], *metric.residual]]
        keep(clean.stream, [*by_kind[HEADS], *left], entered)
        keep(clean.heads, by_kind[HEADS], anatomy.o_proj)
        keep(clean.middle, by_kind[NEURONS], anatomy.mlp_norm)
        keep(clean.neurons, metric.neurons, anatomy.down_proj)
        ids = torch.tensor([prompts[i] for i in group], device=subject.device)
        final = subject.model.model(ids, past_key_values=cache, use_cache=True).last_hidden_state
    if start:
        layers = [(layer.keys[:, :, :start], layer.values[:, :, :start]) for layer in cache.layers]
        clean.prefix = Prefix([keys for keys, _ in layers], [values for _, values in layers])
    clean.readout = Readout(
        subject,
        clean.prompt,
        final[:, -1],
        {layer: clean.stream[layer + 1][:, -1] for layer in metric.residual},
        {layer: clean.neurons[layer][:, -1] for layer in metric.neurons},
    )
    return clean


class _Wave:
    """Rows on their way through the layers, in rounds: P rows under one intervention, then P under the next.

    The interventions are in the order in which they begin; `joined` of them have begun.
    """

    def __init__(
        self,
        subject: Subject,
        clean: _Clean,
        tables: Mapping[Place, Sequence[Table]],
        chosen: Sequence[int],
        places: Sequence[Place],
        metric: Metric,
    ) -> None:
        self.subject, self.clean, self.metric = subject, clean, metric
        self.places = [places[i] for i in chosen]
        prompts, columns = clean.slots.shape
        self.rows = Rows(
            torch.tensor(chosen, device=subject.device).repeat_interleave(prompts),
            clean.prompt.repeat(len(chosen)),
            clean.slots.repeat(len(chosen), 1),
        )
        self.stream = clean.readout.final.new_empty(len(chosen) * prompts, columns, subject.anatomy.d_model)
        self.joined = 0
        self.editor = RowEditor(tables, self.rows)
        self.residual: dict[int, Tensor] = {}
        self.neurons: dict[int, Tensor] = {}

    def run(self) -> Readout:
        anatomy, clean = self.subject.anatomy, self.clean
        positions = torch.arange(clean.start, clean.start + clean.slots.shape[1], device=self.subject.device)
        rotary = self.subject.model.model.rotary_emb(self.stream, positions[None])
        with ExitStack() as stack:
            stack.enter_context(shared_prefix(self.subject, clean.prefix))
            stack.enter_context(edit_rows(self.subject, self.editor))
            self._read_neurons(stack)
            for layer in range(self.places[0].layer, anatomy.n_layers):
                rotary = self._move(anatomy.o_proj(layer).weight.device, rotary)
                if old := self._call_old():
                    normed = anatomy.attention_norm(layer)(self.stream[old])
                    attention = anatomy.attention(layer)
                    mixed, _ = attention(hidden_states=normed, position_embeddings=rotary, attention_mask=None)
                    self.stream[old] += mixed
                if layer == anatomy.n_layers - 1:
                    self._keep_last_column()
                if new := self._call_new(Place(layer, HEADS)):
                    written = anatomy.o_proj(layer)(self._rounds(clean.heads[layer], new))
                    self.stream[new] = self._rounds(clean.stream[layer], new) + written
                if new := self._call_new(Place(layer, NEURONS)):
                    self.stream[new] = self._rounds(clean.middle[layer], new)
                if old := self._call_old():
                    self.stream[old] += anatomy.mlp(layer)(anatomy.mlp_norm(layer)(self.stream[old]))
                if new := self._call_new(Place(layer, RESIDUAL)):
                    self.stream[new] = self._rounds(clean.stream[layer + 1], new)
                if old := self._call_old():
                    self.stream[old] = self.editor.edit(Place(layer, RESIDUAL), self.stream[old])
                    if layer in self.metric.residual:
                        self.residual[layer] = self.stream[old, -1].clone()
        return Readout(
            self.subject,
            self.rows.prompt,
            anatomy.norm(self.stream[:, -1]),
            {layer: self._complete(self.residual.get(layer), old) for layer, old in clean.readout.residual.items()},
            {layer: self._complete(self.neurons.get(layer), old) for layer, old in clean.readout.neurons.items()},
        )

    def _move(self, device: torch.device, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """To the device of the next layer: a large model is spread over several."""
        self.stream, self.rows = self.stream.to(device), self.rows.to(device)
        return rotary[0].to(device), rotary[1].to(device)

    def _call_old(self) -> slice | None:
        """The rows that have joined, which the next module is called with."""
        return self._call(0, self.joined)

    def _call_new(self, place: Place) -> slice | None:
        """The rows that join here, which the next module is called with."""
        before, self.joined = self.joined, self.joined + self.places.count(place)
        return self._call(before, self.joined)

    def _call(self, first: int, last: int) -> slice | None:
        prompts = len(self.clean.prompt)
        rows = slice(first * prompts, last * prompts)
        self.editor.rows = self.rows[rows]
        return rows if last > first else None

    def _read_neurons(self, stack: ExitStack) -> None:
        """At the last token, after the edits."""
        for layer in self.metric.neurons:

            def read(module: nn.Module, args: tuple[Tensor], layer: int = layer) -> None:
                self.neurons[layer] = args[0][:, -1].clone()

            stack.callback(self.subject.anatomy.down_proj(layer).register_forward_pre_hook(read).remove)

    def _keep_last_column(self) -> None:
        self.rows = replace(self.rows, slots=self.rows.slots[:, -1:])
        self.stream = self.stream[:, -1:].clone()

    def _rounds(self, values: Tensor, rows: slice) -> Tensor:
        """Clean values (P, S, n) for these rows, of the columns that are still needed."""
        rounds = (rows.stop - rows.start) // len(values)
        return values[:, -self.stream.shape[1] :].repeat(rounds, 1, 1)

    def _complete(self, found: Tensor | None, clean: Tensor) -> Tensor:
        """Of rows that had not joined yet, the clean values (P, n)."""
        found = clean[:0] if found is None else found
        return torch.cat([found, clean.repeat((len(self.stream) - len(found)) // len(clean), 1)])


def _rows_at_once(subject: Subject, clean: _Clean, max_rows: int | None) -> int:
    anatomy, columns = subject.anatomy, clean.slots.shape[1]
    features = 4 * anatomy.d_model + 4 * anatomy.n_heads * anatomy.d_head + 3 * anatomy.d_mlp
    keys = 2 * anatomy.n_heads * (clean.start + columns if clean.prefix else 1)
    row = 4 * columns * (features + keys)
    return min(max_rows or 2**31, int(memory_for_rows(subject, MOST) / row))
