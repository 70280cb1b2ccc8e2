"""Published tables of value vectors mean something in the model that they are of, and in no other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from planted import TRUTH, planted

from claims.measured import vector_tables
from claims.measured.laboratory import Laboratory
from claims.measured.qwen_tables import QWEN_3B, VectorTables
from claims.measured.vector_tables import table_overlap
from mechinterp import PreconditionUnmet

NEURONS = {"success": TRUTH["planted"].success[1:6], "failure": TRUTH["planted"].failure[1:6]}


@pytest.fixture(scope="module")
def lab() -> Laboratory:
    return Laboratory(planted(), n_problems=4, seed=0)


@pytest.fixture(scope="module")
def tables(lab: Laboratory) -> VectorTables:
    """Of the planted model, under another name: what its vectors name, read by hand."""
    weight, texts = lab.subject.model.lm_head.weight, lab.naming.texts

    def nearest(layer: int, i: int, sign: int) -> tuple[str, ...]:
        vector = sign * lab.subject.model.model.layers[layer].mlp.down_proj.weight[:, i]
        return tuple(texts[token] for token in (weight @ vector).argsort(descending=True)[:10].tolist())

    anatomy = lab.subject.anatomy
    return VectorTables(
        "Planted-1",
        (anatomy.n_layers, anatomy.n_heads, anatomy.d_model, anatomy.d_mlp),
        {
            says: {(layer, i): (nearest(layer, i, 1), nearest(layer, i, -1)) for layer, i in neurons}
            for says, neurons in NEURONS.items()
        },
    )


@pytest.mark.parametrize("antipodes", [False, True])
@pytest.mark.parametrize("says", NEURONS)
def test_a_model_has_its_own_tables(lab, tables, monkeypatch, says, antipodes):
    """Each vector's nearest tokens are those of the table, and with it turned round those of its other column."""
    monkeypatch.setattr(vector_tables, "KNOWN", (QWEN_3B, tables))
    found = table_overlap(lab, says, antipodes=antipodes)
    assert (found.effect, found.n) == (1, 50)
    assert found.details["tables of"] == "Planted-1"


def test_other_vectors_have_other_tokens(lab, tables, monkeypatch):
    """With the columns exchanged next to nothing is as in the tables."""
    turned = {says: {one: of[::-1] for one, of in rows.items()} for says, rows in tables.vectors.items()}
    monkeypatch.setattr(vector_tables, "KNOWN", (replace(tables, vectors=turned),))
    assert table_overlap(lab, "success", antipodes=False).effect < 0.2


def test_tables_of_another_model_are_not_applicable(lab):
    """A model of another shape is told in a sentence which one the tables are of."""
    with pytest.raises(
        PreconditionUnmet, match=r"the tables are of Qwen2.5-3B \(36 layers of 16 heads.*this model has 6"
    ):
        table_overlap(lab, "success", antipodes=False)


def test_published_tables_are_whole():
    """Five vectors of each kind, ten tokens for each and for its antipode."""
    layers, _, _, d_mlp = QWEN_3B.shape
    assert {says: len(rows) for says, rows in QWEN_3B.vectors.items()} == {"success": 5, "failure": 5}
    for rows in QWEN_3B.vectors.values():
        for (layer, i), columns in rows.items():
            assert layer < layers
            assert i < d_mlp
            assert [len(tokens) for tokens in columns] == [10, 10]
