"""What is measured once on a subject and used by several claims.

Laboratory       observations, halves, lexicon, probes and the selected heads; each is made when first asked for
open_for         the laboratory of a subject under the given options
the_transcripts  what every subject is examined on
dataset_hash     which transcripts these were
fit_balanced     probes that give both classes the same weight

Everything is selected on one half of the problems and judged on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fixtures.task.countdown import make_problems
from fixtures.task.transcripts import Transcript, make_transcripts
from mechinterp.evidence import PreconditionUnmet

if TYPE_CHECKING:
    from torch import Tensor

    from fixtures.lexicon import Lexicon
    from fixtures.observations import Half, Observations
    from mechinterp import Head, LinearProbe, Metric, Neuron, Store, Subject

ATTENDS = 0.1
"""Attention mass above which a head attends to the target (the published A_Prev)."""
MOST_HEADS = 1 / 16
"""At most this share of all heads is ablated; published: 29 or 33 of 576."""
DRAWS = 400
"""Draws of a null that costs no forward pass."""
SWEEP_DRAWS = 300
"""Draws of a null that is a sweep."""
SWEEP_PROBLEMS = 18
"""Problems of the judging half that interventions are run on."""
TWIN_PROBLEMS = 16
"""Problems of each half that the untrained twin is run on."""
TELLS = 0.75
"""AUC from which a subject tells right from wrong attempts at all: the precondition of every ablation."""


class once:
    """A property of a laboratory that is measured when first asked for."""

    def __init__(self, method: Callable[[Any], Any]) -> None:
        self.method = method

    def __get__(self, owner: Any, kind: type) -> Any:
        return owner.remember(self.method, lambda: self.method(owner))


@dataclass(eq=False)
class Laboratory:
    """The shared measurements on one subject."""

    subject: Subject
    n_problems: int
    seed: int
    store: Store | None = None
    results: dict[Hashable, tuple[Any, Exception | None]] = field(default_factory=dict, repr=False)

    def remember(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives the first time; a failure is remembered too, so that it is not paid for twice."""
        if key not in self.results:
            try:
                self.results[key] = (make(), None)
            except Exception as failure:
                self.results[key] = (None, failure)
        result, failed = self.results[key]
        if failed is not None:
            raise failed
        return result

    def kept(self, name: str, make: Callable[[], dict[str, Tensor]], *depends: Any) -> dict[str, Tensor]:
        """What `make` measures on these transcripts, or measured once; `depends`: what decides it beside them."""
        if self.store is None:
            return make()
        return self.store.tensors((name, self.observed.sited, self.seed, depends), make)

    @once
    def observed(self) -> Observations:
        """Every transcript, run once, after the instruments were checked on this very model."""
        from fixtures.observations import observe
        from fixtures.task.sites import site
        from mechinterp import check_instruments

        transcripts = the_transcripts(self.n_problems, self.seed)
        check_instruments(self.subject, [site(self.subject.tokenizer, t).input_ids for t in transcripts[:2]])
        return observe(self.subject, transcripts, store=self.store)

    @once
    def halves(self) -> tuple[Half, Half]:
        return self.observed.halves(self.seed)

    @property
    def select(self) -> Half:
        """The half that everything is chosen and fitted on."""
        return self.halves[0]

    @property
    def judge(self) -> Half:
        """The half that everything is measured on, once."""
        return self.halves[1]

    @once
    def vocabulary(self) -> list[str]:
        from fixtures.lexicon import vocabulary

        rows = len(self.subject.anatomy.unembed.weight)  # a token that was added has none
        return vocabulary(self.subject.tokenizer)[:rows]

    @once
    def lexicon(self) -> Lexicon:
        from fixtures.lexicon import lexicon

        return lexicon(self.vocabulary, exclude=self.verdict_tokens)

    @property
    def verdict_tokens(self) -> set[int]:
        return {self.observed.verdicts.works, self.observed.verdicts.fails}

    def fit(self, site: str, half: Half, *, labels: Tensor | None = None) -> LinearProbe:
        """A probe for every layer on one half, both classes with the same weight; `labels` (..., n) by default true."""
        rows = half.of()
        return fit_balanced(self.observed.residual[site][rows], self.right(half) if labels is None else labels)

    def right(self, half: Half) -> Tensor:
        """(n,) whether each transcript of a half ends in a right attempt."""
        import torch

        return torch.as_tensor(self.observed.right[half.of()])

    def shuffled(self, half: Half, draws: int) -> Tensor:
        """(draws, n) labels of a half, shuffled within each problem so that they say nothing about the true ones.

        The label goes to each of a problem's three attempts in a third of the problems, which problems by chance.
        Free shuffles agree with the truth by more or less; where right against wrong is what varies most in the
        activations, those that agree a little find all of it, and the control would hold the effect itself.
        """
        import torch

        rng, problems = np.random.default_rng(self.seed), len(half.problems)
        places = rng.permuted(np.tile(np.arange(problems) % 3, (draws, 1)), axis=1)  # (draws, problems)
        return torch.as_tensor(places[..., None] == np.arange(3)).flatten(1)

    @once
    def probes(self) -> dict[str, LinearProbe]:
        """By site, fitted on the selection half."""
        return {site: self.fit(site, self.select) for site in self.observed.residual}

    @once
    def shuffled_probes(self) -> dict[str, LinearProbe]:
        """By site, DRAWS probes fitted to shuffled labels of the selection half."""
        from mechinterp import LinearProbe

        def make() -> dict[str, Tensor]:
            labels = self.shuffled(self.select, DRAWS)
            fitted = {site: self.fit(site, self.select, labels=labels) for site in self.observed.residual}
            return {f"{part} {site}": tensor for site, probe in fitted.items() for part, tensor in vars(probe).items()}

        found = self.kept("shuffled probes", make)
        return {
            site: LinearProbe(found[f"directions {site}"], found[f"biases {site}"]) for site in self.observed.residual
        }

    @once
    def untrained(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """By site, the residual stream of a model with random weights, on the first problems of each half."""
        from fixtures.observations import observe_residual
        from fixtures.twin import untrained_twin

        sited = [[self.observed.sited[i] for i in half.of()[: 3 * TWIN_PROBLEMS]] for half in self.halves]

        def make() -> dict[str, Tensor]:
            twin = untrained_twin(self.subject, seed=self.seed)
            seen = [observe_residual(twin, part, progress="untrained twin") for part in sited]
            return {f"{half} {site}": one[site] for half, one in enumerate(seen) for site in one}

        found = self.kept("untrained twin", make)
        first, second = ({site: found[f"{half} {site}"] for site in self.observed.residual} for half in (0, 1))
        return first, second

    @once
    def best_layer(self) -> dict[str, int]:
        """By site, the layer whose probe reads held-out problems of the selection half with the least loss."""
        return {site: _best_layer(self, site) for site in self.observed.residual}

    @once
    def lens(self) -> dict[str, Tensor]:
        """By site, (n, L, 2): probability of success and of failure words under the logit lens."""
        from mechinterp import lens_probability

        words = [self.lexicon.success, self.lexicon.failure]

        def make() -> dict[str, Tensor]:
            return {
                site: lens_probability(self.subject, residual, words, progress="logit lens")
                for site, residual in self.observed.residual.items()
            }

        return self.kept("logit lens", make, words)

    @once
    def heads(self) -> list[Head]:
        """Heads that attend from the last digit of a right answer to earlier mentions of it, most attending first."""
        from mechinterp.heads import attending_heads

        anatomy = self.subject.anatomy
        mass = self.observed.to_target["last_digit"][self.select.of("correct")]
        most = max(1, int(anatomy.n_layers * anatomy.n_heads * MOST_HEADS))
        return attending_heads(mass, above=ATTENDS, at_most=most)

    @once
    def activity(self) -> Tensor:
        """(L, d_mlp): mean absolute activation at ` (` on the selection half."""
        return self.observed.neurons[self.select.of()].abs().mean(0)

    def nearest_values(self, sign: int, k: int, *, layers: Sequence[int] | None = None) -> list[Neuron]:
        """The k value vectors nearest to the probes' directions (sign 1: right), by default of the second half."""
        from mechinterp import value_vectors

        depth = self.subject.anatomy.n_layers
        near = []
        for layer in range(depth // 2, depth) if layers is None else layers:
            vectors = value_vectors(self.subject, layer).cpu()
            direction = sign * self.probes["open_paren"].directions[layer].float()
            cosines = (vectors @ direction) / (vectors.norm(dim=1) * direction.norm()).clamp(min=1e-12)
            top = cosines.topk(min(k, len(cosines)))
            near += [(float(c), layer, int(i)) for c, i in zip(top.values, top.indices, strict=True)]
        return [(layer, i) for _, layer, i in sorted(near, reverse=True)[:k]]

    def value_vectors(self, neurons: Sequence[Neuron]) -> Tensor:
        """(n, d_model)."""
        import torch

        from mechinterp import value_vectors

        by_layer = {layer: value_vectors(self.subject, layer).cpu() for layer in {layer for layer, _ in neurons}}
        return torch.stack([by_layer[layer][i] for layer, i in neurons])

    @once
    def success_values(self) -> list[Neuron]:
        """Of the 50 value vectors nearest to the probe, those that fire more on right attempts (selection half)."""
        near = self.nearest_values(1, 50)
        layers, numbers = (list(part) for part in zip(*near, strict=True))
        fired = self.observed.neurons[:, layers, numbers]  # (n, 50)
        gap = fired[self.select.of("correct")].mean(0) - fired[self.select.of("target_edited")].mean(0)
        return [neuron for neuron, more in zip(near, gap > 0, strict=True) if more] or near

    def sweep_rows(self, *kinds: str) -> np.ndarray:
        """Transcripts of the judging half that interventions are run on, problem by problem."""
        return self.judge.of(*kinds)[: SWEEP_PROBLEMS * len(kinds)]

    @property
    def verdict_metric(self) -> Metric:
        """Log-odds of the verdict after the last token, in nats."""
        from mechinterp import log_odds

        return log_odds(self.observed.verdicts.works, self.observed.verdicts.fails)

    def require_verdicts(self) -> None:
        """Raise PreconditionUnmet unless the subject tells right attempts from target-edited ones at all."""
        from mechinterp import auc

        rows = self.judge.of("correct", "target_edited")
        reached = auc(self.observed.right[rows], self.observed.log_odds[rows])
        if not reached >= TELLS:
            raise PreconditionUnmet(
                f"its verdict does not tell right from wrong attempts: AUC {reached:.2f}, {TELLS} is needed"
            )


def open_for(subject: Subject, *, n_problems: int, seed: int, folder: Path | None) -> Laboratory:
    """`folder` is where measurements are kept, None for nowhere."""
    from mechinterp import Store, code_digest

    root = Path(__file__).resolve().parent.parent
    fixtures = root / "fixtures"
    ours = [root / "claims", fixtures / "task", fixtures / "lexicon.py", fixtures / "observations.py"]
    store = None if folder is None else Store(folder, subject, code=code_digest(ours))
    return Laboratory(subject, n_problems, seed, store)


def the_transcripts(n_problems: int, seed: int) -> list[Transcript]:
    """What every subject is examined on: problems of three numbers, one or two failed attempts before the last."""
    return make_transcripts(make_problems(n_problems, seed=seed, size=3), seed=seed, failed=(1, 2))


def dataset_hash(transcripts: Sequence[Transcript]) -> str:
    """SHA-256 of the texts, each followed by a zero byte."""
    return sha256(b"".join(t.text.encode() + b"\0" for t in transcripts)).hexdigest()


def fit_balanced(residual: Tensor, labels: Tensor) -> LinearProbe:
    """Probes of transcripts in triples, one right and two wrong ones a problem, weighted to be even."""
    import torch

    from mechinterp import fit_probes

    return fit_probes(residual, labels, weights=torch.where(labels, 2.0, 1.0))


def _best_layer(lab: Laboratory, site: str, folds: int = 4) -> int:
    import torch

    from fixtures.observations import Half

    observed, problems = lab.observed, lab.select.problems
    loss = torch.zeros(lab.subject.anatomy.n_layers, dtype=torch.float64)
    for part in np.array_split(problems, min(folds, len(problems))):
        probe = lab.fit(site, Half(observed, np.setdiff1d(problems, part)))
        held_out = Half(observed, part)
        right = lab.right(held_out)
        scores = probe.scores(observed.residual[site][held_out.of()])
        sign, weight = torch.where(right, -1.0, 1.0), torch.where(right, 2.0, 1.0)
        loss += (torch.nn.functional.softplus(sign[:, None] * scores) * weight[:, None]).sum(0)
    return int(loss.argmin())
