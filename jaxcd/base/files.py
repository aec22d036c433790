"""Files that appear whole or not at all, and folders that one process at a time works in."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxcd.base.errors import DiskFullError, WriteError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a disk (or a user's share of it) without room."""
_LITTLE = 64 * 2**20  # bytes; a library that failed on a full disk may have freed some space since


def full_disk(what: str) -> DiskFullError:
    """Make the error of a full disk; `what` says what could not be done there."""
    return DiskFullError(f"the disk is full: {what}; free some space and run the same command again")


def not_written(path: Path, error: Exception) -> DiskFullError | WriteError:
    """Make the error of a file that a library failed to write: on an almost full disk, that of a full disk.

    Args:
        path: the file.
        error: what the library said.
    """
    what = f"could not write {path}"
    if shutil.disk_usage(path.parent).free < _LITTLE:
        return full_disk(what)
    reason = " ".join(str(error).split()) or type(error).__name__
    return WriteError(f"{what} ({reason}); see that the disk is sound and that you may write there")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a hidden path beside `path` to write to; it replaces `path` when the block ends without an error.

    Args:
        path: the file; the hidden path has the same suffix, by which some writers choose the format.

    Raises:
        DiskFullError: no space left; nothing is left behind.
    """
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            raise full_disk(f"could not write {path}") from error
        raise


def write_whole(path: Path, content: bytes | memoryview | str) -> None:
    """Write a file whole or not at all.

    Raises:
        DiskFullError: no space left; nothing is left behind.
    """
    with replacing(path) as partial:
        if isinstance(content, str):
            partial.write_text(content, encoding="utf-8")
        else:
            partial.write_bytes(content)


@contextmanager
def locked(path: Path, *, waiting: str | None = None) -> Iterator[None]:
    """Hold a lock file while the context lasts; if the process is killed, the system releases the lock.

    Args:
        path: the lock file; made where missing.
        waiting: printed before waiting for another process to release the lock; None: do not wait.

    Raises:
        BlockingIOError: another process holds it, and `waiting` is None.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is None:
                raise
            print(waiting, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # A network disk without locks: better to work unguarded than not at all.
            print(f"{path}: {os.strerror(error.errno).lower()}; see that no other process works there", flush=True)
        yield
