"""The suite: programs are compiled for a card and counted; what fits, and what changes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarking import report
from benchmarking.case import Case
from benchmarking.compiling import compare, tables, targets
from benchmarking.compiling.counted import counted, needed
from benchmarking.compiling.fit import SHARE, Line
from benchmarking.compiling.process import Program, compiled, version
from benchmarking.compiling.targets import Target
from benchmarking.machine import machine
from jaxcd.base.errors import ConfigError, DeviceError

PROGRAMS = {"infer": ("infer", ""), "step": ("step", "plain"), "augmented": ("step", "augment")}
"""What can be compiled, by name: suite and variant of its case."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for.

    Attributes:
        target: name of a card, or its file.
        programs: of `PROGRAMS`.
        models: networks.
        dtypes: of the networks' arithmetic.
        case: size, batch and tile.
        memory: also say which batch fits, and what accumulation and rematerialisation change.
        against: an earlier result.
        out: file for all figures.
    """

    target: str
    programs: Sequence[str]
    models: Sequence[str]
    dtypes: Sequence[str]
    case: Case
    memory: bool = False
    against: Path | None = None
    out: Path | None = None


def run(wanted: Wanted) -> int:
    """Compile, count, print, write; returns 1 where a program is worse than in the earlier result.

    Raises:
        ConfigError: bad input, or a batch that the card's memory can't hold.
        DeviceError: a program can't be compiled.
    """
    target = targets.load(wanted.target)
    before = compare.read(wanted.against) if wanted.against else None
    jaxlib, here = version(), machine({"backend": "none", "device": f"none; compiled for {target.name}"})
    print(tables.heading(target, jaxlib, here["commit"]), flush=True)
    result: dict[str, Any] = {"suite": "compile", "machine": here, "jaxlib": jaxlib, "rows": []}
    programs = {
        Program(case=replace(wanted.case, suite=suite, variant=variant, model=model, dtype=dtype)): name
        for model in wanted.models
        for dtype in wanted.dtypes
        for name, (suite, variant) in ((name, PROGRAMS[name]) for name in wanted.programs)
    }
    for program, row in _counted(target, list(programs)):
        row = {"target": wanted.target, "program": programs[program], **row}
        _check_memory(target, program, row)
        print(tables.program(row), flush=True)
        result["rows"].append(row)
    if wanted.memory:
        result |= _memory(target, programs, result["rows"])
    if wanted.out:
        report.write(wanted.out, result)
        title = f"Bytes by kernels, counted; compiled for {target.name}, jaxlib {jaxlib}, {here['date']}"
        print(f"\nwritten: {wanted.out}{tables.plot(wanted.out.with_suffix('.png'), result['rows'], title)}")
    if before is None:
        return 0
    lines, worse = compare.compare(before, result)
    print(f"\nagainst {wanted.against}", *lines, sep="\n  ")
    return int(worse)


def _counted(target: Target, programs: Sequence[Program]) -> Iterator[tuple[Program, dict[str, Any]]]:
    """Compile and count; a row of figures for each program."""
    for program, (text, said) in zip(programs, _compiled(target, programs), strict=True):
        case = program.case
        row = {"case": str(case), "accumulation": program.accumulation, "remat": program.remat}
        row |= {name: getattr(case, name) for name in ("model", "size", "batch", "tile", "dtype")}
        row |= {"compile_seconds": said["compile_seconds"], **counted(text, target, pairs=case.batch, said=said)}
        yield program, row


def _compiled(target: Target, programs: Sequence[Program]) -> Iterator[tuple[str, dict[str, Any]]]:
    for program, (text, said) in zip(programs, compiled(target, programs), strict=True):
        if "failed" in said:
            raise DeviceError(f"{program.case} can't be compiled for {target.name}: {said['failed']}")
        yield text, said


def _line(target: Target, program: Program, first: int, second: tuple[int, int]) -> Line:
    """Memory by batch, from a batch that is compiled here and one with its bytes."""
    ((_, said),) = _compiled(target, [replace(program, case=replace(program.case, batch=first))])
    return Line.through((first, needed(said)), second)


def _check_memory(target: Target, program: Program, row: dict[str, Any]) -> None:
    if row["needed_bytes"] <= SHARE * target.memory:
        return
    # Small batches: near its limit XLA computes some values again, and memory is no straight line.
    case, pair = program.case, replace(program, case=replace(program.case, batch=1))
    ((_, said),) = _compiled(target, [pair])
    largest = _line(target, program, 2, (1, needed(said))).largest(target.memory)
    raise ConfigError(
        f"--batch: {case} needs {row['needed_bytes'] / 1e9:.1f} GB, JAX takes {SHARE * target.memory / 1e9:.1f} of the "
        f"{target.memory / 1e9:.1f} GB of {target.name}; the largest that fits is {largest} (from batches 1 and 2)"
    )


def _memory(target: Target, programs: dict[Program, str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Say which batches fit, and what other forms of the training step would change."""
    fits, steps = [], []
    for program, row in zip(programs, rows, strict=True):
        forms = [(program, {**row, "variant": ""})]
        if programs[program] != "infer":
            forms += _forms(target, program)
            steps += [form for _, form in forms]
        for form, counts in forms:
            if form.accumulation == 1:
                batch, other = row["batch"], row["batch"] // 2 or 2
                line = _line(target, form, other, (batch, counts["needed_bytes"]))
                batches = sorted((batch, other))
                fits.append({"case": row["case"], "variant": counts["variant"], "batches": batches, **line._asdict()})
    print(tables.memory(fits), flush=True)
    if steps:
        print(tables.variants(steps), flush=True)
    return {"fits": fits, "variants": [{k: v for k, v in row.items() if k != "largest"} for row in steps]}


def _forms(target: Target, step: Program) -> list[tuple[Program, dict[str, Any]]]:
    """Compile and count a training step rematerialised, and in two micro-batches."""
    forms = {replace(step, remat=True): "rematerialised"}
    if step.case.batch % 2 == 0:
        forms[replace(step, accumulation=2)] = "accumulation=2"
    return [(form, {**row, "variant": forms[form]}) for form, row in _counted(target, list(forms))]
