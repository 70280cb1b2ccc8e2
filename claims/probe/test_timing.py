"""Does the verdict become readable only once the result is written?

The source's early site is one token before the number first occurs: in a right attempt that is the target in the
prompt, in a wrong one the result, so that the two classes are read at different places. Here the sites are counted
along the last attempt's line. A probe that reads nothing may be a weak one: where the running value has just been
written, it has to read that better than it may read the verdict.
"""

from __future__ import annotations

import numpy as np

import mechinterp as mi
from claims import measured
from claims.claim import DISCUSSION, Claim
from claims.harness.types import Judge
from mechinterp import Control, Draws, Evidence, Threshold

CLAIM = Claim(
    "probe.timing",
    statement="The verdict becomes decodable only once the result is written.",
    source=f"{DISCUSSION}, Part I; the released code",
    published="no figure: probes at the first occurrence of the number, one token early",
)
AT_LEAST = 0.2
READS, READS_NOT = 0.9, 0.65
WHY = "from guessing to near perfect there is 0.4: at least half of that comes with the result"


@CLAIM.as_published(
    measure="accuracy of the published probe at the last digit minus the same one token before the number first "
    "occurs, mean over layers from 1/12 of the depth",
    threshold=Threshold(AT_LEAST, reason=WHY, alpha=None),
    quirks=(
        "the number first occurs in the prompt where it is right, and as the result where it is wrong: the classes are "
        "read at different places",
        "labels are the model's own next word, not the truth",
        "stopped early on the very set whose accuracy is reported",
    ),
)
def test_early_probes_read_less(lab: measured.Laboratory, judge: Judge) -> None:
    """Where the number is about to occur first, the model's next word is less decodable than at the last digit."""
    late, early = lab.published_probe("last_digit"), measured.published_early(lab)
    which = slice(-(-lab.subject.anatomy.n_layers // 12), None)
    less = (late.accuracy - early.accuracy)[:, which].mean(1)
    problems = np.unique(late.problem)
    by_problem = np.array([less[late.problem == p].mean() for p in problems])
    judge(
        Evidence(
            by_problem.mean(),
            mi.mean_interval(by_problem, seed=lab.seed),
            len(by_problem),
            by_problem=measured.parts(problems, by_problem),
            series={"last digit": late.accuracy.mean(0).tolist(), "before the number": early.accuracy.mean(0).tolist()},
        )
    )


@CLAIM.audited(
    measure="balanced accuracy on held-out problems at the last digit minus that at the best site between the value "
    "worked out before and the token before the result, each in the layer that the fit half reads best",
    threshold=Threshold(AT_LEAST, reason=WHY),
    null="labels permuted within each problem in both halves, probes refitted",
)
def test_the_verdict_comes_with_the_result(lab: measured.Laboratory, judge: Judge) -> None:
    """Before the result is written the verdict cannot be read, and at its last digit it can."""
    lab.require_probe("last_digit", READS)
    timing, seed = measured.Timing(lab), lab.seed
    late = timing.accuracy("last_digit")  # (problems,)
    earlier = {site: timing.accuracy(site) for site in measured.EARLIER}
    every = np.stack(list(earlier.values()))  # (sites, problems)

    def more(rows: np.ndarray) -> np.ndarray:
        best: np.ndarray = every[:, rows].mean(-1).max(0)
        return late[rows].mean(-1) - best

    running, n = timing.running_value() - READS_NOT, len(late)
    curve = [*earlier.values(), late, timing.accuracy("open_paren")]
    judge(
        Evidence(
            effect=float(more(np.arange(n))),
            interval=mi.statistic_interval(more, n, seed=seed, at_once=True),
            n=n,
            controls=(
                *(
                    Control(
                        f"read early, at the {site.replace('_', ' ')}: at most {READS_NOT}",
                        float(READS_NOT - accuracy.mean()),
                        mi.mean_interval(READS_NOT - accuracy, seed=seed),
                    )
                    for site, accuracy in earlier.items()
                ),
                Control(
                    f"the running value, above or below its median, is read with more than {READS_NOT}",
                    float(running.mean()),
                    mi.mean_interval(running, seed=seed),
                    "validity",
                ),
            ),
            selected=(f"layer {timing.layer('last_digit')}",),
            series={"site": [float(i) for i in range(len(curve))], "accuracy": [float(one.mean()) for one in curve]},
            series_axis="site",
            details={"sites": [*earlier, "last_digit", "open_paren"], "layers": timing.layers},
        ),
        null=Draws(lambda numbers: timing.permuted(numbers, "last_digit")),
    )
