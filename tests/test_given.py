"""What the public functions take: the table below. Each argument in every spelling that a user has gives the same; what
cannot be taken is a MechinterpError of one line, never an error from inside.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import mechinterp as mi
from tests.conftest import VOCAB, tiny_subject

LAYERS, HEADS, D_HEAD, D_MODEL, D_MLP = 3, 4, 8, 32, 48
SUBJECT = tiny_subject("qwen2")
OTHER = tiny_subject("qwen2", seed=1)
PROMPTS = [[5, 6, 7, 8, 9], [9, 8, 7]]
numbers = torch.Generator().manual_seed(0)


def steps(*shape: int) -> Tensor:
    """Numbers that every format holds exactly, so that all spellings give the same to the last bit."""
    return torch.randint(-16, 17, shape, generator=numbers) / 8


@dataclass(frozen=True)
class Kind:
    """How an argument can be spelled, and what is wrong for all arguments of the kind."""

    spell: Callable[[Any], Iterable[Any]]
    bad: tuple[Any, ...]


def _spell_whole(number: int) -> Iterable[Any]:
    yield from (np.int64(number), np.uint8(number), torch.tensor(number), torch.tensor(number, dtype=torch.int32))


def _spell_real(number: float) -> Iterable[Any]:
    yield from (np.float32(number), np.float64(number), torch.tensor(number), torch.tensor(number).half())
    yield torch.tensor(number, requires_grad=True)


def _spell_reals(given: Tensor) -> Iterable[Any]:
    yield from (given.tolist(), tuple(given.tolist()), given.numpy(), given.double().numpy(), list(given))
    yield from (given.double(), given.half(), given.bfloat16(), given.clone().requires_grad_())
    yield np.ascontiguousarray(given.numpy()[::-1])[::-1]  # a view with a negative stride
    frozen = given.numpy().copy()
    frozen.flags.writeable = False
    yield frozen


def _spell_real_row(given: list[float]) -> Iterable[Any]:
    yield from _spell_reals(torch.tensor(given))


def _spell_labels(given: list[int]) -> Iterable[Any]:
    yield from (list(map(bool, given)), list(map(float, given)), tuple(given), np.array(given), np.array(given, bool))
    yield from (np.array(given, np.int8), np.array(given, np.uint8), torch.tensor(given), torch.tensor(given).bool())
    yield from (torch.tensor(given, dtype=torch.uint8), torch.tensor(given).half(), [2 * one - 1 for one in given])


def _spell_tokens(given: list[list[int]]) -> Iterable[Any]:
    yield from (tuple(map(tuple, given)), [np.array(one) for one in given], [torch.tensor(one) for one in given])
    yield from ((one for one in given), [torch.tensor(one, dtype=torch.uint8) for one in given])


def _spell_positions(given: list[list[int]]) -> Iterable[Any]:
    yield from (np.array(given), torch.tensor(given), torch.tensor(given, dtype=torch.int32), tuple(map(tuple, given)))
    yield from ([np.array(one) for one in given], [torch.tensor(one) for one in given], (one for one in given))


def _spell_row(given: list[int]) -> Iterable[Any]:
    yield from (tuple(given), np.array(given), np.array(given, np.uint8), torch.tensor(given), (one for one in given))
    yield from ([np.int32(one) for one in given], [torch.tensor(one) for one in given])


def _spell_pairs(given: list[tuple[int, int]]) -> Iterable[Any]:
    yield from (list(map(list, given)), np.array(given), torch.tensor(given), (one for one in given), given + given)
    yield from ([(np.int64(a), np.int8(b)) for a, b in given], [torch.tensor(one) for one in given], tuple(given))


def _spell_values(given: Mapping[int, Tensor]) -> Iterable[Any]:
    for spelled in zip(*(_spell_reals(one) for one in given.values()), strict=True):
        yield dict(zip(given, spelled, strict=True))
    yield {np.int64(layer): one for layer, one in given.items()}


NO_NUMBER = (None, "x", object(), [[1], [1, 2]], {1: 2}, 1j)
WHOLE = Kind(_spell_whole, (1.5, True, -1, 2.0, math.nan, [1], *NO_NUMBER))
SEED = Kind(_spell_whole, (1.5, True, -1, math.nan, [1], *NO_NUMBER))
REAL = Kind(_spell_real, (math.nan, math.inf, [1.0, 2.0], *NO_NUMBER))
REALS = Kind(_spell_reals, (3.0, [], ["a"], [None], torch.tensor([1j]), *NO_NUMBER))
LABELS = Kind(_spell_labels, ([0] * 6, [0, 1, 2, 0, 1, 2], [0, 1], ["a"] * 6, [math.nan] * 6, [], *NO_NUMBER))
TOKENS = Kind(_spell_tokens, ([], [[]], [[1.5]], [[-1]], [[VOCAB]], ["text"], "text", [5], [[True]], [[2**70]], 5,
                              [[[5]]], [5, [5]], None, "x", object(), {1: 2}, 1j))  # fmt: skip
POSITIONS = Kind(_spell_positions, ([], [[]], [0, 1], [[0.5]], [[-2], [0]], [[0], [1, 2]], "ab", [[True], [False]],
                                    [[2**70], [0]], 3, *NO_NUMBER))  # fmt: skip
ROW = Kind(_spell_row, ([-1, 0], [0.5, 1.0], [[0], [1]], 3, "ab", [2**70, 0], *NO_NUMBER))
TOKEN_SET = Kind(_spell_row, ([0.5, 1.0], [[0], [1]], 3, "ab", [2**70, 0], *NO_NUMBER))
AT_MOST = Kind(_spell_whole, (0, *WHOLE.bad[:-6], *NO_NUMBER[1:]))  # None is the default
LAYER_ROW = Kind(_spell_row, ([-1], [LAYERS], [0.5], 3, "ab", [[0]], *NO_NUMBER))
PAIRS = Kind(_spell_pairs, ([], (1, 2), [(1,)], [(1, 2, 3)], [(1.5, 2)], [(True, 1)], [(9, 0)], [(-1, 0)], [(0, 99)],
                            ["ab"], 5, [5], *NO_NUMBER))  # fmt: skip
VALUES = Kind(_spell_values, ({}, {5: steps(3)}, {1: None}, {1: steps(3)}, {1: "x"}, [steps(3)], steps(3), 3, "x",
                              {1: torch.full((HEADS, D_HEAD), math.nan)}, {"x": 0, 1: [[1], [1, 2]]}))  # fmt: skip


def block(make: Callable[..., Any]) -> Callable[..., Tensor]:
    """What a model says inside a `with` block."""

    def run(**given: Any) -> Tensor:
        with make(SUBJECT, **given), torch.no_grad():
            return mi.last_logits(SUBJECT, mi.pad(SUBJECT, PROMPTS))

    return run


def swept(intervention: Callable[..., Any]) -> Callable[..., Tensor]:
    def run(**given: Any) -> Tensor:
        return mi.sweep(SUBJECT, PROMPTS, [intervention(**given), None], mi.log_odds(5, 6), scope=mi.last)

    return run


def captured(positions: Any, **given: Any) -> Any:
    with mi.capture(SUBJECT, positions, **given) as seen, torch.no_grad():
        SUBJECT.model(**mi.pad(SUBJECT, PROMPTS).inputs(), use_cache=False)
    return seen


def selected(make: Callable[..., Any]) -> Callable[..., Tensor]:
    def run(**given: Any) -> Tensor:
        positions = torch.tensor([[-1, 0, 1], [0, 1, 2]])
        return make(**given)(mi.Pass(positions, torch.tensor([1, 0]), torch.tensor([[0, 5, 6], [5, 6, 7]])))

    return run


def read(metric: mi.Metric) -> Tensor:
    return mi.sweep(SUBJECT, PROMPTS, [None], metric, scope=mi.last)


def of_residual(layers: Any) -> Tensor:
    return read(mi.Metric(lambda readout: next(iter(readout.residual.values())), residual=layers))


def of_neurons(layers: Any) -> Tensor:
    return read(mi.Metric(lambda readout: next(iter(readout.neurons.values())), neurons=layers))


def said(tokens: Any) -> Tensor:
    return read(mi.Metric(lambda readout: readout.logits(tokens)))


def probed(residual: Any, labels: Any) -> Any:
    probe = mi.fit_probes(RESIDUAL, [0, 1, 0, 1, 1, 0])
    return probe.scores(residual), probe.correct(residual, labels)


def shared(interventions: Any, max_rows: Any) -> Tensor:
    prepared = mi.prepare(SUBJECT, PROMPTS, scope=mi.last)
    return prepared.run(interventions, mi.log_odds(5, 6), max_rows=max_rows)


RESIDUAL = steps(6, 2, 5)
LABELLING = [0, 1, 1, 0, 1, 0]
ROWS = torch.rand(2, 3, HEADS, 6, generator=numbers).mul(8).round() / 8
SHARES = torch.tensor([0.5, 0.25, 1.0, 0.0, 0.75, 1.0])
ABLATED = [mi.AblateHeads([(1, 2)]), mi.Steer(0, torch.ones(D_MODEL)), None]
NORMS = torch.arange(1.0, 1 + LAYERS * HEADS).reshape(LAYERS, HEADS)
OF_SUBJECT = {"subject": SUBJECT}
SWEEP = {**OF_SUBJECT, "prompts": PROMPTS, "metric": mi.log_odds(5, 6), "scope": mi.last}
LOOSE = ([], None, "x", 3, [3], [()], {1: 2}, [mi.AblateHeads], mi.AblateHeads([(0, 0)]))  # no interventions
NO_SCOPE = (None, [[1], [1]], 3, "last", torch.tensor([[1], [1]]))

TABLE: dict[str, tuple[Callable[..., Any], dict[str, Any], dict[str, Kind]]] = {
    # statistics
    "auc": (mi.auc, {"labels": LABELLING, "scores": steps(6)}, {"labels": LABELS, "scores": REALS}),
    "mean_interval": (mi.mean_interval, {"values": steps(6), "seed": 3}, {"values": REALS, "seed": SEED}),
    "share_interval": (mi.share_interval, {"values": SHARES, "seed": 3},
                       {"values": Kind(_spell_reals, (*REALS.bad, [0.5, 1.01], [0.5, -0.01])), "seed": SEED}),
    "statistic_interval": (mi.statistic_interval,
                           {"statistic": lambda rows: rows.mean(), "n": 9, "seed": 3, "resamples": 99},
                           {"n": WHOLE, "seed": SEED, "resamples": WHOLE}),
    "exceedance_p": (mi.exceedance_p, {"effect": 0.5, "null": steps(9), "tried": 2},
                     {"effect": REAL, "null": REALS, "tried": WHOLE}),
    "paired_p": (mi.paired_p, {"differences": steps(6), "seed": 3, "tried": 2},
                 {"differences": REALS, "seed": SEED, "tried": WHOLE}),
    "equivalence_p": (mi.equivalence_p, {"values": steps(6), "margin": 0.5, "tried": 2},
                      {"values": REALS, "margin": Kind(_spell_real, (*REAL.bad, 0.0, -0.5)), "tried": WHOLE}),
    "rank_correlation": (mi.rank_correlation, {"estimate": steps(2, 4), "exact": steps(2, 4)},
                         {"estimate": REALS, "exact": REALS}),
    # probes, heads, attention
    "fit_probes": (mi.fit_probes, {"residual": RESIDUAL, "labels": LABELLING, "penalty": 0.5, "steps": 50},
                   {"residual": REALS, "labels": LABELS, "penalty": REAL, "steps": WHOLE}),
    "fit_probes weights": (mi.fit_probes, {"residual": RESIDUAL, "labels": LABELLING, "weights": SHARES + 1},
                           {"weights": Kind(_spell_reals, REALS.bad[:3] + REALS.bad[6:])}),
    "LinearProbe": (probed, {"residual": RESIDUAL, "labels": LABELLING},
                    {"residual": REALS, "labels": Kind(_spell_labels, LABELS.bad[1:])}),
    "attention_to": (mi.attention_to, {"rows": ROWS, "targets": [[0, 2], [1, 1]]},
                     {"rows": Kind(_spell_reals, (*REALS.bad, ROWS[0])),
                      "targets": Kind(_spell_positions, ([[0], [-1]], [[0], [6]], [[0]], 3, None, [0.5, 1], ["a", "b"],
                                                         [[0.5], [1]]))}),
    "attending_heads": (mi.attending_heads, {"mass": ROWS[:, :, :, 0], "above": 0.25, "at_most": 5},
                        {"mass": REALS, "above": REAL, "at_most": WHOLE}),
    "matched_head_sets": (mi.matched_head_sets, {"heads": [(1, 2), (2, 0)], "sizes": NORMS, "draws": 5, "seed": 3},
                          {"heads": PAIRS, "sizes": Kind(_spell_reals, (*REALS.bad, -NORMS, NORMS[0])), "draws": WHOLE,
                           "seed": SEED}),
    # interventions
    "ablate_heads": (block(mi.ablate_heads), {"heads": [(1, 2), (0, 1)]}, {"heads": PAIRS}),
    "ablate_heads values": (block(mi.ablate_heads), {"heads": [(1, 2)], "values": {1: steps(HEADS, D_HEAD)}},
                            {"values": VALUES}),
    "ablate_neurons": (block(mi.ablate_neurons), {"neurons": [(1, 2), (0, 41)]}, {"neurons": PAIRS}),
    "ablate_neurons values": (block(mi.ablate_neurons), {"neurons": [(1, 2)], "values": {1: steps(D_MLP)}},
                              {"values": VALUES}),
    "steer": (block(mi.steer), {"layer": 1, "vector": steps(D_MODEL), "coefficient": 0.5},
              {"layer": WHOLE, "vector": REALS, "coefficient": REAL}),
    "AblateHeads": (swept(mi.AblateHeads), {"heads": [(1, 2), (0, 1)]}, {"heads": PAIRS}),
    "AblateHeads values": (swept(mi.AblateHeads), {"heads": [(1, 2)], "values": {1: steps(HEADS, D_HEAD)}},
                           {"values": VALUES}),
    "AblateNeurons": (swept(mi.AblateNeurons), {"neurons": [(1, 2), (0, 41)]}, {"neurons": PAIRS}),
    "Steer": (swept(mi.Steer), {"layer": 1, "vector": steps(D_MODEL), "coefficient": 0.5},
              {"layer": WHOLE, "vector": REALS, "coefficient": REAL}),
    "Freeze": (lambda **given: swept(lambda: (mi.AblateHeads([(0, 1)]), mi.Freeze(**given)))(),
               {"heads": [(1, 2), (2, 1)], "mlps": [1, 2], "patterns": [1]},
               {"heads": Kind(_spell_pairs, [odd for odd in PAIRS.bad if odd != []]),
                "mlps": Kind(_spell_row, LAYER_ROW.bad), "patterns": Kind(_spell_row, LAYER_ROW.bad)}),
    "transplant_heads": (block(mi.transplant_heads), {"reference": OTHER, "heads": [(1, 2), (0, 1)]}, {"heads": PAIRS}),
    "transplant_values": (block(mi.transplant_values), {"reference": OTHER, "neurons": [(1, 2), (0, 41)]},
                          {"neurons": PAIRS}),
    "TransplantHeads": (swept(mi.TransplantHeads), {"reference": OTHER, "heads": [(1, 2), (0, 1)]}, {"heads": PAIRS}),
    "TransplantValues": (swept(mi.TransplantValues), {"reference": OTHER, "neurons": [(1, 2), (0, 41)]},
                         {"neurons": PAIRS}),
    # positions
    "at": (selected(mi.at), {"positions": [[1, 0], [2, -1]]}, {"positions": POSITIONS}),
    "since": (selected(mi.since), {"starts": [1, 2]}, {"starts": ROW}),
    "when_last_is": (selected(mi.when_last_is), {"tokens": [7, 9]},
                     {"tokens": Kind(TOKEN_SET.spell, (*TOKEN_SET.bad, []))}),
    # what is run
    "pad": (mi.pad, {**OF_SUBJECT, "sequences": PROMPTS}, {"sequences": TOKENS}),
    "batches": (lambda **given: [(rows, vars(batch)) for rows, batch in mi.batches(**given)],
                {**OF_SUBJECT, "sequences": PROMPTS, "size": 1}, {"sequences": TOKENS, "size": WHOLE}),
    "mean_heads": (mi.mean_heads, {**OF_SUBJECT, "sequences": PROMPTS}, {"sequences": TOKENS}),
    "mean_neurons": (mi.mean_neurons, {**OF_SUBJECT, "sequences": PROMPTS}, {"sequences": TOKENS}),
    "capture": (captured, {"positions": [[1, 0], [2, -1]], "residual": [0, 2], "heads": [0, 1], "neurons": [1, 2],
                           "attention": [0, 2]},
                {"positions": POSITIONS, **dict.fromkeys(("residual", "heads", "neurons", "attention"), LAYER_ROW)}),
    "sweep": (mi.sweep, {**SWEEP, "interventions": ABLATED, "max_rows": 3},
              {"prompts": TOKENS, "max_rows": AT_MOST, "scope": Kind(lambda _: (), NO_SCOPE),
               "metric": Kind(lambda _: (), (None, "x", mi.log_odds, lambda readout: readout.final[:, 0])),
               "interventions": Kind(lambda given: (tuple(given), iter(given)), LOOSE)}),
    "Prepared.run": (shared, {"interventions": ABLATED, "max_rows": 3},
                     {"interventions": Kind(lambda given: (tuple(given), iter(given)), LOOSE), "max_rows": AT_MOST}),
    "prepare": (lambda **given: mi.prepare(**given).run(ABLATED, mi.log_odds(5, 6)),
                {**OF_SUBJECT, "prompts": PROMPTS, "scope": mi.last},
                {"prompts": TOKENS, "scope": Kind(lambda scope: ([scope], iter([scope])), (*NO_SCOPE, []))}),
    "single_heads": (lambda **given: mi.single_heads(mi.prepare(SUBJECT, PROMPTS, scope=mi.last), mi.log_odds(5, 6),
                                                     **given).ranked(),
                     {"values": {layer: steps(HEADS, D_HEAD) for layer in range(LAYERS)}}, {"values": VALUES}),
    "necessity": (lambda gap: mi.SingleHeads(torch.ones(2), torch.zeros(2, 3, 4)).necessity(gap), {"gap": [1.0, 2.0]},
                  {"gap": Kind(_spell_real_row, ([0.0, 0.0], [1.0], 3.0, "x", [math.nan, 1.0]))}),
    "other_heads": (mi.other_heads, {**OF_SUBJECT, "heads": [(1, 2), (0, 1)]},
                    {"heads": Kind(_spell_pairs, [odd for odd in PAIRS.bad if odd != []])}),
    "circuit_only": (lambda heads, **given: swept(lambda: mi.circuit_only(SUBJECT, heads, **given))(),
                     {"heads": [(1, 2)], "values": {layer: steps(HEADS, D_HEAD) for layer in range(LAYERS)}},
                     {"values": VALUES}),
    "log_odds": (lambda **given: read(mi.log_odds(**given)), {"token": 5, "against": 6},
                 {"token": Kind(_spell_whole, (*WHOLE.bad, VOCAB)), "against": WHOLE}),
    "Metric.residual": (of_residual, {"layers": [1, 2]}, {"layers": LAYER_ROW}),
    "Metric.neurons": (of_neurons, {"layers": [1, 2]}, {"layers": LAYER_ROW}),
    "Readout.logits": (said, {"tokens": [5, 9]},
                       {"tokens": Kind(lambda given: (np.array(given), torch.tensor(given), tuple(given)),
                                       ([0.5], [[0]], 3, "ab", [-1], [VOCAB], {1: 2}))}),
    "attribution": (mi.attribution, {**SWEEP, "heads": {layer: steps(HEADS, D_HEAD) for layer in range(LAYERS)}},
                    {"prompts": TOKENS, "heads": VALUES, "scope": Kind(lambda _: (), NO_SCOPE)}),
    "generate": (mi.generate, {**OF_SUBJECT, "prompts": PROMPTS, "interventions": ABLATED, "scope": mi.last,
                               "max_new_tokens": 4, "stop": [40, 41], "temperature": 0.5, "seed": 3, "max_rows": 3},
                 {"prompts": TOKENS, "max_new_tokens": WHOLE, "max_rows": AT_MOST, "seed": SEED,
                  "stop": Kind(_spell_row, (*TOKEN_SET.bad[:-6], *NO_NUMBER[1:])),
                  "temperature": Kind(_spell_real, (*REAL.bad, -1.0)), "scope": Kind(lambda _: (), NO_SCOPE),
                  "interventions": Kind(lambda given: (tuple(given), iter(given)), LOOSE)}),
    # weights and the unembedding
    "weight_changes": (lambda components, **given: mi.weight_changes(**given, kind="key").percentile(components),
                       {**OF_SUBJECT, "reference": OTHER, "components": [(1, 2), (0, 3)]},
                       {"components": PAIRS}),
    "value_vectors": (mi.value_vectors, {**OF_SUBJECT, "layer": 1}, {"layer": WHOLE}),
    "head_output_weights": (mi.head_output_weights, {**OF_SUBJECT, "layer": 1}, {"layer": WHOLE}),
    "head_outputs": (mi.head_outputs, {**OF_SUBJECT, "layer": 1, "z": steps(2, HEADS, D_HEAD)},
                     {"layer": WHOLE, "z": Kind(_spell_reals, (*REALS.bad, steps(D_HEAD)))}),
    "head_value_weights": (mi.head_value_weights, {**OF_SUBJECT, "layer": 1}, {"layer": WHOLE}),
    "ov_outputs": (mi.ov_outputs, {**OF_SUBJECT, "layer": 1, "vectors": steps(3, D_MODEL)},
                   {"layer": WHOLE, "vectors": Kind(_spell_reals, (*REALS.bad, steps(3)))}),
    "ov_diagonal": (mi.ov_diagonal, {**OF_SUBJECT, "layer": 1, "directions": steps(3, D_MODEL)},
                    {"layer": WHOLE, "directions": Kind(_spell_reals, (*REALS.bad[:-6], "x", steps(D_MODEL)))}),
    "ov_matrix": (mi.ov_matrix, {**OF_SUBJECT, "layer": 1, "head": 2}, {"layer": WHOLE, "head": WHOLE}),
    "nearest_values": (mi.nearest_values, {**OF_SUBJECT, "layer": 1, "direction": steps(D_MODEL), "k": 3},
                       {"layer": WHOLE, "direction": Kind(_spell_reals, (*REALS.bad, steps(3))),
                        "k": Kind(_spell_whole, (*WHOLE.bad, 0, D_MLP + 1))}),
    "matched_neurons": (mi.matched_neurons, {"neurons": [(1, 2), (0, 3)], "activity": steps(LAYERS, 9), "pool": 2},
                        {"neurons": PAIRS, "activity": Kind(_spell_reals, (*REALS.bad, steps(9), steps(1, 9))),
                         "pool": WHOLE}),
    "draw_matched": (mi.draw_matched, {"matches": [[(1, 2), (1, 3)], [(0, 4), (0, 5)]], "draws": 5, "seed": 3},
                     {"matches": Kind(lambda given: (np.array(given), torch.tensor(given), iter(given)),
                                      ([], [[]], [[(1, 2)], []], [(1, 2)], 3, None, "x", [["a"]])),
                      "draws": WHOLE, "seed": SEED}),
    "logit_lens": (mi.logit_lens, {**OF_SUBJECT, "residual": steps(2, 3, D_MODEL)},
                   {"residual": Kind(_spell_reals, (*REALS.bad, steps(3)))}),
    "lens_probability": (mi.lens_probability,
                         {**OF_SUBJECT, "residual": steps(2, 3, D_MODEL), "words": [[5, 6], [7, 8]], "rows": 2},
                         {"residual": Kind(_spell_reals, (*REALS.bad, steps(3))), "rows": WHOLE,
                          "words": Kind(_spell_tokens, TOKENS.bad)}),
    "unembed_directions": (mi.unembed_directions, {**OF_SUBJECT, "directions": steps(3, D_MODEL)},
                           {"directions": Kind(_spell_reals, (*REALS.bad, steps(3)))}),
    "nearest_tokens": (mi.nearest_tokens, {**OF_SUBJECT, "directions": steps(3, D_MODEL), "k": 4},
                       {"directions": Kind(_spell_reals, (*REALS.bad, steps(D_MODEL))),
                        "k": Kind(_spell_whole, (*WHOLE.bad, 0, VOCAB + 1))}),
    "token_texts": (mi.token_texts, {"tokenizer": SUBJECT.tokenizer, "ids": [5, 9]},
                    {"ids": Kind(_spell_row, ([-1], [0.5], ["a"], 3, "ab", None))}),
    "check_instruments": (mi.check_instruments, {**OF_SUBJECT, "sequences": PROMPTS}, {"sequences": TOKENS}),
    "digest": (mi.digest, {}, {}),
    "code_digest": (mi.code_digest, {"places": [Path(__file__)]},
                    {"places": Kind(lambda given: (given[0], str(given[0]), [str(given[0])], iter(given)),
                                    (["/not/there"], 3, None))}),
}  # fmt: skip
ARGUMENTS = [(name, argument) for name, (_, _, kinds) in TABLE.items() for argument in kinds]


def flat(found: Any) -> list[Any]:
    """All that a result consists of, in order."""
    if isinstance(found, Tensor | np.ndarray):
        return [tuple(found.shape), *torch.as_tensor(found).detach().double().flatten().tolist()]
    if is_dataclass(found):
        return flat([getattr(found, field.name) for field in fields(found)])
    if isinstance(found, Mapping):
        return flat([*found, *found.values()])
    if isinstance(found, list | tuple):
        return [part for one in found for part in flat(one)]
    return [found]


def same(found: Any, wanted: Any, tolerance: float = 1e-5) -> bool:
    ours, theirs = flat(found), flat(wanted)
    return len(ours) == len(theirs) and all(
        a == b or (isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=0, abs_tol=tolerance))
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_spellings(name, argument):
    """Lists, arrays, tensors of any format, generators, numpy's and torch's numbers give what the plain one gives."""
    function, given, kinds = TABLE[name]
    wanted = function(**given)
    for spelled in kinds[argument].spell(given[argument]):
        assert same(function(**{**given, argument: spelled}), wanted), f"{type(spelled).__name__}: {spelled!r:.60}"


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_refusals(name, argument):
    """What cannot be taken is refused on one line."""
    function, given, kinds = TABLE[name]
    for odd in kinds[argument].bad:
        said = "nothing"
        try:
            function(**{**given, argument: odd})
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        assert said.startswith("MechinterpError: "), f"{argument} = {odd!r:.60}: {said}"
        assert "\n" not in said
        assert len(said) < 400


@pytest.mark.parametrize("name", [name for name, (_, given, _) in TABLE.items() if "subject" in given])
def test_no_subject(name):
    """A model alone, or a name, is none."""
    function, given, _ = TABLE[name]
    for odd in (SUBJECT.model, SUBJECT.anatomy, "base", None):
        with pytest.raises(mi.MechinterpError, match=r"expected a Subject, such as Subject\.of"):
            function(**{**given, "subject": odd})


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_default_dtypes(name, dtype):
    """Torch's default format is no part of a measurement."""
    function, given, _ = TABLE[name]
    wanted = function(**given)
    torch.set_default_dtype(dtype)
    try:
        found = function(**given)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(found, wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_formats_of_the_model(dtype, monkeypatch):
    """A model in any number format is examined with what the user has in fp32."""
    other = mi.Subject.of(copy.deepcopy(SUBJECT.model).to(dtype), SUBJECT.tokenizer)
    wanted = {name: flat(function(**given)) for name, (function, given, _) in TABLE.items()}
    original = SUBJECT
    monkeypatch.setattr(sys.modules[__name__], "SUBJECT", other)
    for name, (function, given, _) in TABLE.items():
        given = {key: other if value is original else value for key, value in given.items()}
        if dtype is torch.float64 and "attention" in given:  # of padding the eager kernel makes NaN there
            given["attention"] = ()
            wanted[name] = flat(captured(**given))
        found = flat(function(**given))
        assert name == "generate" or len(found) == len(wanted[name])  # a text may end elsewhere
        assert all(math.isfinite(value) for value in found if isinstance(value, float))


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad, nullcontext])
def test_modes(name, mode):
    """Nor is whether gradients are on."""
    function, given, _ = TABLE[name]
    wanted = function(**given)
    with mode():
        assert same(function(**given), wanted)
