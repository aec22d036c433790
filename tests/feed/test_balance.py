"""Training crops balanced by event: shares of events, kinds and levels; the same bytes however they are read."""

import dataclasses
import pickle
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from jaxcd.base.scales import BINARY, BUILDINGS, XBD
from jaxcd.base.types import Batch
from jaxcd.config import Config, DataConfig, TrainConfig
from jaxcd.feed.balance import ANYWHERE, Alarm, DrawBalanced, events_of
from jaxcd.feed.loader import train_batches
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset
from tests.sources.tile_sources import write_xbd, xbd_label

LEVELS = {"fire": ("no-damage", "destroyed"), "storm": ("no-damage", "minor-damage", "major-damage"), "calm": ()}
PLACES = {"fire": 1, "storm": 6, "calm": 2}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> TileDataset:
    """Tiles of 64² of three events; a building of 4 x 4 pixels for each level of the event, the first 12 x 12."""
    folder = tmp_path_factory.mktemp("events")
    for event, levels in LEVELS.items():
        for i in range(PLACES[event]):
            boxes = [((0, 16 * k, 4 if k else 12, 16 * k + (4 if k else 12)), level) for k, level in enumerate(levels)]
            write_xbd(folder / "source", f"{event}_{i:08}", xbd_label(boxes), seed=i)
    build(DataConfig(root=str(folder / "source"), layout="xbd", scale="xbd"), folder / "out")
    return TileDataset.open(folder / "out")


def drawn(dataset: TileDataset, count: int, **shares: float) -> list:
    data = DataConfig(root="unused", balance="event", **shares)
    draw = DrawBalanced.of(dataset.samples, range(len(dataset.samples)), dataset.scale, data)
    return [draw.random_map(0, np.random.default_rng(seed)) for seed in range(count)]


def configured(**data) -> Config:
    config = Config(seed=3, data=DataConfig(root="unused", crop=32, balance="event", **data))
    config.train = TrainConfig(batch=6, steps=1)
    return config


def batches(dataset: TileDataset, config: Config, count: int, **where) -> list[Batch]:
    rows = range(len(dataset.samples))
    reading = train_batches(dataset, rows, config, stride=8, **where)
    taken = list(islice(reading, count))
    reading.close()
    return taken


def assert_same(batch: Batch, expected: Batch) -> None:
    for name, a, b in zip(Batch._fields, batch, expected, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_levels_of_an_event_name_the_images_that_show_them(dataset):
    events = events_of(dataset.samples, range(9), XBD)
    assert list(events) == ["calm", "fire", "storm"] and events["calm"].damaged == events["calm"].intact == ()
    fire, storm = events["fire"], events["storm"]
    assert [(level.code, level.pixels, len(level.images)) for level in fire.damaged] == [(4, 16, 1)]
    assert [(level.code, level.pixels, len(level.images)) for level in storm.damaged] == [(3, 96, 6)]
    assert [(level.code, level.pixels) for level in storm.intact] == [(1, 6 * 144), (2, 96)]
    coarse = events_of(TileDataset.open(dataset.paths[0], BUILDINGS).samples, range(9), BUILDINGS)["storm"]
    assert [level.code for level in (*coarse.damaged, *coarse.intact)] == [2, 1]
    binary = events_of(TileDataset.open(dataset.paths[0], BINARY).samples, range(9), BINARY)["storm"]
    assert [(level.code, level.pixels) for level in binary.damaged] == [(1, 96)] and binary.intact == ()


def test_events_are_drawn_equally_often_and_kinds_in_their_shares(dataset):
    targets = drawn(dataset, 6000, damage_share=0.4, intact_share=0.3)
    events = Counter(dataset.samples[target.row].event for target in targets)
    assert all(count / 6000 == pytest.approx(1 / 3, abs=0.03) for count in events.values()) and len(events) == 3
    storm = [target for target in targets if dataset.samples[target.row].event == "storm"]
    codes = Counter(target.code for target in storm)
    assert codes[3] / len(storm) == pytest.approx(0.4, abs=0.04)
    assert codes[ANYWHERE] / len(storm) == pytest.approx(0.3, abs=0.04)
    assert codes[1] / codes[2] == pytest.approx(3, rel=0.25)  # by the root of 144 : 16
    assert {target.code for target in targets if dataset.samples[target.row].event == "calm"} == {ANYWHERE}
    assert len({target.row for target in storm}) == 6


def test_crops_lie_around_pixels_of_their_level(dataset):
    """A building of 4 x 4 pixels lies in the middle of a crop around it, as far as the tile's border allows."""
    middle = DataConfig(root="unused", crop=32, balance="event", damage_share=0.0, intact_share=1.0)
    config = dataclasses.replace(configured(), data=middle)
    for batch in batches(dataset, config, 6):
        for row, labels in zip(batch.ids, batch.labels, strict=True):
            calm = dataset.samples[int(row)].event == "calm"
            assert calm or ((labels == 1) | (labels == 2)).any()
    config.data.damage_share, config.data.intact_share = 1.0, 0.0
    for batch in batches(dataset, config, 6):
        for row, labels in zip(batch.ids, batch.labels, strict=True):
            assert dataset.samples[int(row)].event == "calm" or (labels >= 3).any()


def test_batches_are_the_same_from_there_on_with_workers_and_in_processes(dataset):
    config = configured(damage_share=0.4, intact_share=0.3)
    run = batches(dataset, config, 6)
    assert len({batch.post.tobytes() for batch in run}) == 6
    for k, batch in enumerate(batches(dataset, config, 2, start=3)):
        assert_same(batch, run[3 + k])
    halves = [batches(dataset, config, 6, process_index=index, process_count=2) for index in range(2)]
    for batch, left, right in zip(run, *halves, strict=True):
        assert_same(batch, Batch(*(np.concatenate(pair) for pair in zip(left, right, strict=True))))
    config.data.workers = 2
    for batch, expected in zip(batches(dataset, config, 4), run, strict=False):
        assert_same(batch, expected)
    config.data.workers, config.seed = 0, 4
    assert batches(dataset, config, 1)[0].ids.tolist() != run[0].ids.tolist()


def test_targets_travel_to_worker_processes(dataset):
    draw = DrawBalanced.of(dataset.samples, range(9), XBD, DataConfig(root="unused", balance="event"))
    assert pickle.loads(pickle.dumps(draw)) == draw


def test_crops_around_false_alarms_show_them_in_their_middle_half(dataset):
    """The alarm of the storm is its one building of minor damage; the fire has none, and gives crops from anywhere."""
    storm = [row for row, sample in enumerate(dataset.samples) if sample.event == "storm"][2]
    alarms = [Alarm(storm, 0, 18, 2)]
    data = DataConfig(root="unused", balance="event", damage_share=0.0, intact_share=0.5, false_alarm_share=0.5)
    draw = DrawBalanced.of(dataset.samples, range(9), XBD, data, alarms)
    targets = [draw.random_map(0, np.random.default_rng(seed)) for seed in range(1500)]
    of_storm = [target for target in targets if dataset.samples[target.row].event == "storm"]
    alarming = [target for target in of_storm if target.alarm is not None]
    assert len(alarming) / len(of_storm) == pytest.approx(0.5, abs=0.08)
    assert {(target.row, target.post, target.alarm) for target in alarming} == {(storm, 0, (18, 2))}
    config = configured(damage_share=0.0, false_alarm_share=1.0)
    config.augment.flips = False
    places = set()
    for batch in batches(dataset, config, 12, alarms=alarms):
        for row, labels in zip(batch.ids, batch.labels, strict=True):
            if dataset.samples[int(row)].event == "storm":
                assert row == storm
                found = np.argwhere(labels == 2)
                places.add(tuple(found.min(axis=0).tolist()))
    assert places and all(8 - 2 <= top <= 24 and left == 0 for top, left in places) and len(places) > 3
