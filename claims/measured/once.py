"""Measurements that are made when first asked for.

once      a property of an object that is measured once; a failure is remembered too, so that it is not paid for twice
is_made   whether that has been done
kept      a measurement that is read from a store, where there is one
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from torch import Tensor

from mechinterp import Store

T = TypeVar("T")


class once(Generic[T]):
    """A property whose value, or whose exception, is kept on the object that it belongs to."""

    def __init__(self, measure: Callable[[Any], T]) -> None:
        self.measure, self.__doc__ = measure, measure.__doc__

    def __get__(self, owner: Any, kind: type | None = None) -> T:
        kept: dict[Any, tuple[T | None, Exception | None]] = owner.__dict__.setdefault("_measured", {})
        if self.measure not in kept:
            try:
                kept[self.measure] = self.measure(owner), None
            except Exception as failure:
                kept[self.measure] = None, failure
        value, failed = kept[self.measure]
        if failed is not None:
            raise failed
        return value  # type: ignore[return-value]


def is_made(owner: object, name: str) -> bool:
    """Whether a property of an object has been measured, and has a value."""
    _, failed = vars(owner).get("_measured", {}).get(vars(type(owner))[name].measure, (None, True))
    return failed is None


def kept(store: Store | None, what: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `make` measures, or measured once; `what` is all that decides it beside subject and code."""
    return make() if store is None else store.tensors(what, make)
