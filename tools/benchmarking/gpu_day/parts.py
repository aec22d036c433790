"""The parts of the day, the most telling first."""

import importlib
import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from benchmarking.case import COMPILED, JAXCD, STEP, TORCH, Case
from benchmarking.gpu_day import batches, profiling
from benchmarking.gpu_day.day import Day, Part, Sizes, Work
from benchmarking.gpu_day.record import Rows
from jaxcd.base.errors import ConfigError

FULL = Sizes(
    case=Case(suite="", size="large", batch=8, tile=1024),
    networks=("fc_ef", "fc_siam_conc", "siam_lite0", "siam_resnet18", "siam_resnet34", "siam_resnet50"),
    compiled=("step", "infer"),
    batches=(16, 1024),
    rounds=0,
)
SMALL = Sizes(
    case=Case(suite="", size="small", batch=2, tile=32),
    networks=("fc_ef",),
    compiled=("infer",),  # of a step it takes minutes on a CPU
    batches=(2, 4),
    rounds=2,
)
_PROGRAMS = (("step", "plain"), ("infer", ""))


def _paper(day: Day) -> Iterator[Work]:
    for program in _PROGRAMS:
        yield _work(day, day.case(*program))


def _profile(day: Day) -> Iterator[Work]:
    def measure() -> Rows:
        traces = day.folder / "traces"
        rows = []
        for suite, variant in _PROGRAMS:
            rows.append(profiling.profiled(day.case(suite, variant), traces / suite, day.environment))
            print(profiling.line(rows[-1]), flush=True)
        if not traces.is_dir():
            return rows
        packed, left = profiling.pack(traces, day.record.folder / profiling.ARCHIVE)
        shutil.rmtree(traces)
        print(f"  {profiling.ARCHIVE}: {', '.join(packed)}", flush=True)
        if left:
            print(f"  left out, too large: {', '.join(left)}", flush=True)
        return [{**row, "packed": packed, "left_out": left} for row in rows]

    yield Work(key="step and inference", measure=measure, side=JAXCD)


def _networks(day: Day) -> Iterator[Work]:
    for model, program in itertools.product(day.sizes.networks, _PROGRAMS):
        yield _work(day, day.case(*program, model=model))


def _batches(day: Day) -> Iterator[Work]:
    first, last = day.sizes.batches
    for program, side in itertools.product(_PROGRAMS, (JAXCD, TORCH)):
        batch = first
        while batch <= last:
            work = _batch(day, replace(day.case(*program), batch=batch), side)
            yield work
            rows = day.record.rows("batches", work.key)
            if rows is None or "failed" in rows[0]:  # not measured yet, or no larger one will fit
                break
            batch *= 2


def _batch(day: Day, case: Case, side: str) -> Work:
    def measure() -> Rows:
        rows = day.measured(case, names=(side,))
        print(*map(batches.line, rows), sep="\n", flush=True)
        return rows

    return Work(key=f"{case}, {side}", measure=measure, side=side)


def _float32(day: Day) -> Iterator[Work]:
    for program in _PROGRAMS:
        yield _work(day, day.case(*program, dtype="float32"))


def _augmentation(day: Day) -> Iterator[Work]:
    yield _work(day, day.case("step", "augment"))
    yield _work(day, day.case("augment", model="", size=""))
    yield _work(day, day.case("step", "frozen"))


def _training(day: Day) -> Iterator[Work]:
    yield _work(day, day.case("array"))


def _loader(day: Day) -> Iterator[Work]:
    case = replace(day.case("train"), layout="folders", cache=str(day.folder))

    def measure() -> Rows:
        if _there("grain"):
            return day.measured(case)
        print(f"\n{case}\n  skipped: no grain", flush=True)
        return [{"case": str(case), "side": side, "failed": "skipped: no grain"} for side in (JAXCD, STEP)]

    yield Work(key=str(case), measure=measure)


def _there(package: str) -> bool:
    try:
        importlib.import_module(package)
    except ModuleNotFoundError:
        return False
    return True


def _work(day: Day, case: Case) -> Work:
    names = tuple(name for name in case.sides if name != COMPILED or case.suite in day.sizes.compiled)
    return Work(key=str(case), measure=partial(day.measured, case, names=names))


PARTS = tuple(
    Part(number=number, name=name, what=what, works=works)
    for number, (name, what, works) in enumerate(
        (
            ("paper", "step and inference of FC-Siam-Diff, large, bfloat16, beside PyTorch eager and compiled", _paper),
            ("profile", "a profile of both, one archive, and their longest operations", _profile),
            ("networks", "step and inference of the other networks, the published ones beside PyTorch", _networks),
            (
                "batches",
                f"batches doubled until memory ends or {FULL.batches[1]} pairs are reached, jaxcd and PyTorch eager, "
                "beside what was foretold",
                _batches,
            ),
            ("float32", "step and inference in float32, beside PyTorch eager and compiled", _float32),
            ("augmentation", "step with augmentation, augmentation alone, step with a frozen encoder", _augmentation),
            ("training", "whole training with augmentation on a synthetic array in host memory", _training),
            ("loader", "training on tiles that are loaded from disk; needs grain", _loader),
        ),
        start=1,
    )
)


def chosen(words: Sequence[str]) -> list[Part]:
    """Return parts by number or name, in their order; all if none is named.

    Raises:
        ConfigError: there is no such part.
    """
    for word in words:
        if not any(word in (str(part.number), part.name) for part in PARTS):
            raise ConfigError(f"part {word!r}: expected a number or name of {', '.join(map(str, PARTS))}")
    return [part for part in PARTS if not words or {str(part.number), part.name} & set(words)]
