"""Bytes over time: what a program moves by the compiler's count, beside the card's bandwidth and the model's bound."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmarking.compiling import targets

_RECORDS = Path(__file__).resolve().parents[3] / "benchmarks"
_PROGRAMS = {("infer", ""): "infer", ("step", "plain"): "step", ("step", "augment"): "augmented"}


def recorded(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what `benchmarks/compile_*.json` has of a row's program at any batch, or None."""
    wanted = {name: row[name] for name in ("model", "size", "tile", "dtype")}
    wanted["program"] = _PROGRAMS.get((row["suite"], row["variant"]))
    return next((each for each in _compiled(row["model"]) if wanted.items() <= each.items()), None)


def compared(row: dict[str, Any], device: str, copy: float) -> dict[str, Any]:
    """Add to a measured row of jaxcd how fast the counted bytes were moved.

    Args:
        row: of `figures.rows`.
        device: as JAX names it.
        copy: bytes a second of a large copy, measured.

    Returns:
        The row with `counted_bytes_per_pair`, `moved_bytes_per_second`, `share_of_measured_copy`, and, for a card that
        has a file among the targets, `share_of_bandwidth` and `share_of_bound`: of the pairs a second that the model
        allows kernel by kernel.
    """
    counted, target = recorded(row), _target(device)
    if counted is None or "seconds" not in row:
        return row
    moved = counted["bytes_per_pair"] * row["pairs_per_second"]
    row = {**row, "counted_bytes_per_pair": counted["bytes_per_pair"], "moved_bytes_per_second": moved}
    row["share_of_measured_copy"] = moved / copy
    if target is not None:
        row["share_of_bandwidth"] = moved / target.bandwidth
        if target.name == targets.load(counted["target"]).name:
            row["share_of_bound"] = row["pairs_per_second"] * counted["bound_seconds"] / counted["batch"]
    return row


def line(row: Mapping[str, Any]) -> str:
    """Say it in a line."""
    text = (
        f"  {row['counted_bytes_per_pair'] / 1e9:.2f} GB a pair (counted) at {row['pairs_per_second']:.1f} pairs/s: "
        f"{row['moved_bytes_per_second'] / 1e9:.0f} GB/s, {row['share_of_measured_copy']:.0%} of the measured copy"
    )
    if "share_of_bandwidth" in row:
        text += f", {row['share_of_bandwidth']:.0%} of the card's bandwidth"
    if "share_of_bound" in row:
        text += f"; {row['share_of_bound']:.0%} of the model's bound"
    return text


def _target(device: str) -> targets.Target | None:
    cards = map(targets.load, targets.known())
    return next((card for card in cards if device.endswith(card.name)), None)


@cache
def _compiled(model: str) -> list[dict[str, Any]]:
    file = _RECORDS / f"compile_{model}.json"
    return json.loads(file.read_text())["rows"] if file.is_file() else []
