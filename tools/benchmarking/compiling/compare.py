"""Two results against each other."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxcd.base.errors import ConfigError

GROWTH = 1.02
"""What bytes and temporary memory may grow to before a result counts as worse."""
_SAME = ("target", "program", "model", "size", "batch", "tile", "dtype", "accumulation", "remat")
_JUDGED = {"bytes": "bytes", "temp_bytes": "temporary memory"}


def read(path: Path) -> dict[str, Any]:
    """Read an earlier result.

    Raises:
        ConfigError: there is none, or it is of another suite.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(f"--against: {path}: no such file") from error
    except ValueError as error:
        raise ConfigError(f"--against: {path}: no result of --suite compile ({error})") from error
    if not isinstance(found, dict) or found.get("suite") != "compile":
        raise ConfigError(f"--against: {path}: no result of --suite compile")
    return found


def compare(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Say how each program of a result differs from an earlier one; the second value says whether one is worse.

    Raises:
        ConfigError: the results have no program in common.
    """
    if before["jaxlib"] != now["jaxlib"]:
        return [f"other jaxlib, not compared: {before['jaxlib']} before, {now['jaxlib']} now"], False
    earlier = {_key(row): row for row in before["rows"]}
    if not any(_key(row) in earlier for row in now["rows"]):
        raise ConfigError("--against: that result has none of these programs (target, network, size, batch, type)")
    lines, worse = [], False
    for row in now["rows"]:
        old = earlier.get(_key(row))
        if old is None:
            lines.append(f"{row['case']}: not in the earlier result")
            continue
        for name, what in _JUDGED.items():
            grown = row[name] > GROWTH * old[name]
            worse |= grown
            verdict = "WORSE" if grown else "better" if row[name] < old[name] / GROWTH else "as before"
            lines.append(
                f"{row['case']}: {what} {old[name] / 1e9:.3f} -> {row[name] / 1e9:.3f} GB "
                f"({row[name] / old[name] - 1:+.1%}), {verdict}"
            )
    return lines, worse


def _key(row: Mapping[str, Any]) -> Sequence[Any]:
    return tuple(row[name] for name in _SAME)
