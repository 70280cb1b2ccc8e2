"""Four tasks, each in four libraries on the same weights in one process, and one for what sweeps share.

`make bench` runs them and writes results.md.

A loop over interventions costs as many times more as there are more of them, so the slow ones are timed on a few and
multiplied: `of` over `measured`. What they compute must agree with ours.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmarks.libraries import LIBRARIES, NNsight, Ours, PlainHooks, TransformerLens
from mechinterp import AblateHeads, log_odds, matched_head_sets, prepare, since, sweep

SETS, SET_SIZE = 200, 12
NEW = 60
in_each_library = pytest.mark.parametrize("kind", LIBRARIES, ids=[kind.name for kind in LIBRARIES])
SITES = 6  # layers, of which the residual stream and the neurons are captured: 12 sites


def timed(benchmark, run, *, what, of=1, measured=1, rounds=1):
    benchmark.extra_info.update({"what": what, "of": of, "measured": measured})
    return benchmark.pedantic(run, rounds=rounds, warmup_rounds=1 if rounds > 1 else 0)


def label(model):
    """What the tables call it."""
    return Path(os.environ["REAL_MODEL"]).stem if model == "real" else model


def every_head(subject):
    return [[(layer, head)] for layer in range(subject.anatomy.n_layers) for head in range(subject.anatomy.n_heads)]


def random_sets(subject, n, size=SET_SIZE):
    """Matched by layer to heads of the second half, where those that attend to the target are."""
    anatomy = subject.anatomy
    late = range(anatomy.n_layers // 2, anatomy.n_layers)
    chosen = [(late[i % len(late)], i // len(late)) for i in range(size)]
    return matched_head_sets(chosen, torch.ones(anatomy.n_layers, anatomy.n_heads), draws=n, seed=0).sets


def few(kind, model, of, small, large):
    """How many interventions are timed: all of ours, a few of a loop's."""
    return of if kind is Ours else min(of, large if model == "r1" else small)


class TestEveryHead:
    """(a) Every head singly, at the final position."""

    @in_each_library
    def test_library(self, benchmark, kind, model, subject, prompts):
        benchmark.group = f"{label(model)}: every head singly at the final position, 16 prompts of 165 tokens"
        sets, ids = every_head(subject), prompts(16)
        n = few(kind, model, len(sets), small=2, large=24)
        timed_by = kind(subject)
        run = lambda: timed_by.ablated(ids, sets[-n:], everywhere=False)  # noqa: E731
        rounds = 3 if model == "r1" or kind is Ours else 1
        found = timed(benchmark, run, of=len(sets), measured=n, rounds=rounds, what=kind.name)
        agree(found, Ours(subject).ablated(ids, sets[-n:], everywhere=False))

    def test_clean_pass(self, benchmark, model, subject, prompts):
        benchmark.group = f"{label(model)}: every head singly at the final position, 16 prompts of 165 tokens"
        ids = prompts(16)
        timed(benchmark, lambda: bare(subject, ids), rounds=3, what="one clean pass")


class TestRandomSets:
    """(b) 200 random sets of 12 heads at all positions."""

    @in_each_library
    def test_library(self, benchmark, kind, model, subject, prompts):
        n_prompts = 16 if model == "r1" else 4
        benchmark.group = (
            f"{label(model)}: {SETS} sets of {SET_SIZE} heads at all positions, {n_prompts} prompts of 165 tokens"
        )
        sets, ids = random_sets(subject, SETS), prompts(n_prompts)
        n = min(len(sets), (200 if kind is Ours else 24) if model == "r1" else 8)
        timed_by = kind(subject)
        run = lambda: timed_by.ablated(ids, sets[:n], everywhere=True)  # noqa: E731
        found = timed(benchmark, run, of=len(sets), measured=n, rounds=3 if model == "r1" else 1, what=kind.name)
        agree(found, Ours(subject).ablated(ids, sets[:n], everywhere=True))


class TestBatches:
    """A null of random sets of heads at the last five positions, drawn so many at a time."""

    @pytest.mark.parametrize("what", ["mechinterp", "prepared", "sweep after sweep"])
    def test_draws(self, benchmark, model, subject, prompts, what):
        n, at_once = (120, 20) if model == "r1" else (24, 4)
        benchmark.group = (
            f"{label(model)}: {n} sets of 6 heads at the last five positions, {at_once} at a time or at once, "
            "16 prompts of 165 tokens"
        )
        ids, scope, metric = prompts(16).tolist(), since([160] * 16), log_odds(5, 6)
        sets = [AblateHeads(one) for one in random_sets(subject, n, size=6)]
        batches = [sets] if what == "mechinterp" else [sets[i : i + at_once] for i in range(0, n, at_once)]

        def run():
            if what == "prepared":
                prepared = prepare(subject, ids, scope=scope)
                return torch.cat([prepared.run(some, metric) for some in batches], dim=1)
            return torch.cat([sweep(subject, ids, some, metric, scope=scope) for some in batches], dim=1)

        found = timed(benchmark, run, rounds=3 if model == "r1" else 1, what=what)
        agree(found, sweep(subject, ids, sets, metric, scope=scope))


class TestCapture:
    """(c) Twelve sites at the final position."""

    @in_each_library
    def test_library(self, benchmark, kind, model, subject, prompts):
        benchmark.group = f"{label(model)}: capture of 12 sites, 16 prompts of 165 tokens"
        ids, timed_by = prompts(16), kind(subject)
        layers = range(0, subject.anatomy.n_layers, max(1, subject.anatomy.n_layers // SITES))[:SITES]
        run = lambda: timed_by.captured(ids, layers, layers)  # noqa: E731
        found = timed(benchmark, run, rounds=15 if model == "r1" else 3, what=kind.name)
        assert len(found) == 2 * SITES
        ours = Ours(subject).captured(ids, layers, layers)
        key = lambda site: (site.shape[-1], float(site.flatten()[0]))  # noqa: E731  (libraries order them differently)
        agree(*(torch.cat([x.flatten() for x in sorted(sites, key=key)]) for sites in (found, ours)))

    def test_bare_pass(self, benchmark, model, subject, prompts):
        benchmark.group = f"{label(model)}: capture of 12 sites, 16 prompts of 165 tokens"
        ids = prompts(16)
        timed(benchmark, lambda: bare(subject, ids), rounds=15 if model == "r1" else 3, what="bare pass")


class TestGeneration:
    """(d) 64 prompts, 60 new tokens each, under one ablation."""

    @in_each_library
    def test_library(self, benchmark, kind, model, subject, prompts):
        benchmark.group = f"{label(model)}: 64 prompts x {NEW} new tokens under a head ablation"
        n = 64 if model == "r1" else 16
        ids, heads, timed_by = prompts(n), [(subject.anatomy.n_layers // 2, 1)], kind(subject)
        found = timed(benchmark, lambda: timed_by.generated(ids, heads, NEW), of=64, measured=n, what=kind.name)
        assert (found == Ours(subject).generated(ids, heads, NEW)).float().mean() > 0.98  # ties are broken by rounding

    def test_without_a_cache(self, benchmark, model, subject, prompts):
        benchmark.group = f"{label(model)}: 64 prompts x {NEW} new tokens under a head ablation"
        n = 16 if model == "r1" else 2
        ids, heads = prompts(n), [(subject.anatomy.n_layers // 2, 1)]
        run = lambda: PlainHooks(subject).generated(ids, heads, NEW, cached=False)  # noqa: E731
        timed(benchmark, run, of=64, measured=n, what="plain hooks, no KV cache")


@torch.no_grad()
def bare(subject, ids):
    return subject.model(ids, use_cache=False, logits_to_keep=1).logits


def agree(found, ours):
    torch.testing.assert_close(found.float(), ours.float(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [NNsight, TransformerLens])
def test_others_have_their_own_weights(kind, subject, model):
    """Nothing that they do to a model can slow the others down."""
    if model != "r1":
        pytest.skip("once is enough")
    theirs = kind(subject)
    module = theirs.bridge if kind is TransformerLens else theirs.model._module
    ours = {parameter.data_ptr() for parameter in subject.model.parameters()}
    assert not ours & {parameter.data_ptr() for parameter in module.parameters()}
