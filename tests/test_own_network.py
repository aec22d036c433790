"""A network of one's own, in a folder of one's own: jaxcd trains, resumes, maps, tunes and measures it by its name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from flax import nnx

from jaxcd import models
from jaxcd.base.errors import ConfigError
from tests.entries import run
from tests.mapping.map_runs import write_scenes

ROOT = Path(__file__).resolve().parents[1]
NETWORK = """
import jax
import jax.numpy as jnp
from flax import nnx

from jaxcd.models import DamageNetwork, Description


class Encoder(nnx.Module):
    def __init__(self, width, rngs):
        self.conv = nnx.Conv(3, width, (3, 3), rngs=rngs)

    def __call__(self, images, *, key=None):
        skip = jax.nn.relu(self.conv(images))
        return (skip,), skip[:, ::2, ::2]


class Toy(DamageNetwork):
    sizes = ("thin", "wide")

    def __init__(self, size, *, dropout, dtype, rngs):
        self.encoder, width = self.make_encoder(size, dropout=dropout, dtype=dtype, rngs=rngs)
        self.out = nnx.Conv(width, 1, (3, 3), rngs=rngs)

    @classmethod
    def describe(cls, size):
        return Description(stride=2, receptive_radius=2, pairs_compared=1)

    @classmethod
    def make_encoder(cls, size, *, dropout, dtype, rngs):
        width = {"thin": 4, "wide": 8}[size]
        return Encoder(width, rngs), width

    def __call__(self, pre, post, *, key=None):
        (before,), _ = self.encoder(pre)
        (after,), _ = self.encoder(post)
        return self.out(jnp.abs(after - before))[..., 0].astype(jnp.float32)
"""


@pytest.fixture
def network(tmp_path, monkeypatch) -> str:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "toy_network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path / "own")
    monkeypatch.delitem(sys.modules, "toy_network", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "own"))  # of processes that are started
    return "toy_network:Toy"


@pytest.mark.slow
def test_it_is_trained_resumed_evaluated_mapped_and_tuned(project, network, tmp_path):
    wanted = f"--config.model.name={network}", "--config.model.size=thin"
    training = "--config", project, *wanted, "--workdir", tmp_path / "run"
    code, output = run("jaxcd.train", *training)
    assert code == 0 and "finished 12 steps" in output, output
    code, output = run("jaxcd.train", *training)
    assert code == 0 and "going on from step 12 of 12" in output, output

    code, output = run("jaxcd.evaluate", "--run", tmp_path / "run", "--out", tmp_path / "results")
    assert code == 0 and (tmp_path / "results" / "metrics.json").is_file(), output

    pre, post = write_scenes(tmp_path, 150, 200)
    scenes = "--pre", pre, "--post", post, "--window", 64
    code, output = run("jaxcd.predict", "--run", tmp_path / "run", *scenes, "--out", tmp_path / "map")
    assert code == 0, output
    map_summary = json.loads((tmp_path / "map" / "summary.json").read_text())
    assert map_summary["network"]["name"] == network and map_summary["network"]["halo"] == 2

    trials = "--batches=4", "--trials=1", "--workdir", tmp_path / "tuned"
    code, output = run("jaxcd.tune", "--config", project, *wanted, *trials)
    assert code == 0, output
    assert json.loads((tmp_path / "tuned" / "settings.json").read_text())["space"]["sizes"] == ["thin", "wide"]


@pytest.mark.slow
def test_its_speed_is_measured(network, tmp_path):
    figures = tmp_path / "figures.json"
    measuring = [ROOT / "tools" / "benchmark.py", "--suite", "infer", "--model", network, "--size", "thin"]
    command = [sys.executable, *map(str, measuring), "--tile", "64", "--out", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(figures.read_text())["rows"]
    assert (row["side"], row["model"]) == ("jaxcd", network) and row["pairs_per_second"] > 0


@pytest.mark.slow
def test_an_encoder_of_ones_own_is_pretrained_and_taken_over_frozen(project, network, tmp_path):
    wanted = f"--config.model.name={network}", "--config.model.size=thin"
    contrast = "--config.task=contrastive", "--config.contrast.samples=4", "--workdir", tmp_path / "pretrained"
    code, output = run("jaxcd.train", "--config", project, *wanted, *contrast)
    assert code == 0, output
    frozen = f"--config.init.encoder_from={tmp_path / 'pretrained'}", "--config.freeze.encoder=True"
    code, output = run("jaxcd.train", "--config", project, *wanted, *frozen, "--workdir", tmp_path / "run")
    assert code == 0 and "the encoder begins as that of" in output, output


def test_a_network_of_one_output_learns_no_levels(network):
    with pytest.raises(
        ConfigError, match=r"toy_network:Toy takes no argument outputs, so it can only learn the scale binary"
    ):
        models.create(network, size="thin", outputs=4, rngs=nnx.Rngs(0))
