import errno
import fcntl
import os

import pytest

from jaxcd.base import files
from jaxcd.base.errors import DiskFullError, WriteError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "metrics.json"
    files.write_whole(target, "old")
    with pytest.raises(KeyboardInterrupt), files.replacing(target) as partial:
        partial.write_text("half of the ne")
        assert target.read_text() == "old" and partial.suffix == ".json"
        raise KeyboardInterrupt
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["metrics.json"]
    with target.open() as reader:
        files.write_whole(target, b"new")
        assert reader.read() == "old"  # whoever reads the file before reads it to its end
    assert target.read_bytes() == b"new" and os.listdir(tmp_path) == ["metrics.json"]


def test_a_full_disk_is_named_with_the_file(tmp_path):
    (tmp_path / ".partial-a.bin").symlink_to("/dev/full")  # every write fails as on a full disk
    with pytest.raises(DiskFullError, match=r"the disk is full: could not write .*/a\.bin; free some space"):
        files.write_whole(tmp_path / "a.bin", b"x")
    assert os.listdir(tmp_path) == []


def test_a_lock_is_held_once(tmp_path):
    with files.locked(tmp_path / "lock"):
        with pytest.raises(BlockingIOError), files.locked(tmp_path / "lock"):
            pass
    with files.locked(tmp_path / "lock"):
        pass


def test_a_disk_without_locks_is_worked_on_with_a_word(tmp_path, monkeypatch, capsys):
    def unsupported(file, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with files.locked(tmp_path / "lock"):
        assert "make sure that no other process works there" in capsys.readouterr().out


def test_what_a_library_failed_to_write_is_no_full_disk_where_there_is_room(tmp_path):
    error = files.not_written(tmp_path / "a.tif", OSError("read-only\n file system"))
    assert isinstance(error, WriteError) and "could not write" in str(error) and "(read-only file system)" in str(error)
