"""Trials in a folder that several processes may share: Optuna's SQLite storage, a run folder and a lock for each.

    tuning.db            Optuna's
    settings.json        configuration and space; others are refused
    trials/0007/         config.py, run/ (of jaxcd.train), output.log

A process holds the lock of the trial that it runs. Where Optuna lists a trial as running and its lock is free, its
process was killed or stopped: the trial's point is tried again, in the same folder.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcd.base import fingerprints
from jaxcd.base.errors import ConfigError, RunError
from jaxcd.base.files import locked, write_whole
from jaxcd.base.folders import check_folder
from jaxcd.base.processes import Children, last_words
from jaxcd.base.scales import SCALES
from jaxcd.config import Config
from jaxcd.config import files as config_files
from jaxcd.runs import run_folder
from jaxcd.runs.figures import validation_figures
from jaxcd.runs.logs import read_figures
from jaxcd.tuning.space import Space, configured

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "random")
_SETTINGS = "settings.json"
_FOLDER = "folder"  # user attribute: where a trial is, if not under its own number
_FAILURE = "failure"
_MOST_FAILURES = 3  # before any trial has completed: then its point is not the cause
# A trial is compared with the median of the others from its third validation on, once five have completed.
_STARTUP_TRIALS, _STARTUP_VALIDATIONS = 5, 2


class Tuning:
    """A tuning folder, opened by one of its processes."""

    def __init__(self, folder: Path, base: Config, space: Space, sampler: str):
        """Open the folder, or make it.

        Raises:
            RunError: it holds other files, or a tuning of another configuration or space.
        """
        import optuna

        self.folder, self.base, self.space, self.sampler = folder, base, space, sampler
        check_folder(folder, _SETTINGS, holds="tuning")
        folder.mkdir(parents=True, exist_ok=True)
        with self.alone():
            self._record()
            (folder / "trials").mkdir(exist_ok=True)
            self.study = optuna.create_study(
                study_name="jaxcd",
                storage=f"sqlite:///{(folder / 'tuning.db').absolute()}",
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(_STARTUP_TRIALS, _STARTUP_VALIDATIONS),
                load_if_exists=True,
            )

    def done(self) -> "list[optuna.trial.FrozenTrial]":
        """Trials that have ended, by themselves or pruned; those that were left and tried again don't count."""
        from optuna.trial import TrialState

        return self.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))

    def run_next(self, most: int, children: Children) -> "optuna.trial.FrozenTrial | None":
        """Run one more trial; returns None if `most` are done or running, in other processes too.

        Raises:
            RunError: several failed and none has completed.
            jaxcd.base.processes.Stopped: a signal came; the trial goes on when the tuning does.
        """
        from optuna.trial import TrialState

        with contextlib.ExitStack() as stack:
            with self.alone():
                self._take_up()
                running = self.study.get_trials(states=(TrialState.RUNNING,))
                waiting = self.study.get_trials(states=(TrialState.WAITING,))
                if not waiting and len(self.done()) + len(running) >= most:
                    return None
                self.study.sampler = self._sampler(len(self.study.trials))
                trial = self.study.ask()
                point = self.space.suggest(trial)
                folder = self.folder / "trials" / trial.user_attrs.get(_FOLDER, f"{trial.number:04d}")
                trial.set_user_attr(_FOLDER, folder.name)
                folder.mkdir(exist_ok=True)
                stack.enter_context(locked(folder / ".lock"))
            return self._run(trial, configured(self.base, point), folder, children)

    def _run(
        self, trial: "optuna.Trial", config: Config, folder: Path, children: Children
    ) -> "optuna.trial.FrozenTrial":
        from optuna.trial import TrialState

        run = folder / "run"
        about = f"Trial {folder.name}.\n\n    python -m jaxcd.train --config FILE --workdir RUN"
        config_files.write_python(config, folder / "config.py", about=about)
        reported: dict[int, float] = {}
        pruned = False

        def report() -> None:
            nonlocal pruned
            for step, score in list(_scores(run, config))[len(reported) :]:
                reported[step] = score
                trial.report(score, len(reported) - 1)
                if trial.should_prune() and not pruned:
                    pruned = True
                    children.stop()

        arguments = ["jaxcd.train", "--config", str(folder / "config.py"), "--workdir", str(run)]
        run_folder.await_free(run, meanwhile=children.check)
        code = children.run(arguments, folder / "output.log", meanwhile=report)
        if code and not pruned:
            ended = self._failed(trial, last_words(folder / "output.log", code))
        elif code:
            ended = self.study.tell(trial, state=TrialState.PRUNED)
        else:
            ended = self.study.tell(trial, max(reported.values()))
        # The weights of a trial are not needed any more: the best one is trained anew from its config.
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
        return ended

    def _take_up(self) -> None:
        """Queue the points of trials whose process is gone, to be tried again."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            name = trial.user_attrs.get(_FOLDER)
            lock = self.folder / "trials" / str(name) / ".lock"
            if name and lock.exists():
                try:
                    with locked(lock):
                        pass
                except BlockingIOError:
                    continue
            self.study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                self.study.enqueue_trial(trial.params, user_attrs={_FOLDER: name} if name else None)

    def _failed(self, trial: "optuna.Trial", reason: str) -> "optuna.trial.FrozenTrial":
        """End a trial that failed (by too little memory, say) as pruned, so that the sampler avoids its point.

        Before any trial has completed, it is not counted: the cause may be something that all trials share.
        """
        from optuna.trial import TrialState

        trial.set_user_attr(_FAILURE, reason)
        if self.study.get_trials(states=(TrialState.COMPLETE,)):
            return self.study.tell(trial, state=TrialState.PRUNED)
        ended = self.study.tell(trial, state=TrialState.FAIL)
        failed = [
            earlier for earlier in self.study.get_trials(states=(TrialState.FAIL,)) if _FAILURE in earlier.user_attrs
        ]
        if len(failed) >= _MOST_FAILURES:
            raise RunError(f"{self.folder}: {len(failed)} trials failed and none has completed; the last: {reason}")
        return ended

    def _sampler(self, count: int) -> Any:
        import optuna

        # The seed depends on the number of trials: a resumed tuning does not draw its first points again.
        seed = (self.base.seed + count) % 2**32
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, multivariate=False, constant_liar=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out of the files that all of them read and write."""
        with locked(self.folder / ".lock", waiting=f"{self.folder}: waiting for another process"):
            yield

    def _record(self) -> None:
        path = self.folder / _SETTINGS
        space = {"sizes": list(self.space.sizes), "batches": list(self.space.batches)}
        if not path.exists():
            write_whole(path, json.dumps({"space": space, "config": config_files.to_dict(self.base)}, indent=1) + "\n")
            return
        try:
            there = json.loads(path.read_text())
            old, narrowed = config_files.from_dict(there["config"]), dict(there["space"])
        except (ValueError, KeyError, TypeError, ConfigError) as error:
            raise RunError(f"{path}: not a tuning's settings ({error}); give a new folder") from error
        difference = fingerprints.difference({"space": narrowed}, {"space": space})
        difference = difference or config_files.difference(old, self.base)
        fingerprints.refuse_other(self.folder, difference, holds="tuning")


def _scores(run: Path, config: Config) -> Iterator[tuple[int, float]]:
    for step, figures in read_figures(run, validation_figures(SCALES[config.data.scale])):
        yield step, getattr(figures, config.train.best_by)
