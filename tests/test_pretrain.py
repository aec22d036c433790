"""Pretraining and transfer as a user does them: the entry, real processes, what lies in the folders."""

import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxcd import evaluate, train
from jaxcd.runs import inference, run_folder
from jaxcd.runs.logs import read_log
from tests.entries import run, signal_at, tree, weights

PRETRAINING = (
    "--config.task=contrastive",
    "--config.train.steps=6",
    "--config.train.validate_every=3",
    "--config.contrast.samples=12",
    "--config.optim.ema=0.5",
)


@pytest.fixture(scope="module")
def pretrained(project, tmp_path_factory) -> tuple[Path, str]:
    """A pretraining that was never interrupted, and what it printed."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    code, output = run("jaxcd.train", "--config", project, *PRETRAINING, "--workdir", folder)
    assert code == 0, output
    return folder, output


def _fails(capsys, entry, *arguments: object) -> str:
    assert entry.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


def _stopped(folder: Path, *arguments: object, step: int) -> None:
    """Train until a signal ends it after a step."""
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, step, signal.SIGTERM)
        code, output = run("jaxcd.train", *arguments, "--workdir", folder)
    assert code == 143 and f"stopped at step {step}, all saved" in output, output


def test_a_pretraining_leaves_what_it_promises(pretrained):
    folder, output = pretrained
    assert f"begin a damage network with its encoder: --config.init.encoder_from={folder}" in output
    assert "WARNING: validation crops come from 3 places" in output
    assert "nearest neighbour 0." in output or "nearest neighbour 1." in output
    pictures = sorted(path.name for path in (folder / "embeddings").iterdir())
    assert pictures == ["step_0000003.png", "step_0000006.png"]
    assert np.asarray(Image.open(folder / "embeddings" / pictures[0])).std() > 10
    validations = [entry for entry in read_log(folder) if entry["kind"] == "validation"]
    assert [entry["step"] for entry in validations] == [3, 6]
    for entry in validations:
        assert 0 <= entry["nearest_neighbour"] <= 1 and 0 <= entry["linear_probe"] <= 1
        for kind in ("same", "different"):  # 12 pairs, half of which show damage
            counts = entry[f"{kind}_distances"]["counts"]
            assert sum(counts) == 6 and entry[f"{kind}_distances"]["high"] == 4.0
            reach = 4.0 * np.flatnonzero(counts)[[0, -1]] / 40
            assert reach[0] <= entry[f"{kind}_distance"] <= reach[1] + 0.1
    best = min(validations, key=lambda entry: entry["loss"])["step"]
    assert set(os.listdir(folder / "checkpoints")) == {str(best), "6"}
    assert (folder / "curves.png").stat().st_size > 10_000 and not (folder / "panels").exists()


def test_tensorboard_shows_the_histograms(pretrained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(pretrained[0] / "tensorboard"), {"histograms": 0}).Reload()
    (first, _) = events.Histograms("validation/same_distances")
    assert first.step == 3 and first.histogram_value.num == 6
    assert [e.step for e in events.Scalars("validation/linear_probe")] == [3, 6]


def test_an_interrupted_pretraining_ends_bit_for_bit_as_one_never_interrupted(project, pretrained, tmp_path):
    folder = tmp_path / "interrupted"
    arguments = "--config", project, *PRETRAINING
    _stopped(folder, *arguments, step=2)
    code, output = run("jaxcd.train", *arguments, "--workdir", folder)
    assert code == 0 and "going on from step" in output, output
    for a, b in zip(weights(folder, 6), weights(pretrained[0], 6), strict=True):
        np.testing.assert_array_equal(a, b)
    entries = [[(e["step"], e["kind"], e["loss"]) for e in read_log(f)] for f in (folder, pretrained[0])]
    assert entries[0] == entries[1]


@pytest.fixture(scope="module")
def thawed(project, pretrained, tmp_path_factory) -> tuple[tuple[str, ...], Path]:
    """Flags of a run whose pretrained encoder is frozen for 6 of 12 steps, and such a run."""
    flags = (
        f"--config.init.encoder_from={pretrained[0]}",
        "--config.freeze.encoder=True",
        "--config.freeze.until=6",
        "--config.train.steps=12",
        "--config.train.validate_every=6",
        "--config.optim.ema=0.9",
    )
    folder = tmp_path_factory.mktemp("thawed") / "run"
    code, output = run("jaxcd.train", "--config", project, *flags, "--workdir", folder)
    assert code == 0, output
    assert "the encoder begins as that of" in output and "step 6: the encoder learns from here on" in output
    return flags, folder


def _encoder(folder: Path, step: int) -> list[np.ndarray]:
    return [leaf for item in ("params", "stats") for leaf in tree(folder, step, item)["encoder"]]


def _used(folder: Path) -> tuple[list[np.ndarray], int]:
    """The encoder that all that uses a run sees, here the averages, and its step."""
    trained = inference.load(run_folder.read_config(folder), folder)
    leaves = jax.tree.leaves((trained.params["encoder"], trained.stats["encoder"]))
    return [np.asarray(leaf) for leaf in leaves], trained.step


def _given(pretraining: Path) -> list[np.ndarray]:
    """The encoder that other runs begin with: the averages, at the best validation."""
    leaves, step = _used(pretraining)
    best = min((e for e in read_log(pretraining) if e["kind"] == "validation"), key=lambda e: e["loss"])["step"]
    assert step == best
    raw = _encoder(pretraining, best)
    assert sum(not np.array_equal(a, b) for a, b in zip(leaves, raw, strict=True)) > 10
    return leaves


@pytest.mark.slow
def test_a_thawed_encoder_has_learned(pretrained, thawed):
    before, after = _given(pretrained[0]), _encoder(thawed[1], 12)
    assert len(before) == len(after) > 10
    assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True) if a.size > 16)


@pytest.mark.slow
def test_a_run_is_gone_on_with_before_and_after_its_thaw(project, pretrained, thawed, tmp_path):
    flags, never = thawed
    folder = tmp_path / "thawed_in_parts"
    arguments = "--config", project, *flags
    _stopped(folder, *arguments, step=3)
    averages, step = _used(folder)
    assert step == 3
    for given, raw, averaged in zip(_given(pretrained[0]), _encoder(folder, 3), averages, strict=True):
        np.testing.assert_array_equal(given, raw)
        np.testing.assert_array_equal(given, averaged)
    _stopped(folder, *arguments, step=9)
    code, output = run("jaxcd.train", *arguments, "--workdir", folder)
    assert code == 0, output
    for a, b in zip(weights(folder, 12), weights(never, 12), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_does_not_fit_is_refused_and_leaves_nothing(project, pretrained, tmp_path, capsys):
    source = f"--config.init.encoder_from={pretrained[0]}"
    for flags, message in (
        ((source, "--config.data.split_seed=7"), "that this run holds out, r0"),
        (
            (source, "--config.model.name=fc_ef"),
            "does not fit fc_ef small: blocks/0/0/conv/kernel is (3, 3, 3, 16) there",
        ),
        ((f"--config.init.encoder_from={tmp_path / 'nothing'}",), "not a run"),
        ((*PRETRAINING, "--config.train.batch=3"), "config.train.batch: expected a multiple of 2"),
    ):
        error = _fails(capsys, train, "--config", project, *flags, "--workdir", tmp_path / "r")
        assert message in error, error
        assert not (tmp_path / "r" / "checkpoints").exists() or not os.listdir(tmp_path / "r" / "checkpoints")
    error = _fails(capsys, evaluate, "--run", pretrained[0], "--out", tmp_path / "o")
    assert f"{pretrained[0]}: a network of task contrastive maps no damage" in error and not (tmp_path / "o").exists()


@pytest.mark.slow
def test_freezing_a_random_encoder_or_for_ever_is_warned_of(project, pretrained, tmp_path, capsys):
    flags = "--config.freeze.encoder=True", "--config.freeze.until=3", "--config.train.steps=1"
    assert train.main(["--config", str(project), *flags, "--workdir", str(tmp_path / "r")]) == 0
    error = capsys.readouterr().err
    assert "WARNING: config.freeze.encoder without config.init.encoder_from" in error
    assert "WARNING: config.freeze.until=3 is no step of this run, which has 1" in error
