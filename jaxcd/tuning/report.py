"""The report of a tuning: trials, the best one as a config file, history and importance."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxcd.base.files import replacing
from jaxcd.config import Config
from jaxcd.config import files as config_files
from jaxcd.tuning.space import configured

if TYPE_CHECKING:
    import optuna

_FEWEST = 4  # trials that importances are estimated from


def write(folder: Path, base: Config, study: "optuna.Study") -> "optuna.trial.FrozenTrial | None":
    """Write `trials.csv`, `best.py`, `history.png` and `importance.png` as far as there are trials for them.

    Args:
        folder: of the tuning.
        base: what was tuned.
        study: its trials.

    Returns:
        The best trial, None where none is complete.
    """
    from optuna.trial import TrialState

    _write_trials(folder / "trials.csv", study)
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return None
    best = study.best_trial
    config_files.write_python(
        configured(base, best.params),
        folder / "best.py",
        about=f"The best of {len(complete)} complete trials: validation {base.train.best_by} {best.value:.4f}.\n\n"
        "    python -m jaxcd.train --config best.py --workdir RUN",
    )
    _plot_history(folder / "history.png", study, base)
    if (
        len(complete) >= _FEWEST and len({trial.value for trial in complete}) > 1
    ):  # else there is no variance to share out
        _plot_importance(folder / "importance.png", study)
    return best


def _write_trials(path: Path, study: "optuna.Study") -> None:
    names = sorted({name for trial in study.trials for name in trial.params})
    with replacing(path) as partial, partial.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["number", "folder", "state", "score", "validations", *names, "failure"])
        for trial in study.trials:
            score = "" if trial.value is None else f"{trial.value:.6f}"
            attributes = [trial.number, trial.user_attrs.get("folder", ""), trial.state.name.lower(), score]
            points = [trial.params.get(name, "") for name in names]
            rows.writerow([*attributes, len(trial.intermediate_values), *points, trial.user_attrs.get("failure", "")])


def _plot_history(path: Path, study: "optuna.Study", base: Config) -> None:
    from matplotlib.figure import Figure
    from optuna.trial import TrialState

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for state, marker, colour in ((TrialState.COMPLETE, "o", "tab:blue"), (TrialState.PRUNED, "x", "tab:gray")):
        ended = [(t.number, t.value) for t in study.trials if t.state == state and t.value is not None]
        numbers, scores = zip(*ended, strict=True) if ended else ((), ())
        axes.plot(numbers, scores, marker, color=colour, label=state.name.lower())
        if state == TrialState.COMPLETE:
            axes.step(numbers, np.maximum.accumulate(scores), where="post", color="tab:red", lw=1, label="best so far")
    axes.set(xlabel="trial", ylabel=f"validation {base.train.best_by}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)


def _plot_importance(path: Path, study: "optuna.Study") -> None:
    import optuna
    from matplotlib.figure import Figure

    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = dict(reversed(optuna.importance.get_param_importances(study, evaluator=evaluator).items()))
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(shares), list(shares.values()), color="tab:blue")
    axes.set(xlabel="share of the score's variance (fANOVA, complete trials)")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)
