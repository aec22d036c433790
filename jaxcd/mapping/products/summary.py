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
class LevelTotals:
    """What a map of levels tells of them.

    Attributes:
        scale: its name.
        damage_from: level from which a level counts as damage, in all that knows only damage.
        area_m2: ground of each level.
        buildings: number of buildings of each level, and of those without one.
        agreement: levels against true ones, see `jaxcd.mapping.products.levels.scored`; empty without truth.
    """

    scale: str
    damage_from: str
    area_m2: dict[str, float]
    buildings: dict[str, int]
    agreement: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What maps can be summed up by.

    Attributes:
        area: ground.
        polygons: number of damage polygons.
        buildings: number of buildings in each class; empty without footprints.
        agreement: classes against true ones, see `jaxcd.mapping.products.buildings.scored`; empty without truth.
        levels: of a map of levels; None for damage alone.
    """

    area: Area
    polygons: int
    buildings: dict[str, int]
    agreement: dict[str, Any]
    levels: LevelTotals | None = None


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
    write_json(out, plain(summary))
    write_whole(out / MARKDOWN, _markdown(summary))


def plain(totals: Totals) -> dict[str, Any]:
    """Return a summary, or totals, as JSON can hold them; where there are no levels, there is no word of them."""
    found = dataclasses.asdict(totals)
    return {name: value for name, value in found.items() if name != "levels" or value is not None}


def totals(plain: dict[str, Any]) -> Totals:
    """Return the totals of a summary that `plain` gave."""
    names = {each.name for each in dataclasses.fields(Totals)} - {"area", "levels"}
    levels = LevelTotals(**plain["levels"]) if plain.get("levels") else None
    return Totals(area=Area(**plain["area"]), levels=levels, **{name: plain[name] for name in names})


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
    lines += of_levels(summary.levels)
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


def of_levels(found: LevelTotals | None) -> list[str]:
    """Return what is told of levels, as lines of Markdown; none for a map of damage alone."""
    if found is None:
        return []
    lines = [
        "",
        f"Levels of the scale {found.scale}; what is called damage above is at least {found.damage_from}.",
        "",
        "| level | m² | buildings |",
        "|---|---|---|",
    ]
    for name, buildings in found.buildings.items():
        area = f"{found.area_m2[name]:,.0f}" if name in found.area_m2 else "–"
        lines.append(f"| {name} | {area} | {buildings:,} |")
    return lines + _level_agreement(found.agreement)


def _level_agreement(found: dict[str, Any]) -> list[str]:
    if not found:
        return []
    kappa, error = ("–" if found[name] is None else f"{found[name]:.3f}" for name in ("kappa", "level_error"))
    table = found["confusion"]
    columns = list(next(iter(table.values())))
    return [
        "",
        f"| true level | {' | '.join(columns)} |",
        "|---|" + "---|" * len(columns),
        *(f"| {true} | " + " | ".join(f"{row[name]:,}" for name in columns) + " |" for true, row in table.items()),
        "",
        f"Of the buildings that have a level: quadratic kappa {kappa}, mean absolute error {error} levels.",
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
