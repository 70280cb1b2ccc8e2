"""The logit lens: does the model say "success" in its middle layers before it says `this`?

Part II of the discussion unembeds the residual stream at the ` (` and one step earlier, and sees "success", "OK",
"bingo", "yes" in the middle layers of right attempts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

import mechinterp as mi
from claims.claim import DISCUSSION, claim
from claims.laboratory import DRAWS
from mechinterp import Evidence, Threshold

if TYPE_CHECKING:
    from claims.laboratory import Laboratory


@claim(
    "lens.success_midlayers",
    statement="In middle layers the logit lens shows words of success after a right attempt.",
    measure="probability of success words under the logit lens in the selected layer, right minus wrong attempts",
    published='"success", "OK", "bingo", "yes" in middle layers; P("SUCCESS") = 0.73 in layer 26 of 36',
    source=f"{DISCUSSION}, Part II",
    control="wrong attempts; random lexicons of the same kind and frequency",
    threshold=Threshold(at_least=0.1),
)
@pytest.mark.parametrize("site", ["open_paren", "last_digit"])
def test_middle_layers_say_success(lab: Laboratory, site: str, judge: Callable[[Evidence], None]) -> None:
    """In middle layers the logit lens shows words of success after a right attempt."""
    middle = middle_layers(lab)
    success = lab.lens[site][..., 0].numpy()  # (n, layers)
    layer = middle[int(right_minus_wrong(success[lab.select.of()])[:, middle].mean(0).argmax())]
    gap = right_minus_wrong(success[lab.judge.of()])[:, layer]  # (problems,)
    null = random_lexicons(lab, site, layer)
    by_kind = {
        kind: lab.lens[site][lab.judge.of(kind)].mean(0).numpy() for kind in ("correct", "target_edited", "incorrect")
    }
    judge(
        Evidence(
            effect=gap.mean(),
            interval=mi.mean_interval(gap, seed=lab.seed),
            n=len(gap),
            p_value=mi.exceedance_p(gap.mean(), null),
            null=tuple(null),
            series={
                **{f"success words, {kind.replace('_', '-')}": curve[:, 0].tolist() for kind, curve in by_kind.items()},
                "failure words, incorrect": by_kind["incorrect"][:, 1].tolist(),
            },
            details={"layer": layer, "top_tokens": top_tokens(lab, site, layer), "lexicon": len(lab.lexicon.success)},
        )
    )


def middle_layers(lab: Laboratory) -> list[int]:
    """From a quarter to seven eighths of the depth: the last layers say the verdict itself."""
    depth = lab.subject.anatomy.n_layers
    return list(range(depth // 4, max(depth // 4 + 1, depth * 7 // 8)))


def right_minus_wrong(values: np.ndarray) -> np.ndarray:
    """(3 * problems, ...) of correct, target-edited, incorrect -> by problem, correct minus the mean of the others."""
    triples = values.reshape(-1, 3, *values.shape[1:])
    return triples[:, 0] - triples[:, 1:].mean(1)


def random_lexicons(lab: Laboratory, site: str, layer: int) -> np.ndarray:
    """(draws,): the effect of random lexicons of the same kind and frequency, in the same layer."""
    from fixtures.lexicon import matched_lexicons

    tokens = lab.lexicon.success
    banned = lab.verdict_tokens | set(lab.lexicon.failure)
    lexicons = matched_lexicons(lab.vocabulary, tokens, exclude=banned, draws=DRAWS, seed=lab.seed)
    residual = lab.observed.residual[site][lab.judge.of(), layer]
    gaps = np.zeros(len(lab.vocabulary))
    rows = residual.split(3)  # a problem at a time: the distributions over a large vocabulary are large
    for problem in rows:
        gaps += right_minus_wrong(mi.logit_lens(lab.subject, problem).softmax(-1).cpu().numpy())[0, : len(gaps)]
    return gaps[lexicons].sum(1) / len(rows)


def top_tokens(lab: Laboratory, site: str, layer: int, k: int = 10) -> list[str]:
    """The tokens with the highest mean probability after right attempts."""
    residual = lab.observed.residual[site][lab.judge.of("correct"), layer]
    mean = mi.logit_lens(lab.subject, residual).softmax(-1).mean(0)
    return mi.token_texts(lab.subject.tokenizer, mean.topk(k).indices.tolist())
