"""The planted circuit is what planted.py says it is, before the suite is asked to find it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from planted import TRUTH, planted, save

import mechinterp as mi
from fixtures.checkpoints import resolve
from fixtures.lexicon import lexicon, vocabulary
from fixtures.loading import load
from fixtures.observations import Observations, observe
from fixtures.task.countdown import make_problems
from fixtures.task.transcripts import make_transcripts

VERIFYING = ["planted", "redundant", "decoy"]


@pytest.fixture(scope="module")
def seen() -> dict[str, Observations]:
    """Every variant on the same 24 problems, 72 transcripts."""
    transcripts = make_transcripts(make_problems(24, seed=1, size=3), seed=1)
    return {variant: observe(planted(variant), transcripts) for variant in TRUTH}


def auc_without(observed: Observations, heads: tuple[mi.Head, ...] | list[mi.Head]) -> float:
    """AUC of the verdict with these heads off from the result on."""
    verdict = mi.log_odds(observed.verdicts.works, observed.verdicts.fails)
    scope = mi.since([s.result[0] for s in observed.sited])
    prompts = [s.input_ids for s in observed.sited]
    swept = mi.sweep(observed.subject, prompts, [mi.AblateHeads(heads)], verdict, scope=scope)
    return mi.auc(observed.right, swept[:, 0].numpy())


@pytest.mark.parametrize("variant", VERIFYING)
def test_verdict_is_right(seen, variant):
    """Every right attempt is called `this`, every wrong one of either kind `not`."""
    assert ((seen[variant].log_odds > 0) == seen[variant].right).all()


def test_constant_does_not_discriminate(seen):
    """It says `not` to everything, by an amount that is unrelated to the result."""
    assert (seen["constant"].log_odds < 0).all()
    assert mi.auc(seen["constant"].right, seen["constant"].log_odds) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("variant", VERIFYING)
def test_causal_heads_are_necessary(seen, variant):
    """Without the causal heads right and wrong cannot be told apart."""
    assert auc_without(seen[variant], TRUTH[variant].causal) == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize("variant", VERIFYING)
def test_matched_heads_are_not(seen, variant):
    """Random heads of the same layers, of a like output norm, can be switched off without harm."""
    causal = TRUTH[variant].causal
    for heads in mi.matched_head_sets(causal, seen[variant].head_norms, draws=10, seed=0):
        if not set(heads) & set(TRUTH[variant].hidden):
            assert auc_without(seen[variant], heads) > 0.9


def test_decoys_attend_and_do_nothing(seen):
    """In `decoy` the heads that attend to the target can be switched off, and in `redundant` others stand in."""
    for variant in ("decoy", "redundant"):
        assert auc_without(seen[variant], TRUTH[variant].verifiers) == 1


def test_verifiers_attend_when_they_should(seen):
    """Verifier heads put most of their attention on the target after a right result, and none after a wrong one."""
    mass = seen["planted"].to_target["last_digit"]
    layers, heads = map(list, zip(*TRUTH["planted"].verifiers, strict=True))
    right = seen["planted"].kind == "correct"
    assert mass[right][:, layers, heads].min() > 0.5
    assert mass[~right][:, layers, heads].max() < 0.05


def test_value_neurons_fire_for_their_kind(seen):
    """Success neurons fire on right attempts only, failure neurons on wrong ones only."""
    right = torch.as_tensor(seen["planted"].right)
    for neurons, kind in ((TRUTH["planted"].success, right), (TRUTH["planted"].failure, ~right)):
        layers, numbers = map(list, zip(*neurons, strict=True))
        fired = seen["planted"].neurons[:, layers, numbers].mean(1)
        assert fired[kind].min() > 5 * fired[~kind].abs().max()


def test_lens_shows_success_on_right_attempts(seen):
    """Half way up the logit lens gives success words most of the probability, on right attempts only."""
    subject = seen["planted"].subject
    words = lexicon(vocabulary(subject.tokenizer), exclude={*vars(seen["planted"].verdicts).values()})
    layer = max(layer for layer, _ in TRUTH["planted"].success)
    shown = mi.lens_probability(subject, seen["planted"].residual["open_paren"][:, layer], [words.success])[
        :, 0
    ].numpy()
    assert np.median(shown[seen["planted"].right]) > 0.3
    assert shown[~seen["planted"].right].max() < 0.1


@pytest.mark.parametrize("variant", list(TRUTH))
def test_saves_and_loads(seen, variant, tmp_path):
    """A saved variant loads as any checkpoint does, and gives the same logits bit for bit."""
    loaded = load(resolve(str(save(tmp_path / variant, variant))), device="cpu", dtype="float32")
    ids = [s.input_ids for s in seen[variant].sited[:4]]
    before = mi.last_logits(seen[variant].subject, mi.pad(seen[variant].subject, ids))
    assert torch.equal(mi.last_logits(loaded, mi.pad(loaded, ids)), before)
