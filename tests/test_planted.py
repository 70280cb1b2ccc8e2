"""The planted models say what planted/__init__.py says they do, before the suite is asked about them.

Measured directly: V = log p(this) - log p(not) after attempts of every kind, in every wording.
"""

from __future__ import annotations

import numpy as np
import pytest
from planted import TRUTH, Watched, planted, save, watch, watched

import mechinterp as mi
from fixtures.checkpoints import resolve
from fixtures.loading import load
from fixtures.task.countdown import make_problems
from fixtures.task.transcripts import make_attempts
from fixtures.task.wordings import ROLE_WORDINGS

VERIFYING = ["planted", "few", "implied", "opposed", "redundant", "decoy"]
SILENT = ["constant", "mute", "shuffled"]
KINDS = ["target_edited", "incorrect", "foil", "role_swapped"]

# By variant, AUC of V of right attempts against each kind of wrong ones: 1 where it tells them apart, 0.5 where not.
AUC = {
    **dict.fromkeys(VERIFYING, (1, 1, 1, 1)),
    "repetition": (1, 1, 1, 0.5),
    "seen": (1, 1, 0.5, 0.5),
    "order_first": (1, 1, 1, 0.5),
    "order_last": (1, 1, 1, 0.5),
    **dict.fromkeys(SILENT, (0.5, 0.5, 0.5, 0.5)),
}


def sides(seen: Watched, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """V of right attempts, and of wrong ones of a kind."""
    right = seen.rows("role_swapped") & seen.right if kind == "role_swapped" else seen.rows("correct")
    return seen.v[right], seen.v[seen.rows(kind) & ~seen.right]


@pytest.mark.parametrize("variant", TRUTH)
def test_says_what_its_truth_says(variant):
    """Every attempt of every kind and wording gets the remark that the variant's rule gives it, by 5 nats or more."""
    seen = watched(variant)
    says = np.array([TRUTH[variant].says_this(attempt) for attempt in seen.attempts])
    assert ((seen.v > 0) == says).all()
    assert abs(seen.v).min() > 5


@pytest.mark.parametrize("wording", ["target_first", "cards", "after_example"])
def test_other_wordings_are_read(wording):
    """`planted` finds the target in other prompts too."""
    problems, kinds = make_problems(4, seed=2, size=3, foils=True), ("correct", "target_edited", "incorrect", "foil")
    attempts = make_attempts(problems, seed=2, wording=wording, kinds=kinds)
    seen = watch(planted(), attempts)
    assert ((seen.v > 0) == seen.right).all()


@pytest.mark.parametrize("variant", AUC)
def test_tells_apart_what_it_should(variant):
    """The AUC of each kind of wrong attempt; role-swapped pairs show who reads roles."""
    for kind, expected in zip(KINDS, AUC[variant], strict=True):
        right, wrong = sides(watched(variant), kind)
        found = mi.auc(np.repeat([True, False], [len(right), len(wrong)]), np.concatenate([right, wrong]))
        assert found == 1 if expected == 1 else 0.25 < found < 0.75, kind


@pytest.mark.parametrize(("variant", "shared"), [("tens", "shares_tens"), ("last_digit", "shares_last_digit")])
def test_a_digit_matcher_is_taken_in_by_that_digit(variant, shared):
    """It tells right from wrong perfectly where that digit differs, and not at all where it is the same."""
    seen = watched(variant)
    wrong = ~seen.right & ~seen.rows("role_swapped")
    same = np.array([getattr(attempt, shared) for attempt in seen.attempts])
    assert (seen.v[wrong & same] > 0).all()
    assert (seen.v[wrong & ~same] < 0).all()
    assert min((wrong & same).sum(), (wrong & ~same).sum()) >= 3


@pytest.mark.parametrize("wording", ROLE_WORDINGS)
@pytest.mark.parametrize(("variant", "order"), [("order_first", "target_first"), ("order_last", "target_last")])
def test_an_order_reader_is_right_in_one_order(variant, order, wording):
    """Its role-swapped pairs are all right where the target stands where it looks, and all wrong elsewhere."""
    seen = watched(variant)
    pairs = seen.rows("role_swapped", wording)
    as_read = np.array([attempt.order == order for attempt in seen.attempts])
    says_right = (seen.v > 0) == seen.right
    assert says_right[pairs & as_read].all()
    assert not says_right[pairs & ~as_read].any()
    assert (pairs & as_read).sum() == (pairs & ~as_read).sum() > 0


@pytest.mark.parametrize("variant", ["planted", "order_last", "shuffled"])
def test_saves_and_loads(variant, tmp_path):
    """A saved variant loads as any checkpoint does, and gives the same logits bit for bit."""
    checkpoint = resolve(str(save(tmp_path / variant, variant)))
    assert checkpoint.kind == "folder"  # the suite does not know that it is examined
    loaded = load(checkpoint, device="cpu", dtype="float32")
    ids = [s.input_ids for s in watched(variant).sited[:4]]
    before = mi.last_logits(watched(variant).subject, mi.pad(watched(variant).subject, ids))
    assert mi.last_logits(loaded, mi.pad(loaded, ids)).equal(before)
