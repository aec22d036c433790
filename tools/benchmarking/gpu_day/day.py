"""Runs parts within their time, and writes each figure as it comes."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarking import figures
from benchmarking.case import JAXCD, Case
from benchmarking.gpu_day import bound, tables
from benchmarking.gpu_day.record import Record, Rows

LIMIT = 480
"""Seconds that a part takes at most."""
_WHOLE = 0.95  # share of it that a piece must have had before it is given up


class TimeUp(Exception):
    """The time of a part is used up."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured: the paper's sizes, or small ones for a rehearsal.

    Attributes:
        case: size, batch and tile.
        networks: beside the first one.
        compiled: suites in which PyTorch compiled takes part.
        batches: the first and the last batch tried for memory.
        rounds: in which sides take turns; 0: those of the benchmark.
    """

    case: Case
    networks: tuple[str, ...]
    compiled: tuple[str, ...]
    batches: tuple[int, int]
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """A piece of a part, measured at once.

    Attributes:
        key: its name within the part.
        measure: gives its rows.
    """

    key: str
    measure: Callable[[], Rows]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the day.

    Attributes:
        number: that it is called by.
        name: likewise.
        what: it measures.
        works: gives its pieces; may ask the record how an earlier one ended.
    """

    number: int
    name: str
    what: str
    works: Callable[["Day"], Iterable[Work]]

    def __str__(self) -> str:
        """Number and name."""
        return f"{self.number} {self.name}"


class Day:
    """What all parts share.

    Attributes:
        record: the figures.
        sizes: that are measured.
        environment: of the sides' processes.
        folder: for what does not outlast the call.
    """

    def __init__(self, record: Record, sizes: Sizes, folder: str):
        self.record = record
        self.sizes = sizes
        self.folder = Path(folder)
        # Where memory ends, the allocator would print thousands of lines.
        self.environment: Mapping[str, str] = {**figures.environment(folder), "TF_CPP_MIN_LOG_LEVEL": "2"}

    def case(self, suite: str, variant: str = "", **changed: Any) -> Case:
        """Return a case of the day's sizes, in bfloat16 if nothing else is said."""
        given = {"model": "fc_siam_diff", "dtype": "bfloat16", **changed}
        return replace(self.sizes.case, suite=suite, variant=variant, **given)

    def ceiling(self, dtype: str) -> Mapping[str, float]:
        """Return what the hardware does at best, measured once a folder."""
        if dtype not in self.record.ceilings:
            self.record.ceilings[dtype] = figures.ceilings(dtype, self.environment)
            self.record.write()
        return self.record.ceilings[dtype]

    def measured(self, case: Case, *, names: tuple[str, ...] = ()) -> Rows:
        """Measure a case; jaxcd's row says how fast the counted bytes were moved, where they were counted."""
        ceiling = self.ceiling(case.dtype)
        rows = figures.rows(case, ceiling, self.environment, names=names, rounds=self.sizes.rounds, again=False)
        device, copy = self.record.machine["device"], ceiling["bytes_per_second"]
        rows = [bound.compared(row, device, copy) if row["side"] == JAXCD else row for row in rows]
        for row in rows:
            if "moved_bytes_per_second" in row:
                print(bound.line(row), flush=True)
        return rows


def run(day: Day, part: Part, limit: float) -> list[str]:
    """Measure what is left of a part, within its time.

    Returns:
        Keys of what is left for the next call.
    """
    begun = time.monotonic()
    record, longest, done, left = day.record, 0.0, 0, []
    for work in part.works(day):
        if record.rows(part.name, work.key) is not None:
            continue
        start = time.monotonic()
        rest = limit - (start - begun)
        # What would surely be cut is not begun; of the first one nothing is known.
        if left or rest <= longest / 2:
            left.append(work.key)
            continue
        if not done:
            print(f"\n== part {part}: {part.what} (at most {limit:.0f} s)", flush=True)
        done += 1
        try:
            with _at_most(rest):
                rows = work.measure()
        except TimeUp:
            if rest < _WHOLE * LIMIT:
                left.append(work.key)
                continue
            rows = [{"case": work.key, "side": JAXCD, "failed": f"took longer than the part's {limit:.0f} s"}]
            print(f"  {work.key}: {rows[0]['failed']}", flush=True)
        record.add(part.name, work.key, rows)
        tables.write(record)
        longest = max(longest, time.monotonic() - start)
    _say(part, done, left, time.monotonic() - begun)
    return left


def _say(part: Part, done: int, left: list[str], seconds: float) -> None:
    if left:
        print(f"part {part}: time is up after {seconds:.0f} s; left for the next call: {'; '.join(left)}", flush=True)
    elif done:
        print(f"part {part}: done in {seconds:.0f} s", flush=True)
    else:
        print(f"part {part}: ran already, skipped", flush=True)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise `TimeUp` in the block when it has taken so long."""

    def up(*_: object) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
