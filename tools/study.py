"""The paper's study on anyone's data: does contrastive pretraining help where labels are few?

    python tools/study.py --data DIR --layout L --out DIR [--seeds 3] [--epochs N] [--config X]

Three networks, each from scratch, with a pretrained encoder, with a pretrained and frozen one, and (what the paper
only proposes) with a pretrained one that learns at a tenth of the rate; each with several seeds on one split. All goes
through `jaxcd.train` and `jaxcd.evaluate`. The same command continues what was interrupted or has failed, and a larger
--seeds adds seeds. Writes `study.md`, `study.csv` and `claims.png`.

A table of anything else beside its published figures (`study.md`, `study.csv`) comes from a file of rows:

    python tools/study.py --rows configs/airchange.py --out DIR [--seeds 3] [--unseen DATA]

With --unseen, the runs are evaluated on other data, too, and `study.md` has their scores there by event.

How networks do on events that they have not seen, each in turn (`study.md`):

    python tools/study.py --leave_one_out event --data DIR,DIR --layout L --config X --out DIR [--events A B]
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from studying import events, rows
from studying.pretraining import Pretraining
from studying.report import NETWORKS
from studying.runs import Job, record, run_all

from jaxcd.base.entry import guarded
from jaxcd.base.errors import ConfigError
from jaxcd.base.folders import alone, check_folder
from jaxcd.base.processes import Stopped
from jaxcd.config import Config
from jaxcd.config.flags import Parser
from jaxcd.sources import layouts

_WITH_DATA = ("layout", "networks", "epochs", "config", "pretrain_config", "pretrain_epochs")


class Study(Protocol):
    """What is run and reported.

    Attributes:
        mark: name of the file in the study's folder that holds the settings, and shows which kind of study it is.
    """

    mark: ClassVar[str]

    @property
    def settings(self) -> Mapping[str, Config]:
        """Configurations by name, which are recorded in the study's folder."""
        ...

    def jobs(self, out: Path, seeds: int) -> Iterator[Job]:
        """Yield all runs, seed by seed, so that a study that ends early has complete tables of fewer seeds."""
        ...

    def report(self, out: Path, recorded: Mapping[str, Config], failures: dict[str, str]) -> str:
        """Write the report of all recorded rows; `failures` receives damaged results. Returns what was written."""
        ...


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left of the study and write its report; returns 1 where a run failed."""
    options = _parser().parse_args(argv)
    if options.seeds < 1:
        raise ConfigError(f"--seeds: expected at least 1, got {options.seeds}")
    study = _study(options)
    check_folder(options.out, study.mark, holds=f"study with {study.mark}")
    with alone(options.out, working="working on this study"):
        recorded = record(options.out, study.mark, study.settings)
        failures: dict[str, str] = {}
        stopped = None
        try:
            run_all(options.out, list(study.jobs(options.out, options.seeds)), failures)
        except Stopped as signalled:
            stopped = signalled
        written = study.report(options.out, recorded, failures)
    if stopped is not None:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + stopped.number
    for name, reason in failures.items():
        print(f"FAILED {name}: {reason}", file=sys.stderr)
    print(f"written: {options.out}/ {written}")
    return 1 if failures else 0


def _study(options: argparse.Namespace) -> Study:
    if options.unseen and not options.rows:
        raise ConfigError("--unseen: goes with --rows")
    if options.leave_one_out:
        if options.rows:
            raise ConfigError("--rows: does not go with --leave_one_out; give --data, --layout and --config")
        return events.LeaveOneOut.read(options)
    if options.events:
        raise ConfigError("--events: goes with --leave_one_out")
    return _of_rows(options) if options.rows else Pretraining(options)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python tools/study.py", description=(__doc__ or "").splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", help="source folder or built dataset")
    what.add_argument("--rows", type=Path, help="Python file with get_rows(), whose configurations say all else")
    parser.add_argument("--out", required=True, type=Path, help="folder of the study")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each row (default 3)")
    parser.add_argument(
        "--leave_one_out", choices=("event",), help="train without each event in turn, with --data, --layout, --config"
    )
    parser.add_argument(
        "--events", nargs="+", metavar="EVENT", help="events that are left out one by one; the rest is left out as one"
    )
    parser.add_argument(
        "--unseen", metavar="DATA", help="with --rows: data on which the runs are evaluated, too, by event"
    )
    with_data = parser.add_argument_group("with --data only")
    with_data.add_argument("--layout", choices=layouts.NAMES, help="layout of --data")
    with_data.add_argument("--networks", nargs="+", choices=NETWORKS, metavar="NETWORK", help="default: all three")
    with_data.add_argument("--epochs", type=int, help="of the damage networks (default: as their configs)")
    with_data.add_argument("--config", help="for all three networks (default: configs/NETWORK.py)")
    with_data.add_argument(
        "--pretrain_config",
        help="for both encoders, with data, augmentation and size of --config (default: configs/pretrain_NETWORK.py)",
    )
    with_data.add_argument("--pretrain_epochs", type=int, help="of the pretraining (default: as its config)")
    return parser


def _of_rows(options: argparse.Namespace) -> rows.RowStudy:
    for name in _WITH_DATA:
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name}: goes with --data; a row's configuration says it")
    return rows.RowStudy.read(options.rows, options.unseen or "")


if __name__ == "__main__":
    raise SystemExit(main())
