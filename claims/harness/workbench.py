"""The checkpoint under test and its laboratories. This room needs torch: see the top of the harness.

check_device   whether a device is there
Workbench      a subject, loaded when first asked for, and what is measured on it, by seed
"""

from __future__ import annotations

from pathlib import Path

from claims.harness.options import Options
from claims.harness.subject_facts import bare_facts, facts_of
from claims.measured.dataset import dataset_hash, the_attempts
from claims.measured.frozen import load as load_chosen
from claims.measured.frozen import save as save_chosen
from claims.measured.laboratory import Laboratory, open_lab
from fixtures import matrix_products
from fixtures.checkpoints import Checkpoint
from fixtures.loading import find_device, load
from mechinterp import Subject
from reports.ladder import Ladder
from reports.schema import SubjectFacts


def check_device(name: str) -> None:
    """Raises MechinterpError: it is not there."""
    find_device(name)


class Workbench:
    """A checkpoint under test: one subject, and a laboratory for each seed."""

    def __init__(self, checkpoint: Checkpoint, options: Options, folder: Path | None) -> None:
        self.checkpoint, self.options, self.folder = checkpoint, options, folder
        self._subject: Subject | None = None
        self._failure: Exception | None = None
        self._labs: dict[int, Laboratory] = {}
        self._facts: SubjectFacts | None = None
        self.ladder: Ladder | None = None
        self._climbed = False

    @property
    def subject(self) -> Subject:
        """Loaded when first asked for; a failure is remembered, so that it is not paid for by every claim."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        if self._subject is None:
            try:
                self._subject = load(self.checkpoint, device=self.options.device, dtype=self.options.dtype)
                self._facts = self._facts or facts_of(
                    self.checkpoint, self._subject, dataset=self._dataset(), products=matrix_products.chosen()
                )
            except Exception as failure:
                self._failure = failure
                raise
        return self._subject

    def lab(self, seed: int) -> Laboratory:
        """What is measured on the subject under this seed, kept for the claims to come."""
        if seed not in self._labs:
            self._labs[seed] = open_lab(
                self.subject,
                n_problems=self.options.n_problems,
                seed=seed,
                folder=self.folder,
                frozen=load_chosen(self.options.frozen) if self.options.frozen else None,
            )
        return self._labs[seed]

    def keep_chosen(self, path: Path) -> bool:
        """Write what was chosen on the first seed; False where that was not measured. Raises OSError."""
        lab = self._labs.get(self.options.seeds[0])
        return lab is not None and save_chosen(lab, path)

    @property
    def facts(self) -> SubjectFacts:
        """Provenance for the report, as much as is known."""
        return self._facts or bare_facts(self.checkpoint)

    def climb(self) -> None:
        """Find out, once, how far the subject verifies at all: on the first seed, if that has been examined."""
        lab = self._labs.get(self.options.seeds[0])
        if lab is not None and not self._climbed:
            self._climbed = True
            found = lab.ladder
            self.ladder = Ladder(rung=found.rung, sentence=found.sentence, figures=found.figures)

    def clear(self) -> None:
        """Free the memory for another subject."""
        self._subject = None
        self._labs.clear()

    def _dataset(self) -> str:
        seeds = self.options.seeds
        return dataset_hash([one for seed in seeds for one in the_attempts(self.options.n_problems, seed)])
