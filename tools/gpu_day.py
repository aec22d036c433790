"""All that a machine with a GPU is asked, in parts of a few minutes that can run one by one.

    sh tools/gpu_day OUT [PART ...]     parts by number or name; without them all, in their order
    sh tools/gpu_day --list             what each part measures

Needs jax, flax, optax, orbax, numpy and torch alone. OUT holds figures.json (written after each case), rows.md
(tables as docs/results.md has them), speed.png and batches.png (with matplotlib), profile.tar.gz. A part that ran is
skipped; one whose time was up, or that was stopped, goes on in the next call with the same OUT, which also tries again
what failed.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarking.bare import supply_jaxtyping  # noqa: E402

supply_jaxtyping()

from benchmarking import figures, report  # noqa: E402
from benchmarking.case import JAXCD, Case  # noqa: E402
from benchmarking.gpu_day import day, plots, record, tables  # noqa: E402
from benchmarking.gpu_day.parts import FULL, PARTS, SMALL, chosen  # noqa: E402
from benchmarking.process import about_side  # noqa: E402

from jaxcd.base.entry import guarded  # noqa: E402
from jaxcd.base.errors import ConfigError, DeviceError  # noqa: E402
from jaxcd.base.files import locked  # noqa: E402

_LOCK = "gpu_day.lock"


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Measure parts; print, write JSON, tables and plots."""
    options = _options(argv)
    if options.list:
        print(_listed())
        return 0
    if options.out is None:
        raise ConfigError("give a folder for the figures: sh tools/gpu_day OUT [PART ...]")
    wanted = chosen(options.parts)
    if options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"{options.out}: is a file; give a folder")
    with tempfile.TemporaryDirectory(prefix="jaxcd-gpu-day-") as folder:
        about = about_side(Case(suite="nothing"), JAXCD, figures.environment(folder))
        if "failed" in about:
            raise ConfigError(f"jaxcd's side does not start: {about['failed']}")
        if about["backend"] != "gpu" and not options.small:
            raise DeviceError(f"JAX finds no GPU here ({about['device']}); --small rehearses with small sizes")
        here = record.here(about, commit=options.commit, small=options.small)
        options.out.mkdir(parents=True, exist_ok=True)
        try:
            with locked(options.out / _LOCK):
                kept = record.Record(options.out, here)
                left = _run(day.Day(kept, SMALL if options.small else FULL, folder), wanted, options.limit)
        except BlockingIOError as error:
            raise ConfigError(f"{options.out}: another process measures into it; wait for it") from error
    return 1 if left else 0


def _run(today: day.Day, wanted: Sequence[day.Part], limit: float) -> int:
    """Run parts, and draw what there is; returns how many pieces are left."""
    print(report.heading(today.record.machine), flush=True)
    today.record.write()
    tables.write(today.record)  # a call that was killed may have left older ones
    left = 0
    for part in wanted:
        left += len(day.run(today, part, limit))
        said = plots.plot(today.record)
    print(f"\nwritten: {today.record.folder / record.FIGURES}, {tables.FILE}{said}")
    return left


def _listed() -> str:
    return "\n".join(f"  {part!s:<15} {part.what} (at most {day.LIMIT} s a call)" for part in PARTS)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sh tools/gpu_day",
        description=(__doc__ or "").partition("\n")[0],
        epilog=f"parts:\n{_listed()}\nexit code 1: time was up, the same command goes on",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def limit(text: str) -> int:
        if not text.isdecimal() or not 0 < int(text) <= day.LIMIT:
            raise argparse.ArgumentTypeError(f"expected seconds from 1 to {day.LIMIT}, got {text!r}")
        return int(text)

    add = parser.add_argument
    add("out", type=Path, nargs="?", metavar="OUT", help="folder for the figures; one machine and one commit each")
    add("parts", nargs="*", metavar="PART", help="numbers or names of parts (default all)")
    add("--list", action="store_true", help="list the parts and end")
    add(
        "--small", action="store_true", help="small sizes, to rehearse, on a CPU too; such figures say nothing of speed"
    )
    add("--limit", type=limit, default=day.LIMIT, help=f"seconds a part takes at most (default {day.LIMIT})")
    add("--commit", default="", help="commit of this copy, where there is no git to ask")
    return parser.parse_intermixed_args(argv)


if __name__ == "__main__":
    # As an exception, so that the sides' processes are ended and the temporary folder is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    raise SystemExit(main())
