"""What a sweep measures.

Metric          a function of a Readout, and the activations that it reads
Readout         the last token of some rows
log_odds        the metric of a verdict
checked_metric  refuses what is no metric, or reads what the model does not have
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import linear

from mechinterp.errors import MechinterpError, quote
from mechinterp.given import whole_number, whole_numbers
from mechinterp.subject import Subject


@dataclass(frozen=True, eq=False)
class Readout:
    """The last token of R rows.

    Attributes:
        prompt: (R,) number of the prompt.
        final: (R, d_model), after the final norm.
        residual: by layer, (R, d_model), the residual stream after the layer.
        neurons: by layer, (R, d_mlp), activations after the gate.
    """

    subject: Subject
    prompt: Tensor
    final: Tensor
    residual: Mapping[int, Tensor]
    neurons: Mapping[int, Tensor]

    def __post_init__(self) -> None:
        for what in ("residual", "neurons"):
            object.__setattr__(self, what, _Named(what, getattr(self, what)))

    def logits(self, tokens: Sequence[int] | None = None) -> Tensor:
        """(R, vocab), or of some tokens only (R, len(tokens)), fp32.

        Raises:
            MechinterpError: tokens that the model cannot say.
        """
        weight = self.subject.anatomy.unembed.weight
        if tokens is not None:
            ids = whole_numbers(tokens, "tokens", ("tokens",))
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(weight):
                raise MechinterpError(
                    f"tokens: {quote(ids.tolist())}, but this model has the ids 0 to {len(weight) - 1}"
                )
            weight = weight[ids.to(weight.device)]
        return linear(self.final.to(weight.device).float(), weight.float())


@dataclass(frozen=True)
class Metric:
    """What is measured at the last token.

    Attributes:
        of: maps a Readout to (R,) or (R, m).
        residual, neurons: the layers that it reads.
        name: says all that decides its values, so that sweeps of it can be kept in a Store; None if they are not.
    """

    of: Callable[[Readout], Tensor]
    residual: tuple[int, ...] = ()
    neurons: tuple[int, ...] = ()
    name: str | None = None

    def __post_init__(self) -> None:
        if not callable(self.of):
            raise MechinterpError(f"Metric: expected a function of a Readout, got {quote(self.of)}")
        for what in ("residual", "neurons"):
            given = whole_numbers(getattr(self, what), f"Metric: {what}", ("layers",))
            object.__setattr__(self, what, tuple(given.tolist()))

    def read(self, readout: Readout) -> Tensor:
        """(R,) or (R, m). Raises MechinterpError where the function gives something else."""
        found, rows = self.of(readout), len(readout.prompt)
        if not isinstance(found, Tensor) or found.ndim not in (1, 2) or len(found) != rows:
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else quote(found)
            raise MechinterpError(f"Metric: expected a tensor ({rows},) or ({rows}, m), one for each row, got {got}")
        return found


class _Named(dict[int, Tensor]):
    """Activations of the layers that a metric has named."""

    def __init__(self, what: str, found: Mapping[int, Tensor]) -> None:
        super().__init__(found)
        self.what = what

    def __missing__(self, layer: int) -> Tensor:
        raise MechinterpError(
            f"Metric: it reads {self.what} of layer {quote(layer)}, but has named {sorted(self)}; "
            f"name the layers that it reads: Metric(..., {self.what}=[...])"
        )


def log_odds(token: int, against: int) -> Metric:
    """log p(token) - log p(against), in nats."""
    token, against = (whole_number(one, "log_odds: token", least=0) for one in (token, against))

    def of(read: Readout) -> Tensor:
        ours, theirs = read.logits([token, against]).double().T
        return ours - theirs

    return Metric(of, name=f"log p({token}) - log p({against})")


def checked_metric(subject: Subject, metric: Metric) -> Metric:
    """Raises MechinterpError for what is no metric, or reads layers that the model does not have."""
    if not isinstance(metric, Metric):
        raise MechinterpError(f"expected a Metric, such as log_odds(token, against), got {quote(metric)}")
    for layer in (*metric.residual, *metric.neurons):
        subject.anatomy.check_layer(layer)
    return metric
