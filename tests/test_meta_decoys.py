"""The suite on models that do what verification can be taken for: none of its audited claims may hold on them.

Nor is that enough: the reason must be the right one. Repetition is to be called so, and a digit by its name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from itertools import product

import pytest
from audit import Audited, audit, deviations
from planted import planted
from untrained import save

from fixtures.checkpoints import resolve
from fixtures.loading import load

N_PROBLEMS = 32
CLAIMS = (
    "behaviour.verifies",
    "heads.ablation_disables",
    "heads.attend_target",
    "heads.few_suffice",
    "heads.identity",
    "heads.rescue",
    "heads.silence_values",
    "heads.stability",
    "lens.failure_midlayers",
    "lens.success_midlayers",
    "prior.verification",
    "probe.antipodal",
    "probe.decodable",
    "probe.timing",
    "probe.unembeds",
    "values.ablation_lens",
    "values.ablation_verdict",
    "values.antipodes",
    "values.clusters",
    "values.negative_flip",
)
AUDITED = (*CLAIMS, *(f"{claim}[*]" for claim in CLAIMS))
SEEDS = {"tens": 2}  # problems on which a look at that digit alone tells most pairs apart

# By variant: for the first claim that matches, the verdict and what stands in the reasons (regular expressions).
CANNOT = ("refuted", "the effect stays below")
REPETITION = {
    "behaviour.verifies": CANNOT,
    "heads.attend_target": ("refuted|not_applicable", "role|repetition"),
    "probe.decodable*": ("refuted", "repetition: 0.75 of role-swapped pairs"),
    "probe.timing": ("not_applicable", "repetition|the best probe at the last digit reads the verdict with accuracy"),
    "*": ("not_applicable", "repetition|role"),
}
NOTHING = {
    "behaviour.verifies": CANNOT,
    "heads.attend_target": CANNOT,
    "probe.decodable*": CANNOT,
    "probe.timing": ("not_applicable", "the best probe at the last digit reads the verdict with accuracy"),
    "probe.antipodal*": ("not_applicable", "the best probe at .* reads the verdict with accuracy"),
    "probe.unembeds*": ("not_applicable", "the best probe at ` \\(` reads the verdict with accuracy"),
    "values.clusters*": ("not_applicable", "the best probe at ` \\(` reads the verdict with accuracy"),
    "values.antipodes*": ("not_applicable", "the best probe at ` \\(` reads the verdict with accuracy"),
    "*": ("not_applicable", "^none: "),
}
EXPECTED = {
    "repetition": REPETITION,
    "seen": REPETITION
    | {
        "heads.attend_target": CANNOT,  # not more than any number to its mentions
        "probe.timing": ("not_applicable", "the best probe at the last digit reads the verdict with accuracy"),
        "probe.decodable*": ("refuted", "repetition: 0.75 of role-swapped pairs.*repetition: 0.75 against foils"),
    },
    "tens": {
        "behaviour.verifies": ("refuted|inconclusive", "tens digit alone"),  # 16 problems are few to tell it apart
        "*": ("refuted|not_applicable", "tens digit"),
    },
    "last_digit": {"*": ("refuted|not_applicable", "last digit")},
    **dict.fromkeys(
        ("order_first", "order_last"),
        REPETITION | {"heads.attend_target": ("refuted", "target that shares it")},  # to a place, whatever stands there
    ),
    **dict.fromkeys(("constant", "shuffled", "untrained"), NOTHING),
}


# What is taken in: the same claims as published, on which these hold.
HELD = {
    "heads.ablation_disables", "heads.attend_target", "heads.silence_values", "lens.failure_midlayers",
    "lens.success_midlayers", "values.ablation_lens[valid]", "values.ablation_lens[valid+invalid]",
}  # fmt: skip
TAKEN_IN = {
    "repetition": HELD,
    "seen": HELD,
    "tens": HELD | {"heads.few_suffice"},
    "last_digit": HELD,
    "order_first": HELD - {"heads.silence_values"} | {"heads.few_suffice"},
    "constant": {"lens.failure_midlayers"},  # it says `not` always: one class shows nothing
}
PUBLISHED = ("heads.*@as_published", "lens.*@as_published", "values.ablation_lens*@as_published")  # quickly measured


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Audited]]:
    """Every audited case on a variant, and some as published."""

    @cache
    def measure(variant: str) -> dict[str, Audited]:
        if variant == "untrained":
            folder = save(tmp_path_factory.mktemp("models") / variant)
            subject = load(resolve(str(folder)), device="cpu", dtype="float32")
        else:
            subject = planted(variant)
        return audit(subject, n_problems=N_PROBLEMS, seed=SEEDS.get(variant, 0), only=(*AUDITED, *PUBLISHED))

    return measure


@pytest.mark.parametrize(("variant", "claim"), list(product(EXPECTED, CLAIMS)))
def test_nothing_holds_and_the_reason_is_right(found, variant, claim):
    """No audited case of the claim holds, and why is true of the variant."""
    cases = {
        label: one for label, one in found(variant).items() if label.partition("[")[0] == claim and "@" not in label
    }
    assert cases
    assert deviations(cases, EXPECTED[variant]) == []


@pytest.mark.parametrize("variant", TAKEN_IN)
def test_the_published_protocol_is_taken_in(found, variant):
    """As published, claims hold on models that do not verify: what the audited tier is there for."""
    held = {label.removesuffix("@as_published") for label, one in found(variant).items()
            if label.endswith("@as_published") and one.verdict == "holds"}  # fmt: skip
    assert held == TAKEN_IN[variant]


@pytest.mark.real_model
@pytest.mark.skipif(
    not os.environ.get("NATURAL_DECOY"),
    reason="set NATURAL_DECOY to a .gguf file or a folder of a model that is known not to verify",
)
def test_nothing_holds_on_a_natural_decoy():
    """A real model that says one thing after every attempt (SmolLM2-135M-Instruct) verifies nothing, whatever its
    heads attend to and its residual stream contains.
    """
    subject = load(resolve(os.environ["NATURAL_DECOY"]), device="cpu")
    found = audit(subject, n_problems=N_PROBLEMS, only=AUDITED)
    assert {label for label, one in found.items() if one.verdict == "holds"} == set()
