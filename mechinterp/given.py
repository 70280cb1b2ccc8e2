"""What a user gives, as what is reckoned with: lists, arrays and tensors alike.

whole_number   one of them, as an int
whole_numbers  a tensor of them, int64
real_numbers   a tensor of them, floats
pairs          (layer, head) or (layer, neuron)
layers         numbers of layers that the model has
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechinterp.anatomy import Anatomy
from mechinterp.errors import MechinterpError, quote

FAILED = (TypeError, ValueError, RuntimeError, OverflowError, IndexError)
"""What torch and numpy raise for what is no array of numbers."""


def whole_number(value: Any, what: str) -> int:
    """An int from what counts as one: numpy's and torch's too, but no float and no boolean."""
    try:
        number = operator.index(value)
    except FAILED as error:
        raise MechinterpError(f"{what}: expected a whole number, got {quote(value)}") from error
    if isinstance(value, bool | np.bool_) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        raise MechinterpError(f"{what}: expected a whole number, got {quote(value)}")
    return number


def whole_numbers(values: Any, what: str, dimensions: tuple[str, ...]) -> Tensor:
    """`values` as int64 with these dimensions; `what` is how errors call it."""
    expected = f"{what}: expected whole numbers ({', '.join(dimensions)})"
    try:
        numbers = _tensor(values)
        empty = not numbers.numel() and not isinstance(values, Tensor)  # a list of none has no kind
        numbers = numbers.long() if empty else numbers
    except FAILED as error:
        raise MechinterpError(f"{expected}, as many in every row, got {quote(values)}") from error
    if numbers.ndim != len(dimensions) or numbers.dtype.is_floating_point or numbers.dtype.is_complex:
        raise MechinterpError(f"{expected}, got {numbers.dtype} of shape {tuple(numbers.shape)}")
    if numbers.dtype == torch.bool:
        raise MechinterpError(f"{expected}, got booleans of shape {tuple(numbers.shape)}")
    return numbers.detach().long()


def real_numbers(values: Any, what: str, *, finite: bool = True) -> Tensor:
    """`values` as floats; a float tensor is given back as it is, with its format, device and graph."""
    try:
        numbers = _tensor(values)
    except FAILED as error:
        raise MechinterpError(f"{what}: expected numbers, as many in every row, got {quote(values)}") from error
    if numbers.is_complex():
        raise MechinterpError(f"{what}: expected real numbers, got {numbers.dtype}")
    if numbers.is_quantized or numbers.layout != torch.strided:
        raise MechinterpError(f"{what}: expected a plain tensor, got a {numbers.layout} one of {numbers.dtype}")
    numbers = numbers if numbers.is_floating_point() else numbers.double()
    if finite and not torch.isfinite(numbers).all():
        raise MechinterpError(f"{what}: expected finite numbers, got {quote(values)}")
    return numbers


def pairs(given: Any, what: str) -> tuple[tuple[int, int], ...]:
    """(layer, number) pairs in the order given, each once."""
    try:
        rows = [tuple(one) for one in (given.tolist() if isinstance(given, Tensor | np.ndarray) else given)]
    except FAILED as error:
        raise MechinterpError(f"{what}: expected (layer, number) pairs, got {quote(given)}") from error
    found: dict[tuple[int, int], None] = {}
    for row in rows:
        if len(row) != 2:
            raise MechinterpError(f"{what}: expected (layer, number) pairs, got {quote(row)}")
        layer, number = (whole_number(value, what) for value in row)
        found[layer, number] = None
    return tuple(found)


def layers(given: Any, anatomy: Anatomy, what: str) -> list[int]:
    """Numbers of layers in the order given. Raises MechinterpError for one that the model does not have."""
    try:
        every = list(given)
    except FAILED as error:
        raise MechinterpError(f"{what}: expected numbers of layers, got {quote(given)}") from error
    numbers = [whole_number(layer, what) for layer in every]
    for layer in numbers:
        anatomy.check_layer(layer)
    return numbers


def _tensor(values: Any) -> Tensor:
    """Floats of lists are float64 whatever torch's default is: a half would round them."""
    if isinstance(values, Tensor):
        return values
    if isinstance(values, np.ndarray | np.generic):
        return torch.from_numpy(np.array(values))  # a copy: what is read-only or reversed would not do
    if isinstance(values, str | bytes | dict | set):
        raise TypeError(type(values).__name__)
    rows = list(values) if isinstance(values, Iterable) else values
    if isinstance(rows, list) and rows and all(isinstance(row, Tensor) for row in rows):
        return torch.stack(rows)
    if isinstance(rows, list) and rows and not all(np.isscalar(row) for row in rows):
        return torch.stack([_tensor(row) for row in rows])
    return torch.from_numpy(np.array(rows))
