"""figures.json: what has been measured, and on what; one machine and one commit a folder."""

import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarking.machine import machine
from jaxcd.base.errors import ConfigError
from jaxcd.base.files import write_whole
from jaxcd.base.fingerprints import difference, refuse_other

_ROOT = Path(__file__).resolve().parents[3]
FIGURES = "figures.json"
_SAME = ("device", "driver", "cpu", "python", "versions", "commit", "code", "small")

Rows = list[dict[str, Any]]


def here(about: dict[str, Any], *, commit: str, small: bool) -> dict[str, Any]:
    """Describe what this is measured on.

    Args:
        about: what jaxcd's side told.
        commit: named where there is no git to ask, or empty.
        small: the small sizes of a rehearsal are measured.
    """
    found = machine(about)
    found["commit"] = found["commit"] or commit or "not recorded"
    return {**found, "driver": _driver(), "code": _code(), "small": small}


class Record:
    """The figures of a folder, written whole after each change.

    Attributes:
        folder: where they lie.
        machine: of `here`.
        ceilings: rates of a large matrix product and a large copy, by type.
        figures: entries `{"part", "key", "rows"}` in the order in which they were measured.
    """

    def __init__(self, folder: Path, machine: dict[str, Any]):
        """Begin, or go on with what lies in the folder.

        Raises:
            ConfigError: the folder is a file, or holds figures of another machine, commit or size, or broken ones.
        """
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder}: is a file; give a folder")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._path = folder / FIGURES
        self.machine = machine
        self.ceilings: dict[str, dict[str, float]] = {}
        self.figures: list[dict[str, Any]] = []
        if self._path.exists():
            self._read()

    def _read(self) -> None:
        try:
            read = json.loads(self._path.read_text())
            there, self.ceilings, self.figures = read["machine"], read["ceilings"], read["figures"]
            before = {name: there[name] for name in _SAME}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._path}: no figures of a GPU day; give a new folder") from error
        now = {name: self.machine[name] for name in _SAME}
        refuse_other(self.folder, difference(before, now), holds="GPU day", error=ConfigError)
        self.machine = there

    def rows(self, part: str, key: str) -> Rows | None:
        """Return what was measured for a piece of a part, or None where it was not."""
        return next((each["rows"] for each in self.figures if (each["part"], each["key"]) == (part, key)), None)

    def of(self, part: str) -> list[Rows]:
        """Return all that was measured for a part."""
        return [each["rows"] for each in self.figures if each["part"] == part]

    def add(self, part: str, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep what was measured for a piece of a part."""
        self.figures.append({"part": part, "key": key, "rows": [dict(row) for row in rows]})
        self.write()

    def write(self) -> None:
        """Write the file, whole."""
        written = {"machine": self.machine, "ceilings": self.ceilings, "figures": self.figures}
        write_whole(self._path, json.dumps(written, indent=1) + "\n")


def _driver() -> str:
    """Version of the GPU's driver, or empty."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(ask, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip().partition("\n")[0] if told.returncode == 0 else ""


def _code() -> str:
    """Digest of the code that is measured and measures: a copy without git is told from another by it."""
    digest = hashlib.sha256()
    for room in ("jaxcd", "tools"):
        for file in sorted((_ROOT / room).rglob("*.py")):
            digest.update(f"{file.relative_to(_ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]
