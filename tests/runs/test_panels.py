import numpy as np
from PIL import Image

from jaxcd.base.types import Tile
from jaxcd.learn.metrics import BINS, Counts
from jaxcd.runs.panels import Keeper, Prediction, save_panels


def _counts(damaged):
    bins = np.zeros((2, BINS), np.int64)
    bins[1, 700] = damaged
    return Counts(bins=bins)


def _prediction(damaged, name="t", side=384):
    quarter = side // 4
    labels, probability = np.zeros((side, side), np.uint8), np.zeros((side, side), np.float32)
    labels[:, : 2 * quarter] = 1  # columns: TP, FN, FP, TN
    probability[:, :quarter] = probability[:, 2 * quarter : 3 * quarter] = 0.9
    pre, post = np.full((side, side, 3), 90, np.uint8), np.full((side, side, 3), 30, np.uint8)
    valid = np.ones_like(labels)
    valid[side // 2 :] = 0
    return Prediction(Tile("place", name, side, side), _counts(damaged), pre, post, labels, valid, probability)


def test_keeper_keeps_the_highest_and_passes_over_none():
    keeper = Keeper(2, lambda counts: float(counts.damaged) if counts.damaged else None)
    for name, damaged in (("a", 5), ("b", 0), ("c", 9), ("d", 5), ("e", 7), ("f", 1)):
        if keeper.wants(_counts(damaged)):
            keeper.add(_prediction(damaged, name, side=8))
    assert [prediction.tile.post for prediction in keeper.kept()] == ["c", "e"]


def test_panel_shows_both_images_truth_probability_and_outcome(tmp_path):
    save_panels([_prediction(5), _prediction(6)], tmp_path / "p.png", threshold=0.5)
    picture = np.asarray(Image.open(tmp_path / "p.png"))
    assert picture.shape == (2 * (384 + 36), 5 * 384 + 4 * 4, 3)
    top, bottom, column = 36 + 100, 36 + 300, 384 + 4

    def at(i, x, row=top):
        return picture[row, i * column + x].tolist()

    assert at(0, 50) == [90] * 3 and at(1, 50) == [30] * 3
    assert at(2, 50) == [255] * 3 and at(2, 300) == [0] * 3
    assert at(2, 50, bottom) == [110] * 3  # unknown
    assert sum(at(3, 50)) > 2 * sum(at(3, 150))
    green, red, blue, rest = (at(4, x) for x in (50, 150, 250, 350))
    assert np.argmax(green) == 1 and np.argmax(red) == 0 and np.argmax(blue) == 2
    assert rest == [50] * 3 and at(4, 50, bottom) == [50] * 3
    assert not list(tmp_path.glob("*partial*"))
