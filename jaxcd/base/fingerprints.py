"""What decides whether work on disk may be continued: settings that are compared, digests that name files."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxcd.base.errors import JaxcdError, RunError


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """Name the first setting in which two trees of settings differ, or None.

    Args:
        there: settings that lie in a folder, as nested dictionaries.
        here: those of this call.
    """
    old, new = flat(there), flat(here)
    for name in old | new:
        if old.get(name) != new.get(name):
            return f"{name} is {old.get(name)!r} there and {new.get(name)!r} here"
    return None


def refuse_other(folder: Path, difference: str | None, *, holds: str, error: type[JaxcdError] = RunError) -> None:
    """Refuse to continue in a folder whose settings differ.

    Args:
        folder: the folder.
        difference: of `difference`; None where there is none.
        holds: what lies in the folder, such as "run".
        error: class of the error.

    Raises:
        JaxcdError: there is a difference.
    """
    if difference:
        raise error(f"{folder}: holds a {holds} of other settings: {difference}; give a new folder")


def digest(content: object, *, digits: int = 64) -> str:
    """Return the SHA-256 of JSON content, cut to some hexadecimal digits, to name what follows from it."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:digits]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def code(packages: Iterable[str]) -> dict[str, str]:
    """Return what tells the code of two processes apart: a digest of each of jaxcd's files, and versions.

    Args:
        packages: names of installed packages.
    """
    root = Path(__file__).resolve().parents[1]
    files = {path.relative_to(root.parent).as_posix(): file_digest(path)[:12] for path in sorted(root.rglob("*.py"))}
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}, **files}


def file_state(file: Path | os.DirEntry[str], name: str) -> tuple[str, int, int]:
    """Return a name, and size and time of change (in nanoseconds): of large files these stand for the content."""
    stat = file.stat()
    return name, stat.st_size, stat.st_mtime_ns


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries by their dotted names, each after a prefix."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
