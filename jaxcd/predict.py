"""Map damage: `python -m jaxcd.predict --run RUN --pre PRE.tif --post POST.tif --out DIR [...]`."""

import argparse
import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcd.entry import announce_device, guarded, warn_of_slow_type
from jaxcd.errors import ConfigError
from jaxcd.mapping.settings import MapSettings

_DEFAULT = MapSettings()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jaxcd.predict", description="Map damage of whole scenes.")
    add = parser.add_argument
    add("--run", type=Path, required=True, help="run folder of jaxcd.train or import_torch")
    add("--out", type=Path, required=True, help="folder of the map; with --pairs, of a folder for each map")
    add("--pre", nargs="+", metavar="SCENE", help="GeoTIFFs or URLs of before; the first one's grid is the map's")
    add("--post", nargs="+", metavar="SCENE", help="of after, on any grid; where several have data, the first counts")
    add("--pairs", type=Path, metavar="LIST", help="many maps: a CSV file with the columns name, pre, post (several "
        "scenes: separated by spaces) and, where there are some, footprints")  # fmt: skip
    add("--aoi", type=Path, help="polygons outside of which nothing is mapped")
    add("--register", action="store_true", help="estimate by how much each post scene is shifted, and read it there")
    add("--crs", default="", help="of the map, such as EPSG:32637 (default: that of the first pre scene)")
    add("--gsd", type=float, default=0.0, help="side of a pixel in units of the reference system (default: likewise)")
    add("--scaling", default="", help="of 16-bit and float scenes: range:LOW,HIGH or percentiles:LOW,HIGH")
    add("--average", action="store_true", help="mean probability over flips and turns, at eight times the work")
    add("--window", type=int, default=0, help="largest side of the network's windows (default: as its size wants)")
    add("--threshold", type=float, help="probability from which a pixel is damage (default: best on validation)")
    add("--min_area", type=float, default=_DEFAULT.min_area, help="least m² of a polygon (default %(default)s)")
    add("--simplify", type=float, default=_DEFAULT.simplify,
        help="pixels by which an outline may leave the pixels' edges, about (default %(default)s)")  # fmt: skip
    add("--cell", type=float, default=_DEFAULT.cell, help="side of the cells of counts, in m (default %(default)s)")
    add("--cache", type=Path, default=_DEFAULT.cache,
        help="folder that keeps windows of scenes behind URLs, in windows/ (default %(default)s)")  # fmt: skip
    each = parser.add_argument_group("buildings")
    each.add_argument("--footprints", type=Path, help="GeoPackage, GeoJSON, Shapefile or GeoParquet of polygons")
    each.add_argument("--buffer", type=float, default=_DEFAULT.buffer,
        help="metres around a footprint in which damage is its own (default %(default)s)")  # fmt: skip
    each.add_argument("--building_shares", nargs=2, type=float, default=_DEFAULT.building_shares, metavar="SHARE",
        help="damaged shares from which a building is possibly damaged, and damaged (default %(default)s)")  # fmt: skip
    each.add_argument("--min_building", type=float, default=_DEFAULT.min_building,
        help="m² below which a building is too small to judge (default %(default)s)")  # fmt: skip
    each.add_argument("--label_attribute", default="", help="of the footprints, their true class, to compare with")
    each.add_argument("--label_values", nargs="+", default=(), help="of the attribute, that mean damage")
    each.add_argument("--label_unknown", nargs="+", default=(), help="of the attribute, that mean neither (such as "
        "un-classified); buildings without a value take no part, either")  # fmt: skip
    return parser


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the entry; returns the exit code (143 or 130 after SIGTERM or Ctrl-C: the same command goes on)."""
    options = _parser().parse_args(argv)
    given = ((field.name, getattr(options, field.name)) for field in dataclasses.fields(MapSettings))
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given}
    settings = MapSettings(**values)
    settings.validate()
    if bool(options.pairs) == bool(options.pre or options.post) or bool(options.pre) != bool(options.post):
        raise ConfigError("give --pre and --post, or --pairs LIST")
    signal.signal(signal.SIGTERM, _ended)
    # jax comes late, after the arguments are known to be good.
    from jaxcd.mapping import pair_list, scene_map

    wanted = pair_list.read(options.pairs) if options.pairs else ()
    if settings.label_attribute and not (settings.footprints or any(each.footprints for each in wanted)):
        raise ConfigError("--label_attribute: goes with footprints, by --footprints or in the list")
    announce_device()
    mapper = scene_map.load(options.run, settings)
    warn_of_slow_type(mapper.config.model.dtype)
    if not options.pairs:
        found = scene_map.make(mapper, options.pre, options.post, options.out, settings)
        _tell(found, options.out)
        return 0
    return pair_list.make(mapper, wanted, options.out, settings, tell=_tell)


def _tell(found: dict[str, Any], out: Path) -> None:
    for note in found["notes"]:
        print(f"NOTE: {note}", file=sys.stderr)
    area = found["area"]
    print(
        f"{out}: {area['damaged_m2']:,.0f} m² of {area['seen_km2']:.3f} km² called damage "
        f"({area['damaged_share']:.2%}), {found['polygons']:,} polygons"
    )
    if found["buildings"]:
        print("buildings: " + ", ".join(f"{count:,} {name}" for name, count in found["buildings"].items()))
    seconds = found["seconds"]
    print(f"{found['blocks_computed']} of {found['blocks']} blocks computed, {seconds:.1f} s; look at {out}/map.html")


def _ended(number: int, _: object) -> None:
    print("stopped; the same command goes on from here", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
