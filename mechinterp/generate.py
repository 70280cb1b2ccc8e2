"""Generation under interventions, many at once.

generate    continuations of every prompt under every intervention
end_tokens  where a text of this checkpoint ends

Every (prompt, intervention) is a row of one batch with one KV cache. What the prompts have before the first edited
position is run once for all interventions. A row that has stopped leaves the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache

from mechinterp.errors import MechinterpError
from mechinterp.evidence import InstrumentError
from mechinterp.given import real_number, whole_number, whole_numbers
from mechinterp.interventions import Intervention
from mechinterp.memory import memory_for_rows
from mechinterp.passes import Pass, being_watched
from mechinterp.positions import Maybe, Scope, slots_of
from mechinterp.prepared import checked_interventions
from mechinterp.prompts import prompt_slots
from mechinterp.row_edits import Edits, Frozen, Place, RowEditor, Rows, Swapped, edit_rows
from mechinterp.subject import Subject, check_subject
from mechinterp.tables import tables_of
from mechinterp.tokens import pad, token_ids, unembed

MOST = 2**29  # bytes of a batch's rows and their KV cache
STOPPED = 1 / 8
"""Of a batch, how many rows must have stopped before it is made smaller: that copies the cache."""


@torch.no_grad()
def generate(
    subject: Subject,
    prompts: Sequence[Sequence[int]],
    interventions: Sequence[Intervention | None],
    *,
    scope: Scope,
    max_new_tokens: int,
    stop: Sequence[int] | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    max_rows: int | None = None,
    progress: str | None = None,
) -> list[list[list[int]]]:
    """New tokens by prompt and intervention, the stop token included.

    Args:
        interventions: None is the model as it is.
        scope: where all of them apply, in the prompts and in each new token as it is run. `at` and `since` name a row
            for each prompt.
        stop: tokens that end a row; by default every end token of the checkpoint, see `end_tokens`.
        temperature: 0 takes the likeliest token. Above, a token is drawn, for the same prompt and step with the same
            random number under every intervention, whatever else is in the batch.
        max_rows: (prompt, intervention) pairs run at once; by default what a fifth of the free memory holds.
        progress: name of a progress bar on stderr (only where stderr is a terminal).

    Raises:
        MechinterpError: no prompts, no interventions, one that the model cannot have, or a call inside the `with`
            block of an edit or a capture, or a position that no text can reach.
        InstrumentError: an intervention that fired in no text, unless the scope is a `maybe`.
    """
    check_subject(subject)
    subject.check_ready()
    prompts, interventions = (
        token_ids(subject, prompts, "generate: prompts"),
        checked_interventions(interventions, "generate"),
    )
    max_new_tokens = whole_number(max_new_tokens, "generate: max_new_tokens", least=1)
    max_rows = None if max_rows is None else whole_number(max_rows, "generate: max_rows", least=1)
    temperature, seed = real_number(temperature, "generate: temperature"), whole_number(seed, "generate: seed", least=0)
    if temperature < 0:
        raise MechinterpError(f"generate: temperature: {temperature:g}; expected 0 (the likeliest token) or more")
    if being_watched(subject):
        raise MechinterpError("generate: called inside a `with` block; give its edit as an intervention")
    ending = whole_numbers(end_tokens(subject) if stop is None else stop, "generate: stop", ("tokens",)).to(
        subject.device
    )
    slots = prompt_slots(subject, prompts, scope, later=max_new_tokens - 1)  # the last new token is not run
    tables = tables_of(subject, interventions, scope=scope, slots=slots)
    every = [one for these in tables.values() for one in these]
    if any(isinstance(one, Frozen) for one in every):
        raise MechinterpError("generate: a Freeze holds what a clean run has, but texts under an edit go another way")
    if any(isinstance(one, Swapped) and one.reference is not None for one in every):
        raise MechinterpError("generate: heads are not transplanted here; call model.generate in their block")
    chances = torch.rand(
        len(prompts), max_new_tokens, generator=torch.Generator().manual_seed(seed % 2**64), dtype=torch.float64
    ).to(subject.device)
    texts: list[list[list[int]]] = [[[] for _ in interventions] for _ in prompts]
    max_rows = max_rows or _rows_at_once(subject, max(map(len, prompts)) + max_new_tokens)
    fired = torch.zeros(len(interventions), dtype=torch.bool, device=subject.device)
    total = len(prompts) * len(interventions)
    with tqdm(total=total, desc=progress, unit="row", disable=None if progress else True, leave=False) as bar:
        for group, under in _portions(prompts, len(interventions), max_rows):
            decoder = _Decoder(subject, prompts, slots, group, under, tables, scope, len(interventions))
            begin = decoder.run_prefix()
            with edit_rows(subject, decoder.editor):
                logits = decoder.start(begin)
                for step in range(max_new_tokens):
                    new = _choose(logits, temperature, chances[decoder.prompt, step])
                    live = ~decoder.stopped
                    written = torch.stack([decoder.prompt, decoder.under, new])[:, live]
                    for prompt, number, token in written.T.tolist():
                        texts[prompt][number].append(token)
                    decoder.stopped |= torch.isin(new, ending)
                    if step + 1 == max_new_tokens or decoder.stopped.all():
                        break
                    logits = decoder.step(new)
            fired |= decoder.fired
            bar.update(len(group) * len(under))
    for number, one in enumerate(interventions):
        if one is not None and not fired[number] and not isinstance(scope, Maybe):
            raise InstrumentError(
                f"generate: intervention {number} never fired: the scope selected no token of any text; "
                "give another one, or maybe(scope)"
            )
    return texts


def end_tokens(subject: Subject) -> list[int]:
    """Those that the tokenizer, the configuration and the generation configuration name."""
    model = subject.model
    named = [
        getattr(subject.tokenizer, "eos_token_id", None),
        getattr(model.config, "eos_token_id", None),
        getattr(getattr(model, "generation_config", None), "eos_token_id", None),
    ]
    every = [one for given in named for one in (given if isinstance(given, list | tuple) else [given])]
    return sorted({int(one) for one in every if one is not None})


class _Decoder:
    """Rows of one batch, in rounds: P prompts under one intervention, then under the next."""

    def __init__(
        self,
        subject: Subject,
        prompts: Sequence[Sequence[int]],
        slots: Sequence[Tensor],
        group: list[int],
        under: Sequence[int],
        tables: Mapping[Place, Sequence[Edits]],
        scope: Scope,
        interventions: int,
    ) -> None:
        self.subject, self.scope = subject, scope
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=subject.device)
        self.batch = pad(subject, [prompts[i] for i in group])
        self.slots = torch.full_like(self.batch.input_ids, -1)  # (P, T)
        for row, number in zip(self.slots, group, strict=True):
            row[len(row) - len(slots[number]) :] = slots[number]
        self.prompt = torch.tensor(group, device=subject.device).repeat(len(under))
        self.under = torch.tensor(under, device=subject.device).repeat_interleave(len(group))
        self.mask = self.batch.attention_mask.repeat(len(under), 1)
        self.stopped = torch.zeros_like(self.prompt, dtype=torch.bool)
        self.cache = DynamicCache(config=subject.model.config)
        self.editor = RowEditor(
            {place: list(these) for place, these in tables.items()}, Rows(self.under, self.prompt, self.mask)
        )
        self.fired = torch.zeros(interventions, dtype=torch.bool, device=subject.device)
        self.made = 0  # new tokens so far

    def run_prefix(self) -> int:
        """Run what all rows of a prompt share, without edits; returns its width."""
        (prompts, width), rounds = self.slots.shape, len(self.prompt) // len(self.slots)
        edited = (self.slots >= 0).any(0).nonzero()[:, 0]
        begin = min(int(edited[0]) if len(edited) else width, width - 1)
        first = {name: value[:, :begin] for name, value in self.batch.inputs().items()}
        if begin:
            self.subject.model.model(**first, past_key_values=self.cache, use_cache=True)
            self.cache.batch_select_indices(torch.arange(prompts, device=self.mask.device).repeat(rounds))
        return begin

    def start(self, begin: int) -> Tensor:
        """Run the rest of the prompts; logits after them, (rows, vocab), fp32."""
        rounds = len(self.prompt) // len(self.slots)
        ids, positions = (x[:, begin:].repeat(rounds, 1) for x in (self.batch.input_ids, self.batch.position_ids))
        return self._run(ids, positions, self.slots[:, begin:].repeat(rounds, 1))

    def step(self, new: Tensor) -> Tensor:
        """Run one more token of each row, (rows,), leaving out rows that have stopped if they are many."""
        if self.stopped.float().mean() >= STOPPED:
            live = (~self.stopped).nonzero()[:, 0]
            self.cache.batch_select_indices(live)
            new, self.prompt, self.under = new[live], self.prompt[live], self.under[live]
            self.mask, self.stopped = self.mask[live], self.stopped[live]
        positions = self.lengths[self.prompt] + self.made
        self.made += 1
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(new), 1)], dim=1)
        return self._run(new[:, None], positions[:, None], self._slots_of(new)[:, None])

    def _run(self, ids: Tensor, positions: Tensor, slots: Tensor) -> Tensor:
        self.editor.rows = Rows(self.under, self.prompt, slots)
        self.fired[self.under[(slots >= 0).any(1)]] = True
        hidden = self.subject.model.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return unembed(self.subject, hidden[:, -1])

    def _slots_of(self, new: Tensor) -> Tensor:
        """What the scope says of these tokens, (rows,). A scope knows every prompt, not only those of this batch."""
        positions = (self.lengths + self.made - 1)[:, None]
        slots = torch.empty_like(new)
        for under in self.under.unique():
            rows = self.under == under
            ids = torch.zeros_like(positions)
            ids[self.prompt[rows], 0] = new[rows]
            slots[rows] = slots_of(self.scope, Pass(positions, torch.zeros_like(self.lengths), ids))[
                self.prompt[rows], 0
            ]
        return slots


def _choose(logits: Tensor, temperature: float, chances: Tensor) -> Tensor:
    """(rows,): the likeliest token, or the one where the cumulative probability passes each row's chance."""
    if not temperature:
        return logits.argmax(-1)
    below = ((logits.double() - logits.double().amax(-1, keepdim=True)) / temperature).softmax(-1).cumsum(-1)
    return torch.searchsorted(below, (chances * below[:, -1].clamp(max=1))[:, None], right=True)[:, 0].clamp(
        max=logits.shape[1] - 1
    )


def _portions(
    prompts: Sequence[Sequence[int]], interventions: int, max_rows: int
) -> Iterator[tuple[list[int], Sequence[int]]]:
    """Prompts of similar lengths, and interventions, of which all pairs are at most `max_rows`."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    at_once = min(interventions, max_rows)
    size = max(1, max_rows // at_once)
    for first in range(0, len(order), size):
        for number in range(0, interventions, at_once):
            yield order[first : first + size], range(number, min(number + at_once, interventions))


def _rows_at_once(subject: Subject, length: int) -> int:
    anatomy = subject.anatomy
    kept = 2 * anatomy.n_layers * anatomy.n_kv_heads * anatomy.d_head * length * subject.model.dtype.itemsize
    used = 4 * (2 * anatomy.unembed.weight.shape[0] + length * (4 * anatomy.d_model + 3 * anatomy.d_mlp))
    return max(1, int(memory_for_rows(subject, MOST) / (kept + used)))
