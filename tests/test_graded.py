"""Graded damage from tiles to metrics: trained, interrupted, evaluated in its own scale and in a coarser one."""

import json
import shutil
import signal

import jax
import numpy as np
import pytest
from PIL import Image

from jaxcd.learn import steps
from tests.entries import read_config, run, signal_at, tree, weights
from tests.sources.tile_sources import write_folders, write_xbd, xbd_label

_CONFIG = """
from jaxcd.config import AugmentConfig, Config, DataConfig, LossConfig, ModelConfig, OptimConfig, TrainConfig


def get_config():
    return Config(
        data=DataConfig(root={root!r}, cache={cache!r}, layout="xbd", scale="xbd", crop=32),
        model=ModelConfig(name="fc_siam_diff", size="small", onednn="off"),
        loss=LossConfig(dice=1.0, bce=1.0, level_weights=(1.0, 1.0, 2.0, 2.0, 1.0)),
        augment=AugmentConfig.off(),
        optim=OptimConfig(learning_rate=1e-3),
        train=TrainConfig(batch=4, steps=8, validate_every=4, best_by="xview2", log_every=1, devices=1),
    )
"""
_LEVELS = ("no-damage", "minor-damage", "major-damage", "destroyed", "un-classified")


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A config file, tiles with buildings of all levels beside it, and a finished run."""
    folder = tmp_path_factory.mktemp("graded")
    for i in range(8):
        label = xbd_label([((4, 12 * k, 24, 12 * k + 8), level) for k, level in enumerate(_LEVELS)])
        write_xbd(folder / "tiles", f"town_{i:03}", label, seed=i)
    (folder / "config.py").write_text(_CONFIG.format(root=str(folder / "tiles"), cache=str(folder / "cache")))
    code, output = run("jaxcd.train", "--config", folder / "config.py", "--workdir", folder / "run")
    assert code == 0, output
    return folder, output


def test_a_run_tells_levels_and_logs_their_scores(graded):
    folder, output = graded
    assert "intact 3.906%, minor 3.906%, major 3.906%, destroyed 3.906%" in output
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    validations = [entry for entry in log if entry["kind"] == "validation"]
    assert [entry["step"] for entry in validations] == [4, 8]
    for entry in validations:
        assert entry["xview2"] == pytest.approx(0.3 * entry["localisation"] + 0.7 * entry["damage"])
        assert f"xView2 score {entry['xview2']:.4f}" in output


def test_an_evaluation_has_a_table_of_levels(graded, tmp_path):
    code, output = run("jaxcd.evaluate", "--run", graded[0] / "run", "--split", "test", "--out", tmp_path)
    assert code == 0, output
    levels = json.loads((tmp_path / "metrics.json").read_text())["levels"]
    assert levels["scale"] == "xbd" and levels["absent"] == []
    assert levels["confusion"]["codes"] == ["ground", "intact", "minor", "major", "destroyed"]
    pixels = np.array(levels["confusion"]["pixels"])
    tiles = pixels.sum() / 64**2
    # Rows are true codes, the last one buildings of unknown level: 20 x 8 pixels a building (the last one is cut).
    assert tiles in (1, 2) and pixels[1:5].sum(axis=1).tolist() == [160 * tiles] * 4 and pixels[5].sum() == 160 * tiles
    assert f"xView2 score {levels['xview2']:.4f}" in output and "unknown level" in output
    # Six columns of pictures, and a line that names the colours.
    with Image.open(tmp_path / "worst.png") as picture:
        assert picture.width == 6 * 384 + 5 * 4


def test_it_is_evaluated_on_labels_of_a_coarser_scale(graded, tmp_path):
    write_folders(tmp_path / "tiles", 3)
    data = ("--data", tmp_path / "tiles", "--layout", "folders", "--cache", tmp_path / "cache", "--out", tmp_path)
    code, output = run("jaxcd.evaluate", "--run", graded[0] / "run", *data, "--scale", "binary")
    assert code == 0, output
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"positive_unlabelled", "0.5", "best"}
    code, output = run("jaxcd.evaluate", "--run", graded[0] / "run", *data, "--scale", "ems98")
    assert code == 2 and "--scale: levels of the run's scale xbd are not defined in ems98" in output
    data = ("--data", graded[0] / "tiles", "--cache", tmp_path / "cache", "--out", tmp_path)
    code, output = run("jaxcd.evaluate", "--run", graded[0] / "run", *data, "--scale", "buildings")
    assert code == 0, output
    pixels = np.array(json.loads((tmp_path / "metrics.json").read_text())["levels"]["confusion"]["pixels"])
    assert pixels.shape == (4, 3) and pixels[1:3].sum(axis=1).tolist() == [8 * 320] * 2


def test_a_run_on_several_datasets_is_evaluated_on_another(graded, tmp_path):
    shutil.copytree(graded[0] / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"] |= {"root": "/tiles/town,/tiles/village", "weights": [1.0, 2.0]}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    data = ("--data", graded[0] / "tiles", "--split", "all", "--cache", tmp_path / "cache", "--out", tmp_path / "out")
    code, output = run("jaxcd.evaluate", "--run", tmp_path / "run", *data)
    assert code == 0 and "8 tiles" in output, output


def test_a_run_that_was_stopped_ends_with_the_same_bits(graded, tmp_path):
    command = ("jaxcd.train", "--config", graded[0] / "config.py", "--workdir", tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, 3, signal.SIGTERM)
        assert run(*command)[0] == 128 + signal.SIGTERM
    assert run(*command)[0] == 0
    for first, second in zip(weights(graded[0] / "run", 8), weights(tmp_path / "run", 8), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
def test_an_encoder_is_pretrained_on_tiles_with_levels(graded, tmp_path):
    # Places whose buildings are all intact are the kind without damage, though they hold labels above 0.
    source = shutil.copytree(graded[0] / "tiles", tmp_path / "tiles")
    for i in range(6):
        write_xbd(source, f"intact_{i:03}", xbd_label([((4, 4, 60, 60), "no-damage")]), seed=40 + i)
    command = ("jaxcd.train", "--config", graded[0] / "config.py", "--workdir", tmp_path / "run")
    flags = ("--config.task=contrastive", "--config.train.best_by=iou", f"--config.data.root={source}")
    steps_of = ("--config.train.steps=2", "--config.train.validate_every=2", "--config.contrast.samples=6")
    code, output = run(*command, *flags, *steps_of)
    assert code == 0 and "finished 2 steps" in output, output


@pytest.mark.slow
def test_an_encoder_that_is_frozen_stays(graded, tmp_path):
    command = ("jaxcd.train", "--config", graded[0] / "config.py", "--workdir", tmp_path / "run")
    code, output = run(*command, "--config.freeze.encoder=true", "--config.train.accumulation=2")
    assert code == 0, output
    _, begun, _ = steps.build_network(read_config(graded[0] / "config.py"))
    ended = tree(tmp_path / "run", 8, "params")
    for one, other in zip(jax.tree.leaves(begun["encoder"]), ended["encoder"], strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(
        (one != other).any() for one, other in zip(jax.tree.leaves(begun["decoder"]), ended["decoder"], strict=True)
    )
