"""State dicts out of files: both of torch's formats and safetensors, and all that must not be read."""

import collections
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch

from jaxcd.base.errors import CheckpointError
from jaxcd.models.torch_files import read_state_dict


def state_dict() -> collections.OrderedDict:
    torch.manual_seed(0)
    base = torch.randn(10)
    return collections.OrderedDict(
        plain=torch.randn(2, 3, 4),
        turned=torch.randn(3, 4).t(),  # strides of its own
        part=base[3:7],  # begins within its storage
        shared=base[5:],
        scalar=torch.tensor(7),
        nothing=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(3)),
        half=torch.randn(5).half(),
        brain=torch.randn(5).bfloat16(),
        double=torch.randn(2).double(),
        flags=torch.tensor([True, False]),
        bytes=torch.arange(4, dtype=torch.uint8),
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch(tmp_path, zipped):
    saved = state_dict()
    torch.save(saved, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
    read = read_state_dict(tmp_path / "weights.pth")
    assert list(read) == list(saved)
    for name, tensor in saved.items():
        expected = tensor.detach()
        assert read[name].shape == tuple(expected.shape), name
        if name == "brain":
            assert read[name].dtype == ml_dtypes.bfloat16
            np.testing.assert_array_equal(read[name].astype(np.float32), expected.float().numpy())
        else:
            assert read[name].dtype == expected.numpy().dtype, name
            np.testing.assert_array_equal(read[name], expected.numpy())


def test_a_modules_state_dict_with_its_metadata(tmp_path):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save(module.state_dict(), tmp_path / "weights.pth")
    read = read_state_dict(tmp_path / "weights.pth")
    assert list(read) == list(module.state_dict()) and read["1.num_batches_tracked"].dtype == np.int64


def safe(path: Path, entries: dict, body: bytes) -> Path:
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + body)
    return path


def test_safetensors(tmp_path):
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(4).astype(ml_dtypes.bfloat16)
    entries = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    }
    read = read_state_dict(safe(tmp_path / "w.safetensors", entries, a.tobytes() + b.tobytes()))
    assert list(read) == ["a", "b"] and read["b"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(read["a"], a)
    np.testing.assert_array_equal(read["b"], b)


class Attack:
    """What a pickle can do to whoever loads it: call a function with arguments of its choice."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_its_code_not_run(tmp_path, zipped):
    content = {"a": torch.zeros(3), "b": Attack(tmp_path / "harm")}
    torch.save(content, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"weights.pth: refused, because its pickle names posix.mkdir, .*none of its code"
    ):
        read_state_dict(tmp_path / "weights.pth")
    assert not (tmp_path / "harm").exists()
    pickle.loads(pickle.dumps(content["b"]))  # an unguarded reader does run it
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("os system", "builtins eval", "builtins getattr", "builtins __import__", "torch load", "numpy load"),
        *("torch._utils _rebuild_wrapper_subclass", "torch.storage _load_from_bytes", "collections defaultdict"),
        *("jaxcd.models.torch_files _Unpickler", "torch FloatStorage.__init__"),
    ],
)
def test_no_name_but_those_of_tensors_is_given_out(tmp_path, name):
    module, attribute = name.split()
    code = b"c" + f"{module}\n{attribute}\n".encode() + b"."
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("w/data.pkl", code)
    with pytest.raises(CheckpointError, match=f"refused, because its pickle names {module}.{attribute}"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "code",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__call__X\x01\x00\x00\x00xsb.",  # BUILD on the callable
        b"ccollections\nOrderedDict\n(N}X\x04\x00\x00\x00copyX\x01\x00\x00\x00xstb.",  # BUILD on a class
        b"ctorch\nFloatStorage\n)R.",  # a storage's name is called
        b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02K\x03K\x04tR.",  # a tensor of numbers
        b"X\x03\x00\x00\x00abcQ.",  # a storage that is a text
        b"}X\x01\x00\x00\x00ahX.",  # a memory that was never stored
        b"",
    ],
)
def test_a_pickle_that_misuses_those_names_ends_in_one_line(tmp_path, code):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("w/data.pkl", code)
    with pytest.raises(CheckpointError, match="w.pth: is not a state dict of PyTorch, or is damaged") as raised:
        read_state_dict(tmp_path / "w.pth")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("format", ["zip", "legacy", "safetensors"])
def test_no_truncated_file_is_read(tmp_path, format):
    path = tmp_path / ("w.safetensors" if format == "safetensors" else "w.pth")
    if format == "safetensors":
        safe(path, {"a": {"dtype": "F32", "shape": [50], "data_offsets": [0, 200]}}, bytes(200))
    else:
        torch.save({"a": torch.zeros(50)}, path, _use_new_zipfile_serialization=format == "zip")
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 37), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"w\.\w+: is not a state dict of PyTorch, or is damaged"):
            read_state_dict(path)


@pytest.mark.parametrize(
    ("dtype", "shape", "offsets"),
    [("F32", [4], [0, 8]), ("F32", [2], [4, 12]), ("F32", [2], [-8, 0]), ("Q4", [2], [0, 8]), ("F32", "2", [0, 8])],
)
def test_a_safetensors_header_that_lies(tmp_path, dtype, shape, offsets):
    entries = {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}
    with pytest.raises(CheckpointError, match="w.safetensors: is not a state dict"):
        read_state_dict(safe(tmp_path / "w.safetensors", entries, bytes(8)))


@pytest.mark.parametrize(
    "content", [[torch.zeros(3)], {"epoch": 3, "state_dict": {}}, torch.zeros(3), {1: torch.ones(1)}]
)
def test_what_is_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="expected a state dict .names and tensors."):
        read_state_dict(tmp_path / "w.pth")


def test_a_tensor_beyond_its_storage(tmp_path):
    torch.save({"a": torch.zeros(2).expand(1000, 2)}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="a is longer than its data"):
        read_state_dict(tmp_path / "w.pth")


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="w.pth: no such file"):
        read_state_dict(tmp_path / "w.pth")
