"""Batches up to the card's memory, beside what the compiler foretold.

Out of memory is a result, not a failure. Each batch is a process of its own.
"""

from collections.abc import Mapping
from typing import Any

from benchmarking.gpu_day import bound
from benchmarking.images import SETS

_SAID = ("RESOURCE_EXHAUSTED", "out of memory", "OutOfMemory")


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """Add to a row whether memory ended it, and how much the compiler foretold."""
    if "failed" in row:
        said = row["failed"]
        row = {**row, "failed": said[:300], "out_of_memory": any(word.lower() in said.lower() for word in _SAID)}
    needed = predicted(row)
    return row if needed is None else {**row, "predicted_bytes": needed}


def predicted(row: Mapping[str, Any]) -> float | None:
    """Bytes that jaxcd's program needs by the compiler's count of one batch, in proportion; None where unknown.

    With the further sets of images that the measurement keeps on the device.
    """
    counted = bound.recorded(row)
    if counted is None or row["side"] != "jaxcd":
        return None
    return row["batch"] * (counted["needed_bytes"] / counted["batch"] + (SETS - 1) * 8 * row["tile"] ** 2)


def line(row: Mapping[str, Any]) -> str:
    """Say what came out for a batch."""
    foretold = f", foretold {row['predicted_bytes'] / 1e9:.2f} GB" if "predicted_bytes" in row else ""
    if row.get("out_of_memory"):
        return f"  batch {row['batch']}: out of memory{foretold}"
    if "failed" in row:
        return f"  batch {row['batch']}: not measured{foretold}"
    return f"  batch {row['batch']}: fits, peak {row['peak_bytes'] / 1e9:.2f} GB{foretold}"
