"""Build a tile dataset from a folder of image pairs and labels.

    python -m jaxcd.prepare --layout xbd --source DIR --out DIR

A build that was killed goes on where it stopped when the same command is given again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxcd.config import ENCODINGS, LAYOUTS, XBD_LEVELS, Config, DataConfig, TrainConfig
from jaxcd.entry import guarded
from jaxcd.errors import SplitError

_DEFAULT = DataConfig()


def _parser() -> argparse.ArgumentParser:
    summary = "Build a tile dataset from a folder of image pairs and labels."
    parser = argparse.ArgumentParser(prog="python -m jaxcd.prepare", description=summary)
    add = parser.add_argument
    add("--layout", required=True, choices=[layout for layout in LAYOUTS if layout != "prepared"])
    add("--source", required=True, help="folder with images and labels (simulated: where they are made)")
    add("--out", required=True, type=Path, help="folder of the dataset")
    add(
        "--damage_levels",
        nargs="+",
        default=_DEFAULT.damage_levels,
        metavar="LEVEL",
        help=f"xBD levels that count as damage (of {', '.join(XBD_LEVELS)}; default %(default)s)",
    )
    add("--scaling", default="", help="16-bit and float images: range:LOW,HIGH or percentiles:LOW,HIGH")
    incomplete = "files without their counterpart: refuse or leave_out (default %(default)s)"
    add("--encoding", default=_DEFAULT.encoding, help=f"of images: {', '.join(ENCODINGS)} (default %(default)s)")
    add("--incomplete", default=_DEFAULT.incomplete, help=incomplete)
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
    data = DataConfig(
        root=options.source,
        layout=options.layout,
        damage_levels=tuple(options.damage_levels),
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
    from jaxcd.tiles.build import REPORT, build
    from jaxcd.tiles.splits import describe, split_places

    report = build(data, options.out)
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
