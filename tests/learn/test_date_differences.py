"""What differs between two dates: what is moved, what stays, and how far."""

import dataclasses
import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcd.base.errors import ConfigError
from jaxcd.base.types import Batch
from jaxcd.config import AugmentConfig, Config, DataConfig, DatesConfig, TrainConfig
from jaxcd.learn.augmentation.augment import augment
from jaxcd.learn.augmentation.dates import differ
from jaxcd.learn.augmentation.filters import blur_each

SIDE = 48


def pairs(count: int, images, codes=None, *, damaged: int = 3, **on):
    """Apply the operations with different keys to one pair; returns images [n, h, w, 2, 3] and valid [n, h, w]."""
    config = DatesConfig(**on)
    codes = np.zeros((SIDE, SIDE), np.uint8) if codes is None else codes
    one = functools.partial(differ, config=config, damaged=damaged)
    keys = jax.random.split(jax.random.key(0), count)
    valid = jnp.ones((SIDE, SIDE))
    found = jax.jit(jax.vmap(lambda key: one(key, jnp.asarray(images, jnp.float32), jnp.asarray(codes), valid)))(keys)
    return tuple(map(np.asarray, found))


def slope() -> np.ndarray:
    """Images whose bands grow by 0.01 a row, by 0.005 a column and by both."""
    y, x = np.mgrid[:SIDE, :SIDE] / 100
    return np.repeat(np.stack([y, x / 2, (y + x) / 2], -1)[:, :, None], 2, axis=2)


@pytest.mark.parametrize(("which", "other"), [(0, 1), (1, 0)])
def test_a_shift_moves_one_image_and_what_it_uncovers_is_not_valid(which, other):
    images, valid = pairs(40, slope(), shift=6.0, moved=("pre", "post")[which])
    moved = []
    for shifted, fixed, seen in zip(images[:, :, :, which], images[:, :, :, other], valid > 0, strict=True):
        np.testing.assert_array_equal(fixed, slope()[:, :, other].astype(np.float32))
        apart = (slope()[:, :, which] - shifted)[seen]
        down, right = apart[:, 0].mean() * 100, apart[:, 1].mean() * 200
        np.testing.assert_allclose(apart[:, 0] * 100, down, atol=1e-3)  # one shift for the whole image
        np.testing.assert_allclose(apart[:, 2] * 200, down + right, atol=1e-2)
        y, x = np.mgrid[:SIDE, :SIDE]
        inside = (y - down >= 0) & (y - down <= SIDE - 1) & (x - right >= 0) & (x - right <= SIDE - 1)
        assert (inside != seen).sum() <= 2 * SIDE  # rounding at the edge alone
        assert (shifted[~seen] == 0).all()
        moved.append((down, right))
    still = sum(abs(down) + abs(right) < 1e-3 for down, right in moved)
    assert 10 <= still <= 30 and 3 < np.abs(moved).max() <= 6


def test_turn_and_stretch_keep_the_centre():
    odd = slope()
    for on in ({"turn": 20.0}, {"stretch": 0.3}):
        images, valid = pairs(20, odd, **on)
        middle = images[:, SIDE // 2 - 1 : SIDE // 2 + 1, SIDE // 2 - 1 : SIDE // 2 + 1, 0].mean(axis=(1, 2))
        np.testing.assert_allclose(middle, np.broadcast_to(middle[0], middle.shape), atol=1e-4)
        differs = np.abs(images[:, :, :, 0] - images[:, :, :, 1]).max(axis=(1, 2, 3)) > 1e-3
        assert 4 <= differs.sum() <= 16
        assert (valid[~differs] == 1).all()


@pytest.mark.parametrize(("which", "other"), [(0, 1), (1, 0)])
def test_buildings_lean_over_ground_that_stays(which, other):
    rng, codes = np.random.default_rng(0), np.zeros((SIDE, SIDE), np.uint8)
    images = rng.random((SIDE, SIDE, 2, 3))
    codes[20:30, 18:32] = 1
    found, valid = pairs(30, images, codes, parallax=5.0, moved=("pre", "post")[which])
    assert (valid == 1).all()
    shifts = set()
    for leaning, fixed in zip(found[:, :, :, which], found[:, :, :, other], strict=True):
        np.testing.assert_array_equal(fixed, images[:, :, other].astype(np.float32))
        fitting = [
            (dy, dx)
            for dy in range(-5, 6)
            for dx in range(-5, 6)
            if np.array_equal(
                leaning[20 + dy : 30 + dy, 18 + dx : 32 + dx], images[20:30, 18:32, which].astype(np.float32)
            )
        ]
        ((dy, dx),) = fitting
        rest = np.ones((SIDE, SIDE), bool)
        rest[20 + dy : 30 + dy, 18 + dx : 32 + dx] = False
        np.testing.assert_array_equal(leaning[rest], images[:, :, which].astype(np.float32)[rest])
        shifts.add((dy, dx))
    assert (0, 0) in shifts and len(shifts) > 8


def test_dates_change_places_only_without_damage():
    images = np.stack([np.full((SIDE, SIDE, 3), 0.2), np.full((SIDE, SIDE, 3), 0.8)], axis=2)
    codes = np.zeros((SIDE, SIDE), np.uint8)
    for code, swaps in ((1, True), (2, True), (3, False), (254, False)):
        codes[5, 5] = code
        found, _ = pairs(60, images, codes, swap=0.5)
        swapped = (found[:, 0, 0, 0, 0] > 0.5).sum()
        assert 15 <= swapped <= 45 if swaps else swapped == 0


@pytest.mark.parametrize(("on", "largest"), [({"tone": 0.3}, 0.3), ({"haze": 0.4}, 0.4), ({"shade": 0.5}, 0.5)])
def test_each_date_has_its_own_light(on, largest):
    images = np.full((SIDE, SIDE, 2, 3), 0.4)
    found, valid = pairs(200, images, **on)
    change = np.abs(found - 0.4).max(axis=(1, 2, 4))  # of each pair and date
    changed = change > 1e-6
    assert (valid == 1).all() and found.min() >= 0 and found.max() <= 1
    assert (abs(changed.mean(axis=0) - 0.5) < 0.12).all()
    assert {(bool(a), bool(b)) for a, b in changed} == {(a, b) for a in (False, True) for b in (False, True)}
    both = changed.all(axis=1)
    assert (np.abs(change[both, 0] - change[both, 1]) > 1e-4).mean() > 0.9
    name = next(iter(on))
    if name == "haze":  # towards a grey of 0.8
        assert change.max() <= largest * 0.4 + 1e-6 and (found >= 0.4 - 1e-6).all()
    if name == "shade":  # never brighter, and darkest at an edge
        assert (found <= 0.4 + 1e-6).all() and change.max() <= 0.4 * largest + 1e-6
        assert (found.max(axis=(1, 2))[changed] - found.min(axis=(1, 2))[changed] > 0).all()
    if name == "tone":  # a cast of colour
        assert (np.ptp(found[:, 0, 0], axis=-1)[changed] > 1e-4).mean() > 0.9


@pytest.mark.parametrize("sigmas", [(0.0, 1.3), (2.0, 0.4)])
def test_each_date_is_blurred_as_opencv_does(sigmas):
    images = np.random.default_rng(0).random((31, 40, 2, 3), np.float32)
    found = np.asarray(blur_each(jnp.asarray(images), jnp.array(sigmas), largest=2.0))
    for date, sigma in enumerate(sigmas):
        wanted = images[:, :, date]
        if sigma:
            wanted = cv2.GaussianBlur(wanted, (13, 13), sigma, borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(found[:, :, date], wanted, atol=1e-5 if sigma else 0)


def test_each_date_has_its_own_sharpness():
    rng = np.random.default_rng(0)
    images = rng.random((SIDE, SIDE, 2, 3))
    found, valid = pairs(200, images, blur=2.0)
    spread = found.std(axis=(1, 2, 4)) / images.std(axis=(0, 1, 3))  # of each pair and date
    blurred = spread < 0.99  # which a standard deviation of 0.25 reaches
    assert (valid == 1).all() and (abs(blurred.mean(axis=0) - 0.5 * 1.75 / 2) < 0.1).all()
    assert {(bool(a), bool(b)) for a, b in blurred} == {(a, b) for a in (False, True) for b in (False, True)}
    assert 0.1 < spread.min() < 0.2 and spread.max() < 1.001  # of white noise, 1 / (2 sqrt(pi) sigma) is left


def test_training_sees_the_operations_and_labels_stay():
    rng = np.random.default_rng(1)
    pre, post = rng.integers(0, 256, (2, 6, SIDE, SIDE, 3), np.uint8)
    labels = rng.integers(0, 5, (6, SIDE, SIDE), np.uint8)
    arrays = (pre, post, labels, np.ones_like(labels), np.arange(6, dtype=np.int32))
    batch = Batch(*map(jnp.asarray, arrays))
    plain = AugmentConfig.off()
    moving = dataclasses.replace(plain, dates=DatesConfig(shift=8.0))
    still, moved = (augment(jax.random.key(3), batch, config, damaged=3) for config in (plain, moving))
    np.testing.assert_allclose(moved[1], still[1], atol=1e-6)
    seen = np.asarray(moved[3]) > 0
    np.testing.assert_array_equal(np.asarray(moved[2])[seen], labels[seen])
    assert (np.asarray(moved[2])[~seen] == 0).all() and 0 < (~seen).sum() < 0.4 * seen.size
    assert (np.abs(np.asarray(moved[0] - still[0])).max(axis=(1, 2, 3)) > 0.1).any()


def test_buildings_lean_only_where_labels_know_them():
    config = Config(data=DataConfig(root="x"), train=TrainConfig(steps=1))
    config.augment.dates.parallax = 4.0
    with pytest.raises(ConfigError, match=r"config.augment.dates.parallax: expected 0 with data.scale = binary"):
        config.validate()
    config.data.scale = "xbd"
    config.validate()
