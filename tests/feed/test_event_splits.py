"""Splits that hold out whole events, and which event a place is of."""

import dataclasses

import pytest

from jaxcd.base.errors import ConfigError, DatasetError, SplitError
from jaxcd.config import Config, DataConfig, TrainConfig
from jaxcd.feed.split_summary import describe
from jaxcd.feed.splits import split_places
from jaxcd.sources import layouts
from jaxcd.store.events import with_events
from tests.feed.samples import place, placed


def settings(**changes) -> DataConfig:
    return DataConfig(root="unused", split="event", **changes)


def tiles(event: str, count: int, *, x: float = 0.0, damaged: int = 10) -> list:
    """Tiles of 100 m in a row that are 3 km apart, so that each is a spatial block."""
    return [placed(f"{event}_{i:02}", x + 3000 * i, 0, damaged=damaged, event=event) for i in range(count)]


def test_a_test_event_is_held_out_whole_and_the_rest_is_divided_by_block():
    samples = [*tiles("fire", 20), *tiles("flood", 6, x=1e5), *tiles("quake", 5, x=2e5)]
    splits = split_places(samples, settings(test_events=("quake",), split_shares=(0.75, 0.25, 0.0)))
    assert [samples[row].event for row in splits.test] == ["quake"] * 5
    learned = [*splits.train, *splits.validation]
    assert sorted(learned) == list(range(26)) and splits.left_out == ()
    assert abs(len(splits.validation) - 0.25 * 26) <= 1
    again = split_places(samples[::-1], settings(test_events=("quake",), split_shares=(0.75, 0.25, 0.0)))
    assert {samples[row].id for row in splits.train} == {samples[::-1][row].id for row in again.train}


def test_ground_of_a_test_event_is_in_no_other_split():
    samples = [*tiles("fire", 12), placed("quake_0", 50, 0, event="quake"), placed("quake_1", 1e5, 0, event="quake")]
    splits = split_places(samples, settings(test_events=("quake",)))
    assert splits.left_out == (("fire_00", "shows ground of a test event (split = event)"),)
    assert splits.test == (12, 13) and 0 not in (*splits.train, *splits.validation)
    # Tiles of two events that show one ground are in one split.
    both = [
        *tiles("fire", 10),
        *[dataclasses.replace(s, id=f"storm_{i}", event="storm") for i, s in enumerate(tiles("x", 10))],
    ]
    learned = split_places([*both, *tiles("quake", 2, x=1e5)], settings(test_events=("quake",)))
    assert {row % 10 for row in learned.train}.isdisjoint(row % 10 for row in learned.validation)


def test_a_test_event_without_damage_is_tested_on_what_is_flagged():
    samples = [*tiles("fire", 10), *tiles("quake", 3, x=1e5, damaged=0)]
    splits = split_places(samples, settings(test_events=("quake",)))
    assert splits.test == (10, 11, 12)
    assert "test            3 places, 0 with damage" in describe(samples, splits)
    with pytest.raises(SplitError, match="train split has no damaged pixel"):
        split_places(samples, settings(test_events=("fire",)))


def test_places_without_a_location_are_divided_one_by_one():
    samples = [place(f"fire_{i:02}", event="fire") for i in range(10)] + [place("quake_0", event="quake")]
    splits = split_places(samples, settings(test_events=("quake",), split_shares=(0.8, 0.2, 0.0)))
    assert (len(splits.train), len(splits.validation), splits.test) == (8, 2, (10,))


def test_without_test_events_whole_events_are_shared_by_split_shares():
    samples = [tile for k in range(10) for tile in tiles(f"e{k}", 4, x=1e5 * k)]
    splits = split_places(samples, settings(split_shares=(0.6, 0.2, 0.2)))
    parts = [{samples[row].event for row in part} for part in (splits.train, splits.validation, splits.test)]
    assert [len(part) for part in parts] == [6, 2, 2]
    nameless = place("a", event="")
    assert split_places([*samples, nameless], settings()).left_out == (("a", "its event is not known (split = event)"),)


def test_joined_datasets_are_split_together():
    samples = [dataclasses.replace(s, origin=s.event) for s in (*tiles("fire", 10), *tiles("quake", 3, x=1e5))]
    splits = split_places(samples, settings(test_events=("quake",)))
    assert splits.test == (10, 11, 12)


def test_unknown_events_are_named_with_those_there_are():
    with pytest.raises(
        SplitError, match=r"config.data.test_events: no place belongs to tornado; known are fire, quake"
    ):
        split_places([*tiles("fire", 3), *tiles("quake", 3)], settings(test_events=("quake", "tornado")))
    config = Config(data=DataConfig(root="x", test_events=("quake",)), train=TrainConfig(steps=1))
    with pytest.raises(ConfigError, match=r"config.data.test_events: expected none unless data.split = event"):
        config.validate()


def test_names_of_xbd_tell_the_event_and_a_table_tells_what_names_do_not(tmp_path):
    assert layouts.event_of("xbd", "santa-rosa-wildfire_00000068") == "santa-rosa-wildfire"
    assert layouts.event_of("xbd", "nameless") == layouts.event_of("folders", "fire_01") == ""
    samples, table = [place("a"), place("b", event="fire"), place("c")], tmp_path / "events.csv"
    table.write_text("place,event,notes\na,quake,\nz,flood,not in this dataset\n")
    assert [s.event for s in with_events(samples, table)] == ["quake", "fire", ""]
    for content, message in (
        ("place,kind\na,quake\n", r"events.csv: no column event; expected a CSV table with place, event"),
        ("place,event\na,quake\na,fire\n", r"events.csv: line 3 names a again"),
        ("place,event\nz,quake\n", r"events.csv: names none of the 3 places, such as a"),
        (None, r"events.csv: cannot be read as a CSV table"),
    ):
        table.unlink() if content is None else table.write_text(content)
        with pytest.raises(DatasetError, match=message):
            with_events(samples, table)
