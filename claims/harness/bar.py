"""How far the whole run is, on a terminal.

bar   shown while a case is measured on a seed
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from claims.harness.cases import Case
from claims.harness.session import Session
from reports.text import plain

FORM = "{desc} |{bar:20}| {elapsed}"


@contextmanager
def bar(session: Session, case: Case, seed: int) -> Iterator[None]:
    """`claims 7/31 · heads.ablation_disables[zero] seed 2/5`, with the share of the run that is done."""
    seeds = session.options.seeds
    place = seeds.index(seed) + 1
    several = f" seed {place}/{len(seeds)}" if len(seeds) > 1 else ""
    done = len(session.findings)
    label = f"claims {done + 1}/{len(session.cases)} · {plain(case.label)}{several}"
    with tqdm(
        total=len(session.cases) * len(seeds),
        initial=done * len(seeds) + place - 1,
        desc=label,
        bar_format=FORM,
        leave=False,
        disable=None,  # on a terminal only
    ):
        yield
