"""The layers of a sweep: rows that begin in the layer that their intervention first touches.

run_wave     some interventions on the prompts of a clean pass
check_hooks  refuses hooks of others that rows would be run past
Joining      which rows have begun

Rows stand in rounds: those of P prompts under one intervention, then those under the next. The interventions are in the
order in which they begin, so that the rows that have begun are always the first ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mechinterp.clean import Clean, Wanted, run_clean
from mechinterp.clean_shadow import Key, Shadowed, key_of
from mechinterp.errors import MechinterpError
from mechinterp.metric import Metric, Readout
from mechinterp.row_edits import HEADS, NEURONS, RESIDUAL, Edits, Frozen, Place, RowEditor, Rows, Swapped, edit_rows
from mechinterp.shadow import Shadow
from mechinterp.shared_prefix import shared_prefix
from mechinterp.state import foreign_hooks
from mechinterp.subject import Subject


@dataclass(eq=False)
class Joining:
    """Which rows have begun: the first `begun`, P for each intervention.

    Attributes:
        places: of the interventions, where each begins, in order.
    """

    places: Sequence[Place]
    prompts: int
    begun: slice | None = None

    def begin(self, place: Place) -> slice | None:
        """The rows that begin here, if any; from now on they have begun."""
        first = 0 if self.begun is None else self.begun.stop
        new = slice(first, first + self.places.count(place) * self.prompts)
        self.begun = slice(0, new.stop) if new.stop else None
        return new if new.stop > first else None


def run_wave(
    clean: Clean,
    slots: Tensor,
    tables: Mapping[Place, Sequence[Edits]],
    under: Sequence[int],
    places: Sequence[Place],
    metric: Metric,
    unedited: Readout,
    shadows: Mapping[Key, Shadowed] | None = None,
) -> Readout:
    """The last token of every prompt under every intervention, P rows for each.

    Args:
        slots: (P, C) what the scope says of the tokens that `clean` has kept.
        under: numbers of the interventions, as the tables have them.
        places: where each of them begins, in order.
        unedited: what `clean` gives the metric.
        shadows: what references' heads read out in the clean pass, where the tables transplant heads.
    """
    return _Wave(clean, slots, tables, under, places, metric, shadows or {}).run(unedited)


def check_hooks(subject: Subject, prompt: list[int]) -> None:
    """Rows are run through the parts of each layer, past hooks of others on the layers themselves.

    Raises:
        MechinterpError: such hooks change what the layers give, tried on one prompt.
    """
    if not foreign_hooks(subject):
        return
    first, metric = Place(0, HEADS), Metric(lambda read: read.final)
    clean = run_clean(subject, [prompt], [0], 0, Wanted.by([first], metric))
    nowhere = torch.full((1, len(prompt)), -1, device=subject.device)
    found = run_wave(clean, nowhere, {}, [0], [first], metric, clean.readout(metric)).final
    tolerance = 1e-3 if subject.model.dtype in (torch.float32, torch.float64) else 5e-2
    if not (found - clean.final).abs().max() <= tolerance * clean.final.abs().max():
        raise MechinterpError(
            "sweep: hooks of others on the model's layers change what they give, and rows are run past them; remove "
            "them, or give the edit as an intervention"
        )


class _Wave:
    """One batch of rows on its way through the layers."""

    def __init__(
        self,
        clean: Clean,
        slots: Tensor,
        tables: Mapping[Place, Sequence[Edits]],
        under: Sequence[int],
        places: Sequence[Place],
        metric: Metric,
        shadows: Mapping[Key, Shadowed],
    ) -> None:
        self.clean, self.metric, self.subject, self.shadows = clean, metric, clean.subject, shadows
        rounds, device = len(under), clean.subject.device
        prompts, columns = slots.shape
        self.rows = Rows(
            torch.tensor(list(under), device=device).repeat_interleave(prompts),
            clean.prompt.repeat(rounds),
            slots.repeat(rounds, 1),
        )
        self.joining = Joining(places, prompts)
        self.stream = clean.final.new_empty(rounds * prompts, columns, clean.subject.anatomy.d_model)
        self.editor = RowEditor(_beside(clean, tables), self.rows)
        self.residual: dict[int, Tensor] = {}
        self.neurons: dict[int, Tensor] = {}

    def run(self, unedited: Readout) -> Readout:
        anatomy, clean = self.subject.anatomy, self.clean
        positions = torch.arange(clean.start, clean.start + clean.columns, device=self.subject.device)
        rotary = self.subject.model.model.rotary_emb(self.stream, positions[None])
        with ExitStack() as stack:
            stack.enter_context(shared_prefix(self.subject, clean.prefix))
            stack.enter_context(edit_rows(self.subject, self.editor))
            self._watch_neurons(stack)
            for layer in range(self.joining.places[0].layer, anatomy.n_layers):
                rotary = self._move(anatomy.o_proj(layer).weight.device, rotary)
                if old := self.joining.begun:
                    self._attend(layer, old, rotary)
                if layer == anatomy.n_layers - 1:
                    self._keep_last_column()
                if new := self.joining.begin(Place(layer, HEADS)):
                    self._begin_with_heads(layer, new)
                if new := self.joining.begin(Place(layer, NEURONS)):
                    self.stream[new] = self._clean(clean.middle(layer), new)
                if old := self.joining.begun:
                    self._mlp(layer, old)
                if new := self.joining.begin(Place(layer, RESIDUAL)):
                    self.stream[new] = self._clean(clean.stream[layer + 1], new)
                if old := self.joining.begun:
                    self._leave(layer, old)
        return Readout(self.subject, self.rows.prompt, anatomy.norm(self.stream[:, -1]), *self._read(unedited))

    def _attend(self, layer: int, rows: slice, rotary: tuple[Tensor, Tensor]) -> None:
        normed = self.subject.anatomy.attention_norm(layer)(self.stream[rows])
        self._let_read(layer, lambda swap: self._read_out(swap, layer, rows, normed, rotary))
        self.editor.rows = self.rows[rows]  # for its hooks in what is called next
        attention = self.subject.anatomy.attention(layer)
        mixed, _ = attention(hidden_states=normed, position_embeddings=rotary, attention_mask=None)
        self.stream[rows] += mixed

    def _mlp(self, layer: int, rows: slice) -> None:
        normed = self.subject.anatomy.mlp_norm(layer)(self.stream[rows])
        self.editor.rows = self.rows[rows]
        self.stream[rows] += self.subject.anatomy.mlp(layer)(normed)

    def _leave(self, layer: int, rows: slice) -> None:
        """The stream after a layer."""
        self.editor.rows = self.rows[rows]
        self.stream[rows] = self.editor.edit(Place(layer, RESIDUAL), self.stream[rows])
        if layer in self.metric.residual:
            self.residual[layer] = self.stream[rows, -1].clone()

    def _begin_with_heads(self, layer: int, rows: slice) -> None:
        self._let_read(layer, lambda swap: self._clean(self.shadows[key_of(swap, layer)].heads, rows))
        self.editor.rows, place = self.rows[rows], Place(layer, HEADS)
        heads = self.editor.edit(place, self._clean(self.clean.heads[layer], rows))
        written = self.editor.write(place, heads, self.clean.written(layer, heads))
        self.stream[rows] = self._clean(self.clean.stream[layer], rows) + written

    def _let_read(self, layer: int, read: Callable[[Swapped], Tensor]) -> None:
        """Give transplanted heads what they read out in the rows that are edited next."""
        place = Place(layer, HEADS)
        if any(swap.reference is not None for swap in self.editor.swaps(place)):
            self.editor.tables[place] = [
                replace(one, reads=read(one)) if isinstance(one, Swapped) else one for one in self.editor.tables[place]
            ]

    def _read_out(
        self, swap: Swapped, layer: int, rows: slice, normed: Tensor, rotary: tuple[Tensor, Tensor]
    ) -> Tensor:
        """(R, S, n_heads * d_head): of the rows in which a reference's heads read, what they read out."""
        mine = (swap.of.to(normed.device)[self.rows.under[rows]] >= 0).nonzero()[:, 0]
        anatomy = self.subject.anatomy
        found = normed.new_zeros(*normed.shape[:2], anatomy.n_heads * anatomy.d_head)
        if len(mine) and swap.reference is not None:
            with shared_prefix(swap.reference, self.shadows[key_of(swap, layer)].prefix):
                given = {"hidden_states": normed[mine], "position_embeddings": rotary, "attention_mask": None}
                found[mine] = Shadow(swap.reference, layer).read_out(given)
        return found

    def _clean(self, values: Tensor, rows: slice) -> Tensor:
        """Clean values (P, C, n) for these rows, of the columns that are still needed."""
        rounds = (rows.stop - rows.start) // len(values)
        return values[:, -self.stream.shape[1] :].repeat(rounds, 1, 1)

    def _move(self, device: torch.device, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """To the device of the next layer: a large model is spread over several."""
        self.stream, self.rows = self.stream.to(device), self.rows.to(device)
        return rotary[0].to(device), rotary[1].to(device)

    def _keep_last_column(self) -> None:
        """Nothing after the last layer's attention looks at the others."""
        self.rows = replace(self.rows, slots=self.rows.slots[:, -1:])
        self.stream = self.stream[:, -1:].clone()

    def _watch_neurons(self, stack: ExitStack) -> None:
        """At the last token, after the edits."""
        for layer in self.metric.neurons:

            def read(module: nn.Module, args: tuple[Tensor], layer: int = layer) -> None:
                self.neurons[layer] = args[0][:, -1].clone()

            stack.callback(self.subject.anatomy.down_proj(layer).register_forward_pre_hook(read).remove)

    def _read(self, unedited: Readout) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Residual stream and neurons by layer; clean values for the rows that had not begun there."""

        def complete(found: Tensor | None, values: Tensor) -> Tensor:
            found = values[:0] if found is None else found
            return torch.cat([found, values.repeat((len(self.stream) - len(found)) // len(values), 1)])

        return (
            {layer: complete(self.residual.get(layer), values) for layer, values in unedited.residual.items()},
            {layer: complete(self.neurons.get(layer), values) for layer, values in unedited.neurons.items()},
        )


def _beside(clean: Clean, tables: Mapping[Place, Sequence[Edits]]) -> dict[Place, list[Edits]]:
    """Tables that know the clean run of their rows."""
    found: dict[Place, list[Edits]] = {}
    for place, these in tables.items():
        found[place] = [replace(one, clean=clean.at(place)) if isinstance(one, Frozen) else one for one in these]
    return found
