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


def _line(target: Target, program: Program, batches: tuple[int, int]) -> Line:
    """Memory by batch, from two batches."""
    programs = [replace(program, case=replace(program.case, batch=batch)) for batch in batches]
    first, second = (needed(said) for _, said in _compiled(target, programs))
    return Line.through((batches[0], first), (batches[1], second))


def _check_memory(target: Target, program: Program, row: dict[str, Any]) -> None:
    if row["needed_bytes"] <= SHARE * target.memory:
        return
    largest = _line(target, program, (1, 2)).largest(target.memory)
    case = program.case
    raise ConfigError(
        f"--batch: {case} needs {row['needed_bytes'] / 1e9:.1f} GB, JAX takes {SHARE * target.memory / 1e9:.1f} of the "
        f"{target.memory / 1e9:.1f} GB of {target.name}; the largest that fits is {largest} (from batches 1 and 2)"
    )


def _memory(target: Target, programs: dict[Program, str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Say which batches fit, and what other forms of the training step would change."""
    fits, steps = [], []
    for program, row in zip(programs, rows, strict=True):
        forms = [("", program)]
        if programs[program] != "infer":
            forms.append((", rematerialised", replace(program, remat=True)))
        for name, form in forms:
            batches = _two(program.case.batch)
            line = _line(target, form, batches)
            fits.append({"case": f"{row['case']}{name}", "batches": batches, **line._asdict()})
        if programs[program] != "infer":
            steps.append({**row, "variant": row["case"]})
            steps += _variants(target, program)
    print(tables.memory(fits), flush=True)
    if steps:
        print(tables.variants(steps), flush=True)
    return {"fits": fits, "variants": [{k: v for k, v in row.items() if k != "largest"} for row in steps]}


def _two(batch: int) -> tuple[int, int]:
    return (batch // 2, batch) if batch > 1 else (1, 2)


def _variants(target: Target, step: Program) -> list[dict[str, Any]]:
    forms = {"  rematerialised (jax.checkpoint, tried here only)": replace(step, remat=True)}
    if step.case.batch % 2 == 0:
        forms["  --config.train.accumulation=2"] = replace(step, accumulation=2)
    return [
        {**row, "variant": name} for name, (_, row) in zip(forms, _counted(target, list(forms.values())), strict=True)
    ]
