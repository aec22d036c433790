"""How fast jaxcd is on this machine, next to PyTorch and to what the hardware can do.

    python tools/benchmark.py [--suite step,infer,augment,loader,train,prepare,predict] [--model fc_siam_diff]
                              [--size large] [--batch 8] [--tile 1024] [--dtype bfloat16,float32] [--out FILE.json]
    python tools/benchmark.py --suite compile [--target h100] [--programs infer,step,augmented] [--memory]
                              [--against FILE.json] [--model ...] [--size ...] [--batch ...] [--tile ...] [--dtype ...]

Every case and side is a process of its own, so that peak memory is its own; the sides of a case take turns, on the
same arrays. Needs jax, flax, optax, orbax, numpy and jaxtyping; with torch the comparison, with matplotlib the plot,
with all of jaxcd the suites loader and train, with albumentations the paper's pipeline. Without arguments it takes
sizes that a CPU can do, and on an accelerator the paper's.

Suite label measures the labelling server, by itself: --suite label [--scenes DIR] [--out FILE.json].

Suite compile measures nothing: XLA compiles training step and inference for a card that need not be there, and bytes
and operations are counted from its text. Needs `sh tools/setup compile`.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarking import figures, report  # noqa: E402
from benchmarking.case import (  # noqa: E402
    COMPILE,
    DEFAULT_SUITES,
    DTYPES,
    JAXCD,
    LABEL,
    REFERENCES,
    SCENE,
    SUITES,
    Case,
    cases,
)
from benchmarking.compiling import suite as compiling  # noqa: E402
from benchmarking.compiling import targets  # noqa: E402
from benchmarking.machine import machine  # noqa: E402
from benchmarking.process import about_side  # noqa: E402

from jaxcd.base.entry import guarded  # noqa: E402
from jaxcd.base.errors import ConfigError  # noqa: E402
from jaxcd.base.scales import BINARY, SCALES
from jaxcd.sources import layouts  # noqa: E402

_PAPER = {"size": "large", "batch": 8, "tile": 1024}
_CPU = {"size": "small", "batch": 2, "tile": 256}
_CPU_SCENE = 3072
_LOADED_TILE = 1024  # loading is measured at the paper's size on any machine


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON and a plot."""
    options = _options(argv)
    if options.suite == [COMPILE]:
        given = {name: getattr(options, name) or default for name, default in _PAPER.items()}
        return compiling.run(
            compiling.Wanted(
                target=options.target or "h100",
                programs=options.programs or list(compiling.PROGRAMS),
                models=options.model,
                dtypes=options.dtype or ["bfloat16"],
                case=Case(suite="", scale=options.scale, **given),
                memory=options.memory,
                against=options.against,
                out=options.out,
            )
        )
    if options.suite == [LABEL]:
        from benchmarking import labelling  # needs jaxcd[label]

        return labelling.run(options.scenes, options.out)
    with tempfile.TemporaryDirectory(prefix="jaxcd-benchmark-") as folder:
        environment = figures.environment(folder)
        about = about_side(Case(suite="nothing"), JAXCD, environment)
        if "failed" in about:
            raise ConfigError(f"jaxcd's side does not start: {about['failed']}")
        here = machine(about)
        print(report.heading(here), flush=True)
        cpu = about["backend"] == "cpu"
        dtypes = options.dtype or (["float32"] if cpu else list(DTYPES))
        given = {name: getattr(options, name) or default for name, default in (_CPU if cpu else _PAPER).items()}
        data = str(options.data.resolve()) if options.data else ""
        template = Case(
            suite="", **given, dtype=dtypes[0], scale=options.scale, tiles=data, layout=options.layout, cache=folder
        )
        ceilings = {dtype: figures.ceilings(dtype, environment) for dtype in dtypes}
        rows: list[dict[str, Any]] = []
        for case in cases(options.suite, options.model, dtypes, template):
            if case.suite in ("loader", "prepare") and not options.tile:
                case = replace(case, tile=_LOADED_TILE)
            if case.suite == "predict":
                case = replace(case, tile=options.tile or (_CPU_SCENE if cpu else SCENE))
            rows += figures.rows(case, ceilings[case.dtype], environment)
            if options.out:  # what has been measured is kept, whatever comes
                report.write(options.out, {"machine": here, "ceilings": ceilings, "rows": rows})
    if options.out:
        print(f"written: {options.out}{report.plot(options.out.with_suffix('.png'), rows, here)}")
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tools/benchmark.py", description=(__doc__ or "").splitlines()[0])

    def some(options: Sequence[str]) -> Callable[[str], list[str]]:
        def parse(text: str) -> list[str]:
            wrong = [name for name in text.split(",") if name not in options]
            if wrong:
                raise argparse.ArgumentTypeError(f"expected some of {','.join(options)}, got {wrong[0]!r}")
            return text.split(",")

        return parse

    def positive(text: str) -> int:
        if not text.isdecimal() or int(text) == 0:
            raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
        return int(text)

    add = parser.add_argument
    add(
        "--suite",
        type=some(SUITES),
        default=list(DEFAULT_SUITES),
        help=f"of {','.join(SUITES)} (default: all but prepare, predict, label and compile)",
    )
    networks = f"networks: {','.join(REFERENCES)} beside PyTorch, others alone (default fc_siam_diff)"
    add("--model", type=lambda text: text.split(","), default=["fc_siam_diff"], help=networks)
    add("--size", help="of the networks (default large, on a CPU small)")
    add("--batch", type=positive, help="pairs (default 8, on a CPU 2)")
    add("--tile", type=positive, help="side in pixels (default 1024, on a CPU 256)")
    add("--dtype", type=some(DTYPES), help=f"of {','.join(DTYPES)} (default both, on a CPU float32)")
    add("--scale", choices=tuple(SCALES), default=BINARY.name, help="of damage, for the networks (default %(default)s)")
    add("--data", type=Path, help="tiles to load in suites loader and train (default: simulated ones)")
    tiles = [*layouts.LAYOUTS, layouts.SCENES]
    add("--layout", choices=tiles, default="folders", help="of --data (default folders)")
    add("--out", type=Path, help="file for all figures (.json); the plot lies beside it (.png)")
    scenes = "folder that keeps the large scenes for the next time (default: none)"
    parser.add_argument_group("suite label").add_argument("--scenes", type=Path, metavar="DIR", help=scenes)
    alone = parser.add_argument_group("suite compile").add_argument
    alone("--target", help=f"card: {', '.join(targets.known())} (default h100), or a file like theirs (.toml)")
    programs = f"of {','.join(compiling.PROGRAMS)} (default all)"
    alone("--programs", type=some(tuple(compiling.PROGRAMS)), help=programs)
    alone("--memory", action="store_true", help="also which batch fits 80, 24 and 10 GiB; compiles up to 6 times more")
    alone("--against", type=Path, help="an earlier --out; exit code 1 where bytes or memory grew by more than 2 %%")
    options = parser.parse_args(argv)
    _check_suites(options)
    for name in options.model:
        _check_network(name, options.size)
    if options.out and options.out.suffix != ".json":
        raise ConfigError(f"--out: expected a file named .json, got {options.out}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.data and not options.data.is_dir():
        raise ConfigError(f"--data: {options.data}: no such folder")
    return options


def _check_suites(options: argparse.Namespace) -> None:
    """Check that suites compile and label come alone, and their flags with them.

    Raises:
        ConfigError: it does not.
    """
    if COMPILE in options.suite and options.suite != [COMPILE]:
        raise ConfigError("--suite: compile measures nothing; run it by itself")
    if LABEL in options.suite and options.suite != [LABEL]:
        raise ConfigError("--suite: label knows no network; run it by itself")
    if options.scenes and options.suite != [LABEL]:
        raise ConfigError("--scenes: belongs to --suite label")
    for name in ("target", "programs", "memory", "against"):
        if getattr(options, name) and options.suite != [COMPILE]:
            raise ConfigError(f"--{name}: belongs to --suite compile")


def _check_network(name: str, size: str | None) -> None:
    """Check that the network exists and has the size.

    Raises:
        ConfigError: there is no such network, or it has no such size.
    """
    from jaxcd import models  # two seconds, which `--help` does without

    network = models.find(name)
    if size is not None and size not in network.sizes:
        raise ConfigError(f"--size: {name} has {', '.join(network.sizes)}, got {size!r}")


if __name__ == "__main__":
    raise SystemExit(main())
