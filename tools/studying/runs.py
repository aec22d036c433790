"""The runs of a study: recorded, trained by `jaxcd.train` and evaluated by `jaxcd.evaluate`, gone on with."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaxcd.base import progress
from jaxcd.base.errors import ConfigError, RunError
from jaxcd.base.files import write_whole
from jaxcd.base.fingerprints import refuse_other
from jaxcd.base.processes import Children, last_words
from jaxcd.config import Config
from jaxcd.config import files as config_files
from jaxcd.learn.objectives import objective_of
from jaxcd.runs import run_folder
from jaxcd.runs.figures import METRICS
from jaxcd.runs.logs import read_log


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of the study.

    Attributes:
        name: of its folder.
        config: what is trained.
        needs: name of the pretraining whose encoder it begins with, or empty.
        also: flags of further evaluations beside that of its test split, by the folder of their results.
    """

    name: str
    config: Config
    needs: str = ""
    also: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def trains_maps(self) -> bool:
        """Whether it is evaluated."""
        return objective_of(self.config).maps


def record(out: Path, mark: str, here: Mapping[str, Config]) -> dict[str, Config]:
    """Record the settings, or check that they are those that the study began with; others may be added.

    Args:
        out: the study's folder.
        mark: name of the file that holds the settings.
        here: configurations by name.

    Returns:
        All configurations of the study, also those of an earlier call.

    Raises:
        RunError: the settings are others, or the folder is not a study's.
    """
    path = out / mark
    try:
        text = path.read_text() if path.exists() else "{}"
        there = {name: config_files.from_dict(values) for name, values in json.loads(text).items()}
    except (ValueError, AttributeError, ConfigError) as error:
        raise RunError(f"{path}: not a study's settings ({error}); give a new folder with --out") from error
    for name, config in here.items():
        difference = config_files.difference(there[name], config) if name in there else None
        refuse_other(out, difference and f"{name}: {difference}", holds="study")
    both = there | dict(here)
    write_whole(path, json.dumps({name: config_files.to_dict(config) for name, config in both.items()}, indent=1))
    return both


def run_all(out: Path, jobs: Sequence[Job], failures: dict[str, str]) -> None:
    """Train and evaluate each; `failures` receives why runs failed, by name."""
    for folder in ("configs", "runs", "results", "logs", *(folder for job in jobs for folder in job.also)):
        (out / folder).mkdir(exist_ok=True)
    with Children() as children, progress.bar(len(jobs), unit="run", title="study") as bar:

        def show(text: str) -> None:
            bar.set_postfix_str(text, refresh=sys.stderr.isatty())  # a log file has no use for a line a second

        for job in jobs:
            if job.needs in failures:
                failures[job.name] = f"its pretraining {job.needs} failed"
            else:
                reason = _run_one(out, job, children, show)
                if reason:
                    failures[job.name] = reason
                    bar.write(f"{job.name} failed: {reason}")
            bar.update()


def _run_one(out: Path, job: Job, children: Children, show: Callable[[str], None]) -> str:
    """Train and evaluate one run, as far as that is not done; returns why it failed, or nothing."""
    run, config = out / "runs" / job.name, out / "configs" / f"{job.name}.py"
    wanted = {**job.also, "results": ("--split", "test")} if job.trains_maps else {}
    left = {folder: flags for folder, flags in wanted.items() if not (out / folder / job.name / METRICS).exists()}
    done = run / ".done"
    if done.exists() or (wanted and not left):
        return ""
    config_files.write_python(
        job.config, config, about=f"Run {job.name} of a study.\n\n    python -m jaxcd.train --config FILE --workdir RUN"
    )
    commands = [["jaxcd.train", "--config", str(config), "--workdir", str(run)]]
    for folder, flags in left.items():
        commands.append(["jaxcd.evaluate", "--run", str(run), *flags, "--out", str(out / folder / job.name)])
    log = out / "logs" / f"{job.name}.log"
    run_folder.await_free(run, meanwhile=children.check)
    for command in commands:
        code = children.run(command, log, meanwhile=lambda: show(f"{job.name}, {_last_step(run)}"))
        if code:
            return last_words(log, code)
    if not job.trains_maps:
        done.touch()
    return ""


def _last_step(run: Path) -> str:
    entries = read_log(run)
    return f"step {entries[-1]['step']}" if entries else "starting"


def seeds_done(out: Path) -> int:
    """Return how many seeds have a result, of any row: the last part of a folder's name is its seed."""
    seeds = [int(folder.name.rpartition("-")[2]) for folder in (out / "results").glob("*-*")]
    return max(seeds, default=-1) + 1
