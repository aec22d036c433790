"""A tiny real dataset, its configuration file, and jaxcd's entries as real processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from jaxcd.scenes.simulator import cut_tiles, simulate

# Sized so that a step takes a fraction of a second: what is tested is the run, not the network.
_CONFIG = """
from jaxcd.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig


def get_config():
    return Config(
        data=DataConfig(root={root!r}, cache={cache!r}, layout="folders", crop=64),
        model=ModelConfig(name="fc_siam_diff", size="small", dropout=0.1),
        loss=LossConfig(dice=1.0, bce=1.0),
        augment=AugmentConfig(blur=0, clahe=0, iso_noise=0),
        optim=OptimConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=2),
        train=TrainConfig(batch=4, steps=24, validate_every=12, checkpoint_every=3, log_every=1, devices=1),
    )
"""


def write_project(folder: Path) -> Path:
    """Write `tiles/` (a 512² scene in 16 tiles of 128²) and `config.py`; returns the config file."""
    cut_tiles(simulate(folder / "scene", seed=1, size=512), folder / "tiles", tile=128)
    config = folder / "config.py"
    config.write_text(_CONFIG.format(root=str(folder / "tiles"), cache=str(folder / "datasets")))
    return config


def start(module: str, *arguments: object) -> subprocess.Popen[str]:
    """Start `python -m module arguments`, its output in one pipe."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def run(module: str, *arguments: object) -> tuple[int, str]:
    """Run it to its end; returns exit code and output."""
    process = start(module, *arguments)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


def weights(run_folder: Path, step: int) -> list[np.ndarray]:
    """All arrays of a checkpoint, in order of their names."""
    items = (tree(run_folder, step, item) for item in ("params", "stats", "opt_state"))
    return [array for item in items for arrays in item.values() for array in arrays]


def tree(run_folder: Path, step: int, item: str) -> dict[str, list[np.ndarray]]:
    """The arrays of an item of a checkpoint, by its first level's names."""
    import jax
    import orbax.checkpoint as ocp

    saved = ocp.StandardCheckpointer().restore((run_folder / "checkpoints" / str(step) / item).absolute())
    parts = saved if isinstance(saved, dict) else {str(i): part for i, part in enumerate(saved)}
    return {name: [np.asarray(leaf) for leaf in jax.tree.leaves(part)] for name, part in parts.items()}
