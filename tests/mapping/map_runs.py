"""Runs that are there without training, and scenes to map with them."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxcd import models
from jaxcd.config import Config, DataConfig, ModelConfig, TrainConfig
from jaxcd.config import files as config_files
from jaxcd.learn import steps
from jaxcd.runs.checkpoints import Checkpoints
from tests.scenes.scene_files import ground, write


def config(name: str, size: str, *, devices: int = 1, scale: str = "binary") -> Config:
    """The configuration of a run of random weights."""
    return Config(
        data=DataConfig(root="none", layout="folders", scale=scale),
        model=ModelConfig(name=name, size=size),
        train=TrainConfig(steps=1, devices=devices),
    )


def lively(wanted: Config) -> tuple[models.Network, dict, dict]:
    """A network of random weights and statistics whose probabilities spread: the untrained one says 0.5 everywhere."""
    network, params, stats = steps.build_network(wanted)
    rng = np.random.default_rng(0)
    # As wide as He's: what begins with the reference's narrower weights says 0.5 everywhere after many layers.
    params = jax.tree.map(lambda x: (2 / np.prod(x.shape[:3])) ** 0.5 / jnp.std(x) * x if x.ndim == 4 else x, params)
    stats = jax.tree.map(lambda x: x + 0.1 * rng.random(x.shape).astype(np.float32), stats)
    return network, params, stats


def graded_run(folder: Path) -> Path:
    """Write a run of the scale `xbd` whose network gives every level somewhere."""
    wanted = config("fc_siam_diff", "small", scale="xbd")
    _, params, _ = lively(wanted)
    last = params["decoder"]["blocks"][2][0]["conv"]
    last["kernel"], last["bias"] = 8 * last["kernel"], jnp.array([-1.0, 1.0, 1.0, 1.0])
    return write_run(folder, wanted, params=params)


def write_run(folder: Path, wanted: Config, *, params: dict | None = None) -> Path:
    """Write a run folder whose one checkpoint holds a lively network, or one of given parameters."""
    _, own, stats = lively(wanted)
    params = params or own
    folder.mkdir(parents=True)
    config_files.write(wanted, folder / "config.json")
    checkpoints = Checkpoints(folder, create=True)
    state = steps.TrainState(jnp.zeros((), jnp.int32), params, stats, {})
    checkpoints.save(state, meta={"batches": 0, "threshold": None, "validation_due": False}, score=None)
    checkpoints.close()
    return folder


def write_scenes(folder: Path, height: int, width: int, **profile: object) -> tuple[Path, Path]:
    """Write a pair of one grid of which a part has changed."""
    before, after = (ground(seed, height, width) for seed in (1, 2))
    after = np.where((np.indices((height, width)).sum(0) // 64 % 3 == 0)[..., None], after, before)
    return write(folder / "pre.tif", before, **profile), write(folder / "post.tif", after, **profile)
