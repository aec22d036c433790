"""Many maps by one network, from a list of them."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxcd.base import fingerprints
from jaxcd.base.errors import DiskFullError, JaxcdError
from jaxcd.base.files import write_whole
from jaxcd.base.scales import SCALES
from jaxcd.mapping import scene_map
from jaxcd.mapping.listed_pairs import Wanted
from jaxcd.mapping.products import buildings, levels, summary
from jaxcd.mapping.products.buildings import CLASSES
from jaxcd.mapping.products.summary import Area, LevelTotals, MapSummary, Totals
from jaxcd.mapping.settings import MapSettings
from jaxcd.runs.shares import Share, SharedWork

_LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "rasterio")


def make(
    mapper: scene_map.Mapper,
    wanted: Sequence[Wanted],
    out: Path,
    settings: MapSettings,
    *,
    tell: Callable[[MapSummary, Path], None],
    share: Share | None = None,
    measure: scene_map.Measure | None = None,
    measured: Callable[[], dict[str, Any]] | None = None,
) -> int:
    """Make the maps of a list, each in a folder of its own; one that can't be made does not stop the others.

    Processes that share a list make each every so many-th map; the one that finds all maps made sums them up.

    Args:
        mapper: the network.
        wanted: the maps.
        out: folder of their folders, of `summary.json` and of `summary.md`.
        settings: of all maps.
        tell: called with the summary of each map and its folder.
        share: of this process; None: all maps are its own.
        measure: of `scene_map.make`.
        measured: returns what all maps together were measured to be, once they are made.

    Returns:
        The exit code: 0, or 2 where a map could not be made.

    Raises:
        DiskFullError: no space left, for the other maps neither.
        RunError: the folder holds unfinished shares of another list, network or settings.
    """
    out.mkdir(parents=True, exist_ok=True)

    def result(number: int) -> MapSummary | str:
        each = wanted[number]
        print(f"{each.name} ({number + 1} of {len(wanted)})", flush=True)
        own = settings if each.footprints is None else dataclasses.replace(settings, footprints=each.footprints)
        try:
            made = scene_map.make(mapper, each.pre, each.post, out / each.name, own, measure=measure)
        except DiskFullError:
            raise
        except JaxcdError as error:
            print(f"error: {each.name}: {error}", file=sys.stderr, flush=True)
            return str(error)
        tell(made, out / each.name)
        return made

    names = [each.name for each in wanted]
    if share is None:
        return _sum_up({name: _Result.of(result(number)) for number, name in enumerate(names)}, out, measured)
    plan = _plan(mapper, wanted, settings)
    work, failures = SharedWork(out, plan, share, pieces=len(wanted), holds="list of maps"), 0
    for number in work.todo():
        found = _Result.of(result(number))
        failures += found.failed != ""
        work.save(number, json.dumps(found._asdict()).encode())
    with work.summing() as contents:
        if contents is not None:
            found = (_Result(**json.loads(content)) for content in contents)
            return _sum_up(dict(zip(names, found, strict=True)), out)
    print(work.told("maps"))
    return 2 if failures else 0


class _Result(NamedTuple):
    """What became of a map: its summary as JSON can hold it, or why there is none."""

    plain: dict[str, Any]
    failed: str = ""

    @classmethod
    def of(cls, found: MapSummary | str) -> "_Result":
        return cls({}, found) if isinstance(found, str) else cls(summary.plain(found))


def _plan(mapper: scene_map.Mapper, wanted: Sequence[Wanted], settings: MapSettings) -> dict[str, Any]:
    """Return what has to be the same in all processes that share a list."""
    return {
        "code": fingerprints.code(_LIBRARIES),
        "run": {"folder": str(mapper.run.resolve()), "weights": mapper.weights},
        "settings": {name: str(value) for name, value in dataclasses.asdict(settings).items()},
        "list": {each.name: [*each.pre, "after", *each.post, str(each.footprints)] for each in wanted},
    }


def _sum_up(results: dict[str, _Result], out: Path, measured: Callable[[], dict[str, Any]] | None = None) -> int:
    """Write the summary of all maps; returns the exit code."""
    maps = {name: found.plain for name, found in results.items() if not found.failed}
    failed = {name: found.failed for name, found in results.items() if found.failed}
    made = {name: summary.totals(plain) for name, plain in maps.items()}
    total = _total(made.values())
    blind = None if measured is None else measured()
    sums = {"total": summary.plain(total), "blind_sample": blind, "maps": maps, "failed": failed}
    summary.write_json(out, sums)
    write_whole(out / summary.MARKDOWN, _table(made, total, failed, summary.blind_lines(blind)))
    print(f"{len(made)} of {len(results)} maps made; look at {out / summary.MARKDOWN}")
    return 2 if failed else 0


def _total(made: Iterable[Totals]) -> Totals:
    """Sum up maps; ground that several of them show counts several times."""
    made = list(made)
    seen, damaged = sum(each.area.seen_km2 for each in made), sum(each.area.damaged_m2 for each in made)
    table: dict[str, dict[str, int]] = {}
    for each in made:
        for true, row in each.agreement["confusion"].items() if each.agreement else ():
            sums = table.setdefault(true, dict.fromkeys(CLASSES, 0))
            table[true] = {name: sums[name] + row[name] for name in CLASSES}
    counted = [each.buildings for each in made if each.buildings]
    return Totals(
        area=Area(seen_km2=seen, damaged_m2=damaged, damaged_share=damaged / max(seen * 1e6, 1e-9)),
        polygons=sum(each.polygons for each in made),
        buildings={name: sum(classes[name] for classes in counted) for name in CLASSES} if counted else {},
        agreement=buildings.scored(table) if table else {},
        levels=_total_of_levels([each.levels for each in made if each.levels]),
    )


def _total_of_levels(made: Sequence[LevelTotals]) -> LevelTotals | None:
    """Sum up what maps tell of levels; all are on the scale of one network."""
    if not made:
        return None
    known = [each.agreement["confusion"] for each in made if each.agreement]
    first = known[0] if known else {}
    table = {true: {name: sum(each[true][name] for each in known) for name in row} for true, row in first.items()}
    return dataclasses.replace(
        made[0],
        area_m2={name: sum(each.area_m2[name] for each in made) for name in made[0].area_m2},
        buildings={name: sum(each.buildings[name] for each in made) for name in made[0].buildings},
        agreement=levels.scored(table, SCALES[made[0].scale]) if table else {},
    )


def _table(made: dict[str, Totals], total: Totals, failed: dict[str, str], blind: list[str]) -> str:
    head = ["map", "seen, km²", "damage, m²", "share", "polygons", *CLASSES]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    order = sorted(made, key=lambda name: -made[name].area.damaged_m2)
    rows: list[tuple[str, Totals]] = [(f"[{name}]({name}/summary.md)", made[name]) for name in order]
    for title, totals in [*rows, ("all", total)]:
        area, counts = totals.area, totals.buildings
        cells = [
            title,
            f"{area.seen_km2:.3f}",
            f"{area.damaged_m2:,.0f}",
            f"{area.damaged_share:.2%}",
            f"{totals.polygons:,}",
            *(f"{counts[label]:,}" if counts else "–" for label in CLASSES),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    failure_lines = [f"- not made: {name}: {reason}" for name, reason in failed.items()]
    found = summary.agreement(total.agreement) + summary.of_levels(total.levels)
    return (
        "\n".join(["# Damage maps", "", *lines, "", *blind, *found, *([""] if failure_lines else []), *failure_lines])
        + "\n"
    )
