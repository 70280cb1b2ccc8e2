"""What a user gives, as what is reckoned with: lists, arrays and tensors alike.

whole_number   one of them, as an int
whole_numbers  a tensor of them, int64
real_number    a float
real_numbers   a tensor of floats
number_row     finite numbers in a row, as numpy's float64
pairs          (layer, head) or (layer, neuron)
layers         numbers of layers that the model has
each           the members of a list, or of what can be gone through like one
seeded         numpy's generator
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mechinterp.errors import MechinterpError, quote

if TYPE_CHECKING:
    from mechinterp.anatomy import Anatomy

FAILED = (TypeError, ValueError, RuntimeError, OverflowError, IndexError)
"""What torch and numpy raise for what is no array of numbers."""


def whole_number(value: Any, what: str, *, least: int | None = None) -> int:
    """An int from what counts as one: numpy's and torch's too, but no float and no boolean."""
    expected = f"{what}: expected a whole number{'' if least is None else f' of {least} or more'}, got {quote(value)}"
    try:
        number = operator.index(value)
    except FAILED as error:
        raise MechinterpError(expected) from error
    if isinstance(value, bool | np.bool_) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        raise MechinterpError(expected)
    if least is not None and number < least:
        raise MechinterpError(expected)
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


def real_number(value: Any, what: str) -> float:
    """A finite float from a number of Python, numpy or torch."""
    number = real_numbers(value, what)
    if number.ndim:
        raise MechinterpError(f"{what}: expected a number, got shape {tuple(number.shape)}")
    return float(number.detach())


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


def number_row(values: Any, what: str, *, least: int = 2) -> np.ndarray:
    """At least so many finite numbers in a row, float64; truth values count as 0 and 1."""
    fast = isinstance(values, np.ndarray) and values.dtype.kind in "fiub"  # a bootstrap asks thousands of times
    data = values.astype(np.float64) if fast else real_numbers(values, what).detach().cpu().double().numpy()
    if data.ndim != 1 or len(data) < least or not np.isfinite(data).all():
        raise MechinterpError(
            f"{what}: expected at least {least} finite numbers in a row, got shape {data.shape}, {quote(values)}"
        )
    return data


def seeded(seed: Any, what: str) -> np.random.Generator:
    """Numpy's generator of a seed, which has to be given: a measurement can be had again."""
    return np.random.default_rng(whole_number(seed, f"{what}: seed", least=0))


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


def each(given: Any, what: str, expected: str) -> list[Any]:
    """The members of what is given, in order, as a list. A mapping or a text is no list of things."""
    if isinstance(given, Mapping | str | bytes) or not isinstance(given, Iterable):
        raise MechinterpError(f"{what}: expected {expected}, got {quote(given)}")
    try:
        return list(given)
    except FAILED as error:
        raise MechinterpError(f"{what}: expected {expected}, got {quote(given)}") from error


def layers(given: Any, anatomy: Anatomy, what: str) -> list[int]:
    """Numbers of layers in the order given. Raises MechinterpError for one that the model does not have."""
    numbers = [whole_number(layer, what) for layer in each(given, what, "numbers of layers")]
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
