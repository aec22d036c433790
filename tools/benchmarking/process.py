"""A side of a case in a process of its own, and the rounds in which the sides of a case take turns."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarking.case import Case

_WORKER = Path(__file__).with_name("worker.py")
_ROUNDS = 7
_WARM_UPS = 2
_REST = 0.2  # seconds
_SECONDS = 0.4  # that a round takes at least


class Side:
    """A process that takes commands by lines; `about` is its description of itself."""

    def __init__(self, case: Case, name: str, environment: Mapping[str, str]):
        self.name = name
        self.times: list[float] = []
        self._steps = 1
        self._process = subprocess.Popen(
            [sys.executable, str(_WORKER), json.dumps({"case": asdict(case), "side": name})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self.about: dict[str, Any] = {}

    def start(self) -> None:
        """Wait until it is ready or has failed."""
        self.about = self._answer()

    @property
    def failed(self) -> str:
        """Why there is nothing to measure, or empty."""
        return self.about.get("failed", "")

    @property
    def median(self) -> float:
        """Seconds a step."""
        return float(np.median(self.times))

    def warm_up(self) -> None:
        """Run until a step's time is known, and choose how many make a round."""
        for _ in range(_WARM_UPS):
            seconds = self._run()
            if seconds:
                self._steps = max(1, round(_SECONDS / seconds))

    def round(self) -> None:
        """Measure one round, once the threads of the side before have come to rest."""
        time.sleep(_REST)
        seconds = self._run()
        if seconds:
            self.times.append(seconds)

    def end(self) -> None:
        """Let the process go; it tells its peak of memory at last."""
        if not self.failed:
            self.about |= self._ask("end")

    def kill(self) -> None:
        """End the process wherever it is."""
        self._process.kill()
        self._process.communicate()

    def _run(self) -> float:
        """Return the seconds of a step, or 0 where the side has failed."""
        answer = {} if self.failed else self._ask(str(self._steps))
        if "failed" in answer:
            self.about |= answer
        return answer.get("seconds", 0.0) / self._steps

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {"failed": f"the process ended with code {self._process.wait()}"}
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # libraries print there, too
            if line.startswith("{"):
                return json.loads(line)
        return {"failed": f"the process ended with code {self._process.wait()}"}


@contextmanager
def _started(case: Case, names: Sequence[str], environment: Mapping[str, str]) -> Iterator[list[Side]]:
    sides: list[Side] = []
    try:
        for name in names:  # one after the other: a compilation must not be timed beside another
            sides.append(Side(case, name, environment))
            sides[-1].start()
        yield sides
    finally:
        for side in sides:
            side.kill()


def measured(case: Case, environment: Mapping[str, str], *, names: Sequence[str] = (), rounds: int = 0) -> list[Side]:
    """Measure sides of a case (all if none are named), in turns; those that fail say why and take no part."""
    with _started(case, names or case.sides, environment) as sides:
        running = [side for side in sides if not side.failed]
        for side in running:
            side.warm_up()
        for _ in range(rounds or _ROUNDS):
            for side in running:
                side.round()
        for side in running:
            side.end()
    return sides


def about_side(case: Case, name: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Start a side, end it again, and return its description of itself."""
    with _started(case, [name], environment) as (side,):
        if not side.failed:
            side.end()
        return side.about
