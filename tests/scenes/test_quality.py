"""The filters of tiles, number by number."""

import numpy as np
import pytest

from jaxcd.scenes.quality import Thresholds, hopeless, reason_to_drop, statistics


def test_filters_are_the_methods():
    limits = Thresholds()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    every = np.ones((64, 64), bool)
    found = statistics(image, every, every)
    sums = image.astype(int).sum(axis=2)
    assert found.black == pytest.approx((sums < 10).mean())
    assert found.brightness == pytest.approx(sums[sums > 10].mean())
    assert found.variance == pytest.approx((image.astype(float).mean(axis=2)[sums > 10]).var())
    dark = np.full((100, 100, 3), 100, np.uint8)
    dark[:50] = 200
    assert reason_to_drop(statistics(dark, every, np.ones((100, 100), bool)), limits) == "variance"
    dark[:5, :] = 0  # exactly 5 % are not more than 5 %
    assert reason_to_drop(statistics(dark, every, np.ones((100, 100), bool)), limits) != "black"
    dark[5, 0] = 0
    assert reason_to_drop(statistics(dark, every, np.ones((100, 100), bool)), limits) == "black"
    assert hopeless(statistics(dark, every, np.ones((100, 100), bool)), limits) == ""  # near the threshold: read it
