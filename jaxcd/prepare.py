"""Build a tile dataset from a folder of image pairs and labels, or from large scenes.

    python -m jaxcd.prepare --layout xbd --source DIR --out DIR
    python -m jaxcd.prepare --layout scenes --source DIR [--list] --out DIR

A build that was killed goes on where it stopped when the same command is given again.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcd.config import ENCODINGS, LAYOUTS, XBD_LEVELS, Config, DataConfig, ScenesConfig, TrainConfig
from jaxcd.entry import guarded
from jaxcd.errors import ConfigError, SplitError

_DEFAULT = DataConfig()
_SCENES = {
    "event_date": "YYYY-MM-DD: tells scenes apart where no folder does",
    "only": "beginnings of the names of the places to take",
    "min_overlap": "least share of the pre scene that a post scene covers",
    "max_clouds": "percent, of a catalogue's scenes",
    "max_off_nadir": "degrees, of a catalogue's scenes",
    "crs": "of the tiles, such as EPSG:32637 (default: that of each pre scene)",
    "gsd": "side of a pixel in units of the reference system (default: that of each pre scene)",
    "tile": "side in pixels",
    "edges": "pad or shift: the last tiles are padded with unknown pixels, or moved inward",
    "register": "estimate by how much each post tile is shifted, and read it there",
    "match_histogram": "give post tiles the colours of the pre tile",
    "black": "largest share of black pixels",
    "snow": "largest mean of R + G + B",
    "variance": "least variance of the grey value",
    "valid": "least share of a tile that is seen before and after",
    "labels": "file for all places: polygons or mask raster; none: unlabelled (default: the file beside each place)",
    "label_attribute": "of the polygons, that tells damage (default: every polygon is damage)",
    "label_values": "of the attribute, that mean damage",
    "outside": "of all polygons: intact or unlabelled",
    "labelled_area": "file of polygons outside of which nobody has looked for damage",
    "positive_unlabelled": "much damage has no polygon: evaluation reports recall and flagged area, no precision",
}


def _parser() -> argparse.ArgumentParser:
    summary = "Build a tile dataset from a folder of image pairs and labels."
    parser = argparse.ArgumentParser(prog="python -m jaxcd.prepare", description=summary)
    add = parser.add_argument
    add("--layout", required=True, choices=[layout for layout in LAYOUTS if layout != "prepared"])
    add("--source", required=True, help="folder with images and labels (simulated: where they are made)")
    add("--out", type=Path, default=Path(), help="folder of the dataset")
    add(
        "--damage_levels",
        nargs="+",
        default=_DEFAULT.damage_levels,
        metavar="LEVEL",
        help=f"xBD levels that count as damage (of {', '.join(XBD_LEVELS)}; default %(default)s)",
    )
    cache = "folder that keeps windows of scenes behind URLs, in windows/ (default %(default)s)"
    add("--cache", default=_DEFAULT.cache, help=cache)
    add("--scaling", default="", help="16-bit and float images: range:LOW,HIGH or percentiles:LOW,HIGH")
    incomplete = "files without their counterpart: refuse or leave_out (default %(default)s)"
    add("--encoding", default=_DEFAULT.encoding, help=f"of images: {', '.join(ENCODINGS)} (default %(default)s)")
    add("--incomplete", default=_DEFAULT.incomplete, help=incomplete)
    many = parser.add_argument_group("many machines (pip install 'jaxcd[beam]' in an environment of its own)")
    many.add_argument(
        "--beam_runner", default="", help="of Apache Beam: DirectRunner, FlinkRunner, DataflowRunner, ..."
    )
    many.add_argument("--beam_options", default="", help="as one text: --beam_options='--direct_num_workers=2'")
    show = parser.add_argument_group("splits to show (training sets its own; the dataset does not depend on them)")
    show.add_argument("--places", default=_DEFAULT.places, help="all or damaged (default %(default)s)")
    show.add_argument("--split", default=_DEFAULT.split, help="place or block (default %(default)s)")
    show.add_argument(
        "--split_shares",
        nargs=3,
        type=float,
        default=_DEFAULT.split_shares,
        metavar="SHARE",
        help="of training, validation and test (default %(default)s)",
    )
    show.add_argument("--block_size", type=float, default=_DEFAULT.block_size, help="metres (default %(default)s)")
    show.add_argument("--split_seed", type=int, default=_DEFAULT.split_seed, help="default %(default)s")
    large = parser.add_argument_group("scenes (--layout scenes)")
    large.add_argument("--list", action="store_true", help="show what is paired and what is not, and build nothing")
    for field in dataclasses.fields(ScenesConfig):
        default = getattr(_DEFAULT.scenes, field.name)
        about = _SCENES[field.name] + (f" (default {default})" if default not in ("", (), 0.0, False) else "")
        how: dict[str, Any] = {"type": type(default), "metavar": "VALUE"}
        if default is False:
            how = {"action": "store_true"}
        elif default == ():
            how = {"nargs": "+", "metavar": "VALUE"}
        large.add_argument(f"--{field.name}", default=default, help=about.replace("%", "%%"), **how)
    return parser


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Build the dataset and report what it holds.

    Args:
        argv: arguments, or None for those of the command line.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(argv)
    scenes = ScenesConfig(**{field.name: getattr(options, field.name) for field in dataclasses.fields(ScenesConfig)})
    scenes.only, scenes.label_values = tuple(scenes.only), tuple(scenes.label_values)
    if options.layout != "scenes" and (options.list or scenes != ScenesConfig()):
        given = [
            f.name for f in dataclasses.fields(scenes) if getattr(scenes, f.name) != getattr(ScenesConfig(), f.name)
        ]
        raise ConfigError(f"--{(given or ['list'])[0]}: goes with --layout scenes (it is {options.layout})")
    if not options.list and options.out == Path():
        raise ConfigError("--out: give a folder for the dataset")
    data = DataConfig(
        root=options.source,
        layout=options.layout,
        scenes=scenes,
        damage_levels=tuple(options.damage_levels),
        cache=options.cache,
        scaling=options.scaling,
        encoding=options.encoding,
        incomplete=options.incomplete,
        places=options.places,
        split=options.split,
        split_shares=tuple(options.split_shares),
        split_seed=options.split_seed,
        block_size=options.block_size,
    )
    Config(data=data, train=TrainConfig(steps=1)).validate()
    # Worker processes import this file again, and need none of this.
    if options.list:
        from jaxcd.scenes.listing import describe as listed
        from jaxcd.tiles.scene_plan import paired

        print(listed(*paired(data)))
        return 0
    from jaxcd.tiles.build import REPORT, Beam, build
    from jaxcd.tiles.splits import describe, split_places

    on = Beam(runner=options.beam_runner, options=options.beam_options) if options.beam_runner else None
    report = build(data, options.out, on=on)
    state = "built" if report.built else "was built before with these settings and is left as it is"
    print(f"{options.out}: {state}")
    print(report.describe(options.out / REPORT))
    print(f"Splits by {data.split}, seed {data.split_seed}:")
    try:
        print(describe(report.samples, split_places(report.samples, data)))
    except SplitError as error:
        # The dataset is good without splits: it may be there to be evaluated as a whole.
        print(f"none with these settings: {error}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
