"""The summary of a map: `summary.json` for programs, `summary.md` for people."""

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
    """Describe the scenes of a map: their files, digests, dates and pixels."""
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
    """Describe how post scenes were registered."""
    return [
        scene._asdict() | {name: round(getattr(scene, name), 2) for name in ("rows", "columns", "spread")}
        for scene in found
    ]


def write(out: Path, summary: dict[str, Any]) -> None:
    """Write both files, each whole or not at all."""
    write_json(out, summary)
    write_whole(out / MARKDOWN, _markdown(summary))


def write_json(out: Path, summary: dict[str, Any]) -> None:
    """Write `summary.json`, whole or not at all."""
    write_whole(out / JSON, json.dumps(summary, indent=2) + "\n")


def _markdown(summary: dict[str, Any]) -> str:
    network, area = summary["network"], summary["area"]
    lines = [
        f"# Damage map: {summary['name']}",
        "",
        f"Of {area['seen_km2']:.3f} km² seen before and after, {area['damaged_m2']:,.0f} m² "
        f"({area['damaged_share']:.2%}) are called damage, in {summary['polygons']:,} polygons.",
        "",
        f"Network: {network['name']} {network['size']}, step {network['step']} of `{network['run']}`; threshold "
        f"{network['threshold']:.3f} ({network['threshold_from']}).",
        "",
        "| scene | taken | metres a pixel | SHA-256 |",
        "|---|---|---|---|",
    ]
    for when in ("pre", "post"):
        lines += [
            f"| {when}: `{scene['location']}` | {scene['date'] or 'not told'} | {scene['metres_per_pixel']:.3g} | "
            f"{(scene['sha256'] or 'behind a URL')[:12]} |"
            for scene in summary[when]
        ]
    if summary["registration"]:
        lines += ["", "| registered | rows | columns | estimates believed | spread, pixels |", "|---|---|---|---|---|"]
        lines += [
            f"| `{scene['location']}` | {scene['rows']:+.2f} | {scene['columns']:+.2f} | {scene['believed']} of "
            f"{scene['estimated']} | {scene['spread']:.1f} |"
            for scene in summary["registration"]
        ]
    if summary["buildings"]:
        lines += ["", f"| {' | '.join(CLASSES)} |", "|" + "---|" * len(CLASSES)]
        lines += ["| " + " | ".join(f"{summary['buildings'][name]:,}" for name in CLASSES) + " |"]
    lines += agreement(summary["agreement"])
    if summary["worst_cells"]:
        lines += ["", "| worst cells: latitude, longitude | damaged m² | of the seen |", "|---|---|---|"]
        lines += [
            f"| {cell['latitude']:.5f}, {cell['longitude']:.5f} | {cell['damaged_m2']:,.0f} | {cell['share']:.1%} |"
            for cell in summary["worst_cells"]
        ]
    notes = [f"- {note}" for note in summary["notes"]]
    lines += ["", "Notes:", "", *notes] if notes else []
    lines += [
        "",
        f"Computed in {summary['seconds']:.1f} s ({summary['blocks_computed']} of {summary['blocks']} blocks).",
    ]
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
            f"| {name} | " + " | ".join("–" if score is None else f"{score:.3f}" for score in scores.values()) + " |"
            for name, scores in found.items()
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
