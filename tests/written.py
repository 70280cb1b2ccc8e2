"""Transcripts of every kind for the tests, and a reading of them that knows nothing of the spans recorded.

attempts     the transcripts of a few problems that allow every kind
by_problem   those of each problem
pairs        the right and the wrong transcript of each role-swapped pair
found        the whole numbers of a text
mentions     how often a number stands before the result
"""

from __future__ import annotations

import re
from itertools import groupby

from hypothesis import settings
from hypothesis import strategies as st

from fixtures.task.countdown import make_problems
from fixtures.task.transcripts import KINDS, make_attempts
from fixtures.task.wordings import WORDINGS

law = settings(deadline=None, derandomize=True, max_examples=20)
SEEDS = st.integers(0, 2**32)
RANGES = [  # of numbers and targets
    dict(size=3),
    dict(size=4),
    dict(size=3, numbers=(1, 30), targets=(5, 60)),
    dict(size=3, numbers=(100, 300), targets=(100, 400)),
    dict(size=4, numbers=(1, 20), targets=(10, 40)),
]
SHAPES = st.sampled_from(RANGES)
PROMPTS = st.sampled_from(list(WORDINGS))
SINGLE = KINDS[:4]


def attempts(seed, shape=RANGES[0], n=3, **options):
    return make_attempts(make_problems(n, seed=seed, foils=True, **shape), seed=seed, **options)


def by_problem(transcripts):
    return [list(group) for _, group in groupby(transcripts, key=lambda t: t.problem)]


def pairs(transcripts):
    """(right, wrong) of each role-swapped pair."""
    swapped = [t for t in transcripts if t.kind == "role_swapped"]
    return list(zip(swapped[::2], swapped[1::2], strict=True))


def found(text):
    """The whole numbers of a text with their spans: searched for, to judge what was recorded."""
    return [(int(match[0]), match.span()) for match in re.finditer(r"(?<!\d)\d+(?!\d)", text)]


def mentions(transcript, number):
    """How often a number stands before the result."""
    return sum(n == number for n, span in found(transcript.text) if span != transcript.result)
