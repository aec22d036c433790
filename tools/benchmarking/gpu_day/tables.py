"""rows.md: what was measured, as tables that docs/results.md can take over."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarking.case import COMPILED, JAXCD, TORCH
from benchmarking.gpu_day.record import Record, Rows
from jaxcd.base.files import write_whole

FILE = "rows.md"
_NONE = "–"

Row = Mapping[str, Any]


def write(record: Record) -> None:
    """Write all tables, whole."""
    write_whole(record.folder / FILE, text(record))


def text(record: Record) -> str:
    """Return the tables, a section a part that has figures, each with its command and what it was measured on."""
    m = record.machine
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    where = (
        f"- Commit: `{m['commit']}`. Machine: {m['device']}, driver {m['driver'] or 'none'}, {m['cpu']}, {m['cores']} "
        f"cores; Python {m['python']}, {versions}; {m['date']}."
    )
    if m["small"]:
        where = f"- Small sizes of a rehearsal: these figures say nothing of speed.\n{where}"
    sections = [f"# {m['device']}\n\n{_ceilings(record)}"]
    for part in dict.fromkeys(each["part"] for each in record.figures):
        command = f"    sh tools/gpu_day OUT {part}{' --small' if m['small'] else ''}"
        sections.append(f"## {part}\n\n{command}\n\n{_TABLES[part](record.of(part))}\n\n{where}")
    return "\n\n".join(sections) + "\n"


def _ceilings(record: Record) -> str:
    rows = [
        [dtype, _number(rates["flops_per_second"] / 1e12, 1), _number(rates["bytes_per_second"] / 1e9, 0)]
        for dtype, rates in record.ceilings.items()
    ]
    return _table(["a large matrix product and a large copy", "TFLOP/s", "GB/s"], rows)


def _beside(pieces: Sequence[Rows]) -> str:
    """Cases with jaxcd's side and PyTorch's; below, bytes over time where they were counted."""
    head = ["what", "jaxcd, ms", "quartiles", "pairs/s", "PyTorch, ms", "compiled, ms", "× PyTorch's best", "peak, GB"]
    lines, moved = [], []
    for rows in pieces:
        sides = {row["side"]: row for row in rows}
        ours = sides.get(JAXCD, {})
        others = [_seconds(sides.get(name, {})) for name in (TORCH, COMPILED)]
        ratio = _of(ours, "times_rival", lambda ratio: f"{ratio:.2f}")
        lines.append([rows[0]["case"], *_times(ours), *others, ratio, _gigabytes(ours, "peak_bytes")])
        if "moved_bytes_per_second" in ours:
            shares = (_of(ours, f"share_of_{name}", _percent) for name in ("bandwidth", "measured_copy", "bound"))
            counted = _gigabytes(ours, "counted_bytes_per_pair")
            moved.append([ours["case"], counted, _number(ours["moved_bytes_per_second"] / 1e9, 0), *shares])
    head_of_moved = ["counted bytes over time", "GB a pair", "GB/s", "of the card's bandwidth", "of a measured copy"]
    below = f"\n\n{_table([*head_of_moved, 'of the bound'], moved)}" if moved else ""
    return _table(head, lines) + below + _failures(pieces)


def _alone(pieces: Sequence[Rows]) -> str:
    """Training on batches as they come, beside the step alone."""
    head = ["what", "side", "ms", "quartiles", "pairs/s", "of the step alone"]
    lines = [
        [row["case"], row["side"], *_times(row), _of(row, "share_of_step", _percent)] for rows in pieces for row in rows
    ]
    return _table(head, lines) + _failures(pieces)


def _batches(pieces: Sequence[Rows]) -> str:
    """Batches, with the memory that was foretold and that was measured."""
    head = ["what", "side", "pairs/s", "foretold, GB", "measured, GB"]
    lines = []
    for (row,) in pieces:
        measured = "out of memory" if row.get("out_of_memory") else _gigabytes(row, "peak_bytes")
        foretold = _gigabytes(row, "predicted_bytes")
        lines.append([row["case"], row["side"], _times(row)[2], foretold, measured])
    note = (
        "\n\nForetold: what the compiler counted for one batch (`benchmarks/compile_*.json`), in proportion, and the "
        "three sets of images that the measurement keeps on the device. Measured: the peak, with what the choice of "
        "algorithms tried. JAX takes 75 % of the card, PyTorch all of it."
    )
    return _table(head, lines) + note + _failures([rows for rows in pieces if not rows[0].get("out_of_memory")])


def _profile(pieces: Sequence[Rows]) -> str:
    parts = []
    for row in (row for rows in pieces for row in rows if "failed" not in row):
        told = f"{row['case']}: {row['seconds'] * 1e3:.2f} ms a step under trace"
        if not row["operations"]:
            parts.append(f"{told}; the trace names no operations.")
            continue
        lines = [
            [f"`{each['name']}`", f"{each['seconds'] * 1e3:.3f}", _percent(each["share"]), f"{each['times']:g}"]
            for each in row["operations"]
        ]
        table = _table(["operation", "ms a step", "of all", "times a step"], lines)
        parts.append(f"{told}, its operations {row['device_seconds'] * 1e3:.2f} ms.\n\n{table}")
    left = sorted({name for rows in pieces for row in rows for name in row.get("left_out", ())})
    if left:
        parts.append(f"Too large for the archive: {', '.join(left)}.")
    return "\n\n".join(parts) + _failures(pieces)


_TABLES: dict[str, Callable[[Sequence[Rows]], str]] = {
    "paper": _beside,
    "profile": _profile,
    "networks": _beside,
    "batches": _batches,
    "float32": _beside,
    "augmentation": _beside,
    "training": _alone,
    "loader": _alone,
}


def _failures(pieces: Sequence[Rows]) -> str:
    said = [f"\n- {row['case']}, {row['side']}: not measured ({row['failed'][:200]})" for rows in pieces for row in rows
            if "failed" in row]  # fmt: skip
    return "\n" + "".join(said) if said else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first, *others = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return "\n".join((first, "|---" * len(head) + "|", *others))


def _times(row: Row) -> tuple[str, str, str]:
    """Milliseconds, their quartiles, pairs a second."""
    if "seconds" not in row:
        return _NONE, _NONE, _NONE
    low, high = row["quartiles"]
    return _seconds(row), f"{_number(low * 1e3, 2)} to {_number(high * 1e3, 2)}", _number(row["pairs_per_second"], 2)


def _seconds(row: Row) -> str:
    return _of(row, "seconds", lambda seconds: _number(seconds * 1e3, 2))


def _of(row: Row, name: str, show: Callable[[Any], str]) -> str:
    return show(row[name]) if name in row else _NONE


def _gigabytes(row: Row, name: str) -> str:
    return _of(row, name, lambda count: _number(count / 1e9, 2))


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")
