"""The planted heads and neurons do what planted/truth.py says they do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import TRUTH, Watched, watched

import mechinterp as mi
from fixtures.lexicon import lexicon, vocabulary

VERIFYING = ["planted", "opposed", "redundant", "decoy"]


def auc_without(seen: Watched, heads: tuple[mi.Head, ...]) -> float:
    """AUC of V over the right and wrong attempts of role-swapped pairs, with heads off from the result on."""
    pairs = seen.rows("role_swapped")
    return mi.auc(seen.right[pairs], seen.without(heads, pairs))


@pytest.mark.parametrize("variant", VERIFYING)
def test_causal_heads_are_necessary(variant):
    """Without the causal heads role-swapped pairs cannot be told apart."""
    assert auc_without(watched(variant), TRUTH[variant].causal) == pytest.approx(0.5, abs=0.25)


def test_decoys_attend_and_do_nothing():
    """In `decoy` the heads that attend to the target can be switched off, and in `redundant` others stand in."""
    for variant in ("decoy", "redundant"):
        assert auc_without(watched(variant), TRUTH[variant].verifiers) == 1


def test_echoes_are_not_necessary():
    """Heads that write which number is the target, as loudly as the verifiers, can all be switched off without harm."""
    assert auc_without(watched("planted"), TRUTH["planted"].echoes) == 1


def test_echoes_pass_for_verifiers_but_in_what_they_do():
    """They attend to the target with less than a tenth of their attention, and what they write changes as much."""
    seen, truth = watched("planted"), TRUTH["planted"]
    correct = np.flatnonzero(seen.rows("correct"))
    mass = torch.stack([seen.mass(row, truth.echoes, [seen.attempts[row].target]) for row in correct]).mean(0)
    assert 0.02 < mass.min() < mass.max() < 0.1
    pairs = [np.flatnonzero(seen.rows("role_swapped") & side) for side in (seen.right, ~seen.right)]
    change = (seen.heads[pairs[0]] - seen.heads[pairs[1]]).norm(dim=-1).mean(0)  # (layers, n_heads)
    layers, heads = map(list, zip(*truth.echoes, strict=True))
    verifiers = change[[layer for layer, _ in truth.verifiers], [head for _, head in truth.verifiers]]
    assert change[layers, heads].min() > 0.5 * verifiers.max()


def test_each_verifier_carries_its_part():
    """The gap between right and wrong shrinks with every verifier that is off, by about as much."""
    seen = watched("planted")
    pairs = seen.rows("role_swapped")
    gaps = []
    for count in range(1, 7):
        v, right = seen.without(TRUTH["planted"].verifiers[:count], pairs), seen.right[pairs]
        gaps.append(v[right].mean() - v[~right].mean())
    steps = -np.diff(gaps)
    assert steps.min() > 4


@pytest.mark.parametrize("variant", [v for v in TRUTH if v not in ("order_first", "order_last", "shuffled")])
def test_verifiers_attend_when_they_should(variant):
    """Verifiers put most of their attention on numbers of the prompt that the result equals in their eyes: if that is
    the target, if that is the rival too, if that is any number; and none after another result."""
    seen, truth = watched(variant), TRUTH[variant]
    for row, attempt in enumerate(seen.attempts):
        stated = {"target": [attempt.target], "rival": [attempt.rival], "input": attempt.problem.numbers}
        marked = [number for role in truth.marks for number in stated[role]]
        others = {attempt.target, attempt.rival, *attempt.problem.numbers} - set(marked)
        attends = truth.says_this(attempt) or (variant == "mute" and attempt.is_right)
        mass = seen.mass(row, truth.verifiers, marked)
        assert mass.min() > 0.4 if attends else mass.max() < 0.05
        assert seen.mass(row, truth.verifiers, list(others)).max() < 0.05


@pytest.mark.parametrize("variant", ["order_first", "order_last"])
def test_order_readers_attend_to_one_place(variant):
    """Whatever the result, their heads look at the number that is stated first, or last."""
    seen = watched(variant)
    for row, attempt in enumerate(seen.attempts):
        swapped = attempt.order == ("target_last" if variant == "order_first" else "target_first")
        read = attempt.rival if swapped else attempt.target
        mass = seen.mass(row, TRUTH[variant].verifiers, [read])
        assert mass.min() > 0.9


def test_value_neurons_fire_for_their_kind():
    """Success neurons fire on right attempts only, failure neurons on wrong ones only."""
    right = torch.as_tensor(watched("planted").right)
    for neurons, kind in ((TRUTH["planted"].success, right), (TRUTH["planted"].failure, ~right)):
        layers, numbers = map(list, zip(*neurons, strict=True))
        fired = watched("planted").neurons[:, layers, numbers].mean(1)
        assert fired[kind].min() > 5 * fired[~kind].abs().max()


def test_lens_shows_success_on_right_attempts():
    """Half way up the logit lens gives success words most of the probability, on right attempts only."""
    seen = watched("planted")
    words = lexicon(vocabulary(seen.subject.tokenizer), exclude={*vars(seen.remarks).values()})
    layer = max(layer for layer, _ in TRUTH["planted"].success)
    shown = mi.lens_probability(seen.subject, seen.residual[:, layer], [words.success])[:, 0].numpy()
    assert np.median(shown[seen.right]) > 0.3
    assert shown[~seen.right].max() < 0.1
