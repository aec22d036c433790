"""The benchmark: real sides in real processes, with rounds cut short, and what it says of them."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import benchmark
import numpy as np
import pytest
import rasterio
from benchmarking import figures, jax_side, large_scenes, predicting, preparing, process, report, stepping
from benchmarking.case import (
    BARE,
    COMPILED,
    DECODED,
    GRIDS,
    JAXCD,
    JUDGED,
    NETWORK,
    PAPER,
    STAGED,
    STEP,
    TORCH,
    Case,
    cases,
)
from benchmarking.process import Side, measured
from PIL import Image

from jaxcd.config import AugmentConfig
from jaxcd.store.staging import Piece

TINY = {"model": "fc_siam_diff", "size": "small", "batch": 2, "tile": 32}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(process, "_ROUNDS", 3)
    monkeypatch.setattr(process, "_SECONDS", 0.01)


def without(package: str, folder: Path) -> dict[str, str]:
    """Environment of a machine that lacks a package."""
    (folder / f"{package}.py").write_text(f"raise ModuleNotFoundError('no {package}', name='{package}')\n")
    return {"PYTHONPATH": str(folder)}


def test_pytorch_takes_part_where_there_is_a_reference():
    for suite in ("infer", "predict"):
        assert "PyTorch" in Case(suite=suite, model="fc_ef").sides
        assert "PyTorch" not in Case(suite=suite, model="own_module:Network").sides
        assert "PyTorch" not in Case(suite=suite, model="fc_ef", scale="xbd").sides


def test_a_network_or_a_size_that_is_not_there_is_named(capsys):
    for flags, message in (
        (
            ["--model", "unet"],
            "error: config.model.name: expected one of fc_ef, fc_siam_conc, fc_siam_diff, siam_lite0, ",
        ),
        (["--model", "fc_ef", "--size", "huge"], "error: --size: fc_ef has small, medium, large, got 'huge'"),
    ):
        assert benchmark.main(flags) == 2
        assert message in capsys.readouterr().err


def test_cases_are_those_of_the_suites():
    template = Case(suite="", size="small", batch=2, tile=64)
    given = list(cases(["step", "infer", "augment", "loader"], ["fc_ef", "fc_siam_conc"], ["float32"], template))
    assert [(case.suite, case.variant, case.model) for case in given] == [
        *(
            ("step", variant, model)
            for model in ("fc_ef", "fc_siam_conc")
            for variant in ("plain", "augment", "frozen")
        ),
        ("infer", "", "fc_ef"),
        ("infer", "", "fc_siam_conc"),
        ("augment", "", ""),
        ("loader", "", ""),
    ]
    # What the reference does not do on the device has nothing to be compared with.
    assert [TORCH in case.sides and COMPILED in case.sides for case in given] == [
        case.suite == "infer" or case.variant == "plain" for case in given
    ]


@pytest.mark.slow
def test_rows_tell_rates_ratios_and_shares(tmp_path, capsys):
    (row,) = figures.rows(
        Case(suite="augment", batch=2, tile=32), {"flops_per_second": 1e9, "bytes_per_second": 1e9}, {}
    )
    assert row["pairs_per_second"] == pytest.approx(2 / row["seconds"])
    assert row["megapixels_per_second"] == pytest.approx(2 * 32 * 32 / row["seconds"] / 1e6)
    low, high = row["quartiles"]
    assert low <= row["seconds"] <= high and row["peak_bytes"] > 2**26
    assert row["share_of_copy"] == pytest.approx(row["bytes"] / row["seconds"] / 1e9)
    assert row["compile_seconds"] > 0 and row["compile_cached_seconds"] > 0
    assert "augment, 2 x 32²" in capsys.readouterr().out
    report.write(tmp_path / "x.json", {"rows": [row]})
    assert json.loads((tmp_path / "x.json").read_text())["rows"] == [row]
    machine = {"device": "d", "cpu": "c", "date": "t"}
    assert report.plot(tmp_path / "x.png", [row], machine) == f", {tmp_path / 'x.png'}"
    assert np.asarray(Image.open(tmp_path / "x.png")).std() > 10
    failed = {**row, "failed": "needs torch"}
    assert report.plot(tmp_path / "y.png", [failed], machine) == " (no plot: nothing was measured)"


@pytest.mark.slow
def test_a_missing_package_is_said_and_the_other_side_measured(tmp_path):
    jaxcd, torch, compiled = measured(Case(suite="infer", **TINY), without("torch", tmp_path))
    assert (torch.failed, compiled.failed) == ("needs torch", "needs torch")
    assert not jaxcd.failed and len(jaxcd.times) == 3
    row = {"side": TORCH, **torch.about}
    assert "not measured: needs torch" in report.line(row)
    loader = measured(Case(suite="loader", batch=2, tile=64, cache=str(tmp_path)), without("grain", tmp_path))
    assert {side.failed for side in loader} == {"needs grain"}


@pytest.mark.parametrize(
    "variant", ["frozen", *(pytest.param(name, marks=pytest.mark.slow) for name in ("plain", "augment"))]
)
def test_each_step_runs(variant):
    side = Side(Case(suite="step", variant=variant, **TINY), JAXCD, {})
    try:
        side.start()
        assert not side.failed, side.failed
        side.warm_up()
        side.round()
        side.end()
    finally:
        side.kill()
    assert side.median > 0
    # XLA does not count the work of oneDNN's calls.
    assert side.about["flops"] > 1e6 if side.about["convolutions"].startswith("XLA's") else "flops" not in side.about


@pytest.mark.parametrize("suite", ["step", pytest.param("infer", marks=pytest.mark.slow)])
def test_pytorchs_side_runs(suite):
    side = Side(Case(suite=suite, variant="plain", **TINY), TORCH, {})
    try:
        side.start()
        assert not side.failed, side.failed
        side.warm_up()
        side.end()
    finally:
        side.kill()
    assert side.about["versions"]["torch"] and side.about["peak_bytes"] > 2**26


def test_steps_first_use_up_what_was_made_ready_and_stop_at_a_loss_that_is_not_finite(monkeypatch):
    steps, taken, losses = stepping.steps, [], itertools.chain([1.0] * 8, itertools.repeat(np.nan))

    def step(state, batch, key):
        taken.append(batch)
        return state, SimpleNamespace(loss=next(losses))

    monkeypatch.setattr(steps, "initial_state", lambda *_, **__: (None, None, step))
    monkeypatch.setattr(stepping.sharding, "training_mesh", lambda _: None)
    monkeypatch.setattr(stepping.sharding, "replicate", lambda state, _: state)
    monkeypatch.setattr(stepping.sharding, "on_device", lambda batches, *_, **__: ((None, batch) for batch in batches))
    config = jax_side.configuration(Case(suite="array", **TINY))
    run = stepping.stepping(config, itertools.count(), ahead=2, moves=True)
    assert run(2) > 0 and taken == list(range(7))  # 2 + 1 to compile, 2 + 2 now
    taken.clear()
    assert stepping.stepping(config, itertools.count(), ahead=2, moves=False) and taken == [0]
    with pytest.raises(ArithmeticError, match="the loss of the first steps is nan"):
        stepping.stepping(config, itertools.count(), ahead=2, moves=True)


@pytest.mark.slow
def test_loader_and_training_are_measured_on_tiles_from_disk(tmp_path):
    sides = measured(Case(suite="loader", batch=2, tile=256, layout="folders", cache=str(tmp_path)), {})
    assert not [side.failed for side in sides if side.failed]
    sizes = {side.name: side.about.get("bytes_per_pair") for side in sides}
    assert sizes[f"{JAXCD} raw"] > 6 * 256**2 > sizes[f"{JAXCD} zstd"] > sizes[f"{JAXCD} webp"] > sizes[f"{JAXCD} jpeg"]
    assert next(side for side in sides if side.name == PAPER).about["versions"]["albumentations"]
    loaded, alone = measured(Case(suite="train", layout="folders", cache=str(tmp_path), **{**TINY, "tile": 64}), {})
    assert (loaded.name, alone.name) == (JAXCD, STEP) and not loaded.failed + alone.failed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--suite", "speed"],
            "expected some of step,infer,augment,loader,train,prepare,predict,label,compile, got 'speed'",
        ),
        (["--batch", "0"], "expected a number above 0, got '0'"),
        (["--out", "figures.txt"], "--out: expected a file named .json, got figures.txt"),
        (["--data", "/no/tiles"], "--data: /no/tiles: no such folder"),
    ],
)
def test_bad_arguments_are_named(arguments, message, capsys):
    try:
        code = benchmark.main(arguments)
    except SystemExit as ended:  # argparse's own
        code = ended.code
    assert code == 2 and message in capsys.readouterr().err


def test_a_side_that_ends_in_the_middle_is_a_failed_row():
    side = Side(Case(suite="nothing"), JAXCD, {})
    side.start()
    side._process.kill()
    side.warm_up()
    side.round()
    side.end()
    side.kill()
    assert side.failed.startswith("the process ended with code") and side.times == []


def test_loader_and_step_are_those_of_training(tmp_path):
    case = Case(suite="train", **TINY)
    assert jax_side.configuration(case).augment == AugmentConfig()
    assert not jax_side.configuration(Case(suite="infer", **TINY)).augment.flips


def test_a_tile_the_network_cannot_take_is_a_failed_row():
    side = Side(Case(suite="infer", **{**TINY, "tile": 36}), JAXCD, {})
    side.start()
    side.kill()
    assert "expected equal shapes with sides that are multiples of 8" in side.failed


@pytest.mark.slow
def test_preparing_stages_tiles_of_a_large_pair(tmp_path):
    """The same windows as rasterio alone reads, and facts of each tile."""
    pre, post = large_scenes.large_pair(tmp_path / "scenes", side=3000)
    with rasterio.open(pre) as pre_scene, rasterio.open(post) as post_scene:
        assert (
            pre_scene.shape == (3000, 3000) and pre_scene.transform == post_scene.transform and pre_scene.overviews(1)
        )
        assert pre_scene.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (pre_scene.read(1, window=((0, 400), (0, 400))) != post_scene.read(1, window=((0, 400), (0, 400)))).any()
    for variant in GRIDS:
        case = Case(suite="prepare", variant=variant, batch=1, tile=512, cache=str(tmp_path))
        assert case.sides == (BARE, JUDGED, STAGED + "zstd", STAGED + "jpeg", STAGED + "raw")
        assert preparing.bare(case)[0](2) > 0
        assert preparing.tiles(case, "")[0](2) > 0 and preparing.tiles(case, "raw")[0](2) > 0
        judged, kept = (
            Piece(tmp_path / f"staged-{variant}-{encoding}" / "piece", 2).places() for encoding in ("", "raw")
        )
        assert [each.sample for each in judged] == [None, None] and all(each.sample for each in kept)
        moved = {image["shift_rows"] for each in kept for image in each.more["images"] if image["when"] == "post"}
        assert moved == ({0.5} if variant == "warped" else {0.0})


@pytest.mark.slow
def test_predicting_maps_a_pair_beside_its_parts(tmp_path):
    case = Case(suite="predict", model="fc_ef", size="small", batch=1, tile=1100, cache=str(tmp_path))
    assert case.sides == (JAXCD, NETWORK, DECODED, TORCH)
    run, about = predicting.mapped(case)
    assert run(1) > 0 and about["window"] == 1104 and 1 < about["work_of_halos"] < 1.01
    with rasterio.open(tmp_path / f"map-{case}" / "damage_probability.tif") as made:
        assert made.shape == (1100, 1100)
        values = made.read(1)
    assert values.max() < 255 and np.ptp(values) > 0
    assert all(side(case)[0](1) > 0 for side in (predicting.network, predicting.decoded, predicting.tiled))
