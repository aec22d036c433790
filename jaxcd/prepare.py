"""Build a tile dataset from a folder of image pairs and labels, or from large scenes.

    python -m jaxcd.prepare --layout xbd --source DIR --out DIR
    python -m jaxcd.prepare --layout scenes --source DIR [--list] --out DIR
    python -m jaxcd.prepare --layout labelled --source STORE --out DIR

A build that was killed goes on where it stopped when the same command is given again.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcd.base.entry import guarded
from jaxcd.base.errors import ConfigError, SplitError
from jaxcd.base.scales import SCALES
from jaxcd.config import Config, DataConfig, ScenesConfig, TrainConfig
from jaxcd.config.fields import settings_of
from jaxcd.config.flags import Parser, add_settings, settings_from
from jaxcd.sources import layouts

_BUILD = ("scale", "damage_levels", "cache", "scaling", "encoding", "incomplete", "register")
_SPLITS = ("places", "split", "split_shares", "block_size", "split_seed")


def parser() -> Parser:
    """Make the parser of the flags."""
    made = Parser(
        prog="python -m jaxcd.prepare", description="Build a tile dataset from a folder of image pairs and labels."
    )
    names = [name for name in layouts.NAMES if name != layouts.PREPARED]
    made.add_argument("--layout", required=True, choices=names, help="how images and labels lie in the source")
    made.add_argument(
        "--source", required=True, help="folder with images and labels (simulated: folder in which to make them)"
    )
    made.add_argument("--out", type=Path, default=Path(), help="folder of the dataset")
    made.add_argument(
        "--blind", action="store_true",
        help="with --layout labelled: the buildings of the blind sample alone, to evaluate on; without, all but these",
    )  # fmt: skip
    data = list(settings_of(DataConfig, ""))
    add_settings(made, data, names=_BUILD)
    many = made.add_argument_group(
        "build on many machines with Apache Beam (install jaxcd[beam] in an environment of its own)"
    )
    many.add_argument(
        "--beam_runner", default="", help="Apache Beam's runner: DirectRunner, FlinkRunner, DataflowRunner, ..."
    )
    many.add_argument(
        "--beam_options",
        default="",
        help="options for Beam in one text, such as --beam_options='--direct_num_workers=2'",
    )
    show = made.add_argument_group(
        "splits to show after the build (the dataset does not depend on them; each training has its own)"
    )
    add_settings(show, data, names=_SPLITS)
    large = made.add_argument_group("scenes (--layout scenes)")
    large.add_argument(
        "--list", action="store_true", help="show which scenes are paired and which are not, and build nothing"
    )
    add_settings(large, settings_of(ScenesConfig, ""))
    return made


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Build the dataset and report what it holds.

    Args:
        argv: arguments, or None for those of the command line.

    Returns:
        The exit code.
    """
    options = parser().parse_args(argv)
    scenes = settings_from(options, ScenesConfig)
    labelled = options.layout == layouts.LABELLED
    if options.layout != layouts.SCENES and (options.list or (scenes != ScenesConfig() and not labelled)):
        given = [
            f.name for f in dataclasses.fields(scenes) if getattr(scenes, f.name) != getattr(ScenesConfig(), f.name)
        ]
        raise ConfigError(f"--{(given or ['list'])[0]}: goes with --layout scenes (it is {options.layout})")
    if options.blind and not labelled:
        raise ConfigError(f"--blind: goes with --layout labelled (it is {options.layout})")
    if not options.list and options.out == Path():
        raise ConfigError("--out: give a folder for the dataset")
    given = ((name, getattr(options, name)) for name in (*_BUILD, *_SPLITS))
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given}
    data = DataConfig(root=options.source, layout=options.layout, scenes=scenes, **values)
    Config(data=data, train=TrainConfig(steps=1)).validate()
    if labelled:
        from jaxcd.labelling.exports.for_prepare import source_of

        data, unknown = source_of(data, blind=options.blind)
        if unknown:
            what = "judged buildings of the blind sample" if options.blind else "labels"
            print(f"{len(unknown)} pairs without {what}, left out: {', '.join(unknown[:5])}")
    # Worker processes import this file again, and need none of this.
    if options.list:
        from jaxcd.scenes.listing import describe as listed
        from jaxcd.sources.from_scenes.plan import paired

        print(listed(*paired(data)))
        return 0
    from jaxcd.feed.split_summary import describe
    from jaxcd.feed.splits import split_places
    from jaxcd.store.build import REPORT, Beam, build

    on = Beam(runner=options.beam_runner, options=options.beam_options) if options.beam_runner else None
    report = build(data, options.out, on=on)
    state = "built" if report.built else "was built before with these settings and is left as it is"
    print(f"{options.out}: {state}")
    print(report.describe(options.out / REPORT))
    print("Splits as published:" if data.split == "published" else f"Splits by {data.split}, seed {data.split_seed}:")
    try:
        print(describe(report.samples, split_places(report.samples, data), SCALES[data.scale]))
    except SplitError as error:
        # The dataset is good without splits: it may be there to be evaluated as a whole.
        print(f"none with these settings: {error}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
