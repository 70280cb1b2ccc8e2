"""What several claims share is measured as it says: on attempts of the shipped base, and on answers made up here."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import mechinterp as mi
from claims.measured.at_sites import _alike
from claims.measured.bars import WRONG
from claims.measured.dataset import the_attempts
from claims.measured.laboratory import Laboratory
from claims.measured.once import once
from claims.measured.pair_runs import _next_alike
from claims.measured.pairs import beyond_rival, share, shift_rival
from claims.measured.remarks import Remarks
from claims.measured.repeats import FILLED_WITH, elsewhere
from claims.measured.rungs import _instead, climb
from claims.prior.test_verification import test_the_heads_are_needed_in_context_only as needed_in_context
from fixtures.checkpoints import resolve
from fixtures.lexicon import lemma
from fixtures.loading import load

N = 24


@pytest.fixture(scope="module")
def lab():
    return Laboratory(load(resolve("base"), device="cpu"), n_problems=N, seed=3)


def test_once_remembers_failures():
    """A measurement is made once, and one that fails fails the same way without being made again."""
    made = []

    class Bench:
        @once
        def value(self):
            made.append("value")
            return 3

        @once
        def broken(self):
            made.append("broken")
            raise ValueError("no")

    bench = Bench()
    assert (bench.value, bench.value) == (3, 3)
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            bench.broken  # noqa: B018
    assert made == ["value", "broken"]


def test_halves_share_no_problem(lab):
    """What is fitted on and what is judged on are different problems, half of them each."""
    observed = lab.observed
    assert not set(observed.fit.problems) & set(observed.test.problems)
    assert len(observed.fit) == len(observed.test) == N // 2
    for kind in ("correct", *WRONG):
        assert len(observed.rows(observed.test, kind)) == N // 2


def test_one_pair_a_problem(lab):
    """Of the role-swapped pairs one a problem counts as single, all wordings in turn; the fit half has no other."""
    observed = lab.observed
    for half in (observed.fit, observed.test):
        rows = observed.rows(half, "role_swapped", single=True)
        assert len(rows) == 2 * len(half)
        assert set(observed.wording[rows]) == set(observed.wordings)
        assert (observed.right[rows].reshape(-1, 2) == [True, False]).all()
    assert len(observed.rows(observed.fit, "role_swapped")) == 2 * len(observed.fit)
    assert len(observed.rows(observed.test, "role_swapped")) == 2 * len(observed.wordings) * len(observed.test)


def test_attention_is_where_it_is_said(lab):
    """Masses are those of the model's own attention weights, summed by hand."""
    observed, subject = lab.observed, lab.subject
    row = observed.rows(observed.test, "role_swapped", right=False, single=True)[0]
    one = observed.sited[row]
    with mi.subject.attention_by(subject, "eager"), torch.no_grad():
        weights = subject.model(torch.tensor([one.input_ids]), output_attentions=True).attentions
    by_hand = torch.stack([w[0, :, one.last_digit] for w in weights])  # (layers, heads, positions)
    for mass, mentions in ((observed.to_target, one.target_mentions), (observed.to_rival, one.rival_mentions)):
        wanted = by_hand[..., [p for mention in mentions for p in mention]].sum(-1)
        torch.testing.assert_close(mass[row], wanted, atol=1e-5, rtol=0)
    assert observed.to_target[observed.rows(observed.test, "foil")].isnan().all()


def test_own_mentions_are_as_many_and_as_near():
    """An input number's mentions are compared with the target's one by one, the nearest first."""
    own, target = [(5,), (20,), (40,), (44,), (60,)], [(7,), (22,), (47,)]
    assert _alike(own, target) == [(5,), (20,), (44,)]
    assert _alike(own[:1], target) == [(5,)]


def test_v_is_log_odds_of_the_sets(lab):
    """V from the observations is V in a sweep of the same prompt."""
    observed = lab.observed
    rows = observed.rows(observed.test, "correct")[:3]
    prompts = [observed.sited[i].input_ids for i in rows]
    swept = mi.sweep(lab.subject, prompts, [None], lab.remarks.metric(), scope=mi.last)[:, 0]
    np.testing.assert_allclose(swept.numpy(), lab.v[rows], atol=1e-3)


ANSWERS = {
    # what log p(accept) - log p(reject) is, by (right, result stands in the text before, kind)
    "verifies": (lambda right, seen: 4.0 if right else -4.0),
    "latent": (lambda right, seen: -2.0 if right else -9.0),
    "repetition": (lambda right, seen: 4.0 if seen else -4.0),
    "none": (lambda right, seen: -5.0),
}


@pytest.mark.parametrize("rung", ANSWERS)
def test_rungs(lab, rung):
    """By role and said, by role only, by repetition, not at all: each answer stands on its own rung."""
    observed = lab.observed
    rng = np.random.default_rng(0)
    v = np.array(
        [
            ANSWERS[rung](right, kind in ("correct", "role_swapped")) + 0.3 * rng.normal()
            for right, kind in zip(observed.right, observed.kind, strict=True)
        ]
    )
    log_p = np.stack([v / 2, -v / 2], axis=1)
    answered = dataclasses.replace(observed, candidates=(1, 2), log_p=log_p)
    ladder = climb(answered, Remarks((1,), (2,)), seed=0)
    assert ladder.rung == rung
    if rung in ("verifies", "latent"):
        ladder.require_by_role()
    else:
        with pytest.raises(mi.PreconditionUnmet, match=rung):
            ladder.require_by_role()


DOES = {
    # what it takes for right instead of what is, and what its sentence says
    "repetition": (lambda t: t.value in (t.target, t.rival), "stood there before: with both numbers"),
    "seen": (lambda t: t.is_right or t.kind in ("foil", "role_swapped"), "be it an input number"),
    "last digit": (lambda t: t.shares_last_digit, "compares the last digit"),
    "by wording": (
        lambda t: t.value in (t.target, t.rival if t.wording == "players" else None),
        "not in others (players)",
    ),
    "first": (lambda t: t.value == (t.rival if t.order == "target_last" else t.target), "stands first"),
    "last": (lambda t: t.value == (t.rival if t.order == "target_first" else t.target), "stands last"),
}


@pytest.mark.parametrize("model", DOES)
def test_what_is_no_verification_is_called_what_it_is(lab, model):
    """Each stands on the rung of repetition, with a sentence of its own; none is by role."""
    says_right, sentence = DOES[model]
    v = np.array([4.0 if says_right(one.transcript) else -4.0 for one in lab.observed.sited])
    v += 0.3 * np.random.default_rng(0).normal(size=len(v))
    answered = dataclasses.replace(lab.observed, candidates=(1, 2), log_p=np.stack([v / 2, -v / 2], axis=1))
    ladder = climb(answered, Remarks((1,), (2,)), seed=0)
    assert ladder.rung == "repetition"
    assert sentence in ladder.sentence
    with pytest.raises(mi.PreconditionUnmet, match="repetition: "):
        ladder.require_by_role()


def test_what_tells_little_is_not_taken_for_a_digit():
    """Of a model that tells little apart, a little less where a digit is shared says nothing of what it does."""
    told = {"target_edited": 0.76, "foil": 0.7}
    assert "stood there before: with both" in _instead(told, {"tens": 0.74, "last": 0.82}, {}, {})
    assert "tens digit" in _instead(told, {"tens": 0.55, "last": 0.82}, {}, {})
    assert "be it an input number" in _instead(told | {"foil": 0.5}, {"tens": 0.74}, {}, {})


def test_no_share_of_a_gap_that_is_not_there(lab):
    """A constant answer has no gap: a share of what is left of nothing is not shown."""
    v = 0.3 * np.random.default_rng(0).normal(size=len(lab.observed.kind)) - 5
    answered = dataclasses.replace(lab.observed, candidates=(1, 2), log_p=np.stack([v / 2, -v / 2], axis=1))
    ladder = climb(answered, Remarks((1,), (2,)), seed=0)
    assert ladder.rung == "none"
    assert ladder.figures["role share [95 %]"] == ladder.figures["role share by order [95 %]"] == {}
    with pytest.raises(mi.PreconditionUnmet, match=r"AUC 0\.\d\d on target-edited pairs$"):
        ladder.require_by_role()


def test_each_half_has_both_orders_equally_often(lab):
    """In every wording, of the role-swapped pairs that are kept."""
    observed = lab.observed
    for wording in observed.wordings:
        rows = observed.rows(observed.test, "role_swapped", right=True, wording=wording)
        first = [observed.sited[i].transcript.order == "target_first" for i in rows]
        assert 2 * sum(first) == len(first)


def test_share_is_a_ratio_of_means():
    """An effect as a share of the gap is the ratio of the means, and its interval holds it."""
    rng = np.random.default_rng(0)
    whole = 5 + rng.normal(size=40)
    value, (low, high) = share(0.4 * whole, whole, seed=0)
    assert value == pytest.approx(0.4)
    assert low <= 0.4 <= high
    value, (low, high) = share(0.4 * whole + rng.normal(size=40), whole, seed=0)
    assert low < 0.4 < high


def test_shift_of_both_classes_explains_the_drop():
    """Where right and wrong attempts fall alike, no gap closes: the rival is not exceeded."""
    rng = np.random.default_rng(0)
    gap, fall = 5 + rng.normal(size=40), 4 + 0.1 * rng.normal(size=40)
    assert shift_rival(fall, fall, gap, at_least=0.5, seed=0).interval[1] < 0
    assert shift_rival(fall, 0 * fall, gap, at_least=0.5, seed=0).interval[0] > 0


def test_any_attempt_of_the_same_class_would_do():
    """Where another attempt of the same class moves V as much, the pair's exchange shows nothing."""
    gap = 5 + np.random.default_rng(0).normal(size=40)
    assert beyond_rival(0.6 * gap, 0.6 * gap, gap, seed=0).interval[0] <= 0
    assert beyond_rival(0.6 * gap, 0.1 * gap, gap, seed=0).interval[0] > 0


def test_forms_of_a_word_are_one_lemma():
    """Case, space, marks and inflection make no new word."""
    assert len({lemma(t) for t in (" Correct", "correct", ".correct", " correctly", "正确")}) == 1
    assert lemma(" correct") != lemma(" success")


def test_synthetic_vectors_have_the_same_cosine(lab):
    """Synthetic value vectors are as near to the probe as those that they stand for, and otherwise others."""
    near = lab.values.nearest(1, 12)
    made = lab.values.synthetic(near, 1, range(3))
    for n, (layer, neuron) in enumerate(near):
        direction = lab.values.direction(layer, 1)
        cosine = torch.nn.functional.normalize(made[:, n], dim=-1) @ direction
        torch.testing.assert_close(cosine, lab.values.cosines(layer, 1)[neuron].expand(3), atol=1e-4, rtol=0)
    assert not torch.allclose(made[0], made[1])
    torch.testing.assert_close(lab.values.synthetic(near, 1, range(2, 3)), made[2:])


def test_permuted_labels_say_nothing(lab):
    """One attempt a problem and prompt is called right, whichever; a pair has one right text."""
    observed = lab.observed
    _, labels = lab.probing["open_paren"].permuted(range(40))
    for problem in observed.test.problems:
        rows = np.flatnonzero((observed.problem == problem) & (observed.kind != "role_swapped"))
        assert (labels[:, rows].sum(1) == 1).all()
    pairs = labels[:, observed.kind == "role_swapped"].reshape(40, -1, 2)
    assert (pairs.sum(-1) == 1).all()
    agree = (labels[:, observed.kind == "correct"]).mean()
    assert 0.15 < agree < 0.35


def test_null_of_heads_goes_on_where_it_stopped(lab):
    """Draws come in portions and are those of one run; no head above the threshold is in them."""
    off = lab.heads
    sets = off.null_sets("target_edited", "zero").sets
    first = off.null("target_edited", "zero", "right", range(3))
    again = off.null("target_edited", "zero", "right", range(6))
    np.testing.assert_array_equal(first, again[:3])
    prompts = off.runs.prepared["target_edited", "right"]
    alone = prompts.run([mi.AblateHeads(sets[5])], off.metric)[:, 0].numpy()
    np.testing.assert_allclose(again[5], alone, rtol=1e-4)
    assert not {head for one in sets for head in one} & off.attending


def test_exchange_is_with_the_partner(lab):
    """All heads exchanged for the partner's from the result on, a right attempt reads as the wrong one does."""
    off = lab.heads
    anatomy = lab.subject.anatomy
    everything = [(layer, head) for layer in range(anatomy.n_layers) for head in range(anatomy.n_heads)]
    clean, swapped = off.clean("target_edited"), off.ablated("target_edited", "resample", everything)
    np.testing.assert_allclose(swapped.right[:, 0], clean.wrong[:, 0], atol=1e-2)
    np.testing.assert_allclose(swapped.wrong[:, 0], clean.right[:, 0], atol=1e-2)


def test_next_alike():
    """The next attempt with as many tokens in its result, round the end."""
    assert [_next_alike([3, 4, 3, 3, 4], i) for i in range(5)] == [2, 4, 3, 0, 1]
    assert _next_alike([3, 4], 0) == 0


@pytest.mark.parametrize("filler", FILLED_WITH)
def test_repeats_elsewhere_keep_their_places(lab, filler):
    """The same places hold the same tokens, which stand nowhere else, and nothing of the transcript is left."""
    ordinary = np.array([i for i, text in enumerate(lab.naming.texts) if text.isalpha()])
    for i in lab.repeat_rows[:4]:
        one = lab.observed.sited[i]
        made = elsewhere(lab.subject, one, ordinary, filler, seed=[0, int(i)])
        repeated = [made[place] for place in one.result]
        mentions = {place for mention in one.target_mentions for place in mention}
        assert len(made) == len(one.input_ids)
        assert all([made[place] for place in mention] == repeated for mention in one.target_mentions)
        assert {place for place, token in enumerate(made) if token in repeated} == mentions | {*one.result}
        assert np.mean([old == new for old, new in zip(one.input_ids, made, strict=True)]) < 0.2


def test_prior_verification_is_a_difference_of_necessities(lab, monkeypatch):
    """On sums, which base knows by heart; a target that has to be doubled first it cannot tell, and nothing is said."""
    monkeypatch.setitem(vars(lab), "ladder", SimpleNamespace(require_by_role=lambda: None))
    given = []
    needed_in_context(lab, "sums", lambda evidence, null: given.append((evidence, null)))
    (evidence, null), off = given[0], lab.heads
    there, clean, ablated = lab.prior["sums"], off.clean("target_edited"), off.ablated("target_edited", "zero")
    before, after = there.v([(), off.selected])
    in_context = (clean.right - ablated.right)[:, 0].mean() / (clean.right - clean.wrong)[:, 0].mean()
    n = evidence.n
    expected = in_context - (before[0] - after[0])[:n].mean() / (before[0] - before[1])[:n].mean()
    assert evidence.details["AUC there"] > 0.95
    assert evidence.effect == pytest.approx(expected, abs=1e-6)
    sets = off.null_sets("target_edited", "zero").sets
    alone = there.v([sets[1]])[0, 0][:n]
    lost = (clean.right[:, 0] - off.null("target_edited", "zero", "right", range(2))[1, :, 0]).mean()
    drawn = (
        lost / (clean.right - clean.wrong)[:, 0].mean()
        - (before[0][:n] - alone).mean() / (before[0] - before[1])[:n].mean()
    )
    assert null.make(range(2))[1] == pytest.approx(drawn, abs=1e-6)
    with pytest.raises(mi.PreconditionUnmet, match=r"twice.*AUC 0\.5"):
        needed_in_context(lab, "twice", lambda evidence, null: None)


def test_attempts_depend_on_the_seed_only():
    """The same seed gives the same texts, another one others."""
    texts = [[t.text for t in the_attempts(6, seed)] for seed in (0, 0, 1)]
    assert texts[0] == texts[1] != texts[2]
