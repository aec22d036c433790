"""Writes files whole or not at all, and locks that keep a second process out."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxcd.base.errors import DiskFullError, WriteError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and of a user's exhausted quota."""
_NEARLY_FULL = 64 * 2**20  # free bytes; a library that failed on a full disk may have deleted its partial file


def full_disk(what: str) -> DiskFullError:
    """Return the error for a full disk; `what` says what failed, such as "could not write FILE"."""
    return DiskFullError(f"the disk is full: {what}; free some space and run the same command again")


def not_written(path: Path, error: Exception) -> DiskFullError | WriteError:
    """Return the error for a file that a library failed to write; on an almost full disk, that of `full_disk`.

    Args:
        path: the file.
        error: the library's exception.
    """
    what = f"could not write {path}"
    if shutil.disk_usage(path.parent).free < _NEARLY_FULL:
        return full_disk(what)
    reason = " ".join(str(error).split()) or type(error).__name__
    return WriteError(f"{what} ({reason}); check that you may write there and that the disk works")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a hidden path beside `path` to write to; it replaces `path` when the block ends without an error.

    Args:
        path: the file. The hidden path has the same suffix, because some writers choose the format by it.

    Raises:
        DiskFullError: no space left; the partial file is deleted.
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
        waiting: message to print before waiting for another process to release the lock; None: do not wait.

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
            # Some network disks have no locks. There the work goes on without one.
            reason = os.strerror(error.errno).lower()
            print(f"{path}: cannot be locked ({reason}); make sure that no other process works there", flush=True)
        yield
