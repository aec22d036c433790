"""Recall by share of the area flagged: on pixels and on patches, by scene, of network and baseline."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcd.base.types import Tile
from jaxcd.learn.metrics import BINS, Counts, patch_histogram
from jaxcd.runs.evaluation import Counted, decoded, encoded
from jaxcd.runs.events import describe_recall, patch_side, recall_by_group


def bins(intact: dict[float, int], damaged: dict[float, int]) -> np.ndarray:
    found = np.zeros((2, BINS), np.int32)
    for row, own in enumerate((intact, damaged)):
        for score, pixels in own.items():
            found[row, round(score * BINS)] += pixels
    return found


def counted(place: str, network: np.ndarray, difference: np.ndarray) -> Counted:
    patches = np.stack([network // 10, difference // 10])
    return Counted(Tile(place, "post", 32, 32), network, difference, np.zeros(5), None, patches)


def test_recall_at_an_area_takes_the_highest_scores_first_and_bins_in_proportion():
    counts = Counts(bins=bins({0.9: 10, 0.5: 100, 0.1: 870}, {0.9: 10, 0.5: 10}).astype(np.int64))
    assert counts.valid == 1000
    assert counts.recall_at(0.02) == pytest.approx(0.5)  # the 20 pixels of 0.9
    assert counts.recall_at(0.01) == pytest.approx(0.25)
    assert counts.recall_at(0.02 + 0.11 / 2) == pytest.approx(0.75)  # and half of those of 0.5
    assert counts.recall_at(0.0) == 0 and counts.recall_at(1.0) == 1
    assert Counts.zero().recall_at(0.1) == 0


def test_patches_have_the_mean_score_and_are_damaged_from_a_tenth_on():
    score, labels, valid = (np.zeros((1, 8, 10), np.float32) for _ in range(3))
    valid[:] = 1
    score[0, :4, :4] = 0.5
    labels[0, :2, :1] = 1  # 2 of 16: damaged
    score[0, 4:, 4:8], labels[0, 4:, 4:5] = 1.0, 1
    valid[0, 4:, 4:8] = 0
    valid[0, 4, 4:8] = 1  # 4 of 16 are known: not counted
    labels[0, 0, 4] = 1  # 1 of 16: not damaged
    arrays = [jnp.asarray(array) for array in (score, labels, valid)]
    found = np.asarray(patch_histogram(*arrays[:2], valid=arrays[2], side=4))[0]
    # 6 patches: the two on the right are 2 of 4 columns wide, so that just half of each is known.
    assert found.sum() == 5 and found[1].sum() == 1 and found[1, 512] == 1 and found[0, 0] == 4


def test_scenes_have_lines_of_their_own_and_all_together():
    good, blind = bins({0.1: 900}, {0.9: 100}), bins({0.5: 900}, {0.5: 100})
    tiles = [counted("town_a_0", good, blind), counted("town_b_0", blind, good), counted("town_a_1", good, blind)]
    recalls = recall_by_group(tiles, lambda place: place.rpartition("_")[0], 30)
    assert list(recalls.pixels) == ["all", "town_a", "town_b"]
    assert recalls.pixels["town_a"].network == pytest.approx((0.2, 0.5, 1.0))
    assert recalls.pixels["town_a"].difference == pytest.approx((0.02, 0.05, 0.10))
    assert recalls.pixels["town_b"].network == pytest.approx((0.02, 0.05, 0.10))
    assert recalls.patches["all"].damaged == 30 and recalls.patches["town_a"].network[2] == 1
    text = describe_recall(recalls)
    assert "town_a                       200    0.200    0.500    1.000    0.020    0.050    0.100" in text
    assert recalls.plain()["areas"] == [0.02, 0.05, 0.10] and recalls.plain()["patches"]["town_b"]["damaged"] == 10
    alone = recall_by_group(tiles[:1], lambda place: "town_a", 30)
    assert list(alone.pixels) == ["all"]
    unharmed = counted("town_c_0", bins({0.1: 10}, {}), bins({0.1: 10}, {}))
    assert "town_c" not in recall_by_group([*tiles, unharmed], lambda place: place[:6], 30).pixels


def test_shared_work_keeps_patches():
    one = counted("town_a_0", bins({0.1: 900}, {0.9: 100}), bins({0.5: 900}, {0.5: 100}))
    ((again,),) = decoded(encoded([[one]]))
    np.testing.assert_array_equal(again.patches, one.patches)
    assert again.grades is None and again.tile == one.tile


def test_a_patch_is_about_a_footprint():
    assert patch_side(0.5) == 30 and patch_side(0.0) == 32 and patch_side(100.0) == 1
