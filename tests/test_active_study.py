"""The study of labels and samples: its marks on a small made-up town, and its error."""

import active_study
import numpy as np
import pytest


def test_a_town_without_scenes_is_named(tmp_path, capsys) -> None:
    argv = ["--scenes", str(tmp_path / "town"), "--out", str(tmp_path / "out"), "--keep", str(tmp_path / "kept")]
    assert active_study.main([*argv, "--encoders", "colours"]) == 2
    assert "list.csv: no such file; make it with tools/xbd_scenes.py" in capsys.readouterr().err


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
