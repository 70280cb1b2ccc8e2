"""Tables that were published of value vectors of one model, by layer and index: they mean nothing in another.

table_overlap   how much of a table the subject's own vectors give
KNOWN           the tables that there are
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import mechinterp as mi
from claims.measured.qwen_tables import QWEN_3B, VectorTables
from mechinterp import Evidence, PreconditionUnmet

if TYPE_CHECKING:
    from claims.measured.laboratory import Laboratory

KNOWN: tuple[VectorTables, ...] = (QWEN_3B,)


def table_overlap(lab: Laboratory, says: str, *, antipodes: bool = False) -> Evidence:
    """The share of a table's tokens that are among as many nearest to the subject's vectors there.

    Unembedded as they are, without the final norm's gain, as in the source. `n` counts tokens.

    Raises:
        PreconditionUnmet: no table is of a model of this shape.
    """
    tables, sign = _tables(lab), -1 if antipodes else 1
    weight = lab.subject.anatomy.unembed.weight[: len(lab.naming.texts)].detach().float()
    there: list[float] = []
    shown = {}
    for neuron, of_either in tables.vectors[says].items():
        published = of_either[antipodes]
        vector = sign * lab.values.vectors([neuron])[0].to(weight.device)
        tokens = [lab.naming.texts[i] for i in (weight @ vector).topk(len(published)).indices.tolist()]
        there += [float(token in tokens) for token in published]
        shown["MLP[{}, {}]".format(*neuron) + " * -1" * antipodes] = tokens
    return Evidence(
        sum(there) / len(there),
        mi.share_interval(there, seed=lab.seed),
        len(there),
        details={"tables of": tables.model, "tokens": shown},
    )


def _tables(lab: Laboratory) -> VectorTables:
    anatomy = lab.subject.anatomy
    shape = (anatomy.n_layers, anatomy.n_heads, anatomy.d_model, anatomy.d_mlp)
    found = next((tables for tables in KNOWN if tables.shape == shape), None)
    if found is None:
        names = " and ".join(f"{one.model} ({_said(one.shape)})" for one in KNOWN)
        raise PreconditionUnmet(f"the tables are of {names} and its children; this model has {_said(shape)}")
    return found


def _said(shape: tuple[int, int, int, int]) -> str:
    return "{} layers of {} heads, d_model {}, d_mlp {}".format(*shape)
