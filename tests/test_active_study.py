"""The study of labels and samples: its marks on a small made-up town, and its error."""

import active_study
import geopandas as gpd
import numpy as np
import pytest

from jaxcd.active import encoders
from tests.labelling.learned import BUILDINGS, DAMAGED, STEP, write_town
from tests.scenes.scene_files import GSD


def test_a_town_without_scenes_is_named(tmp_path, capsys) -> None:
    argv = ["--scenes", str(tmp_path / "town"), "--out", str(tmp_path / "out"), "--keep", str(tmp_path / "kept")]
    assert active_study.main([*argv, "--encoders", "colours"]) == 2
    assert "list.csv: no such file; make it with tools/xbd_scenes.py" in capsys.readouterr().err


def test_cells_that_hold_damage_are_damaged(tmp_path) -> None:
    write_town(tmp_path / "town")
    frame = gpd.read_file(tmp_path / "town" / "footprints.gpkg")
    levels = {**dict.fromkeys(DAMAGED, "destroyed"), 0: "un-classified"}
    frame["subtype"] = [levels.get(number, "no-damage") for number in range(BUILDINGS)]
    frame.to_file(tmp_path / "town" / "footprints.gpkg")
    listed = "name,pre,post,footprints\none,pre.tif,post.tif,footprints.gpkg\n"
    (tmp_path / "town" / "list.csv").write_text(listed)
    for side in (None, STEP * GSD):  # a building lies in each cell
        found = active_study.read(tmp_path / "town", encoders.colours(), tmp_path / "kept", side)
        assert np.flatnonzero(found.damaged).tolist() == [number - 1 for number in sorted(DAMAGED)]
        assert len(found.values) == BUILDINGS - 1


def test_samples_of_a_town_cover_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    damaged = generator.random(900) < 0.3
    values = generator.normal(size=(900, 20)).astype(np.float32)
    values[damaged, :5] += 1
    monkeypatch.setattr(active_study, "SAMPLES", 40)
    monkeypatch.setattr(active_study, "SAMPLE", 150)
    found = active_study.sampled(active_study.Town(values, damaged, 0.0))
    for name in ("precision", "recall", "f1", "damaged"):
        assert found[name]["covered"] >= 36
        assert found[name]["over exact"] <= 1.3
