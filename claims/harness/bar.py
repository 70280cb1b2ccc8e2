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
    """`claims 7/31 · heads.ablation_disables[zero] seed 2/5`, with the share and the time of the run that is done."""
    seeds, done = session.options.seeds, len(session.findings)
    place = seeds.index(seed)
    if session.bar is None:  # disable=None: on a terminal only
        session.bar = tqdm(total=len(session.cases) * len(seeds), bar_format=FORM, leave=False, disable=None)
    several = f" seed {place + 1}/{len(seeds)}" if len(seeds) > 1 else ""
    session.bar.n = done * len(seeds) + place
    session.bar.set_description_str(f"claims {done + 1}/{len(session.cases)} · {plain(case.label)}{several}")
    try:
        yield
    finally:
        session.bar.clear()
