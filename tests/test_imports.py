"""Imports run one way, as docs/design.md draws the house; a bare accelerator machine can build and run a network."""

import os
import subprocess
import sys
from pathlib import Path

import imports
import pytest

from jaxcd.config import DataConfig
from jaxcd.simulator import cut_tiles, simulate
from jaxcd.store.build import build

ROOT = Path(__file__).resolve().parents[1]

# Bare: jax, flax, optax, orbax, numpy and jaxtyping, with what these bring along.
BLOCKED = ["rasterio", "grain", "tensorflow_datasets", "cv2", "torch", "tensorflow", "array_record"]
BLOCKED += ["shapely", "pyogrio", "geopandas", "matplotlib", "PIL", "tensorboard", "tqdm"]


def test_no_import_runs_uphill_and_no_room_is_crowded():
    house = imports.read(ROOT)
    assert house.violations == [] and imports.too_large(house) == []
    assert house.layers["base"] == 1 and house.layers["feed"] > house.layers["store"] > house.layers["sources"]
    assert list(house.modules) == list(imports.ROOMS)


def test_each_room_and_each_arrow_is_drawn():
    done = subprocess.run([sys.executable, "tools/imports.py"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    rooms = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert list(rooms) == list(imports.ROOMS)
    assert rooms["feed"].endswith("imports base, config, store") and "layer 1 " in rooms["base"]


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("scenes/raster.py", "import jax.numpy as jnp", "scenes must not import jax"),
        ("scenes/pairs.py", "from jaxcd.feed import loader", "scenes must not import feed"),
        ("scenes/pairs.py", "from ..feed import loader", "scenes must not import feed"),
        ("scenes/__init__.py", "from .. import feed", "scenes must not import feed"),
        ("feed/loader.py", "def f():\n    from jaxcd import learn", "feed must not import learn"),
        ("models/unet.py", "from jaxcd.learn.losses import dice", "models must not import learn"),
        ("models/unet.py", "import cv2", "models must not import cv2"),
        ("learn/steps.py", "from grain import python", "learn must not import grain"),
        ("runs/logs.py", "from jaxcd.feed import loader", "runs must not import feed"),
        ("runs/logs.py", "from tqdm import tqdm", "a bare machine has no tqdm"),
        ("learn/steps.py", "from jaxcd import train", "nothing imports an entry"),
        ("mapping/products/cells.py", "from jaxcd.feed import loader", "mapping must not import feed"),
        ("config/files.py", "from jaxcd.models import create", "config must not import models"),
        ("import_torch.py", "def f():\n    import torch", "entry must not import torch"),
        ("models/weights.py", "def f():\n    import torch", "models must not import torch"),
        ("train.py", "import jaxcd.evaluate", "nothing imports an entry"),
        ("garage/car.py", "import os", "has no room"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, source, message):
    for name in ("__init__", "train", "evaluate", "feed/__init__", "feed/loader", "learn/__init__"):
        (tmp_path / "jaxcd" / name).with_suffix(".py").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "jaxcd" / name).with_suffix(".py").touch()
    assert imports.read(tmp_path).violations == []
    planted = tmp_path / "jaxcd" / file
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(source + "\n")
    (violation,) = imports.read(tmp_path).violations
    assert violation.startswith(f"jaxcd/{file}") and message in violation


def test_a_crowded_folder_and_a_tower_are_told(tmp_path):
    (tmp_path / "jaxcd/scenes").mkdir(parents=True)
    for k in range(13):
        (tmp_path / f"jaxcd/scenes/m{k}.py").touch()
    assert imports.too_large(imports.read(tmp_path)) == ["jaxcd.scenes has 13 modules, more than 12"]


def test_what_is_allowed_passes(tmp_path):
    (tmp_path / "jaxcd/models").mkdir(parents=True)
    (tmp_path / "jaxcd/import_torch.py").write_text("import jaxcd.tasks.loop\n")
    (tmp_path / "jaxcd/models/unet.py").write_text("from . import blocks\nfrom ..base.types import Batch\nimport jax\n")
    assert imports.read(tmp_path).violations == []


def test_networks_and_training_run_on_a_bare_machine():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for part in ("models", "learn", "runs")
        for path in sorted((ROOT / "jaxcd" / part).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    assert "jaxcd.models.unet" in modules and "jaxcd.learn.losses" in modules
    script = f"""
import importlib, sys
for name in {BLOCKED!r}:
    sys.modules[name] = None  # an import of it raises ModuleNotFoundError
for name in {modules!r}:
    importlib.import_module(name)
import jax.numpy as jnp
from flax import nnx
from jaxcd import models
images = jnp.zeros((1, 32, 32, 3))
print(models.create("fc_siam_diff", size="small", rngs=nnx.Rngs(0))(images, images).shape)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 32, 32)"


@pytest.mark.slow
def test_training_and_evaluating_on_a_built_dataset_need_what_is_carried(tmp_path):
    """Beyond jax and the like, `tools/carry_packages.txt` is all: no geography, no OpenCV."""
    carried = (ROOT / "tools" / "carry_packages.txt").read_text().splitlines()
    left = ("rasterio", "affine", "pyogrio", "geopandas", "pandas", "pyarrow", "cv2", "torch", "sklearn", "optuna")
    assert not set(left) & set(carried) and {"grain", "zstandard", "shapely"} <= set(carried)
    cut_tiles(simulate(tmp_path / "scene", seed=1, size=512), tmp_path / "tiles", tile=128)
    build(DataConfig(root=str(tmp_path / "tiles"), layout="folders"), tmp_path / "dataset")
    (tmp_path / "config.py").write_text(
        "from jaxcd.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, TrainConfig\n\n\n"
        "def get_config():\n"
        "    return Config(data=DataConfig(root='dataset', layout='prepared', crop=64), loss=LossConfig(dice=1.0),\n"
        "        augment=AugmentConfig.off(), model=ModelConfig(size='small'),\n"
        "        train=TrainConfig(batch=4, steps=2, validate_every=2, devices=1))\n"
    )
    script = f"""
import runpy, sys
for name in {left!r}:
    sys.modules[name] = None
for arguments in (
    ["jaxcd.train", "--config", "config.py", "--workdir", "run"],
    ["jaxcd.evaluate", "--run", "run", "--split", "test", "--out", "results"],
):
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert not ended.code, arguments
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "metrics.json").is_file()
