"""Search for good settings: `python -m jaxcd.tune --config X [--config.a.b=v ...] --trials 100 --workdir DIR`."""

import sys
from collections.abc import Sequence

from jaxcd.base import progress
from jaxcd.base.entry import guarded
from jaxcd.base.errors import ConfigError, RunError
from jaxcd.base.processes import Children, Stopped
from jaxcd.config.flags import Parser, read_run, run_parser


def parser() -> Parser:
    """Make the parser of the flags."""
    made = run_parser(
        "jaxcd.tune", "Search for good settings of a training, in one process or in several at the same time."
    )
    own = made.add_argument_group("the search")
    own.add_argument(
        "--trials", type=int, default=100, metavar="N", help="number of trials in total (default %(default)s)"
    )
    own.add_argument(
        "--sampler",
        default="tpe",
        metavar="NAME",
        help="how the settings of a trial are chosen: tpe or random (default tpe)",
    )
    own.add_argument("--sizes", metavar="A,B", help="sizes of the network to choose from (default: all of its sizes)")
    own.add_argument("--batches", metavar="A,B", help="batch sizes to choose from (default 4,8,16,32)")
    return made


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the entry; returns the exit code (143 or 130 after SIGTERM or Ctrl-C)."""
    base, folder, own = read_run(parser(), argv)
    from jaxcd import models
    from jaxcd.runs import transfer
    from jaxcd.tuning.space import BATCHES, Space
    from jaxcd.tuning.trials import SAMPLERS

    if own.trials < 1:
        raise ConfigError(f"--trials: expected at least 1, got {own.trials}")
    if own.sampler not in SAMPLERS:
        raise ConfigError(f"--sampler: expected one of {', '.join(SAMPLERS)}, got {own.sampler!r}")
    space = Space(
        sizes=_chosen("--sizes", own.sizes, models.find(base.model.name).sizes),
        batches=tuple(int(batch) for batch in _chosen("--batches", own.batches, tuple(map(str, BATCHES)))),
    )
    space.check(base)
    transfer.check_weights(base, folder)
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError("tuning needs Optuna: pip install 'jaxcd[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    from jaxcd.tuning import report
    from jaxcd.tuning.trials import Tuning

    tuning = Tuning(folder, base, space, own.sampler)

    def reported() -> "optuna.trial.FrozenTrial | None":
        with tuning.alone():
            return report.write(folder, base, tuning.study)

    best = reported()
    try:
        with Children() as children, progress.bar(own.trials, unit="trial", initial=len(tuning.done())) as bar:
            while (ended := tuning.run_next(own.trials, children)) is not None:
                best = reported()
                score = "" if ended.value is None else f", {base.train.best_by} {ended.value:.4f}"
                held = "" if best is None else f"; best {best.value:.4f}"
                bar.write(f"trial {ended.number}: {ended.state.name.lower()}{score}{held}")
                bar.update(len(tuning.done()) - bar.n)
    except RunError:
        reported()
        raise
    except Stopped as stopped:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + stopped.number
    if best is None:
        print(f"{folder}: no trial was completed; trials.csv says why")
        return 1
    done = len(tuning.done())
    if done < own.trials:
        print(f"{own.trials - done} more under way in other processes, which will say what came out")
    print(f"best of {done} trials: {base.train.best_by} {best.value:.4f}; its config is {folder / 'best.py'}")
    return 0


def _chosen(flag: str, text: str | None, options: tuple[str, ...]) -> tuple[str, ...]:
    """Return the options that were given, in the order of `options`."""
    given = options if text is None else tuple(text.split(","))
    for value in given:
        if value not in options:
            raise ConfigError(f"{flag}: expected some of {', '.join(options)}, got {value!r}")
    return tuple(option for option in options if option in given)


if __name__ == "__main__":
    raise SystemExit(main())
