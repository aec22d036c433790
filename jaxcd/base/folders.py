"""Folders in which a stopped command can continue its work: those of runs, maps, tunings and studies."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jaxcd.base.errors import RunError
from jaxcd.base.files import locked

LOCK = ".lock"


def check_folder(folder: Path, mark: str, *, holds: str) -> None:
    """Check that a command may use a folder: it is missing, empty, or holds earlier work of the same kind.

    The check writes nothing.

    Args:
        folder: the folder; it need not exist.
        mark: name of a file or folder that only work of this kind leaves in it.
        holds: what to call such work in the message, such as "run".

    Raises:
        RunError: `folder` is a file, or holds other files. Hidden files are ignored.
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
        working: what the message says about the other process, such as "training in it".

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
