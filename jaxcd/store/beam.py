"""Builds on Apache Beam: the same jobs and records as with a pool of processes, on many machines.

All machines see the dataset's folder under one path, and stage its shards there. The package is an extra that needs an
environment of its own.
"""

import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxcd.base import errors
from jaxcd.base.files import write_whole

_FAILED = "failed"


def _pipeline_arguments(runner: str, options: str) -> tuple[str, Any]:
    """Return runner and options as Beam takes them.

    Raises:
        ConfigError: Beam is missing, or does not know the runner.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]
        from apache_beam.runners import create_runner  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise errors.ConfigError(
            "--beam_runner: Apache Beam is missing here; pip install 'jaxcd[beam]' in an environment of its own"
        ) from error
    try:
        create_runner(runner)
    except (ValueError, ImportError) as error:
        raise errors.ConfigError(f"--beam_runner {runner}: not one of Beam's ({str(error).splitlines()[0]})") from error
    return runner, PipelineOptions(shlex.split(options))


def runs_all(runner: str, options: str) -> Callable[..., None]:
    """Return a function that runs jobs on Beam, called as `jaxcd.store.build.run_all` is."""
    name, how = _pipeline_arguments(runner, options)
    import apache_beam as beam  # pyright: ignore[reportMissingImports]

    def run_all(
        jobs: Sequence[tuple], sizes: Sequence[int], *, total: int, title: str, unit: str, folder: Path
    ) -> None:
        failed = folder / _FAILED
        shutil.rmtree(failed, ignore_errors=True)
        failed.mkdir(parents=True)
        print(f"{title}: {sum(sizes)} of {total} {unit}s, {len(jobs)} jobs on {name}", flush=True)
        with beam.Pipeline(name, options=how) as pipeline:
            numbered = pipeline | beam.Create([(i, *job) for i, job in enumerate(jobs)]) | beam.Reshuffle()
            _ = numbered | beam.Map(_run, failed=str(failed))
        first = min(failed.iterdir(), default=None)
        if first is not None:
            kind, _, message = first.read_text().partition("\n")
            kinds = {error.__name__: error for error in errors.JaxcdError.__subclasses__()}
            shutil.rmtree(failed)
            raise kinds[kind](message)
        shutil.rmtree(failed)

    return run_all


def _run(job: tuple, *, failed: str) -> None:
    number, function, *arguments = job
    try:
        function(*arguments)
    except errors.JaxcdError as error:  # the message to the user must not drown in Beam's traces
        write_whole(Path(failed) / f"{number:08}", f"{type(error).__name__}\n{error}")
