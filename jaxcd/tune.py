"""Search for good settings: `python -m jaxcd.tune --config X [--config.a.b=v ...] --trials 100 --workdir DIR`."""

import sys
from collections.abc import Sequence
from typing import Any

from jaxcd import progress
from jaxcd.config import SIZES
from jaxcd.entry import guarded, parse_run_flags
from jaxcd.errors import ConfigError, RunError
from jaxcd.processes import Children, Stopped

_USAGE = """usage: python -m jaxcd.tune --config FILE [--config.group.field=value ...] --trials N --workdir DIR

  --config FILE               a file of configs/, or your own; its data, network and length are those of every trial
  --config.group.field=value  overrides one field (--config.train.epochs=10 is the paper's length of a trial)
  --trials N                  trials in all; the same command goes on, also in several processes at a time
  --workdir DIR               folder of the tuning
  --sampler tpe|random        how points are drawn (default tpe)
  --sizes A,B                 sizes of the network to choose from (default small,medium,large)
  --batches A,B               batches to choose from (default 4,8,16,32)"""


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the entry; returns the exit code (143 or 130 after SIGTERM or Ctrl-C)."""
    base, folder, own = parse_run_flags(sys.argv if argv is None else argv, usage=_USAGE, define=_define)
    from jaxcd.tuning.space import BATCHES, Space
    from jaxcd.tuning.trials import SAMPLERS

    if own.trials < 1:
        raise ConfigError(f"--trials: expected at least 1, got {own.trials}")
    if own.sampler not in SAMPLERS:
        raise ConfigError(f"--sampler: expected one of {', '.join(SAMPLERS)}, got {own.sampler!r}")
    space = Space(
        sizes=_chosen("--sizes", own.sizes, SIZES),
        batches=tuple(int(batch) for batch in _chosen("--batches", own.batches, tuple(map(str, BATCHES)))),
    )
    space.check(base)
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


def _define(own: Any) -> None:
    from absl import flags

    flags.DEFINE_integer("trials", 100, "trials in all", flag_values=own)
    flags.DEFINE_string("sampler", "tpe", "how points are drawn", flag_values=own)
    flags.DEFINE_list("sizes", None, "sizes of the network", flag_values=own)
    flags.DEFINE_list("batches", None, "batches", flag_values=own)


def _chosen(flag: str, given: list[str] | None, options: tuple[str, ...]) -> tuple[str, ...]:
    """Narrow a choice to what was given, in its own order."""
    wrong = [value for value in given or () if value not in options]
    if wrong or given == []:
        raise ConfigError(f"{flag}: expected some of {', '.join(options)}, got {wrong[0] if wrong else ''!r}")
    return tuple(option for option in options if given is None or option in given)


if __name__ == "__main__":
    raise SystemExit(main())
