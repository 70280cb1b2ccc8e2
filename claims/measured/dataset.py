"""What every subject is examined on. No torch here.

halves         which problems are fitted on and which are judged on
the_attempts   the attempts of a seed
dataset_hash   which attempts these were
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from fixtures.task.countdown import make_problems
from fixtures.task.transcripts import Transcript, make_attempts

SIZE = 3
"""Numbers of a problem."""
FAILED = (1, 2)
"""Failed attempts before the one to be judged."""


def halves(n_problems: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the problems of the fit half and of the test half, each ascending.

    Neighbours stay together: of two that begin with an even number, one states the target of its role-swapped pairs
    first and the other last, so that both orders are as frequent in each half.
    """
    couples = np.random.default_rng(seed).permutation((n_problems + 1) // 2)
    shuffled = (2 * couples[:, None] + [0, 1]).ravel()
    shuffled = shuffled[shuffled < n_problems]
    return np.sort(shuffled[: n_problems // 2]), np.sort(shuffled[n_problems // 2 :])


def the_attempts(n_problems: int, seed: int) -> list[Transcript]:
    """What every subject is examined on, problem by problem.

    Of the fit half one role-swapped pair a problem is kept, in another wording each time: enough to
    fit on. The test half has all of them.
    """
    problems = make_problems(n_problems, seed=seed, size=SIZE, foils=True)
    attempts = make_attempts(problems, seed=seed, failed=FAILED)
    on_fit, _ = halves(n_problems, seed)
    turn = {problems[number].id: place for place, number in enumerate(on_fit)}
    wordings = list(dict.fromkeys(t.wording for t in attempts if t.kind == "role_swapped"))
    return [
        t
        for t in attempts
        if t.kind != "role_swapped"
        or t.problem.id not in turn
        or t.wording == wordings[turn[t.problem.id] % len(wordings)]
    ]


def dataset_hash(attempts: Sequence[Transcript]) -> str:
    """SHA-256 of the texts, each followed by a zero byte."""
    return sha256(b"".join(t.text.encode() + b"\0" for t in attempts)).hexdigest()
