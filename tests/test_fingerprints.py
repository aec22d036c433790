"""Fingerprints stay as they are on the disks of users, and a mismatch is told in one way."""

import os

import pytest

from jaxcd.base.errors import DatasetError, RunError
from jaxcd.base.fingerprints import difference, digest, file_digest, file_state, refuse_other


def test_digests_are_those_of_the_files_of_users(tmp_path):
    """By sha256sum: another spelling of the JSON would make every map and build begin anew."""
    whole = "43c73486cd41a010c5afd30003396177e65c53becfe5a4ca998f617fb32fc3c2"
    assert digest([1, "a", {"b": None}]) == digest((1, "a", {"b": None})) == whole
    assert digest([1, "a", {"b": None}], digits=8) == whole[:8]
    (tmp_path / "file").write_text("content")
    assert file_digest(tmp_path / "file") == "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"


def test_the_state_of_a_file_is_its_size_and_time(tmp_path):
    (tmp_path / "file").write_text("content")
    os.utime(tmp_path / "file", ns=(1, 123_456_789_000_000_001))
    assert file_state(tmp_path / "file", "name") == ("name", 7, 123_456_789_000_000_001)
    with os.scandir(tmp_path) as entries:
        assert [file_state(entry, "name") for entry in entries] == [file_state(tmp_path / "file", "name")]


def test_the_first_setting_that_differs_is_named():
    there = {"a": 1, "group": {"b": "x", "c": (1, 2)}}
    assert difference(there, {"a": 1.0, "group": {"b": "x", "c": (1, 2)}}) is None
    assert difference(there, {"a": 1, "group": {"b": "y", "c": ()}}) == "group.b is 'x' there and 'y' here"
    assert difference(there, {"a": 1, "group": {"b": "x"}}) == "group.c is (1, 2) there and None here"
    assert difference({"group": {}}, there) == "a is None there and 1 here"


def test_a_folder_of_other_settings_is_refused_in_one_line(tmp_path):
    refuse_other(tmp_path, None, holds="run")
    told = f"{tmp_path}: holds a run of other settings: a is 1 there and 2 here; give a new folder"
    for error in (RunError, DatasetError):
        with pytest.raises(error) as found:
            refuse_other(tmp_path, difference({"a": 1}, {"a": 2}), holds="run", error=error)
        assert str(found.value) == told
