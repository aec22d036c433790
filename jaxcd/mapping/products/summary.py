"""The summary of a map: `summary.json` for programs, `summary.md` for people."""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxcd.base.files import write_whole
from jaxcd.mapping.predict.scene_pair import Registered, Source
from jaxcd.mapping.products.buildings import CLASSES
from jaxcd.scenes.dates import told

JSON, MARKDOWN = "summary.json", "summary.md"
_WORST = 10


@dataclass(frozen=True, kw_only=True)
class Area:
    """Ground of a map: seen before and after, and called damage; the share is of the seen ground."""

    seen_km2: float
    damaged_m2: float
    damaged_share: float


@dataclass(frozen=True, kw_only=True)
class SceneFile:
    """A scene of a map: where it is, the digest of its content, when it was taken, the side of its pixels."""

    location: str
    sha256: str | None
    date: str | None
    metres_per_pixel: float

    @classmethod
    def of(cls, source: Source) -> "SceneFile":
        """Describe a scene."""
        return cls(
            location=source.location,
            sha256=source.digest or None,
            date=source.date or None,
            metres_per_pixel=round(source.metres, 4),
        )


@dataclass(frozen=True, kw_only=True)
class VectorFile:
    """A file of polygons: where it is, and the digest of its content."""

    location: str
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class NetworkUsed:
    """The network of a map, the threshold that it was used with and where that came from, its windows in pixels."""

    run: str
    name: str
    size: str
    step: int
    weights_sha256: str
    average: bool
    halo: int
    threshold: float
    threshold_from: str
    window: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class MapGrid:
    """The grid of a map: reference system, six numbers of the transform, size in pixels, side of a pixel."""

    crs: str
    transform: tuple[float, ...]
    height: int
    width: int
    metres_per_pixel: float


@dataclass(frozen=True, kw_only=True)
class WorstCell:
    """A cell with much damage: its middle in degrees, its damaged ground, the share of its seen ground."""

    latitude: float
    longitude: float
    damaged_m2: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What maps can be summed up by.

    Attributes:
        area: ground.
        polygons: number of damage polygons.
        buildings: number of buildings in each class; empty without footprints.
        agreement: classes against true ones, see `jaxcd.mapping.products.buildings.scored`; empty without truth.
    """

    area: Area
    polygons: int
    buildings: dict[str, int]
    agreement: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class MapSummary(Totals):
    """All that is told of a map, in `summary.json`, `summary.md` and on the page.

    Attributes:
        name: of the map: that of its folder.
        worst_cells: cells with most damage, the worst first.
        pre: scenes before the event.
        post: scenes after it.
        registration: how post scenes were registered; empty where they were not.
        vectors: files of footprints and area of interest, by those names, as far as they were given.
        network: the network.
        grid: of the map.
        settings: of the map, as JSON can hold them.
        notes: what the user should know.
        blocks: blocks of the map.
        blocks_computed: those that this call computed.
        jaxcd: its version.
        made: when, in UTC.
        seconds: that the map took.
    """

    name: str
    worst_cells: tuple[WorstCell, ...]
    pre: tuple[SceneFile, ...]
    post: tuple[SceneFile, ...]
    registration: tuple[Registered, ...]
    vectors: dict[str, VectorFile]
    network: NetworkUsed
    grid: MapGrid
    settings: dict[str, Any]
    notes: tuple[str, ...]
    blocks: int
    blocks_computed: int
    jaxcd: str
    made: str
    seconds: float


def registration(found: Iterable[Registered]) -> tuple[Registered, ...]:
    """Round the figures of registrations to what is told of them."""
    return tuple(
        dataclasses.replace(scene, **{name: round(getattr(scene, name), 2) for name in ("rows", "columns", "spread")})
        for scene in found
    )


def write(out: Path, summary: MapSummary) -> None:
    """Write both files, each whole or not at all."""
    write_json(out, dataclasses.asdict(summary))
    write_whole(out / MARKDOWN, _markdown(summary))


def write_json(out: Path, content: dict[str, Any]) -> None:
    """Write `summary.json`, whole or not at all."""
    write_whole(out / JSON, json.dumps(content, indent=2) + "\n")


def _markdown(summary: MapSummary) -> str:
    network, area = summary.network, summary.area
    lines = [
        f"# Damage map: {summary.name}",
        "",
        f"Of {area.seen_km2:.3f} km² seen before and after, {area.damaged_m2:,.0f} m² "
        f"({area.damaged_share:.2%}) are called damage, in {summary.polygons:,} polygons.",
        "",
        f"Network: {network.name} {network.size}, step {network.step} of `{network.run}`; threshold "
        f"{network.threshold:.3f} ({network.threshold_from}).",
        "",
        "| scene | taken | metres a pixel | SHA-256 |",
        "|---|---|---|---|",
    ]
    for when, scenes in (("pre", summary.pre), ("post", summary.post)):
        lines += [
            f"| {when}: `{scene.location}` | {told([scene.date])} | {scene.metres_per_pixel:.3g} | "
            f"{(scene.sha256 or 'behind a URL')[:12]} |"
            for scene in scenes
        ]
    if summary.registration:
        lines += ["", "| registered | rows | columns | estimates believed | spread, pixels |", "|---|---|---|---|---|"]
        lines += [
            f"| `{scene.location}` | {scene.rows:+.2f} | {scene.columns:+.2f} | {scene.believed} of "
            f"{scene.estimated} | {scene.spread:.1f} |"
            for scene in summary.registration
        ]
    if summary.buildings:
        lines += ["", f"| {' | '.join(CLASSES)} |", "|" + "---|" * len(CLASSES)]
        lines += ["| " + " | ".join(f"{summary.buildings[name]:,}" for name in CLASSES) + " |"]
    lines += agreement(summary.agreement)
    if summary.worst_cells:
        lines += ["", "| worst cells: latitude, longitude | damaged m² | of the seen |", "|---|---|---|"]
        lines += [
            f"| {cell.latitude:.5f}, {cell.longitude:.5f} | {cell.damaged_m2:,.0f} | {cell.share:.1%} |"
            for cell in summary.worst_cells
        ]
    notes = [f"- {note}" for note in summary.notes]
    lines += ["", "Notes:", "", *notes] if notes else []
    lines += [
        "",
        f"Computed in {summary.seconds:.1f} s ({summary.blocks_computed} of {summary.blocks} blocks).",
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


def worst_cells(cells: Any) -> tuple[WorstCell, ...]:
    """Return the cells with most damage."""
    worst = cells[cells["damaged_m2"] > 0].sort_values("damaged_m2", ascending=False, kind="stable").head(_WORST)
    middles = worst.geometry.representative_point().to_crs(4326)
    return tuple(
        WorstCell(
            latitude=round(point.y, 6),
            longitude=round(point.x, 6),
            damaged_m2=float(damaged),
            share=float(share),
        )
        for point, damaged, share in zip(middles, worst["damaged_m2"], worst["damaged_share"], strict=True)
    )
