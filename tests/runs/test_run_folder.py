import json

import pytest

from jaxcd.base.errors import RunError
from jaxcd.config import Config, DataConfig, TrainConfig
from jaxcd.runs import run_folder

PLACES = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}


def config(**train) -> Config:
    return Config(data=DataConfig(root="x"), train=TrainConfig(steps=3, **train))


def test_folder_with_someone_elses_config_is_not_touched(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "log.jsonl").write_text("{}\n")
    before = sorted(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    with pytest.raises(RunError, match="config.model_type: no such field"):
        with run_folder.claim(tmp_path, config()):
            pass
    assert (tmp_path / "tensorboard").is_dir()
    assert sorted(path.read_bytes() for path in tmp_path.iterdir() if path.is_file()) == before


def test_run_whose_checkpoints_were_deleted_is_no_free_folder(tmp_path):
    with run_folder.claim(tmp_path / "r", config()):
        (tmp_path / "r" / "log.jsonl").write_text('{"step": 3, "kind": "validation"}\n')
    with pytest.raises(RunError, match="config.train.batch is 8 there and 4 here"):
        run_folder.check(tmp_path / "r", config(batch=4))
    assert (tmp_path / "r" / "log.jsonl").read_text()


def test_what_a_false_start_left_is_gone(tmp_path):
    run = tmp_path / "r"
    with run_folder.claim(run, config()):
        run_folder.record_splits(run, PLACES, labels="1")
        (run / "log.jsonl").write_text('{"step": 1, "kind": "train"}\n')
        (run / "panels").mkdir()
    with run_folder.claim(run, config(batch=4)):
        assert sorted(path.name for path in run.iterdir()) == [".lock", "config.json"]
        with pytest.raises(RunError, match="no data of its own"):
            run_folder.read_splits(run)


def test_a_second_process_is_told(tmp_path):
    with run_folder.claim(tmp_path / "r", config()), pytest.raises(RunError, match="another process is training"):
        with run_folder.claim(tmp_path / "r", config()):
            pass


def test_places_and_labels_are_those_of_the_beginning(tmp_path):
    run_folder.record_splits(tmp_path, PLACES, labels="1")
    run_folder.record_splits(tmp_path, PLACES, labels="1")
    assert run_folder.read_splits(tmp_path) == PLACES
    for places, labels in ((PLACES, "2"), ({**PLACES, "train": ["a"]}, "1")):
        with pytest.raises(RunError, match="not those that this run began with"):
            run_folder.record_splits(tmp_path, places, labels=labels)
    (tmp_path / "splits.json").write_text(json.dumps({"train": []}))
    with pytest.raises(RunError, match=r"splits.json: damaged"):
        run_folder.read_splits(tmp_path)
