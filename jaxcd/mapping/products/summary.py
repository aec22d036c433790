"""What a map says, in numbers: `summary.json` for programs, `summary.md` for people."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxcd.base.files import write_whole
from jaxcd.mapping.predict.scene_pair import Registered, Source
from jaxcd.mapping.products.buildings import CLASSES

JSON, MARKDOWN = "summary.json", "summary.md"
_WORST = 10


def sources(found: Iterable[Source]) -> list[dict]:
    """Tell the files of a map: where they lay, what they hold, when they were taken."""
    return [
        {
            "location": source.location,
            "sha256": source.digest or None,
            "date": source.date or None,
            "metres_per_pixel": round(source.metres, 4),
        }
        for source in found
    ]


def registration(found: Iterable[Registered]) -> list[dict]:
    """Tell how post scenes were registered."""
    return [
        one._asdict() | {name: round(getattr(one, name), 2) for name in ("rows", "columns", "spread")} for one in found
    ]


def write(out: Path, summary: dict[str, Any]) -> None:
    """Write both files, each whole or not at all."""
    write_json(out, summary)
    write_whole(out / MARKDOWN, _markdown(summary))


def write_json(out: Path, summary: dict[str, Any]) -> None:
    """Write `summary.json`, whole or not at all."""
    write_whole(out / JSON, json.dumps(summary, indent=2) + "\n")


def _markdown(told: dict[str, Any]) -> str:
    network, area = told["network"], told["area"]
    lines = [
        f"# Damage map: {told['name']}",
        "",
        f"Of {area['seen_km2']:.3f} km² seen before and after, {area['damaged_m2']:,.0f} m² "
        f"({area['damaged_share']:.2%}) are called damage, in {told['polygons']:,} polygons.",
        "",
        f"Network: {network['name']} {network['size']}, step {network['step']} of `{network['run']}`; threshold "
        f"{network['threshold']:.3f} ({network['threshold_from']}).",
        "",
        "| scene | taken | metres a pixel | SHA-256 |",
        "|---|---|---|---|",
    ]
    for when in ("pre", "post"):
        lines += [
            f"| {when}: `{one['location']}` | {one['date'] or 'not told'} | {one['metres_per_pixel']:.3g} | "
            f"{(one['sha256'] or 'behind a URL')[:12]} |"
            for one in told[when]
        ]
    if told["registration"]:
        lines += ["", "| registered | rows | columns | estimates believed | spread, pixels |", "|---|---|---|---|---|"]
        lines += [
            f"| `{one['location']}` | {one['rows']:+.2f} | {one['columns']:+.2f} | {one['believed']} of "
            f"{one['estimated']} | {one['spread']:.1f} |"
            for one in told["registration"]
        ]
    if told["buildings"]:
        lines += ["", f"| {' | '.join(CLASSES)} |", "|" + "---|" * len(CLASSES)]
        lines += ["| " + " | ".join(f"{told['buildings'][name]:,}" for name in CLASSES) + " |"]
    lines += agreement(told["agreement"])
    if told["worst_cells"]:
        lines += ["", "| worst cells: latitude, longitude | damaged m² | of the seen |", "|---|---|---|"]
        lines += [
            f"| {one['latitude']:.5f}, {one['longitude']:.5f} | {one['damaged_m2']:,.0f} | {one['share']:.1%} |"
            for one in told["worst_cells"]
        ]
    notes = [f"- {note}" for note in told["notes"]]
    lines += ["", "Notes:", "", *notes] if notes else []
    lines += ["", f"Computed in {told['seconds']:.1f} s ({told['blocks_computed']} of {told['blocks']} blocks)."]
    return "\n".join(lines) + "\n"


def agreement(found: dict[str, Any]) -> list[str]:
    """Return the tables that compare classes with true ones, as lines of Markdown; none where there is no truth."""
    if not found:
        return []
    return [
        "",
        f"| true class | {' | '.join(CLASSES)} |",
        "|---|" + "---|" * len(CLASSES),
        *(
            f"| {true} | " + " | ".join(f"{row[name]:,}" for name in CLASSES) + " |"
            for true, row in found["confusion"].items()
        ),
        "",
        "| called damage | precision | recall | F1 |",
        "|---|---|---|---|",
        *(
            f"| {name} | " + " | ".join("–" if score is None else f"{score:.3f}" for score in one.values()) + " |"
            for name, one in found.items()
            if name != "confusion"
        ),
    ]


def worst_cells(cells: Any) -> list[dict]:
    """Return the cells with most damage, each with its middle in degrees."""
    worst = cells[cells["damaged_m2"] > 0].sort_values("damaged_m2", ascending=False, kind="stable").head(_WORST)
    middles = worst.geometry.representative_point().to_crs(4326)
    return [
        {
            "latitude": round(point.y, 6),
            "longitude": round(point.x, 6),
            "damaged_m2": float(damaged),
            "share": float(share),
        }
        for point, damaged, share in zip(middles, worst["damaged_m2"], worst["damaged_share"], strict=True)
    ]
