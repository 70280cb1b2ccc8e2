"""Measurements on disk, by what they were made from.

digest       SHA-256 of values, tensors and interventions
code_digest  SHA-256 of source files
Store        measured tensors of one subject: read if they are there and whole, else made and written

An entry's name is the digest of everything that decides it: weights, configuration, number format, device, versions,
source code, and what the caller asks for. A subject that differs in one bit has other entries.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mechinterp.errors import MechinterpError, quote
from mechinterp.given import each, whole_number
from mechinterp.state import weights_of
from mechinterp.subject import Subject, check_subject

LIMIT = 2 * 2**30
"""Bytes that all entries may take; the ones not used for longest go first."""


class Store:
    """Entries of one subject in a folder that many may share. A folder that cannot be written to costs only time."""

    def __init__(self, folder: str | Path, subject: Subject, *, code: str = "", limit: int = LIMIT) -> None:
        """`code` is the `code_digest` of what calls it: a changed measurement must not be answered by an old entry."""
        check_subject(subject)
        if not isinstance(folder, str | os.PathLike):
            raise MechinterpError(f"Store: expected a folder, got {quote(folder)}")
        self.folder, self.limit = Path(folder), whole_number(limit, "Store: limit", least=0)
        self.writable = True
        self.subject = subject
        self.code = ((torch.__version__, transformers.__version__, np.__version__),
                     code_digest([Path(__file__).parent]), code)  # fmt: skip
        self.weights: Any = None  # as they were when `base` was made

    @property
    def base(self) -> str:
        """What all names begin with; another one for weights that were changed since."""
        model, weights = self.subject.model, weights_of(self.subject)
        if weights != self.weights:
            self.weights = weights
            named = [(name, parameter) for name, parameter in model.named_parameters()]
            config = json.dumps(model.config.to_dict(), sort_keys=True, default=str)
            self._base = digest(named, config, self.subject.device.type, *self.code)
        return self._base

    def tensors(self, what: Any, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """What `make` gives, CPU tensors by name, made only if there is no entry for `what`, see `digest`."""
        key = digest(self.base, what)
        path = self.folder / f"{key}.safetensors"
        found = _read(path, key)
        if found is None:
            found = _on_cpu(make())
            self._write(path, key, found)
        return found

    def _write(self, path: Path, key: str, made: dict[str, Tensor]) -> None:
        size = sum(tensor.nbytes for tensor in made.values())
        if size > self.limit or not self.writable:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=self.folder, suffix=".draft")
            os.close(handle)
            try:
                save_file(made, draft, metadata={"key": key, "digest": digest(made)})
                os.replace(draft, path)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(draft)
            with contextlib.suppress(OSError):  # another process may be making room, too
                self._make_room(path)
        except (OSError, SafetensorError) as error:
            self.writable = False  # said once
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            warnings.warn(f"{str(self.folder)!r}: measurements are not kept there ({reason})", stacklevel=3)

    def _make_room(self, newest: Path) -> None:
        entries = sorted(self.folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in [newest, *(path for path in entries if path != newest)]:
            total += path.stat().st_size
            if total > self.limit:
                path.unlink(missing_ok=True)


def _on_cpu(made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each in storage of its own: a file holds no two names for one tensor."""
    whole = isinstance(made, Mapping) and all(isinstance(tensor, Tensor) for tensor in made.values())
    if not whole or not all(isinstance(name, str) for name in made):
        raise MechinterpError(f"Store: expected tensors by name to keep, got {quote(made)}")
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in made.items()}


def digest(*values: Any) -> str:
    """SHA-256 of values and their kinds: None, booleans, numbers, text, bytes, lists, mappings, arrays, tensors,
    dataclasses, subjects (their weights and configuration).

    A large tensor is read once, and again when torch has changed it; to change it through an array that shares its
    memory, in few places, may go unseen.

    Raises:
        MechinterpError: something else, such as a function, whose text would not tell what it does.
    """
    state = sha256()
    for value in values:
        _feed(state.update, value)
    return state.hexdigest()


def code_digest(places: Iterable[str | Path]) -> str:
    """SHA-256 of Python files: those given, and all in the folders given. Raises MechinterpError for one not there."""
    state = sha256()
    if isinstance(places, str | os.PathLike):
        places = [Path(places)]
    for place in map(Path, each(places, "code_digest", "files and folders")):
        if not place.exists():
            raise MechinterpError(f"code_digest: {place} is not there")
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            state.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


class _Known(NamedTuple):
    tensor: weakref.ref[Tensor]
    mark: tuple[Any, ...]
    digest: bytes


_known: dict[int, _Known] = {}
LARGE = 2**16
"""Bytes from which a tensor's digest is remembered as long as the tensor lives: resample values come many times."""


def _digest_of(tensor: Tensor) -> bytes:
    """Of its bytes. Remembered until torch has changed it, or some of a sample of its numbers are others."""
    if tensor.nbytes < LARGE or tensor.is_inference():
        return _hashed(tensor)
    flat, number = tensor.detach().flatten(), id(tensor)
    sample = flat[:: max(1, len(flat) // 4096)].cpu()
    mark = (tensor.data_ptr(), tensor._version, tensor.shape, tensor.dtype, _hashed(sample))
    known = _known.get(number)
    if known is None or known.tensor() is not tensor or known.mark != mark:
        reference = weakref.ref(tensor, lambda _: _known.pop(number, None))
        known = _known[number] = _Known(reference, mark, _hashed(tensor))
    return known.digest


def _hashed(tensor: Tensor) -> bytes:
    data = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8).numpy()
    return sha256(data.data).digest()


_subjects: weakref.WeakKeyDictionary[Subject, tuple[Any, bytes]] = weakref.WeakKeyDictionary()


def _of_subject(subject: Subject) -> bytes:
    """Of weights and configuration, remembered while torch knows of no change: hundreds of transplants name it."""
    state, known = weights_of(subject), _subjects.get(subject)
    if known is None or known[0] != state:
        named = [[name, parameter] for name, parameter in subject.model.named_parameters()]
        config = json.dumps(subject.model.config.to_dict(), sort_keys=True, default=str)
        known = _subjects[subject] = state, bytes.fromhex(digest(named, config))
    return known[1]


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiubc":
        value = torch.as_tensor(np.asarray(value))
    if isinstance(value, Tensor):
        if value.is_meta or value.is_quantized or value.layout != torch.strided:
            raise MechinterpError(f"a tensor of {value.layout} on {value.device} cannot be part of a name on disk")
        update(f"tensor {value.dtype} {tuple(value.shape)} ".encode() + _digest_of(value))
    elif isinstance(value, Subject):
        update(b"subject " + _of_subject(value))
    elif is_dataclass(value) and not isinstance(value, type):
        update(f"dataclass {type(value).__name__} ".encode())
        _feed(update, {field.name: getattr(value, field.name) for field in fields(value)})
    elif isinstance(value, Mapping):
        update(f"mapping {len(value)} ".encode())
        for key in sorted(value, key=repr):
            _feed(update, key)
            _feed(update, value[key])
    elif isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        update(f"{type(value).__name__} {len(data)} ".encode() + data)
    elif isinstance(value, Sequence):
        update(f"sequence {len(value)} ".encode())
        for one in value:
            _feed(update, one)
    elif value is None or isinstance(value, bool | int | float):
        update(f"{value!r} ".encode())
    else:
        raise MechinterpError(f"a {type(value).__name__} cannot be part of the name of a measurement on disk")


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    """An entry, or None if there is none or it is not what was written under this key."""
    if not os.path.isfile(path):  # also where the folder may not be looked into
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (OSError, SafetensorError, ValueError, RuntimeError):
        metadata, found = {}, {}
    if metadata.get("key") != key or metadata.get("digest") != digest(found):
        warnings.warn(f"{path.name}: not what was written under this name; it is measured again", stacklevel=4)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now
    return found
