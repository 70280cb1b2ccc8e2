"""Which library multiplies: the faster one, as long as it is exact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fixtures import matrix_products
from fixtures.matrix_products import EXACT, ONEDNN, WIDE, choose, chosen


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.backends.mkldnn.matmul.fp32_precision
    yield
    torch.backends.mkldnn.matmul.fp32_precision = before


@pytest.mark.parametrize("width", [WIDE // 2, WIDE, 4 * WIDE])
def test_products_stay_exact_to_float32(width: int) -> None:
    """Whatever is chosen on this machine."""
    assert choose(width) == chosen()
    a, b = torch.randn(64, width), torch.randn(width, width)
    exact = a.double() @ b.double()
    assert ((a @ b) - exact).abs().max() / exact.abs().max() < EXACT


def test_what_rounds_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that makes use of the permission to round to bfloat16 keeps the default."""
    monkeypatch.setattr(matrix_products, "_wide_vectors_only", lambda: True)
    monkeypatch.setattr(matrix_products, "_error", lambda: 2.0**-9)
    assert choose(WIDE) == "default" == chosen()


def test_wide_models_take_it_where_it_is_faster_and_narrow_ones_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_products, "_wide_vectors_only", lambda: True)
    monkeypatch.setattr(matrix_products, "_error", lambda: 0.0)
    assert choose(WIDE) == ONEDNN
    assert choose(WIDE - 1) == "default"
