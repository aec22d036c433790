"""Imports run one way, as DESIGN draws the house; a bare accelerator machine can build and run a network."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jaxcd.config import DataConfig
from jaxcd.scenes.simulator import cut_tiles, simulate
from jaxcd.tiles.build import build

ROOT = Path(__file__).resolve().parents[1]

GROUND_FILES = ("types", "errors", "files", "processes", "progress", "config", "config_files", "config_scenes", "entry")
GROUND = ("jaxcd", *(f"jaxcd.{name}" for name in GROUND_FILES))
ENTRIES = tuple(
    f"jaxcd.{name}" for name in ("prepare", "train", "evaluate", "predict", "tune", "label", "import_torch")
)

# What each part may import of the house, itself included.
MAY_USE = {
    "ground": {"ground"},
    "scenes": {"ground", "scenes"},
    "tiles": {"ground", "scenes", "tiles"},
    "models": {"ground", "models"},
    "training": {"ground", "models", "training"},
    "tuning": {"ground", "training", "tuning"},
    "mapping": {"ground", "scenes", "models", "training", "mapping"},
    "entry": {"ground", "scenes", "tiles", "models", "training", "tuning", "mapping"},
}
NOT_BARE = {"rasterio", "grain", "tensorflow_datasets", "cv2", "ml_collections"}
MAY_NOT_USE = {"scenes": {"jax", "flax", "optax", "orbax"}, "models": NOT_BARE, "training": NOT_BARE}
# What they may need before a function of theirs is called.
BARE = {"jaxcd", "jax", "flax", "optax", "orbax", "etils", "numpy", "jaxtyping", *sys.stdlib_module_names}
NOWHERE = {"tensorflow", "sklearn", "tools", "tests", "configs"}

# Bare: jax, flax, optax, orbax, numpy and jaxtyping, with what these bring along.
BLOCKED = sorted(NOT_BARE | {"torch", "tensorflow", "array_record", "shapely", "pyogrio", "geopandas"})
BLOCKED += ["matplotlib", "PIL", "tensorboard", "tqdm"]


class Import(NamedTuple):
    line: int
    module: str
    lazy: bool


def part_of(module: str) -> str:
    """Name the part of the house a module of jaxcd is in."""
    if module in GROUND:
        return "ground"
    if module in ENTRIES:
        return "entry"
    return module.split(".")[1]


def imports_of(source: str, module: str, modules: set[str], is_package: bool) -> Iterator[Import]:
    """Yield every module a source imports, `from package import module` resolved to the module."""
    tree = ast.parse(source)
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, node in inside)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
                base = ".".join([*parents, base]).rstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(node.lineno, full if full in modules else base, node in inside)


def violations(root: Path) -> list[str]:
    """Check every module of the package under `root`; each violation is one line."""
    files = {}
    for path in sorted((root / "jaxcd").rglob("*.py")):
        names = path.relative_to(root).with_suffix("").parts
        files[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    found = []
    for module, path in files.items():
        part = part_of(module)
        where = path.relative_to(root)
        if part not in MAY_USE:
            found.append(f"{where}: {part!r} has no place in DESIGN's order of imports")
            continue
        for line, target, lazy in imports_of(path.read_text(), module, set(files), path.name == "__init__.py"):
            top = target.split(".")[0]
            if top in NOWHERE | MAY_NOT_USE.get(part, set()):
                found.append(f"{where}:{line}: {part} must not import {top}")
            elif part in ("models", "training") and not lazy and top not in BARE and top != "torch":
                found.append(f"{where}:{line}: a bare machine has no {top}: import it in the function that needs it")
            if top == "torch" and not (lazy and module == "jaxcd.import_torch"):
                found.append(f"{where}:{line}: torch belongs into a function of jaxcd/import_torch.py")
            if top == "jaxcd":
                used = part_of(target)
                if used == "entry" and target != module:
                    found.append(f"{where}:{line}: nothing imports an entry ({target})")
                elif used != "entry" and used not in MAY_USE[part]:
                    found.append(f"{where}:{line}: {part} must not import {used} ({target})")
    return found


def test_no_import_runs_uphill_or_around():
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("file", "source", "told"),
    [
        ("scenes/raster.py", "import jax.numpy as jnp", "scenes must not import jax"),
        ("scenes/pairs.py", "from jaxcd.tiles import loader", "scenes must not import tiles"),
        ("scenes/pairs.py", "from ..tiles import loader", "scenes must not import tiles"),
        ("scenes/__init__.py", "from .. import tiles", "scenes must not import tiles"),
        ("tiles/loader.py", "def f():\n    from jaxcd import training", "tiles must not import training"),
        ("models/unet.py", "from jaxcd.training.losses import dice", "models must not import training"),
        ("models/unet.py", "import cv2", "models must not import cv2"),
        ("training/loop.py", "from grain import python", "training must not import grain"),
        ("training/loop.py", "from jaxcd.tiles import loader", "training must not import tiles"),
        ("training/loop.py", "from tqdm import tqdm", "a bare machine has no tqdm"),
        ("training/loop.py", "from jaxcd import train", "nothing imports an entry"),
        ("config.py", "from jaxcd.models import create", "ground must not import models"),
        ("import_torch.py", "import torch", "torch belongs into a function"),
        ("models/weights.py", "def f():\n    import torch", "torch belongs into a function"),
        ("train.py", "import jaxcd.evaluate", "nothing imports an entry"),
        ("labelling/web.py", "import os", "has no place"),
    ],
)
def test_a_planted_violation_is_found(tmp_path, file, source, told):
    for name in ("__init__", "config", "train", "evaluate", "tiles/__init__", "tiles/loader", "training/__init__"):
        (tmp_path / "jaxcd" / name).with_suffix(".py").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "jaxcd" / name).with_suffix(".py").touch()
    assert violations(tmp_path) == []
    planted = tmp_path / "jaxcd" / file
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(source + "\n")
    (only,) = violations(tmp_path)
    assert only.startswith(f"jaxcd/{file}") and told in only


def test_what_is_allowed_passes(tmp_path):
    (tmp_path / "jaxcd/models").mkdir(parents=True)
    (tmp_path / "jaxcd/import_torch.py").write_text("import jaxcd.training.loop\ndef f():\n    import torch\n")
    (tmp_path / "jaxcd/models/unet.py").write_text("from . import blocks\nfrom ..types import Batch\nimport jax\n")
    assert violations(tmp_path) == []


def test_networks_and_training_run_on_a_bare_machine():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for part in ("models", "training")
        for path in sorted((ROOT / "jaxcd" / part).glob("*.py"))
        if path.name != "__init__.py"
    ]
    assert "jaxcd.models.unet" in modules and "jaxcd.training.losses" in modules
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
