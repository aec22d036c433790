"""figures.json: what has been measured, and on what; one machine, its settings and one commit a folder."""

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
_SAME = ("device", "driver", "cpu", "cores", "python", "versions", "environment", "commit", "code", "small")

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
        folder: where they lie; it has to be there, and locked by whoever writes.
        machine: of `here`.
        ceilings: rates of a large matrix product and a large copy, by type.
        figures: entries `{"part", "key", "rows"}` in the order in which they were measured first.
    """

    def __init__(self, folder: Path, machine: dict[str, Any]):
        """Begin, or go on with what lies in the folder.

        Raises:
            ConfigError: the folder holds figures of another machine, setting, commit or size, or broken ones.
        """
        self.folder = folder
        self._path = folder / FIGURES
        self.machine = machine
        self.ceilings: dict[str, dict[str, float]] = {}
        self.figures: list[dict[str, Any]] = []
        self._cuts: dict[str, dict[str, list[float]]] = {}
        if self._path.exists():
            self._read()

    def _read(self) -> None:
        try:
            read = json.loads(self._path.read_text())
            there, self.ceilings, self.figures = read["machine"], read["ceilings"], read["figures"]
            self._cuts = read["cuts"]
            before = {name: there[name] for name in _SAME}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._path}: no figures of a GPU day; give a new folder") from error
        now = {name: self.machine[name] for name in _SAME}
        refuse_other(self.folder, difference(before, now), holds="GPU day", error=ConfigError)
        self.machine = there

    def rows(self, part: str, key: str) -> Rows | None:
        """Return what was measured for a piece of a part, or None where it was not."""
        return next((each["rows"] for each in self.figures[self._place(part, key) :]), None)

    def of(self, part: str) -> list[Rows]:
        """Return all that was measured for a part."""
        return [each["rows"] for each in self.figures if each["part"] == part]

    def add(self, part: str, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep what was measured for a piece of a part; of an earlier try only what did not succeed again."""
        before = [row for row in self.rows(part, key) or () if "failed" not in row]
        kept: dict[tuple[str, str], dict[str, Any]] = {}
        for row in sorted((*rows, *before), key=lambda row: "failed" in row):
            kept.setdefault((row["case"], row["side"]), dict(row))
        place = self._place(part, key)
        self.figures[place : place + 1] = [{"part": part, "key": key, "rows": list(kept.values())}]
        self._cuts.get(part, {}).pop(key, None)
        self.write()

    def cuts(self, part: str, key: str) -> list[float]:
        """Return the seconds that a piece had each time when it was cut, since rows of it were last added."""
        return self._cuts.get(part, {}).get(key, [])

    def cut(self, part: str, key: str, seconds: float) -> None:
        """Keep that a piece was cut after so many seconds."""
        self._cuts.setdefault(part, {}).setdefault(key, []).append(round(seconds, 2))
        self.write()

    def _place(self, part: str, key: str) -> int:
        """Where the entry of a piece is among the figures, or will be."""
        places = (k for k, each in enumerate(self.figures) if (each["part"], each["key"]) == (part, key))
        return next(places, len(self.figures))

    def write(self) -> None:
        """Write the file, whole."""
        written = {"machine": self.machine, "ceilings": self.ceilings, "figures": self.figures, "cuts": self._cuts}
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
