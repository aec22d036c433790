"""The list of pairs that `--pairs` names: a CSV file with a line for each pair of scenes."""

import csv
import shlex
from pathlib import Path
from typing import NamedTuple

from jaxcd.base.errors import ConfigError
from jaxcd.scenes.raster import is_remote

_WANTED, _OPTIONAL = ("name", "pre", "post"), ("footprints",)


class Wanted(NamedTuple):
    """A map of a list: its folder's name, its scenes, the footprints of its buildings (None: those given for all)."""

    name: str
    pre: tuple[str, ...]
    post: tuple[str, ...]
    footprints: Path | None


def read(path: Path) -> tuple[Wanted, ...]:
    """Read a list of maps: CSV with the columns name, pre, post, and, where wanted, footprints.

    Several scenes are separated by spaces (a path with spaces stands in quotes); paths are relative to the list.

    Raises:
        ConfigError: not such a list; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--pairs {path}: cannot be read ({error})") from error
    found = []
    for line, row in enumerate(rows, start=2):
        if not set(_WANTED) <= set(row) or set(row) - {*_WANTED, *_OPTIONAL} or None in row.values():
            raise ConfigError(f"--pairs {path}: line {line}: expected the columns {', '.join(_WANTED)} [, footprints]")
        name = row["name"].strip()
        if not name or Path(name).name != name or name.startswith("."):
            raise ConfigError(f"--pairs {path}: line {line}: {name!r} is no name for a folder")
        try:
            pre, post = (tuple(_resolved(each, path) for each in shlex.split(row[when])) for when in ("pre", "post"))
        except ValueError as error:
            raise ConfigError(f"--pairs {path}: line {line}: {error}") from error
        if not pre or not post:
            raise ConfigError(f"--pairs {path}: line {line}: names no pre scene or no post scene")
        footprints = (row.get("footprints") or "").strip()
        found.append(Wanted(name, pre, post, Path(_resolved(footprints, path)) if footprints else None))
    names = [each.name for each in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice or not found:
        raise ConfigError(f"--pairs {path}: {f'{twice!r} is there twice' if twice else 'names no pair'}")
    return tuple(found)


def _resolved(location: str, path: Path) -> str:
    return location if is_remote(location) else str(path.parent / location)
