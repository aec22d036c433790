"""Runs parts within their time, and writes the figures of each piece as they come."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarking import figures
from benchmarking.case import JAXCD, Case
from benchmarking.gpu_day import batches, bound, tables
from benchmarking.gpu_day.record import Record, Rows

LIMIT = 480
"""Seconds that a part takes at most."""
_WHOLE = 0.95  # share of a limit that counts as all of it
_CUTS = 2  # with all of the limit, before a piece is given up
# How far a piece is. What stands first is measured first, so that what always fails or takes too long blocks nothing.
_NEW, _CUT, _FAILED, _DONE = range(4)


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
        side: that it measures.
    """

    key: str
    measure: Callable[[], Rows]
    side: str = "all sides"


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
        """Measure a case; rows say whether memory ended them, and how fast jaxcd moved the bytes that were counted."""
        ceiling = self.ceiling(case.dtype)
        rows = figures.rows(case, ceiling, self.environment, names=names, rounds=self.sizes.rounds, again=False)
        device, copy = self.record.machine["device"], ceiling["bytes_per_second"]
        rows = [bound.compared(row, device, copy) if row["side"] == JAXCD else row for row in map(batches.judged, rows)]
        for row in rows:
            if "moved_bytes_per_second" in row:
                print(bound.line(row), flush=True)
        return rows


def run(day: Day, part: Part, limit: float) -> list[str]:
    """Measure what is left of a part, within its time.

    Returns:
        Keys of what is left for the next call. What failed before is not among them: it has its row.
    """
    begun = time.monotonic()
    record, longest, done, left = day.record, 0.0, 0, []
    for work, stage in _pieces(day, part, limit):
        start = time.monotonic()
        rest = limit - (start - begun)
        # What would surely be cut is not begun, unless it can have the whole time.
        if left or (done and rest <= max(longest / 2, *record.cuts(part.name, work.key), 0)):
            if stage != _FAILED:
                left.append(work.key)
            continue
        if not done:
            print(f"\n== part {part}: {part.what} (at most {limit:.0f} s)", flush=True)
        done += 1
        try:
            with _at_most(rest):
                rows = work.measure()
        except TimeUp:
            record.cut(part.name, work.key, rest)
            if sum(had >= _WHOLE * limit for had in record.cuts(part.name, work.key)) < _CUTS:
                left.append(work.key)
                continue
            rows = [_given_up(work, limit)]
        record.add(part.name, work.key, rows)
        tables.write(record)
        longest = max(longest, time.monotonic() - start)
    _say(part, done, left, time.monotonic() - begun)
    return left


def _pieces(day: Day, part: Part, limit: float) -> Iterator[tuple[Work, int]]:
    """Give what a call has to measure, each piece once, and how far it is."""
    given: set[str] = set()
    for now in (_NEW, _CUT, _FAILED):
        for work in part.works(day):  # asked again: what was measured meanwhile may have brought a new piece
            stage = _stage(day.record, part, work, limit)
            if stage <= now and work.key not in given:
                given.add(work.key)
                yield work, stage


def _stage(record: Record, part: Part, work: Work, limit: float) -> int:
    """Say how far a piece is; what was given up with a smaller limit counts as cut."""
    if record.cuts(part.name, work.key):
        return _CUT
    rows = record.rows(part.name, work.key)
    if rows is None:
        return _NEW
    given_up = [row["given_up"] for row in rows if "given_up" in row]
    if given_up:
        return _CUT if limit > max(given_up) else _DONE
    return _FAILED if any("failed" in row and not row.get("out_of_memory") for row in rows) else _DONE


def _given_up(work: Work, limit: float) -> dict[str, Any]:
    """Say that a piece is given up; returns its row."""
    said = f"took longer than {limit:g} s{'; give a larger --limit' if limit < LIMIT else ''}"
    print(f"  {work.key}: given up, {said}", flush=True)
    return {"case": work.key, "side": work.side, "failed": said, "given_up": limit}


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
