"""The chain from labels to a map: the commands of the page on labelling, as they stand there."""

import re
import shlex
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from playwright.sync_api import Browser
from rasterio.features import geometry_mask

from jaxcd.simulator import simulate
from tests.entries import run
from tests.labelling.page_runs import Labeller, levels, serving

ROOT = Path(__file__).resolve().parents[2]


def commands() -> list[list[str]]:
    """The commands of the section: each begins with .venv/bin/jaxcd, and a backslash joins its lines."""
    text = (ROOT / "docs" / "labelling.md").read_text(encoding="utf-8")
    section = text.split("\n## From labels to a map\n")[1].split("\n## ")[0]
    joined = re.sub(r"\\\n\s*", "", section)
    return [shlex.split(line)[1:] for line in joined.splitlines() if line.strip().startswith(".venv/bin/jaxcd")]


def damaged_footprints(footprints: Path, mask: Path) -> set[str]:
    with rasterio.open(mask) as file:
        codes, transform = file.read(1), file.transform
    outlines = gpd.read_file(footprints).geometry
    shares = [codes[geometry_mask([each], codes.shape, transform, invert=True)].mean() for each in outlines]
    return {f"f{row}" for row, share in enumerate(shares) if share > 0.3}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_labelled_buildings_train_a_network_that_maps(browser: Browser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene = simulate(tmp_path, seed=5, size=1024)
    shutil.copy(scene.footprints, "buildings.gpkg")
    Path("configs").symlink_to(ROOT / "configs")
    damaged = damaged_footprints(scene.footprints, scene.mask)
    chain = commands()
    assert [command[0] for command in chain] == ["prepare", "train", "predict"]
    flags = ["--pre", scene.pre, "--post", scene.post, "--footprints", tmp_path / "buildings.gpkg"]
    with serving([*flags, "--store", tmp_path / "labels/mine"]) as server:
        ana = Labeller(browser, server.url)
        wanted: dict[str, str] = {}
        seen = [name for name in ana.buildings() if name in damaged]
        for name in np.random.default_rng(0).permutation(seen)[:4].tolist():  # what somebody sees who looks for damage
            ana.click(name)
            ana.press("4")
            wanted[name] = "destroyed"
        ana.press("Escape")
        for _ in range(6):
            before = ana.selected()
            ana.press("n")
            ana.wait(f"import('/static/state.js').then(({{ state }}) => ![...state.selected].some((id) => "
                     f"{before}.includes(id)) && state.selected.size === 1)")  # fmt: skip
            (name,) = ana.selected()
            wanted[name] = "destroyed" if name in damaged else "intact"
            ana.press("4" if name in damaged else "1")
        ana.wait_saved()
        ana.close()
    assert levels(tmp_path / "labels/mine", "scene") == wanted and len(wanted) == 10
    for entry, *arguments in chain:
        code, said = run(f"jaxcd.{entry}", *arguments)
        assert code == 0, said
        assert "none with these settings" not in said, said
    assert Path("maps/mine/map.html").is_file()
