import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxcd import evaluate, prepare
from jaxcd.scenes.raster import read_mask
from jaxcd.simulator import SimulatedScene, cut_tiles, simulate
from tests.entries import run


@pytest.fixture(scope="module")
def trained(project, finished, tmp_path_factory):
    """Folder with `run/`, `tiles/` and `scene/` of the tiny project."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(finished.folder, folder / "run")
    for name in ("tiles", "scene"):
        (folder / name).symlink_to(project.parent / name)
    return folder


def _rows(path, read=csv.reader):
    with path.open(newline="") as file:
        return list(read(file))


def _scores(tp, fp, fn, tn):
    return {
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
        "precision": tp / max(tp + fp, 1),
        "recall": tp / max(tp + fn, 1),
        "f1": 2 * tp / max(2 * tp + fp + fn, 1),
        "iou": tp / max(tp + fp + fn, 1),
    }


def test_metrics_tiles_curve_and_pictures_agree(trained, tmp_path, capsys):
    assert evaluate.main(["--run", str(trained / "run"), "--split", "test", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report.pop("positive_unlabelled") is False and set(report) == {"0.5", "best"}
    assert set(report["best"]) == {"threshold", *report["0.5"]}
    rows = _rows(tmp_path / "tiles.csv", csv.DictReader)
    places = json.loads((trained / "run" / "splits.json").read_text())["test"]
    best = report["best"].pop("threshold")
    for threshold, scores in ((0.5, report["0.5"]), (best, report["best"])):
        own = [row for row in rows if float(row["threshold"]) == threshold]
        assert sorted(row["place"] for row in own) == places
        counts = [sum(int(row[name]) for row in own) for name in ("tp", "fp", "fn", "tn")]
        assert sum(counts) == len(places) * 128 * 128
        assert scores == pytest.approx(_scores(*counts))
    assert best != 0.5 and len(rows) == 2 * len(places)
    curve = [[float(x) for x in row] for row in _rows(tmp_path / "precision_recall.csv")[1:]]
    at_half = next(point for point in curve if point[0] == 0.5)
    assert at_half[1:] == pytest.approx([report["0.5"]["precision"], report["0.5"]["recall"]], abs=1e-6)
    recalls = [recall for _, _, recall in curve]
    assert recalls[0] == 1.0 and recalls == sorted(recalls, reverse=True)
    assert f"{report['0.5']['f1']:.4f}" in printed and "|pre - post| >" in printed
    for name in ("best.png", "worst.png", "precision_recall.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 10


def test_threshold_is_that_of_validation_at_the_best_step(trained, tmp_path):
    from jaxcd.runs.logs import read_log

    assert evaluate.main(["--run", str(trained / "run"), "--out", str(tmp_path)]) == 0
    validation = [entry for entry in read_log(trained / "run") if entry["kind"] == "validation"]
    best = max(validation, key=lambda entry: entry["iou"])
    assert json.loads((tmp_path / "metrics.json").read_text())["best"]["threshold"] == best["best_threshold"]


def test_other_tiles_of_any_size_without_counting_their_padding(trained, tmp_path):
    files = {name: trained / "scene" / f"{name}.tif" for name in ("pre", "post", "mask")}
    scene = SimulatedScene(**files, footprints=None)
    cut_tiles(scene, tmp_path / "tiles", tile=203)  # 203 and, at the edges, 106: no multiples of 8
    arguments = [
        "--run",
        trained / "run",
        "--data",
        tmp_path / "tiles",
        "--layout",
        "folders",
        "--out",
        tmp_path / "out",
    ]
    assert evaluate.main([str(a) for a in arguments]) == 0
    rows = [row for row in _rows(tmp_path / "out" / "tiles.csv", csv.DictReader) if row["threshold"] == "0.5"]
    pixels = {row["place"]: sum(int(row[name]) for name in ("tp", "fp", "fn", "tn")) for row in rows}
    assert pixels["r00_c00"] == 203 * 203 and pixels["r02_c02"] == 106 * 106
    assert sum(pixels.values()) == 512 * 512


def test_several_tiles_at_a_time_count_the_same_and_stale_pictures_go(trained, tmp_path, capsys):
    run_folder, out = str(trained / "run"), tmp_path / "out"
    for folder, more in ((tmp_path / "one", []), (out, ["--batch", "3"])):
        folder.mkdir()
        (folder / "best.png").write_text("of yesterday")
        assert evaluate.main(["--run", run_folder, "--split", "all", "--out", str(folder), *more]) == 0
        assert sorted(p.name for p in folder.iterdir()) == sorted(evaluate._OUTPUTS)
    assert "written: " in capsys.readouterr().out
    tiles = [_rows(folder / "tiles.csv", csv.DictReader) for folder in (tmp_path / "one", out)]
    assert tiles[0] == tiles[1] and len(tiles[0]) == 2 * 16
    assert json.loads((out / "metrics.json").read_text()) == json.loads((tmp_path / "one/metrics.json").read_text())
    intact = tmp_path / "intact"
    shutil.copytree(trained / "tiles", intact)
    for label in (intact / "label").iterdir():
        label.unlink()
        Image.fromarray(np.zeros((128, 128), np.uint8)).save(label.with_suffix(".png"))
    data = ["--data", str(intact), "--layout", "folders"]
    assert evaluate.main(["--run", run_folder, *data, "--out", str(out)]) == 0
    assert not (out / "best.png").exists() and (out / "worst.png").exists()
    assert "no damaged pixel here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout", "xbd"], "--layout: goes with --data"),
        (["--scaling", "range:0,9"], "--scaling: goes with --data"),
        (["--cache", "here"], "--cache: goes with --data"),
        (["--batch", "0"], "--batch: expected at least 1, got 0"),
        (["--split", "dev"], "--split: expected one of train, validation, test, all, got 'dev'"),
        (
            ["--layout", "coco"],
            "--layout: expected one of xbd, paper, folders, airchange_szada, airchange_tiszadob, labelled, scenes, "
            "simulated, prepared, got 'coco'",
        ),
        (["--scaling", "full"], "--scaling: expected range:LOW,HIGH or percentiles:LOW,HIGH"),
    ],
)
def test_arguments_that_do_not_fit_are_named(trained, tmp_path, capsys, arguments, message):
    assert message in _error(capsys, "--run", trained / "run", *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tiles_of_a_user_are_not_taken_for_a_simulated_town(trained, tmp_path, capsys):
    shutil.copytree(trained / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["layout"] = "simulated"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    before = sorted(trained.rglob("*"))
    error = _error(capsys, "--run", tmp_path / "run", "--data", trained / "tiles", "--out", tmp_path / "out")
    assert f"--layout: say how {trained / 'tiles'} is laid out" in error
    assert sorted(trained.rglob("*")) == before


def test_a_split_that_nobody_published_for_other_data_is_named(trained, project, tmp_path, capsys):
    shutil.copytree(trained / "run", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["split"] = "published"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    (built,) = (path.parent for path in (project.parent / "datasets").glob("*/dataset.json"))
    for data, layout in ((trained / "tiles", "folders"), (built, "prepared")):
        flags = ("--run", tmp_path / "run", "--data", data, "--layout", layout, "--cache", tmp_path / "cache")
        error = _error(capsys, *flags, "--split", "test", "--out", tmp_path / "out")
        assert error == f"error: --split: {data} has no published split; give --split all"
    assert not (tmp_path / "cache").exists() and not (tmp_path / "out").exists()  # found before anything is built


def test_damaged_checkpoint_is_one_line(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    for file in (tmp_path / "run" / "checkpoints").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:7])
    code, output = run("jaxcd.evaluate", "--run", tmp_path / "run", "--out", tmp_path / "out")
    assert code == 2 and "Traceback" not in output and "Event loop" not in output, output
    assert re.search(r"error: \S+/checkpoints/\d+\S*: damaged checkpoint", output.splitlines()[-1])
    assert not (tmp_path / "out").exists()


def test_run_folder_with_damaged_splits_is_named(trained, tmp_path, capsys):
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run" / "splits.json").write_text('{"train": ')
    assert "splits.json: damaged" in _error(capsys, "--run", tmp_path / "run", "--out", tmp_path / "out")


def _error(capsys, *arguments):
    assert evaluate.main([str(a) for a in arguments]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_what_is_no_run_or_of_another_network_is_named(trained, tmp_path, capsys):
    out = tmp_path / "out"
    assert "not a run" in _error(capsys, "--run", tmp_path, "--out", out)
    shutil.copytree(trained / "run", tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config["model"]["size"] = "medium"
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    assert "a checkpoint of another network" in _error(capsys, "--run", tmp_path / "other", "--out", out)
    config["model"]["depth"] = 4
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    assert "config.model.depth: no such field" in _error(capsys, "--run", tmp_path / "other", "--out", out)
    (tmp_path / "other" / "config.json").write_text("{")
    assert "not a run's configuration" in _error(capsys, "--run", tmp_path / "other", "--out", out)
    shutil.rmtree(tmp_path / "other" / "checkpoints")
    shutil.copy(trained / "run" / "config.json", tmp_path / "other")
    assert "no folder checkpoints" in _error(capsys, "--run", tmp_path / "other", "--out", out)
    assert not out.exists()


def test_data_of_another_layout_is_named(trained, tmp_path, capsys):
    error = _error(
        capsys, "--run", trained / "run", "--data", trained / "scene", "--layout", "xbd", "--out", tmp_path / "o"
    )
    assert str(trained / "scene") in error and "images" in error
    assert not (tmp_path / "o").exists()


def test_where_labels_are_partial_recall_and_flagged_area_are_told(trained, tmp_path, capsys):
    """Scenes as prepared with --positive_unlabelled: no figure that counts unlabelled damage as a mistake."""
    scene = simulate(tmp_path / "scene", seed=2, size=256)
    place = tmp_path / "scenes" / "town"
    place.mkdir(parents=True)
    for name in ("pre", "post", "mask"):
        shutil.copy(getattr(scene, name), place / f"{name}.tif")
    flags = ["--tile", "128", "--variance", "0", "--positive_unlabelled", "--out", str(tmp_path / "tiles")]
    assert prepare.main(["--layout", "scenes", "--source", str(tmp_path / "scenes"), *flags]) == 0
    capsys.readouterr()
    out = tmp_path / "out"
    command = ["--run", str(trained / "run"), "--data", str(tmp_path / "tiles"), "--layout", "prepared"]
    assert evaluate.main([*command, "--split", "all", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "positive-unlabelled" in printed and "precision" not in printed.replace("precision means nothing", "")
    report = json.loads((out / "metrics.json").read_text())
    assert report["positive_unlabelled"] is True and set(report["0.5"]) == {"recall", "flagged"}
    found = report["recall"]
    assert found["areas"] == [0.02, 0.05, 0.1] and "recall of labelled damage, by share of the area flagged" in printed
    assert found["pixels"]["all"]["damaged"] == int((read_mask(scene.mask) > 0).sum())
    assert 0 < found["patches"]["all"]["damaged"] < (256 / found["patch"] + 1) ** 2
    for own in (found["pixels"]["all"], found["patches"]["all"]):
        assert all(0 <= a <= b <= c <= 1 for a, b, c in (own["network"], own["difference"]))
    assert not (out / "precision_recall.csv").exists()
    rows = [row for row in _rows(out / "tiles.csv", csv.DictReader) if float(row["threshold"]) == 0.5]
    tp, fp, fn, tn = (sum(int(row[name]) for row in rows) for name in ("tp", "fp", "fn", "tn"))
    assert tp + fn == int((read_mask(scene.mask) > 0).sum()) and tp + fp + fn + tn == 256 * 256
    assert report["0.5"] == pytest.approx({"recall": tp / (tp + fn), "flagged": (tp + fp) / 256**2})
    assert set(rows[0]) == {"place", "post", "threshold", "tp", "fp", "fn", "tn", "recall", "flagged"}
