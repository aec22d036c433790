"""The worst false alarms: where they lie, how many of each event, and a killed run that goes on with them."""

import signal
import time
from pathlib import Path

import numpy as np
import pytest

from jaxcd.base.scales import BINARY
from jaxcd.feed.balance import Alarm
from jaxcd.runs.logs import read_log
from jaxcd.store.dataset import TileDataset
from jaxcd.store.manifest import Acquisition, LabelledAcquisition, Sample
from jaxcd.tasks.false_alarms import merged, worst_cells
from tests.entries import run, signal_at, start, tree, weights

# Rates and shares so high that alarms are found early, and change what is learned.
FLAGS = (
    "--config.data.balance=event",
    "--config.data.damage_share=0.4",
    "--config.data.false_alarm_share=0.5",
    "--config.train.search_every=4",
    "--config.train.checkpoint_every=1",
)


def test_the_worst_cells_are_where_intact_ground_is_called_damage():
    probability = np.zeros((100, 70), np.float32)
    probability[40:60, 10:20] = 0.9  # cell (1, 0): 200 of 1024 pixels
    probability[96:100, 64:70] = 1.0  # cell (3, 2), at the tile's corner: 24 of 1024 pixels, just enough
    probability[0:4, 32:36] = 1.0  # cell (0, 1): 16 pixels, too few
    probability[70:90, 40:60] = 1.0  # cell (2, 1): damage and what lies within 8 pixels of it
    damaged = np.zeros((100, 70), bool)
    damaged[76:84, 46:54] = True
    intact = ~damaged
    found = worst_cells(probability, intact, damaged)
    assert [(y, x) for _, y, x in found] == [(48, 16), (112, 80)]
    assert found[0][0] == pytest.approx(0.9 * 200 / 1024) and found[1][0] == pytest.approx(24 / 1024)
    intact[40:60] = False  # of unknown class
    assert [(y, x) for _, y, x in worst_cells(probability, intact, damaged)] == [(112, 80)]


def test_the_worst_of_each_event_are_kept_whatever_the_order():
    image = LabelledAcquisition(name="a", date="", valid=1, damaged=0)
    samples = tuple(
        Sample(id=str(i), block=None, bounds=None, height=9, width=9, pre=(Acquisition(name="b", date=""),),
               post=(image,), event="storm" if i else "fire")
        for i in range(2)
    )  # fmt: skip
    dataset = TileDataset(scale=BINARY, samples=samples, _parts=(), _names=())
    found = [(0.5 - 0.001 * k, Alarm(1, 0, k, 0)) for k in range(100)] + [(0.1, Alarm(0, 0, 3, 3))]
    alarms = merged(found, dataset)
    assert alarms == [Alarm(1, 0, k, 0) for k in range(96)] + [Alarm(0, 0, 3, 3)]
    assert merged(found[::-1], dataset) == alarms


@pytest.fixture(scope="module")
def never(project, tmp_path_factory) -> Path:
    """A run with searches that was not interrupted."""
    folder = tmp_path_factory.mktemp("never") / "run"
    code, output = run("jaxcd.train", "--config", project, *FLAGS, "--workdir", folder)
    assert code == 0, output
    assert output.count("false alarms found on the training tiles") == 2  # not at 0 and not at the end
    assert "step 4: 0 false" not in output
    return folder


@pytest.mark.slow
def test_a_run_killed_after_a_search_ends_bit_for_bit_as_one_never_interrupted(project, never, tmp_path):
    folder = tmp_path / "killed"
    process = start("jaxcd.train", "--config", project, *FLAGS, "--workdir", folder)
    until = time.monotonic() + 300
    while max((entry["step"] for entry in read_log(folder)), default=0) < 6 and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    code, output = run("jaxcd.train", "--config", project, *FLAGS, "--workdir", folder)
    assert code == 0 and "going on from step" in output and "step 8: " in output, output
    _same(folder, never)


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 5])
def test_a_run_stopped_at_a_search_or_after_it_searches_once_more_where_it_has_to(project, never, tmp_path, step):
    folder = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, step, signal.SIGTERM)
        code, _ = run("jaxcd.train", "--config", project, *FLAGS, "--workdir", folder)
    assert code == 128 + signal.SIGTERM
    code, output = run("jaxcd.train", "--config", project, *FLAGS, "--workdir", folder)
    assert code == 0 and ("step 4: " in output) == (step == 4), output
    _same(folder, never)


def test_what_is_found_changes_what_is_learned(project, never, tmp_path):
    flags = [flag for flag in FLAGS if "false_alarm" not in flag and "search" not in flag]
    code, _ = run("jaxcd.train", "--config", project, *flags, "--workdir", tmp_path / "without")
    assert code == 0
    ours, theirs = (tree(folder, 12, "params") for folder in (never, tmp_path / "without"))
    assert any((a != b).any() for name in ours for a, b in zip(ours[name], theirs[name], strict=True))


def _same(folder: Path, never: Path) -> None:
    for a, b in zip(weights(folder, 12), weights(never, 12), strict=True):
        np.testing.assert_array_equal(a, b)
