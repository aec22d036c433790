"""A tiny real dataset, its configuration file, and jaxcd's entries, called here or started as processes."""

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from jaxcd.base.files import locked
from jaxcd.config import Config
from jaxcd.simulator import cut_tiles, simulate

if TYPE_CHECKING:
    from jaxcd.runs.figures import Figures

# A step takes a fraction of a second, and has little augmentation to compile: the run is tested, not the network.
# XLA's convolutions: a program with oneDNN's would be compiled anew by each test.
_CONFIG = """
from jaxcd.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig


def get_config():
    return Config(
        data=DataConfig(root={root!r}, cache={cache!r}, layout="folders", crop=64),
        model=ModelConfig(name="fc_siam_diff", size="small", dropout=0.1, onednn="off"),
        loss=LossConfig(dice=1.0, bce=1.0),
        augment=AugmentConfig(
            shift=0, scale=0, rotate=0, brightness=0, contrast=0, blur=0, clahe=0, gauss_noise=0, iso_noise=0
        ),
        optim=OptimConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=2),
        train=TrainConfig(batch=4, steps=12, validate_every=6, checkpoint_every=2, log_every=1, devices=1),
    )
"""
_MADE = "made"


class Finished(NamedTuple):
    """A run that came to its end.

    Attributes:
        folder: of the run.
        output: what it printed.
    """

    folder: Path
    output: str


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first of pytest's workers to come here makes, while the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f"{folder.name}.lock", waiting=f"waiting for {folder}"):
        if not (folder / _MADE).exists():
            make(folder)
            (folder / _MADE).touch()
    return folder


def write_project(folder: Path) -> None:
    """Write `tiles/` (a 512² scene in 16 tiles of 128²) and `config.py`, and build the dataset in `datasets/`."""
    from jaxcd.store.dataset import open_or_build

    cut_tiles(simulate(folder / "scene", seed=1, size=512), folder / "tiles", tile=128)
    config = folder / "config.py"
    config.write_text(_CONFIG.format(root=str(folder / "tiles"), cache=str(folder / "datasets")))
    open_or_build(read_config(config).data)


def read_config(file: Path) -> Config:
    """Return what a configuration file gives."""
    spec = importlib.util.spec_from_file_location("project", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def trained(config: Path, folder: Path) -> None:
    """Train to the end in `run/`, and keep what was printed in `output.txt`."""
    code, output = run("jaxcd.train", "--config", config, "--workdir", folder / "run")
    assert code == 0, output
    (folder / "output.txt").write_text(output)


def start(module: str, *arguments: object) -> subprocess.Popen[str]:
    """Start `python -m module arguments`, its output in one pipe."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def run(module: str, *arguments: object) -> tuple[int, str]:
    """Call an entry in this process, which spares its imports; returns exit code and output."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), process_state():
        try:
            code = importlib.import_module(module).main([*map(str, arguments)])
        except SystemExit as ended:
            code = ended.code
    return code, output.getvalue()


@contextlib.contextmanager
def process_state() -> Iterator[None]:
    """Put back what an entry sets for its whole process: handlers of signals, hooks and what libraries log."""
    from absl import logging as absl_logging

    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook, verbosity, rasterio = sys.unraisablehook, absl_logging.get_verbosity(), logging.getLogger("rasterio").level
    try:
        yield
    finally:
        for number, handler in signals.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        absl_logging.set_verbosity(verbosity)
        logging.getLogger("rasterio").setLevel(rasterio)


def run_process(module: str, *arguments: object) -> tuple[int, str]:
    """Run an entry as a process of its own, to its end; returns exit code and output."""
    process = start(module, *arguments)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def signal_at(patch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Let this process get a signal as soon as training has logged a step."""
    from jaxcd.runs.logs import RunLog  # imports jax, for which conftest has to set the environment first

    write = RunLog.write

    def writing(log: RunLog, at: int, figures: "Figures") -> None:
        write(log, at, figures)
        if (at, figures.kind) == (step, "train"):
            signal.raise_signal(number)

    patch.setattr(RunLog, "write", writing)


def score_as(patch: pytest.MonkeyPatch, scores: dict[int, float]) -> None:
    """Let the validations of damage networks in this process have the scores given for their steps."""
    from jaxcd.tasks.segmentation import Segmentation

    make = Segmentation.validator

    def making(task: Segmentation, *arguments: Any) -> Any:
        validate = make(task, *arguments)
        return lambda params, stats, step, watch: validate(params, stats, step, watch)._replace(score=scores[step])

    patch.setattr(Segmentation, "validator", making)


def weights(run_folder: Path, step: int) -> list[np.ndarray]:
    """All arrays of a checkpoint, in order of their names."""
    there = run_folder / "checkpoints" / str(step)
    names = [name for name in ("params", "stats", "opt_state", "averaged") if (there / name).is_dir()]
    items = (tree(run_folder, step, item) for item in names)
    return [array for item in items for arrays in item.values() for array in arrays]


def tree(run_folder: Path, step: int, item: str) -> dict[str, list[np.ndarray]]:
    """The arrays of an item of a checkpoint, by its first level's names."""
    import jax
    import orbax.checkpoint as ocp

    folder = (run_folder / "checkpoints" / str(step) / item).absolute()
    reader = ocp.PyTreeCheckpointer()
    # As numpy's: what several processes saved lies on devices that this one does not have.
    how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(folder).item_metadata.tree)  # type: ignore[union-attr]
    saved = reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=how))
    parts = saved if isinstance(saved, dict) else {str(i): part for i, part in enumerate(saved)}
    return {name: [np.asarray(leaf) for leaf in jax.tree.leaves(part)] for name, part in parts.items()}
