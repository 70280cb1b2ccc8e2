"""Everything that is measured on a subject with one seed, each part when it is first asked for.

Laboratory     the parts: observations, remarks, ladder, probes, naming, value vectors, lens, heads, the published rules
open_lab       the laboratory of a subject, with a store

Everything is chosen and fitted on one half of the problems and judged on the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

import mechinterp as mi
from claims.measured import published
from claims.measured import remarks as words
from claims.measured.at_sites import residual_streams
from claims.measured.bars import ONE_PROMPT, PROBE_READS, SITES, SWEEP_PAIRS
from claims.measured.dataset import the_attempts
from claims.measured.few_heads import FewHeads
from claims.measured.frozen import Frozen
from claims.measured.heads_off import HeadsOff
from claims.measured.lens_words import Lens
from claims.measured.naming import Naming
from claims.measured.observations import Half, Observations, observe
from claims.measured.once import kept, once
from claims.measured.prior import TASKS, Prior
from claims.measured.probing import Probing
from claims.measured.repeats import Repeats, repeats
from claims.measured.rungs import Ladder, climb
from claims.measured.twin import untrained_twin
from claims.measured.value_vectors import ValueVectors
from fixtures.task.sites import site
from mechinterp import Head, Store, Subject, code_digest

TWIN_PROBLEMS = 16
"""Problems of each half that the untrained twin is run on."""


@dataclass(eq=False)
class Laboratory:
    """The measurements on one subject with one seed."""

    subject: Subject
    n_problems: int
    seed: int
    store: Store | None = None
    frozen: Frozen | None = None
    published_probes: dict[str, published.PublishedProbe] = field(default_factory=dict, repr=False)

    def kept(self, what: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """See `once.kept`."""
        return kept(self.store, what, make)

    @once
    def observed(self) -> Observations:
        """Every attempt, run once, after the instruments were checked on this very model."""
        attempts = the_attempts(self.n_problems, self.seed)
        mi.check_instruments(self.subject, [site(self.subject.tokenizer, t).input_ids for t in attempts[:2]])
        accept, reject = words.candidates(self.subject, self.naming.texts)
        return observe(self.subject, attempts, [*accept, *reject], seed=self.seed, store=self.store)

    @once
    def naming(self) -> Naming:
        said = self.published_remarks
        return Naming(self.subject, frozenset([*said.accept, *said.reject]))

    @once
    def remarks(self) -> words.Remarks:
        """The words that accept and reject, chosen on the fit half."""
        return words.choose_remarks(self.observed, self.subject, self.naming.texts)

    @once
    def v(self) -> np.ndarray:
        """(n,) V of every attempt, in nats."""
        return self.remarks.log_odds(self.observed.log_p, self.observed.candidates)

    @once
    def published_remarks(self) -> words.Remarks:
        """`this` over `not`."""
        return words.published(self.subject)

    @once
    def says_this(self) -> np.ndarray:
        """(n,) whether `this` is likelier than `not` after each attempt: the published verdict."""
        return self.published_remarks.log_odds(self.observed.log_p, self.observed.candidates) > 0

    @once
    def ladder(self) -> Ladder:
        return climb(self.observed, self.remarks, seed=self.seed)

    @once
    def probing(self) -> dict[str, Probing]:
        """By site."""
        return {name: Probing(self.observed, name, self.seed) for name in SITES}

    @once
    def values(self) -> ValueVectors:
        return ValueVectors(self.subject, self.observed, self.probing["open_paren"], self.seed)

    @once
    def lens(self) -> Lens:
        return Lens(self.subject, self.observed, self.naming, self.seed, self.store)

    @once
    def heads(self) -> HeadsOff:
        return HeadsOff(self.subject, self.observed, self.remarks, self.values, self.seed, self.store)

    @once
    def few_heads(self) -> FewHeads:
        return FewHeads(self.heads)

    @once
    def prior(self) -> dict[str, Prior]:
        """By task."""
        return {task: Prior(task, self.heads, self.probing["open_paren"]) for task in TASKS}

    @once
    def repeat_rows(self) -> np.ndarray:
        """The right attempts whose repeats are watched elsewhere too, see `repeats`."""
        return self.observed.rows(self.observed.test, "correct")[:SWEEP_PAIRS]

    @once
    def repeats(self) -> Repeats:
        sited = [self.observed.sited[i] for i in self.repeat_rows]
        return repeats(self.subject, sited, self.naming.texts, seed=self.seed, store=self.store)

    @once
    def untrained(self) -> dict[str, Tensor]:
        """By site, the residual stream of a model with random weights on the attempts of `twin_rows`."""
        sited = [self.observed.sited[i] for i in self.twin_rows]

        def make() -> dict[str, Tensor]:
            return residual_streams(untrained_twin(self.subject, seed=self.seed), sited, progress="untrained twin")

        return self.kept(("untrained twin", self.seed, [one.input_ids for one in sited]), make)

    @once
    def twin_rows(self) -> np.ndarray:
        """The attempts of the first problems of each half, role-swapped pairs left out."""
        halves = (self.observed.fit, self.observed.test)
        return np.concatenate([self.observed.rows(Half(half.problems[:TWIN_PROBLEMS]), *ONE_PROMPT) for half in halves])

    @once
    def a_prev(self) -> tuple[list[Head], Tensor, np.ndarray]:
        """The published head rule, see `published.a_prev`."""
        return published.a_prev(self.observed)

    def published_probe(self, name: str) -> published.PublishedProbe:
        """The published probe at a site."""
        if name not in self.published_probes:
            self.published_probes[name] = published.fit_published(self.observed, name, self.says_this, seed=self.seed)
        return self.published_probes[name]

    def require_probe(self, site: str = "open_paren", least: float = PROBE_READS) -> None:
        """Raise PreconditionUnmet unless the probe, by default that which points at tokens and value vectors, reads the
        verdict with an accuracy of `least`, and what it reads is neither repetition nor a digit.
        """
        probing, where = self.probing[site], {"open_paren": "` (`", "last_digit": "the last digit"}[site]
        best = int(probing.loss.argmin())
        reads = float(probing.accuracy(probing.scores)[:, best].mean())
        if not reads >= least:
            raise mi.PreconditionUnmet(
                f"the best probe at {where} reads the verdict with accuracy {reads:.2f}; {least} is needed"
            )
        apart = {
            "role-swapped pairs": probing.role_swapped(probing.scores),
            "foils": probing.against(probing.scores, "foil"),
            "where the tens digit is shared": probing.sharing(probing.scores, "tens")[0],
            "where the last digit is shared": probing.sharing(probing.scores, "last")[0],
        }
        found = {name: float(accuracy[:, best].mean()) for name, accuracy in apart.items() if len(accuracy)}
        if short := ", ".join(f"{name} {value:.2f}" for name, value in found.items() if not value >= PROBE_READS):
            raise mi.PreconditionUnmet(
                f"what the best probe at {where} reads is repetition or a digit, not the verdict: {short}; "
                f"{PROBE_READS} is needed of each"
            )


def open_lab(
    subject: Subject, *, n_problems: int, seed: int, folder: Path | None, frozen: Frozen | None = None
) -> Laboratory:
    """`folder` is where measurements are kept, None for nowhere; `frozen` what another run chose."""
    root = Path(__file__).resolve().parents[2]
    ours = [root / "claims" / "measured", root / "fixtures" / "task", root / "fixtures" / "lexicon.py"]
    store = None if folder is None else Store(folder, subject, code=code_digest(ours))
    return Laboratory(subject, n_problems, seed, store, frozen)
