"""Folders that a command fills, is stopped in and continues in: runs, maps, tunings, studies."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jaxcd.base.errors import RunError
from jaxcd.base.files import locked

LOCK = ".lock"


def check_folder(folder: Path, mark: str, *, holds: str) -> None:
    """Check that a folder is free, or holds what a command left there earlier; writes nothing.

    Args:
        folder: it need not be there.
        mark: name of a file or folder in it that shows what it is.
        holds: what it is to hold, such as "run".

    Raises:
        RunError: it is a file, or holds other files. Hidden files don't count.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file; give a folder")
    if folder.is_dir() and not (folder / mark).exists() and any(path.name[0] != "." for path in folder.iterdir()):
        raise RunError(f"{folder}: holds files but no {holds}; give a new folder")


@contextmanager
def alone(folder: Path, *, working: str) -> Iterator[None]:
    """Make a folder, and keep other processes out of it while the context lasts.

    Args:
        folder: the folder.
        working: what another process would be doing there, for the message, such as "training in it".

    Raises:
        RunError: another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder / LOCK))
        except BlockingIOError as error:
            raise RunError(f"{folder}: another process is {working}; wait for it, or give another folder") from error
        yield
