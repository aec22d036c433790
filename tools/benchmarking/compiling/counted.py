"""A program's kernels added up: bytes, operations, memory, and the bound that a card sets."""

from collections.abc import Mapping
from typing import Any

from benchmarking.compiling.hlo import parse
from benchmarking.compiling.kinds import KINDS, kind, source
from benchmarking.compiling.targets import Target
from benchmarking.compiling.traffic import traffic
from benchmarking.compiling.work import work

LARGEST = 20


def counted(text: str, target: Target, *, pairs: int, said: Mapping[str, Any]) -> dict[str, Any]:
    """Count a program.

    Args:
        text: XLA's text of it.
        target: the card that it was compiled for.
        pairs: that it takes.
        said: by the compiler: `argument_bytes`, `output_bytes`, `alias_bytes`, `temp_bytes`.

    Returns:
        Sums over all kernels; `kinds`, the same by what kernels are for; `largest`, the kernels with most bytes.
        Seconds are a model: bytes over bandwidth, operations over the rate of tensor cores, and for `bound_seconds`
        the larger of the two of each kernel.
    """
    module = parse(text)
    found = traffic(module)
    kinds = {name: {"bytes": 0, "operations": 0, "kernels": 0} for name in KINDS}
    rows, matrix_seconds, bound_seconds = [], 0.0, 0.0
    for kernel in found.kernels:
        done, name = work(module, kernel.computation, kernel.instruction), kind(module, kernel)
        moved, operations = (kernel.times * n for n in (kernel.read + kernel.written, done.matrix + done.other))
        kinds[name]["bytes"] += moved
        kinds[name]["operations"] += operations
        kinds[name]["kernels"] += kernel.times
        seconds = kernel.times * done.matrix / target.rate(done.dtype)
        matrix_seconds += seconds
        bound_seconds += max(seconds, moved / target.bandwidth)
        rows.append(
            {
                "bytes": moved,
                "read": kernel.read,
                "written": kernel.written,
                "times": kernel.times,
                "operations": operations,
                "kind": name,
                "kernel": kernel.instruction.name,
                "op_name": kernel.instruction.op_name,
                "source": source(module, kernel),
            }
        )
    total = {field: sum(each[field] for each in kinds.values()) for field in ("bytes", "operations", "kernels")}
    return {
        **total,
        "bytes_per_pair": total["bytes"] / pairs,
        "memory_seconds": total["bytes"] / target.bandwidth,
        "matrix_seconds": matrix_seconds,
        "bound_seconds": bound_seconds,
        "temp_bytes": said["temp_bytes"],
        "needed_bytes": needed(said),
        "kinds": {name: each for name, each in kinds.items() if each["kernels"]},
        "largest": sorted(rows, key=lambda row: -row["bytes"])[:LARGEST],
        "notes": found.notes,
    }


def needed(said: Mapping[str, int]) -> int:
    """Bytes of the card's memory that a program takes: what it is given, gives, and needs in between."""
    return said["argument_bytes"] + said["output_bytes"] - said["alias_bytes"] + said["temp_bytes"]
