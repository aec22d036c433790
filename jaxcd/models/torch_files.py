"""Reads arrays from files of PyTorch (`torch.save`, both formats) and of safetensors, without torch.

A file of `torch.save` is a pickle, and a pickle may carry code. Here a pickle may name nothing but what a state dict
consists of: dictionaries, and tensors as records of where their numbers lie. Anything else ends the reading before it
is called.
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

# torch's types of numbers, by the name of their storage and by that in safetensors.
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
_MOST_HEADER = 100 * 2**20  # bytes; safetensors' own limit


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
    """Stands for the function of torch that a pickle calls to make a tensor; a pickle can change nothing in it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
        if not isinstance(storage, _Storage) or not all(type(n) is int for n in (offset, *size, *stride)):
            raise pickle.UnpicklingError("a tensor is not described as torch does")
        return _Tensor(storage, offset, tuple(size), tuple(stride))


class _Parameter:
    """Stands for the function of torch that makes a parameter of a tensor."""

    __slots__ = ()

    def __call__(self, tensor: Any, *_: Any) -> _Tensor:
        if not isinstance(tensor, _Tensor):
            raise pickle.UnpicklingError("a parameter is not described as torch does")
        return tensor


class _Refused(Exception):
    """A pickle names something that is no part of a state dict."""


class _Unpickler(pickle.Unpickler):
    """Makes dictionaries and `_Tensor`s, and nothing else."""

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
        raise pickle.UnpicklingError("a storage is not described as torch does")


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict; no code that the file may carry is run.

    Args:
        path: what `torch.save(model.state_dict(), path)` wrote, in the format of torch 1.6 and later or in the older
            one, or (ending in .safetensors) a file of safetensors.

    Returns:
        The arrays by their names, in the types they have in the file.

    Raises:
        CheckpointError: no such file, a damaged one, or one that holds anything but named tensors.
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
            f"{path}: refused, its pickle names {error}, which is no part of a state dict; no code of it was run. Save "
            "the weights alone: torch.save(model.state_dict(), FILE)"
        ) from error
    except (
        *(pickle.UnpicklingError, EOFError, struct.error, zipfile.BadZipFile, json.JSONDecodeError),
        # What else a damaged pickle or header leads to.
        *(AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError, NotImplementedError),
    ) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise CheckpointError(f"{path}: no state dict of PyTorch, or a damaged one ({reason})") from error


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
    """Read the format before torch 1.6: pickles of a magic number, a version, the system, the content and the keys of
    the storages, which follow."""
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
        _end(name)
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0 or math.prod(size) > storage.count:
        _end(name)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) and last >= storage.count:
        _end(name)
    flat = np.frombuffer(content, dtype)[offset:]
    steps = tuple(step * dtype.itemsize for step in stride)
    return np.array(np.lib.stride_tricks.as_strided(flat, size, steps, writeable=False))


def _end(name: str) -> NoReturn:
    raise ValueError(f"{name} reaches beyond its numbers, the file is cut short")


def _read_safetensors(content: bytes) -> dict[str, np.ndarray]:
    """Read 8 bytes of the header's length, the header in JSON, and the arrays one after the other."""
    (length,) = struct.unpack("<Q", content[:8])
    if length > min(_MOST_HEADER, len(content) - 8):
        raise ValueError("the header reaches beyond the file")
    header, body = json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        dtype, shape, (start, end) = _SAFE_TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if not 0 <= start <= end <= len(body) or end - start != math.prod(shape) * dtype.itemsize:
            _end(name)
        arrays[name] = np.frombuffer(body[start:end], dtype).reshape(shape).copy()
    return arrays
