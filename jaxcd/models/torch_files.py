"""Reads arrays from files of PyTorch (`torch.save`, both formats) and of safetensors, without torch.

A file of `torch.save` is a pickle, and a pickle can run code. The unpickler of this file accepts only the parts of a
state dict: dictionaries, and tensors, which it makes records of where their numbers lie. Any other name in the pickle
is an error, which is raised before anything is called.
"""

import json
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np

from jaxcd.base.errors import CheckpointError

# PyTorch's types of numbers, by the names of its storages and by the names in safetensors.
_BFLOAT16 = jnp.dtype(jnp.bfloat16)
_STORAGES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_SAFE_TYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": _BFLOAT16,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MOST_HEADER = 100 * 2**20  # bytes; the limit of the safetensors library


class _Storage(NamedTuple):
    """The flat array that a tensor's numbers lie in."""

    kind: str
    key: str
    count: int


class _Tensor(NamedTuple):
    """Where a tensor's numbers lie in a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Rebuild:
    """Stand-in for the PyTorch function with which a pickle makes a tensor; a pickle cannot modify it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
        if not isinstance(storage, _Storage) or not all(type(n) is int for n in (offset, *size, *stride)):
            raise pickle.UnpicklingError("a tensor has another form than PyTorch's")
        return _Tensor(storage, offset, tuple(size), tuple(stride))


class _Parameter:
    """Stand-in for the PyTorch function that makes a parameter from a tensor."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> _Tensor:
        if not isinstance(tensor, _Tensor):
            raise pickle.UnpicklingError("a parameter has another form than PyTorch's")
        return tensor


class _Refused(Exception):
    """A pickle names a function or class that is not part of a state dict."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that makes only dictionaries and `_Tensor`s."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _Parameter()
        if module == "torch" and name in _STORAGES:
            return name
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", str(kind), str(key), _, int(count), *rest) if kind in _STORAGES and rest in ([], [None]):
                return _Storage(kind, key, count)
        raise pickle.UnpicklingError("a storage has another form than PyTorch's")


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict without running code that the file may contain.

    Args:
        path: a file that `torch.save(model.state_dict(), path)` wrote, in the format of PyTorch 1.6 and later or in the
            older one; or a safetensors file, whose name ends in .safetensors.

    Returns:
        The arrays by name, in the types of the file.

    Raises:
        CheckpointError: the file is missing or damaged, or holds something other than named tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path.read_bytes())
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\3\4"
            file.seek(0)
            return _read_zip(file) if zipped else _read_legacy(file)
    except _Refused as error:
        raise CheckpointError(
            f"{path}: refused, because its pickle names {error}, which is not part of a state dict; none of its code "
            "was run. Save the weights alone: torch.save(model.state_dict(), FILE)"
        ) from error
    except (
        *(pickle.UnpicklingError, EOFError, struct.error, zipfile.BadZipFile, json.JSONDecodeError),
        # A damaged pickle or header raises these, too.
        *(AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, NotImplementedError),
    ) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise CheckpointError(f"{path}: is not a state dict of PyTorch, or is damaged ({reason})") from error


def _read_zip(file: IO[bytes]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("expected one data.pkl in the archive")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        with archive.open(pickles[0]) as pickled:
            tensors = _tensors(_Unpickler(pickled).load())
        keys = {tensor.storage.key for tensor in tensors.values()}
        storages = {key: archive.read(f"{folder}data/{key}") for key in keys}
    return _arrays(tensors, storages)


def _read_legacy(file: IO[bytes]) -> dict[str, np.ndarray]:
    """Read the format before PyTorch 1.6: five pickles (magic number, version, system, content, keys of the storages),
    then the storages themselves."""
    if _Unpickler(file).load() != _LEGACY_MAGIC:
        raise ValueError("the magic number is missing")
    _Unpickler(file).load()
    if not _Unpickler(file).load().get("little_endian", True):
        raise ValueError("its numbers are big-endian")
    tensors = _tensors(_Unpickler(file).load())
    sizes = {tensor.storage.key: _STORAGES[tensor.storage.kind].itemsize for tensor in tensors.values()}
    storages = {}
    for key in _Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        if key not in sizes or count < 0:
            raise ValueError(f"storage {key} belongs to no tensor")
        storages[key] = file.read(count * sizes[key])
    return _arrays(tensors, storages)


def _tensors(content: Any) -> dict[str, _Tensor]:
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, _Tensor) for name, value in content.items()
    ):
        names = ", ".join(map(str, list(content)[:4])) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"expected a state dict (names and tensors), got {names}")
    return dict(content)


def _arrays(tensors: Mapping[str, _Tensor], storages: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    return {name: _array(name, tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _array(name: str, tensor: _Tensor, content: bytes) -> np.ndarray:
    dtype, (storage, offset, size, stride) = _STORAGES[tensor.storage.kind], tensor
    if storage.count < 0 or len(content) != storage.count * dtype.itemsize:
        _fail_short(name)
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0 or math.prod(size) > storage.count:
        _fail_short(name)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= storage.count:
        _fail_short(name)
    flat = np.frombuffer(content, dtype)[offset:]
    steps = tuple(step * dtype.itemsize for step in stride)
    return np.array(np.lib.stride_tricks.as_strided(flat, size, steps, writeable=False))


def _fail_short(name: str) -> NoReturn:
    raise ValueError(f"{name} is longer than its data; the file may be cut short")


def _read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """Read a safetensors file: 8 bytes with the header's length, the header in JSON, then the arrays."""
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(_MOST_HEADER, len(content) - 8):
        raise ValueError("the header is longer than the file")
    header, body = json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (start, end) = _SAFE_TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if not 0 <= start <= end <= len(body) or end - start != math.prod(shape) * dtype.itemsize:
            _fail_short(name)
        arrays[name] = np.frombuffer(body[start:end], dtype).reshape(shape).copy()
    return arrays
