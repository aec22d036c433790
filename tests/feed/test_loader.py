import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import threading
from itertools import islice

import cv2
import numpy as np
import pytest

from jaxcd.base.errors import ConfigError, DatasetError
from jaxcd.base.scales import DAMAGE, INVALID
from jaxcd.base.types import Batch
from jaxcd.config import Config, DataConfig, TrainConfig
from jaxcd.feed.loader import evaluation_batches, train_batches
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset
from jaxcd.store.encodings import decode
from tests.child_processes import await_end, children
from tests.sources.tile_sources import picture, write_folders, write_paper, write_rgb

ALL = tuple(range(12))


def first(dataset, rows, config, count, **where) -> list[Batch]:
    batches = train_batches(dataset, rows, config, stride=8, **where)
    taken = list(islice(batches, count))
    batches.close()
    return taken


def assert_same(batch: Batch, expected: Batch) -> None:
    for name, a, b in zip(Batch._fields, batch, expected, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def built(folder, layout) -> TileDataset:
    build(DataConfig(root=str(folder), layout=layout), folder.parent / "out")
    return TileDataset.open(folder.parent / "out")


def turns(image: np.ndarray) -> list[np.ndarray]:
    """The eight ways in which a square image can lie."""
    return [np.rot90(side, k) for side in (image, image[:, ::-1]) for k in range(4)]


def test_a_batch_keeps_the_contract(folders_dataset, config):
    (batch,) = first(folders_dataset, ALL, config, 1)
    assert batch.pre.shape == batch.post.shape == (4, 32, 32, 3)
    assert batch.labels.shape == batch.valid.shape == (4, 32, 32) and batch.ids.shape == (4,)
    assert batch.ids.dtype == np.int32 and all(leaf.dtype == np.uint8 for leaf in batch[:4])
    assert all(leaf.flags.c_contiguous for leaf in batch)
    assert set(np.unique(batch.labels)) <= {0, 1} and batch.valid.all()


def test_a_slice_of_the_run_is_the_run_from_there(folders_dataset, config):
    run = first(folders_dataset, ALL, config, 9)
    for start in (1, 3, 7):
        for k, batch in enumerate(first(folders_dataset, ALL, config, 2, start=start)):
            assert_same(batch, run[start + k])


def test_two_workers_give_the_same_bytes_as_none(folders_dataset, config):
    plain = first(folders_dataset, ALL, config, 5, start=2)
    config.data.workers = 2
    for expected, batch in zip(plain, first(folders_dataset, ALL, config, 5, start=2), strict=True):
        assert_same(batch, expected)


def test_another_seed_gives_other_batches(folders_dataset, config):
    (batch,) = first(folders_dataset, ALL, config, 1)
    config.seed += 1
    (reseeded,) = first(folders_dataset, ALL, config, 1)
    assert batch.ids.tolist() != reseeded.ids.tolist()


def test_every_epoch_takes_each_place_once_in_another_order(folders_dataset, config):
    ids = np.concatenate([batch.ids for batch in first(folders_dataset, ALL, config, 9)]).reshape(3, 12)
    for epoch in ids:
        assert sorted(epoch.tolist()) == list(ALL)
    assert len({tuple(epoch.tolist()) for epoch in ids}) == 3


def test_crops_of_a_place_differ_between_epochs(folders_dataset, config):
    batches = first(folders_dataset, (5,), config, 2)
    crops = [post for batch in batches for post in batch.post]
    assert len({crop.tobytes() for crop in crops}) >= 5  # around damage in a corner, some are the same


def test_batches_run_on_over_the_end_of_an_epoch(folders_dataset, config):
    rows = (0, 3, 5, 7, 9, 11)
    ids = np.concatenate([batch.ids for batch in first(folders_dataset, rows, config, 3)])
    assert sorted(ids[:6].tolist()) == sorted(ids[6:].tolist()) == list(rows)


def test_fewer_places_than_a_batch_are_repeated(folders_dataset, config):
    (batch,) = first(folders_dataset, (2, 4), config, 1)
    assert sorted(batch.ids.tolist()) == [2, 2, 4, 4]


def test_a_batch_may_be_one_pair(folders_dataset, config):
    run = first(folders_dataset, ALL, config, 2)
    config.train.batch = 1
    singles = first(folders_dataset, ALL, config, 8)
    for k, batch in enumerate(singles):
        assert_same(batch, Batch(*(leaf[k % 4 : k % 4 + 1] for leaf in run[k // 4])))


def test_processes_share_the_global_batch_in_order(folders_dataset, config):
    whole = first(folders_dataset, ALL, config, 4)
    shares = [first(folders_dataset, ALL, config, 4, process_index=index, process_count=2) for index in range(2)]
    for batch, left, right in zip(whole, *shares, strict=True):
        assert_same(batch, Batch(*(np.concatenate(pair) for pair in zip(left, right, strict=True))))
    with pytest.raises(ConfigError, match="multiple of the 3 processes, got 4"):
        train_batches(folders_dataset, ALL, config, stride=8, process_count=3)


def test_rows_not_asked_for_are_never_read(folders_dataset, config):
    ids = np.concatenate([batch.ids for batch in first(folders_dataset, (1, 6), config, 6)])
    assert set(ids.tolist()) == {1, 6}


def test_a_crop_is_a_window_of_its_tile_turned_alike(folders_dataset, config):
    """Each crop is found again in the tile, in one of eight positions, the same for all four arrays."""
    for batch in first(folders_dataset, ALL, config, 3):
        for pre, post, labels, valid, row in zip(*batch, strict=True):
            record = folders_dataset.read(int(row))
            images = decode(record.pre[0]), decode(record.post[0])
            codes = decode(record.label[0])
            found = []
            for k, crop in enumerate(turns(post)):
                scores = cv2.matchTemplate(images[1], np.ascontiguousarray(crop), cv2.TM_SQDIFF)
                top, left = np.unravel_index(scores.argmin(), scores.shape)
                window = slice(top, top + 32), slice(left, left + 32)
                if np.array_equal(images[1][window], crop):
                    found.append((k, window))
            assert found
            k, window = found[0]
            np.testing.assert_array_equal(turns(pre)[k], images[0][window])
            np.testing.assert_array_equal(turns(labels)[k], codes[window] == DAMAGE)
            np.testing.assert_array_equal(turns(valid)[k], codes[window] != INVALID)


def test_all_eight_positions_occur_and_none_without_flips(folders_dataset, config):
    def positions() -> set[int]:
        seen = set()
        for batch in first(folders_dataset, (5,), config, 15):
            seen |= {k for crop in batch.post for k in range(8) if np.array_equal(turns(crop)[k], tile)}
        return seen

    config.data.crop = 64
    tile = decode(folders_dataset.read(5).post[0])
    assert positions() == set(range(8))
    config.augment.flips = False
    assert positions() == {0}


def test_the_damage_share_of_crops_lies_around_damage_as_far_from_the_middle_as_jitter_says(tmp_path):
    """One damaged pixel in a corner far from the middle: a random crop nearly never holds it."""
    source = write_folders(tmp_path / "source", 1, size=256)
    mask = np.zeros((256, 256), np.uint8)
    mask[150, 200] = 1
    write_rgb(source / "label" / "p000.png", mask)
    dataset = built(source, "folders")
    for share in (0.0, 0.6, 1.0):
        data = DataConfig(root="unused", crop=32, damage_share=share)
        config = Config(seed=1, data=data, train=TrainConfig(batch=60, steps=1))
        (batch,) = first(dataset, (0,), config, 1)
        centred = batch.labels[:, 15:17, 15:17].any(axis=(1, 2))  # the middle, however the crop is turned
        assert centred.mean() == pytest.approx(share, abs=0.15)
    config.augment.flips, config.train.batch = False, 800
    for jitter, first_row, last_row in ((1.0, 0, 31), (0.5, 8, 24)):
        config.data.jitter = jitter
        (batch,) = first(dataset, (0,), config, 1)
        rows, columns = np.nonzero(batch.labels)[1:]
        for places in (rows, columns):
            counts, edges = np.histogram(places, bins=4, range=(first_row, last_row + 1))
            assert counts.sum() == 800 == len(places)  # each crop shows it, and no place is likelier than another
            assert counts == pytest.approx(200, abs=80)


def test_crops_around_damage_at_the_border_stay_inside(tmp_path):
    source = write_folders(tmp_path / "source", 1, size=128)
    dataset = built(source, "folders")  # damage is in the first row
    data = DataConfig(root="unused", crop=64, damage_share=1.0)
    config = Config(data=data, train=TrainConfig(batch=20, steps=1))
    (batch,) = first(dataset, (0,), config, 1)
    assert batch.valid.all() and batch.labels.any(axis=(1, 2)).all()


def test_a_tile_smaller_than_the_crop_is_padded_with_invalid_pixels(tmp_path):
    source = write_folders(tmp_path / "source", 1, size=40)
    config = Config(data=DataConfig(root="unused", crop=64), train=TrainConfig(batch=8, steps=1))
    (batch,) = first(built(source, "folders"), (0,), config, 1)
    assert batch.pre.shape == (8, 64, 64, 3)
    assert batch.valid[:, :40, :40].all() and not batch.valid[:, 40:].any() and not batch.valid[:, :, 40:].any()
    assert batch.pre[:, :40, :40].any() and not batch.pre[:, 40:].any() and not batch.labels[:, 40:].any()


def test_whole_tiles_of_one_size_are_taken_as_they_are(tmp_path):
    source = write_folders(tmp_path / "source", 2)
    for folder in ("A", "B"):
        for name in ("p000", "p001"):
            write_rgb(source / folder / f"{name}.png", picture(3, 48, 64))
    for name in ("p000", "p001"):
        write_rgb(source / "label" / f"{name}.png", np.zeros((48, 64), np.uint8))
    config = Config(data=DataConfig(root="unused", crop=0), train=TrainConfig(batch=6, steps=1))
    (batch,) = first(built(source, "folders"), (0, 1), config, 1)
    tile = picture(3, 48, 64)
    assert batch.post.shape == (6, 48, 64, 3)  # oblong: no quarter turns
    for image in batch.post:
        assert any(np.array_equal(image, side) for side in (tile, tile[::-1], tile[:, ::-1], tile[::-1, ::-1]))


def test_whole_tiles_are_padded_to_the_stride(tmp_path):
    source = write_folders(tmp_path / "source", 2, size=61)
    config = Config(data=DataConfig(root="unused", crop=0), train=TrainConfig(batch=4, steps=1))
    (batch,) = first(built(source, "folders"), (0, 1), config, 1)
    assert batch.pre.shape == (4, 64, 64, 3)
    assert batch.valid[:, :61, :61].all() and batch.valid.sum() == 4 * 61 * 61


def test_whole_tiles_of_several_sizes_are_refused(tmp_path):
    source = write_folders(tmp_path / "source", 2)
    for folder in ("A", "B"):
        write_rgb(source / folder / "p001.png", picture(3, 48, 64))
    write_rgb(source / "label" / "p001.png", np.zeros((48, 64), np.uint8))
    config = Config(data=DataConfig(root="unused", crop=0), train=TrainConfig(batch=2, steps=1))
    with pytest.raises(DatasetError, match=r"2 sizes \(64 x 64 \(1\), 48 x 64 \(1\)\).*set config.data.crop"):
        train_batches(built(source, "folders"), (0, 1), config, stride=8)


def test_training_draws_every_pre_and_every_labelled_post_of_a_place(tmp_path):
    dataset = built(write_paper(tmp_path / "source"), "paper")
    record = dataset.read(0)
    config = Config(data=DataConfig(root="unused", crop=64), train=TrainConfig(batch=32, steps=1))
    config.augment.flips = False
    (batch,) = first(dataset, (0,), config, 1)
    pres, posts = [decode(content) for content in record.pre], [decode(content) for content in record.post]
    drawn = set()
    for pre, post, labels in zip(batch.pre, batch.post, batch.labels, strict=True):
        i = next(i for i, image in enumerate(pres) if np.array_equal(image, pre))
        j = next(j for j, image in enumerate(posts) if np.array_equal(image, post))
        np.testing.assert_array_equal(labels, decode(record.label[j]))
        drawn.add((i, j))
    assert drawn == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_evaluation_takes_every_labelled_post_once_with_the_latest_pre(tmp_path):
    dataset = built(write_paper(tmp_path / "source"), "paper")
    ((batch, tiles),) = evaluation_batches(dataset, (0, 1), batch=4, stride=16)
    assert [tuple(tile) for tile in tiles] == [
        ("03_7", "03_2023-02-07_AC-visual_7", 64, 64),
        ("03_7", "03_2023-02-09_AD-visual_7", 64, 64),
        ("12_0", "12_2023-02-07_AC-visual_0", 64, 64),
    ]
    latest = decode(dataset.read(0).pre[1])
    np.testing.assert_array_equal(batch.pre[0], latest)
    np.testing.assert_array_equal(batch.pre[1], latest)
    np.testing.assert_array_equal(batch.post[1], decode(dataset.read(0).post[1]))
    assert batch.labels.sum(axis=(1, 2)).tolist() == [1, 2, 3, 0]
    # The fourth pair fills the batch up.
    assert batch.ids.tolist() == [0, 0, 1, -1] and not batch.valid[3].any() and batch.valid[:3].all()


def test_evaluation_pads_to_the_stride_and_groups_by_size(tmp_path):
    source = write_folders(tmp_path / "source", 5)
    for folder in ("A", "B"):
        write_rgb(source / folder / "p002.png", picture(3, 40, 56))
    write_rgb(source / "label" / "p002.png", np.ones((40, 56), np.uint8))
    dataset = built(source, "folders")
    batches = list(evaluation_batches(dataset, (4, 2, 0, 1, 3), batch=3, stride=16))
    assert [batch.pre.shape for batch, _ in batches] == [(3, 48, 64, 3), (3, 64, 64, 3), (3, 64, 64, 3)]
    assert [[tile.place for tile in tiles] for _, tiles in batches] == [["p002"], ["p004", "p000", "p001"], ["p003"]]
    padded, (tile,) = batches[0]
    assert (tile.height, tile.width) == (40, 56)
    assert padded.valid[0, :40, :56].all() and padded.valid.sum() == padded.labels.sum() == 40 * 56
    assert not padded.pre[0, 40:].any() and not padded.post[0, :, 56:].any()
    assert sum(batch.labels.sum() for batch, _ in batches) == 40 * 56 + sum(8 * (i + 1) for i in (0, 1, 3, 4))


def test_an_abandoned_evaluation_ends_its_threads(folders_dataset):
    batches = evaluation_batches(folders_dataset, ALL, batch=1, stride=16)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("evaluation")]


SCRIPT = """
import hashlib, sys
from itertools import islice
from pathlib import Path
from jaxcd.config import Config, DataConfig, TrainConfig

def main() -> int:
    from jaxcd.store.dataset import TileDataset
    from jaxcd.feed.loader import train_batches
    data = DataConfig(root="unused", crop=32, workers=1)
    config = Config(seed=3, data=data, train=TrainConfig(batch=4, steps=10))
    batches = train_batches(TileDataset.open(Path(sys.argv[1])), range(12), config, stride=8)
    digest = hashlib.sha256()
    for batch in islice(batches, 3):
        for leaf in batch:
            digest.update(leaf.tobytes())
    batches.close()
    print(digest.hexdigest())
    return 0

if __name__ == "__main__":
    raise SystemExit(main())
"""


@pytest.mark.parametrize("as_module", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_workers_start_from_a_plain_script_and_from_a_module(folders_dataset, config, tmp_path, as_module):
    (tmp_path / "entry.py").write_text(SCRIPT)
    how = ["-m", "entry"] if as_module else ["entry.py"]
    command = [sys.executable, "-W", "error", *how, str(folders_dataset.paths[0])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256()
    for batch in first(folders_dataset, ALL, config, 3):
        for leaf in batch:
            digest.update(leaf.tobytes())
    assert done.stdout.strip() == digest.hexdigest()


ENDLESS = SCRIPT.replace("islice(batches, 3):", "batches:\n        print('batch', flush=True)").replace(
    "def main() -> int:",
    "def main() -> int:\n    for number in (2, 15):\n        signal.signal(number, lambda *_: None)",
)


def test_workers_survive_what_a_group_is_sent_and_end_with_a_killed_trainer(folders_dataset, tmp_path):
    (tmp_path / "entry.py").write_text("import signal\n" + ENDLESS)
    command = [sys.executable, "entry.py", str(folders_dataset.paths[0])]
    trainer = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert trainer.stdout is not None
    watchdog = threading.Timer(60, trainer.kill)  # a trainer without workers waits forever
    watchdog.start()
    try:
        assert trainer.stdout.readline() == "batch\n"
        workers = children(trainer.pid)
        # What a terminal and a scheduler send goes to the trainer and its workers.
        for number in (signal.SIGINT, signal.SIGTERM):
            os.killpg(trainer.pid, number)
            for _ in range(50):
                assert trainer.stdout.readline() == "batch\n"
        assert set(workers) <= set(children(trainer.pid)) and len(workers) >= 1
    finally:
        watchdog.cancel()
        trainer.kill()
    trainer.communicate()
    await_end(workers)


def test_the_configuration_is_not_changed(folders_dataset, config):
    before = dataclasses.asdict(config)
    first(folders_dataset, ALL, config, 1)
    assert dataclasses.asdict(config) == before
