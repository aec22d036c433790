"""Map damage: `python -m jaxcd.predict --run RUN --pre PRE.tif --post POST.tif --out DIR [...]`."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxcd.base.entry import announce_device, guarded
from jaxcd.base.errors import ConfigError
from jaxcd.config.fields import settings_of
from jaxcd.config.flags import Parser, add_settings, settings_from
from jaxcd.mapping.settings import MapSettings
from jaxcd.runs import shares

if TYPE_CHECKING:
    from jaxcd.mapping.products.summary import MapSummary

_BUILDINGS = (
    "footprints", "buffer", "building_shares", "min_building", "label_attribute", "label_values", "label_unknown",
)  # fmt: skip


def parser() -> Parser:
    """Make the parser of the flags."""
    made = Parser(
        prog="python -m jaxcd.predict", description="Map the damage between scenes before and after an event."
    )
    add = made.add_argument
    add("--run", type=Path, required=True, help="run folder of jaxcd.train or import_torch")
    add("--out", type=Path, required=True, help="folder of the map; with --pairs, it gets a folder for each map")
    add(
        "--pre",
        nargs="+",
        metavar="SCENE",
        help="scenes before the event, as GeoTIFFs or URLs; the first one gives the grid",
    )
    add(
        "--post",
        nargs="+",
        metavar="SCENE",
        help="scenes after the event, on any grid; where several have data, the first is used",
    )
    pairs = "many maps: a CSV file with the columns name, pre, post (several scenes are separated by spaces) and, "
    add("--pairs", type=Path, metavar="LIST", help=f"{pairs}if a map has some, footprints")
    labels = "store of jaxcd.label with a blind sample: says how good the map is and how many buildings are damaged"
    add("--labels", type=Path, metavar="STORE", help=labels)
    add("--share", metavar="I/N", help=f"with --pairs: {shares.HELP}")
    settings = list(settings_of(MapSettings, ""))
    add_settings(made, settings, names=[item.path for item in settings if item.path not in _BUILDINGS])
    add_settings(made.add_argument_group("buildings"), settings, names=_BUILDINGS)
    return made


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the entry; returns the exit code (143 or 130 after SIGTERM or Ctrl-C: the same command goes on)."""
    options = parser().parse_args(argv)
    settings: MapSettings = settings_from(options, MapSettings)
    settings.validate()
    if bool(options.pairs) == bool(options.pre or options.post) or bool(options.pre) != bool(options.post):
        raise ConfigError("give --pre and --post, or --pairs LIST")
    if options.share is not None and not options.pairs:
        raise ConfigError("--share: goes with --pairs, whose maps it shares out")
    if options.labels and options.share is not None:
        raise ConfigError("--labels: goes without --share; give it to jaxcd.evaluate once all maps are made")
    share = None if options.share is None else shares.Share.of(options.share)
    signal.signal(signal.SIGTERM, _ended)
    # jax is imported late, once the arguments are known to be valid.
    from jaxcd.mapping import listed_pairs, pair_list, scene_map
    from jaxcd.runs.announcement import announce_network

    wanted = listed_pairs.read(options.pairs) if options.pairs else ()
    labelled = settings.footprints or settings.calibrate or any(each.footprints for each in wanted)
    if settings.label_attribute and not labelled:
        raise ConfigError("--label_attribute: goes with footprints, by --footprints or in the list, or --calibrate")
    measured = None
    if options.labels is not None:
        from jaxcd.labelling.learning.maps import Measured

        measured = Measured(options.labels, options.run, maps=len(wanted) or 1)
    announce_device()
    mapper = scene_map.load(options.run, settings)
    announce_network(mapper.config)
    if not options.pairs:
        found = scene_map.make(mapper, options.pre, options.post, options.out, settings, measure=measured)
        _tell(found, options.out)
        return 0
    result = None if measured is None else measured.result
    return pair_list.make(
        mapper, wanted, options.out, settings, tell=_tell, share=share, measure=measured, measured=result
    )


def _tell(summary: "MapSummary", out: Path) -> None:
    for note in summary.notes:
        print(f"NOTE: {note}", file=sys.stderr)
    area = summary.area
    print(
        f"{out}: {area.damaged_m2:,.0f} m² of {area.seen_km2:.3f} km² called damage "
        f"({area.damaged_share:.2%}), {summary.polygons:,} polygons"
    )
    print(f"threshold {summary.network.threshold:.3g}: {summary.network.threshold_from}")
    if summary.buildings:
        print("buildings: " + ", ".join(f"{count:,} {name}" for name, count in summary.buildings.items()))
    if summary.levels:
        print("levels: " + ", ".join(f"{count:,} {name}" for name, count in summary.levels.buildings.items()))
    if summary.blind_sample is not None:
        from jaxcd.mapping.products.summary import blind_lines

        print(*blind_lines(summary.blind_sample), sep="\n")
    blocks = f"{summary.blocks_computed} of {summary.blocks} blocks computed"
    print(f"{blocks}, {summary.seconds:.1f} s; look at {out}/map.html")


def _ended(number: int, _: object) -> None:
    print("stopped; the same command goes on from here", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
