"""The study: its statistics on known numbers, and a whole one of one network as a user runs it."""

import csv
import dataclasses
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from studying import pretraining
from studying import report as study_report
from studying.report import STARTS, paired_difference
from studying.results import Result

from jaxcd.base.errors import RunError
from jaxcd.config import Config, DataConfig, TrainConfig
from jaxcd.learn.metrics import Scores

ROOT = Path(__file__).resolve().parents[1]


SCORES = Scores(0.9, 0.5, 0.25, 1 / 3, 0.2)


def result(counts, *, scores=SCORES) -> Result:
    counts = np.array(counts)
    tiles = tuple(f"t{i}" for i in range(len(counts)))
    return Result(scores=scores, best_f1=0.4, rate=2.0, tiles=tiles, counts=counts)


def test_a_difference_is_of_summed_counts_averaged_over_seeds():
    ours = [result([(8, 2, 2), (0, 5, 10)]), result([(4, 0, 6), (5, 5, 5)]), None]
    base = [result([(5, 0, 5), (5, 0, 5)]), result([(5, 0, 5), (5, 0, 5)]), result([(1, 1, 1), (1, 1, 1)])]
    recall = paired_difference(ours, base, study_report.recall)
    assert recall is not None and recall.value == pytest.approx((8 / 20 + 9 / 20) / 2 - 0.5)
    f1 = paired_difference(ours, base, study_report.f1)
    expected = (2 * 8 / (2 * 8 + 7 + 12) + 2 * 9 / (2 * 9 + 5 + 11)) / 2 - 20 / 30
    assert f1 is not None and f1.value == pytest.approx(expected)
    assert paired_difference([None], [result([(1, 1, 1)])], study_report.f1) is None


def test_an_interval_is_that_of_the_mean_over_tiles():
    """Tiles of equal damage: the recall's difference is a mean of tiles, whose interval is known."""
    rng = np.random.default_rng(0)
    found = rng.integers(20, 80, 400)
    more = np.clip(found + rng.integers(-10, 21, 400), 0, 100)
    ours, base = (result([(n, 0, 100 - n) for n in hits]) for hits in (more, found))
    difference = paired_difference([ours], [base], study_report.recall)
    each = (more - found) / 100
    assert difference is not None and difference.value == pytest.approx(each.mean())
    error = each.std() / 20
    assert difference.low == pytest.approx(each.mean() - 1.96 * error, abs=0.15 * error)
    assert difference.high == pytest.approx(each.mean() + 1.96 * error, abs=0.15 * error)
    # Paired: the tiles' own differences do not count.
    assert error < 0.6 * np.hypot(found.std(), more.std()) / 100 / 20
    assert paired_difference([base], [base], study_report.recall) == (1, 0, 0, 0)


def test_other_tiles_are_not_compared():
    other = dataclasses.replace(result([(1, 1, 1)]), tiles=("u0",))
    with pytest.raises(RunError, match="different tiles"):
        paired_difference([result([(1, 1, 1)])], [other], study_report.recall)


def test_the_report_shows_means_deviations_what_was_published_and_what_failed(tmp_path):
    runs = {start: [result([(8, 2, 2), (1, 5, 1)]), result([(4, 0, 6), (5, 5, 5)])] for start in STARTS}
    runs["pretrained"][1] = result([(9, 0, 1), (9, 5, 1)], scores=Scores(0.95, 0.6, 0.35, 0.45, 0.3))
    runs["frozen"] = [None, None]
    rows = {("fc_siam_diff", start): results for start, results in runs.items()}
    study_report.write_report(tmp_path, rows, {"fc_siam_diff-frozen-0": "out of memory"}, "small networks")
    text = (tmp_path / "study.md").read_text()
    row, _ = [line for line in text.splitlines() if line.startswith("| FC-Siam-Diff | pretrained | 2")]
    assert "| 30.0 ± 7.1 |" in row and "44.8 / 58.9 / 50.9 / 34.1" in row
    assert "| FC-Siam-Diff | pretrained, frozen | 0 | – |" in text
    assert "| pretrained, encoder's rate × 0.1 | 2 |" in text and "not in the paper" in text
    (gain,) = [line for line in text.splitlines() if line.startswith("| FC-Siam-Diff | pretrained | 2 | +")]
    assert "Scores on 2 test tiles" in text and "Differences in points over the seeds that both rows have" in text
    assert "| +6.4, -4.8 |" in gain  # published: recall and F1 of pretrained against from scratch
    assert "fc_siam_diff-frozen-0: out of memory" in text and "evaluation drew images at random" in text
    with (tmp_path / "study.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 6 and {row["start"] for row in table} == {"scratch", "pretrained", "slow"}
    assert np.asarray(Image.open(tmp_path / "claims.png")).std() > 10


@pytest.mark.parametrize(("split", "words"), [("published", "as published"), ("block", "by block, seed 42")])
def test_the_report_says_how_places_were_split(split, words):
    configs = {"fc_ef": Config(data=DataConfig(split=split), train=TrainConfig(epochs=2))}
    assert pretraining._setting(configs, configs).endswith(f"one split ({words})")


def study(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "tools/study.py"), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def small_study(project: Path, folder: Path, out: Path) -> list[object]:
    """Arguments of a study of one network and one seed."""
    pretraining = folder / "pretraining.py"
    pretraining.write_text(
        project.read_text()
        .replace("    return Config(", '    return Config(task="contrastive", contrast=ContrastConfig(samples=4),')
        .replace("import AugmentConfig, Config,", "import AugmentConfig, Config, ContrastConfig,")
    )
    arguments = ["--data", project.parent / "tiles", "--layout", "folders", "--out", out, "--seeds", 1, "--epochs", 2]
    arguments += ["--config", project, "--pretrain_config", pretraining, "--pretrain_epochs", 1]
    return [*arguments, "--networks", "fc_siam_diff"]


@pytest.mark.slow
def test_a_study_goes_past_runs_that_fail(project, tmp_path):
    """No run gets as far as to train: the network can't take the crops, and three runs need the pretraining."""
    config = tmp_path / "config.py"
    config.write_text(project.read_text().replace("crop=64", "crop=60"))
    out = tmp_path / "study"
    arguments = small_study(config, tmp_path, out)
    arguments[1] = project.parent / "tiles"
    process = study(*arguments)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in output, output
    assert "FAILED fc_siam_diff-scratch-0: config.data.crop: the small network takes multiples of 8" in output
    assert "FAILED fc_siam_diff-frozen-0: its pretraining pretraining-fc_siam_diff-0 failed" in output
    text = (out / "study.md").read_text()
    assert "| FC-Siam-Diff | from scratch | 0 | – |" in text and "| FC-Siam-Diff | pretrained | 0 | – |" in text


@pytest.mark.slow
def test_a_study_is_gone_on_with_and_survives_a_failed_run(project, tmp_path):
    out = tmp_path / "study"
    arguments = small_study(project, tmp_path, out)

    process = study(*arguments)
    while process.poll() is None and not (out / "logs" / "fc_siam_diff-scratch-0.log").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 143 and "the same command goes on from here" in output, output
    assert "| FC-Siam-Diff | from scratch | 0 | – |" in (out / "study.md").read_text()
    pretrained = (out / "logs" / "pretraining-fc_siam_diff-0.log").read_text()
    assert "finished" in pretrained

    blocked = out / "runs" / "fc_siam_diff-frozen-0"
    blocked.mkdir()
    (blocked / "thesis.tex").write_text("x")
    process = study(*arguments)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 1 and "Traceback" not in output, output
    assert "FAILED fc_siam_diff-frozen-0: " in output and "holds files but no run" in output
    assert (out / "logs" / "pretraining-fc_siam_diff-0.log").read_text() == pretrained  # not run again
    text = (out / "study.md").read_text()
    assert "| FC-Siam-Diff | pretrained, frozen | 0 | – |" in text
    assert "| FC-Siam-Diff | from scratch | 1 |" in text and "small networks, 64² crops, 2 epochs" in text

    (blocked / "thesis.tex").unlink()
    process = study(*arguments)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0 and "written: " in output, output
    assert "–" not in (out / "study.md").read_text() and "Failed" not in (out / "study.md").read_text()
    with (out / "study.csv").open(newline="") as file:
        assert [row["start"] for row in csv.DictReader(file)] == list(STARTS)
    slow = (out / "configs" / "fc_siam_diff-slow-0.py").read_text()
    assert "encoder_lr_scale=0.1" in slow and f'encoder_from="{out}/runs/pretraining-fc_siam_diff-0"' in slow
    frozen = (out / "logs" / "fc_siam_diff-frozen-0.log").read_text()
    assert "the encoder begins as that of" in frozen and "finished 6 steps" in frozen

    process = study(*arguments, "--pretrain_epochs", 3)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and "config.train.epochs is 1 there and 3 here" in output, output
    process = study(*arguments[:4], "--out", tmp_path, "--config", project)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and "holds files but no study" in output, output
