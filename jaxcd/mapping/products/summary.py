"""The summary of a map, written as `summary.json` for programs and as `summary.md` for people."""

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
    """Area with data both before and after, damaged area, and the share of the first that is damaged."""

    seen_km2: float
    damaged_m2: float
    damaged_share: float


@dataclass(frozen=True, kw_only=True)
class SceneFile:
    """A scene of a map: path or URL, digest of the file, date of acquisition, side of its pixels."""

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
    """A file of polygons: path, and digest of the file."""

    location: str
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An interval of thresholds, and its name."""

    name: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class NetworkUsed:
    """The network of a map, its threshold, how the threshold was chosen, and height and width of its windows.

    `threshold_interval` is None where the threshold was not chosen by samples.
    """

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
    threshold_interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class MapGrid:
    """The grid of a map: coordinate reference system, six numbers of the transform, size and side of pixels."""

    crs: str
    transform: tuple[float, ...]
    height: int
    width: int
    metres_per_pixel: float


@dataclass(frozen=True, kw_only=True)
class WorstCell:
    """A cell with much damage: its middle in degrees, its damaged area, and the damaged share of its seen area."""

    latitude: float
    longitude: float
    damaged_m2: float
    share: float


@dataclass(frozen=True, kw_only=True)
class LevelTotals:
    """Areas and buildings by level of damage.

    Attributes:
        scale: name of the scale.
        damage_from: lowest level that counts as damage where a figure or file only tells damage from no damage.
        area_m2: area of each level.
        buildings: number of buildings of each level, and of buildings without a level.
        agreement: agreement with true levels, see `jaxcd.mapping.products.levels.scored`; empty without true levels.
    """

    scale: str
    damage_from: str
    area_m2: dict[str, float]
    buildings: dict[str, int]
    agreement: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Figures that can be added over several maps.

    Attributes:
        area: seen and damaged area.
        polygons: number of damage polygons.
        buildings: number of buildings in each class; empty if the map has no buildings.
        agreement: agreement with true classes, see `jaxcd.mapping.products.buildings.scored`; empty without true
            classes.
        levels: areas and buildings by level; None for a map of damage alone.
    """

    area: Area
    polygons: int
    buildings: dict[str, int]
    agreement: dict[str, Any]
    levels: LevelTotals | None = None


@dataclass(frozen=True, kw_only=True)
class MapSummary(Totals):
    """The facts of a map, as `summary.json`, `summary.md` and the page show them.

    Attributes:
        name: name of the map's folder.
        blind_sample: what the blind sample of a store of labels says of the map, see
            `jaxcd.labelling.learning.figures.figures`; None: there is none.
        worst_cells: the cells with most damage, the worst first.
        pre: scenes before the event.
        post: scenes after the event.
        registration: shift of each post scene; empty if scenes were not registered.
        vectors: given files of polygons, under the keys "footprints", "aoi" and "calibrate".
        network: the network that made the map.
        grid: grid of the map.
        settings: settings of the map, as JSON can hold them.
        notes: what the user should know.
        blocks: number of blocks of the map.
        blocks_computed: number of blocks that this call computed.
        jaxcd: version of jaxcd.
        made: time at which the map was finished, in UTC.
        seconds: time that the map took.
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
    blind_sample: dict[str, Any] | None = None


def registration(found: Iterable[Registered]) -> tuple[Registered, ...]:
    """Round the figures of registrations to two digits."""
    return tuple(
        dataclasses.replace(scene, **{name: round(getattr(scene, name), 2) for name in ("rows", "columns", "spread")})
        for scene in found
    )


def write(out: Path, summary: MapSummary) -> None:
    """Write both files, each whole or not at all."""
    write_json(out, plain(summary))
    write_whole(out / MARKDOWN, _markdown(summary))


def plain(totals: Totals) -> dict[str, Any]:
    """Convert a summary, or totals, to what JSON can hold; the key `levels` is left out for maps of damage alone."""
    values = dataclasses.asdict(totals)
    return {name: value for name, value in values.items() if name != "levels" or value is not None}


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
        f"{area.seen_km2:.3f} km² have data both before and after. {area.damaged_m2:,.0f} m² of them "
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
            f"{(scene.sha256 or 'none (a URL)')[:12]} |"
            for scene in scenes
        ]
    if summary.registration:
        lines += [
            "",
            "| registered scene | rows | columns | reliable estimates | spread, pixels |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| `{scene.location}` | {scene.rows:+.2f} | {scene.columns:+.2f} | {scene.believed} of "
            f"{scene.estimated} | {scene.spread:.1f} |"
            for scene in summary.registration
        ]
    if summary.buildings:
        lines += ["", "Buildings, as this map calls them:", ""]
        lines += [f"| {' | '.join(CLASSES)} |", "|" + "---|" * len(CLASSES)]
        lines += ["| " + " | ".join(f"{summary.buildings[name]:,}" for name in CLASSES) + " |"]
    lines += ["", *blind_lines(summary.blind_sample)]
    lines += agreement(summary.agreement)
    lines += of_levels(summary.levels)
    if summary.worst_cells:
        lines += ["", "| worst cells: latitude, longitude | damaged m² | share of the seen area |", "|---|---|---|"]
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


def blind_lines(found: dict[str, Any] | None) -> list[str]:
    """Tell in sentences what a blind sample says of a map, or that there is none."""
    return blind_of_scene(found) + blind_of_map(found)


def blind_of_scene(found: dict[str, Any] | None) -> list[str]:
    """Tell what a blind sample says whatever the map's threshold is: how many buildings are damaged."""
    if found is None:
        return ["Not measured on a blind sample (--labels): how often this map is right is not known."]
    lines = [f"Blind sample: {found['reason']}."] if found.get("reason") else []
    if damaged := (found.get("estimates") or {}).get("damaged"):
        interval = "" if damaged["low"] is None else f" (95 % interval {damaged['low']:,.0f} to {damaged['high']:,.0f})"
        lines.append(
            f"Damaged buildings, estimated from the blind sample: {damaged['value']:,.0f}{interval} of "
            f"{found['buildings']:,}."
        )
    if lines and found.get("sample"):
        sample = found["sample"]
        lines.append(f"The blind sample has {sample['size']:,} buildings, {sample['judged']:,} of them judged.")
    return lines


def blind_of_map(found: dict[str, Any] | None) -> list[str]:
    """Tell what a blind sample says of a map at its own threshold: what it calls damaged, precision, recall and F1."""
    estimates = (found or {}).get("estimates") or {}
    lines = []
    for name, title in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")):
        if one := estimates.get(name):
            low, high = one["low"], one["high"]
            interval = "" if low is None else f" (95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
            lines.append(f"{title}: {100 * one['value']:.1f} %{interval}.")
    if lines:
        lines.append(
            "Buildings that are possibly damaged, not seen or too small to judge count as not called damaged: where "
            "they are damaged, recall is lower."
        )
    if found and found.get("sample"):
        lines.insert(0, f"Called damaged by this map: {found['called']:,} of {found['buildings']:,}.")
    return lines


def agreement(found: dict[str, Any]) -> list[str]:
    """Return tables that compare classes with true ones, as lines of Markdown; no lines without true classes."""
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
    """Return tables of the levels as lines of Markdown; no lines for a map of damage alone."""
    if found is None:
        return []
    lines = [
        "",
        f"Levels of the scale {found.scale}. The figures of damage above count the level {found.damage_from} and "
        f"worse.",
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
        f"Over the buildings that have a level: quadratic kappa {kappa}, mean absolute error {error} levels.",
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
