"""What a report says of the checkpoint that was examined.

facts_of    of a loaded subject
bare_facts  of a checkpoint that could not be loaded
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixtures.checkpoints import Checkpoint, fingerprint
from mechinterp.errors import MechinterpError
from mechinterp.visible import visible
from reports.schema import SubjectFacts

if TYPE_CHECKING:
    from mechinterp import Subject


def facts_of(checkpoint: Checkpoint, subject: Subject, dataset: str, products: str) -> SubjectFacts:
    """Provenance of a loaded subject: SHA-256 and revision of its weights, shape, number format, kernels, data."""
    anatomy, model = subject.anatomy, subject.model
    return SubjectFacts(
        source=_source(checkpoint),
        dataset_hash=dataset,
        **_fingerprint(checkpoint),
        family=anatomy.family,
        n_layers=anatomy.n_layers,
        n_heads=anatomy.n_heads,
        n_kv_heads=anatomy.n_kv_heads,
        d_model=anatomy.d_model,
        d_mlp=anatomy.d_mlp,
        n_parameters=model.num_parameters(),
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(subject.device),
        attention=model.config._attn_implementation,
        other={"matrix products": products},
    )


def bare_facts(checkpoint: Checkpoint) -> SubjectFacts:
    """What is known of a checkpoint without loading it."""
    try:
        return SubjectFacts(source=_source(checkpoint), **_fingerprint(checkpoint))
    except MechinterpError:  # what is wrong with it stands in the findings
        return SubjectFacts(
            name=checkpoint.name, source=_source(checkpoint), kind=checkpoint.kind, revision=checkpoint.revision
        )


@cache
def _fingerprint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Hashed once a run: before anything is measured, and never again for what is then loaded."""
    return fingerprint(checkpoint)


def _source(checkpoint: Checkpoint) -> str:
    """A hub id, or the name of a local file or folder; where it lies is nobody's business but its owner's."""
    return checkpoint.location if checkpoint.kind == "hub" else visible(Path(checkpoint.location).name)
