"""A list of work that several processes share, on storage that all see: they need not run at the same time.

Each does its part piece by piece and leaves what it found in a hidden folder; who finds all pieces there sums them up.
A process that died is started again, alone or with the others, as one of as many processes or of fewer.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxcd.base.errors import ConfigError, RunError
from jaxcd.base.files import locked, write_whole
from jaxcd.base.fingerprints import difference, refuse_other

FOLDER = ".shares"
_PLAN, _DONE, _LOCK = "plan.json", "done", "lock"
_DETECTED = (("SLURM_PROCID", "SLURM_NTASKS"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"))
HELP = (
    "do a share of the work, I/N: this process is number I, from 0, of N; auto: as Slurm or Open MPI numbers its "
    "processes; the one that finds all shares done sums them up"
)


class Share(NamedTuple):
    """Which of `count` processes this is, from 0."""

    index: int
    count: int

    @classmethod
    def of(cls, text: str) -> "Share":
        """Read `--share`.

        Raises:
            ConfigError: neither I/N nor auto, or auto where nothing numbers processes.
        """
        if text == "auto":
            found = [[os.environ.get(name, "") for name in names] for names in _DETECTED]
            parts = next((pair for pair in found if all(pair)), None)
            if parts is None:
                raise ConfigError("--share auto: neither Slurm nor Open MPI started this process; give I/N")
        else:
            parts = text.split("/")
        if len(parts) != 2 or not all(part.isdigit() for part in parts) or not int(parts[0]) < int(parts[1]):
            raise ConfigError(f"--share: expected I/N with I from 0 to N - 1, or auto, got {text!r}")
        return cls(*map(int, parts))


class SharedWork:
    """One process's view of the pieces."""

    def __init__(self, out: Path, plan: Mapping[str, Any], share: Share, *, pieces: int, holds: str):
        """Join the work in a folder, or begin it.

        Args:
            out: the folder; it is there.
            plan: all that decides what a piece holds, as JSON can hold it; the number of processes does not.
            share: of this process.
            pieces: number of pieces.
            holds: what the folder holds, for messages.

        Raises:
            RunError: the folder holds unfinished shares of another plan.
        """
        self.share, self.pieces, self._folder = share, pieces, out / FOLDER
        self._folder.mkdir(exist_ok=True)
        path, plan = self._folder / _PLAN, json.loads(json.dumps({**plan, "pieces": pieces}))
        with self._locked():
            there = self._read(path)
            if there is not None and difference(there, plan) and (self._folder / _DONE).exists():
                self._clear()
                there = None
            if there is None:
                write_whole(path, json.dumps(plan))
            else:
                refuse_other(out, difference(there, plan), holds=f"shared, unfinished {holds}")

    def todo(self) -> list[int]:
        """Return this process's pieces that are not there yet, in order."""
        mine = range(self.share.index, self.pieces, self.share.count)
        return [] if self.finished else [piece for piece in mine if not self._path(piece).exists()]

    @property
    def finished(self) -> bool:
        """All is summed up already."""
        return (self._folder / _DONE).exists()

    def save(self, piece: int, content: bytes) -> None:
        """Leave what a piece has given, whole or not at all."""
        write_whole(self._path(piece), content)

    def there(self) -> int:
        """Return how many pieces are there."""
        return self.pieces if self.finished else sum(self._path(piece).exists() for piece in range(self.pieces))

    @contextlib.contextmanager
    def summing(self) -> Iterator[Sequence[bytes] | None]:
        """Give the content of all pieces to the process that is to sum them up, None to others.

        The pieces are deleted at the end of the block.
        """
        with self._locked():
            if self.there() < self.pieces or self.finished:
                yield None
                return
            yield [self._path(piece).read_bytes() for piece in range(self.pieces)]
            (self._folder / _DONE).touch()
            for piece in range(self.pieces):
                self._path(piece).unlink()

    def told(self, unit: str) -> str:
        """Say how far the work is, for a process that does not sum up."""
        if self.finished:
            return "all shares are done and summed up"
        return (
            f"share {self.share.index} of {self.share.count} is done; {self.there()} of {self.pieces} {unit} are "
            "there, the process that brings the last one sums up (start again a process that died)"
        )

    def _path(self, piece: int) -> Path:
        return self._folder / f"piece_{piece:06d}"

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return locked(self._folder / _LOCK, waiting="waiting for another process that looks after the shares")

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RunError(f"{path}: damaged ({error}); delete {self._folder}") from error

    def _clear(self) -> None:
        for path in self._folder.iterdir():
            if path.name != _LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
