"""Augmentation: masks stay with their images, zero strength changes no bit, and each operation is what it says."""

import dataclasses
import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcd.base.types import Batch
from jaxcd.config import AugmentConfig
from jaxcd.learn.augmentation.augment import augment, normalise
from jaxcd.learn.augmentation.clahe import clahe
from jaxcd.learn.augmentation.filters import gaussian_blur

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
GEOMETRY = {"shift": 0.05, "scale": 0.05, "rotate": 90.0}


def config(**on) -> AugmentConfig:
    return dataclasses.replace(AugmentConfig.off(), **on)


@functools.cache
def _compiled(on: tuple) -> jax.stages.Wrapped:
    return jax.jit(functools.partial(augment, config=config(**dict(on))))


def run(seed: int, batch: Batch, **on) -> tuple[np.ndarray, ...]:
    """Augment; images come back as 0..1."""
    pre, post, labels, valid = _compiled(tuple(on.items()))(jax.random.key(seed), batch)
    return *(np.asarray(image) * STD + MEAN for image in (pre, post)), np.asarray(labels), np.asarray(valid)


def noise(seed: int, b: int = 4, h: int = 32, w: int = 48) -> Batch:
    rng = np.random.default_rng(seed)
    pre, post = rng.integers(0, 256, (2, b, h, w, 3), np.uint8)
    labels, valid = rng.integers(0, 2, (2, b, h, w), np.uint8)
    return Batch(pre, post, labels * valid, valid, np.arange(b, dtype=np.int32))


def alike(image: np.ndarray, b: int) -> Batch:
    """Return b pairs of one image, wholly valid."""
    images = np.repeat(image[None], b, axis=0)
    ones = np.ones(images.shape[:3], np.uint8)
    return Batch(images, images, 0 * ones, ones, np.arange(b, dtype=np.int32))


def texture(h: int = 32, w: int = 32) -> np.ndarray:
    """Return a smooth coloured image without black or white."""
    y, x = np.mgrid[:h, :w]
    waves = [np.sin(x / 5 + y / 9), np.cos(x / 7 - y / 6), np.sin((x + 2 * y) / 8)]
    return (128 + 60 * np.stack(waves, -1)).astype(np.uint8)


def changed(images: np.ndarray, batch: Batch) -> np.ndarray:
    return np.abs(images - batch.pre / 255).max(axis=(1, 2, 3)) > 1e-4


def test_normalise_takes_imagenets_figures():
    image = np.array([[0, 0, 0], [255, 255, 255], [10, 120, 230]], np.uint8)
    got = normalise(jnp.asarray(image))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, (image / 255 - MEAN) / STD, rtol=2e-6, atol=2e-6)


def test_zero_strength_changes_no_bit():
    batch = noise(0)
    pre, post, labels, valid = jax.jit(functools.partial(augment, config=config()))(jax.random.key(0), batch)
    for got, image in ((pre, batch.pre), (post, batch.post)):
        np.testing.assert_array_equal(got, jax.jit(normalise)(image))
    np.testing.assert_array_equal(labels, batch.labels)
    np.testing.assert_array_equal(valid, batch.valid)
    assert labels.dtype == valid.dtype == pre.dtype == jnp.float32


def test_labels_are_zero_where_nothing_is_known():
    batch = noise(1)
    _, _, labels, _ = run(0, batch._replace(labels=np.ones_like(batch.labels)))
    np.testing.assert_array_equal(labels, batch.valid)


@pytest.mark.parametrize("share_of_defaults", ["all", "geometry"])
def test_one_key_gives_one_result_and_every_pair_has_its_own(share_of_defaults):
    settings = AugmentConfig() if share_of_defaults == "all" else config(**GEOMETRY)
    step = jax.jit(functools.partial(augment, config=settings))
    batch = alike(texture(), 16)
    first, again, other = (step(jax.random.key(seed), batch) for seed in (5, 5, 6))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        if (np.asarray(a) != np.asarray(a)[0]).any():
            assert (np.asarray(a) != np.asarray(c)).any()
    drawn = {np.asarray(image).tobytes() for image in first[0]}
    # Half of the pairs keep their geometry; with all operations one in eight is left as it is.
    assert len(drawn) >= (10 if share_of_defaults == "all" else 4)
    assert not (first[0] == other[0]).all()


@pytest.mark.parametrize(
    "on", [{"brightness": 0.2, "contrast": 0.2}, {"gamma": 0.2}, {"blur": 7}, {"clahe": 4.0}, GEOMETRY]
)
def test_pre_and_post_get_the_same_parameters(on):
    batch = alike(texture(), 32)
    pre, post, _, _ = run(3, batch, **on)
    np.testing.assert_array_equal(pre, post)
    # Each group of operations is applied with probability 1/2 (five standard deviations: 14).
    assert 4 <= changed(pre, batch).sum() <= 28


def marked(seed: int, b: int, h: int, w: int) -> Batch:
    """Return pairs whose bands are the masks: red the labels, green valid, blue the tile itself."""
    rng = np.random.default_rng(seed)
    labels, valid = rng.integers(0, 2, (2, b, h // 8, w // 8), np.uint8).repeat(8, axis=2).repeat(8, axis=3)
    labels *= valid
    image = 255 * np.stack([labels, valid, np.ones_like(valid)], axis=-1)
    return Batch(image, image, labels, valid, np.arange(b, dtype=np.int32))


@pytest.mark.parametrize(("h", "w"), [(64, 64), (64, 96)])
def test_masks_stay_aligned_with_both_images(h, w):
    batch = marked(0, 48, h, w)
    pre, post, labels, valid = run(1, batch, **GEOMETRY)
    moved = (np.abs(pre - batch.pre / 255) > 1e-4).any(axis=(1, 2, 3))
    assert 12 <= moved.sum() <= 36
    for image in (pre, post):
        for band, mask in ((0, labels), (1, valid)):
            # Where the image is one of the two values, not a mixture at a border, the mask says which.
            on, off = image[..., band] > 0.9999, image[..., band] < 0.0001
            assert (mask[on] == 1).all() and (mask[off] == 0).all()
            assert (on | off)[~moved].all() and (on | off)[moved].mean() > 0.6
            assert on[moved].any() and off[moved].any()


def test_pixels_from_outside_are_black_and_not_valid():
    batch = alike(np.full((64, 64, 3), 255, np.uint8), 48)
    batch = batch._replace(labels=np.ones_like(batch.labels))
    pre, post, labels, valid = (
        np.asarray(x) for x in jax.jit(functools.partial(augment, config=config(**GEOMETRY)))(jax.random.key(2), batch)
    )
    black = np.asarray(normalise(jnp.zeros(3, jnp.uint8)))
    outside = np.abs(pre - black).max(axis=-1) < 1e-6
    assert 0.01 < outside.mean() < 0.2
    np.testing.assert_array_equal(pre, post)
    assert not valid[outside].any() and not labels[outside].any()
    white = np.asarray(normalise(jnp.full(3, 255, jnp.uint8)))
    inside = np.abs(pre - white).max(axis=-1) < 1e-4
    assert valid[inside].all() and labels[inside].all()
    assert (inside | outside).mean() > 0.95  # the rest: mixtures along the border


def fitted(coordinates: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Fit the 2x3 matrix from output to source pixels (x, y) to an image of its own coordinates."""
    h, w = inner.shape
    y, x = np.mgrid[:h, :w]
    design = np.stack([x, y, np.ones_like(x)], axis=-1)[inner].astype(float)
    matrix, residual, *_ = np.linalg.lstsq(design, coordinates[inner], rcond=None)
    assert residual.max() < 1e-2
    return matrix.T


def test_the_warp_is_a_similarity_about_the_centre_as_opencv_does_it():
    h, w, b = 60, 60, 64
    y, x = np.mgrid[:h, :w]
    coordinates = np.stack([4 * x, 4 * y, np.full_like(x, 255)], axis=-1).astype(np.uint8)
    batch = alike(coordinates, b)._replace(post=alike(texture(h, w), b).post)
    pre, post, _, _ = run(4, batch, **GEOMETRY)
    angles, scales, shifts = [], [], []
    for i in np.flatnonzero(changed(pre, batch)):
        inner = pre[i, ..., 2] > 0.9999
        matrix = fitted(pre[i, ..., :2] * 255 / 4, inner)
        (a, b_, _), (c, d, _) = matrix
        assert a == pytest.approx(d, abs=1e-4) and b_ == pytest.approx(-c, abs=1e-4)
        angles.append(np.degrees(np.arctan2(c, a)))
        scales.append(1 / np.hypot(a, c))
        forward = cv2.invertAffineTransform(matrix)
        centre = np.array([(w - 1) / 2, (h - 1) / 2])
        shifts.append((forward[:, :2] @ centre + forward[:, 2] - centre) / w)
        expected = cv2.warpAffine(texture(h, w).astype(np.float32) / 255, forward, (w, h), flags=cv2.INTER_LINEAR)
        # OpenCV rounds positions to 1/32 pixel.
        np.testing.assert_allclose(post[i][inner], expected[inner], atol=0.01)
    assert 18 <= len(angles) <= 46
    assert 60 < np.abs(angles).max() <= 90 and min(angles) < -30 < 30 < max(angles)
    assert 0.95 <= min(scales) < 0.97 and 1.03 < max(scales) <= 1.05
    assert 0.03 < np.abs(shifts).max() <= 0.05 + 1e-4


def test_brightness_and_contrast_are_a_line_within_their_ranges():
    batch = alike(texture(), 64)
    images, _, _, _ = run(0, batch, brightness=0.2, contrast=0.2)
    slopes, offsets = [], []
    for image in images[changed(images, batch)]:
        inner = (image > 0.01) & (image < 0.99)
        slope, offset = np.polyfit((texture() / 255)[inner], image[inner], 1)
        np.testing.assert_allclose(np.clip(slope * texture() / 255 + offset, 0, 1), image, atol=1e-4)
        slopes.append(slope)
        offsets.append(offset)
    assert 0.8 <= min(slopes) < 0.9 and 1.1 < max(slopes) <= 1.2001
    assert -0.2001 <= min(offsets) < -0.1 and 0.1 < max(offsets) <= 0.2001


def test_gamma_is_a_power_within_its_range():
    batch = alike(texture(), 64)
    images, _, _, _ = run(0, batch, gamma=0.2)
    powers = np.log(images[changed(images, batch)]) / np.log(texture() / 255)
    np.testing.assert_allclose(
        powers, np.broadcast_to(powers.mean(axis=(1, 2, 3), keepdims=True), powers.shape), rtol=1e-3
    )
    assert 0.7999 <= powers.min() < 0.9 and 1.1 < powers.max() <= 1.2001


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("largest", [5, 7])
def test_blur_is_opencvs(size, largest):
    if size > largest:
        size = largest
    image = np.random.default_rng(0).random((20, 31, 3), np.float32)
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    expected = cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101)
    got = gaussian_blur(jnp.asarray(image[:, :, None]), jnp.asarray(size), largest=largest)[:, :, 0]
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_blur_draws_every_kernel():
    batch = alike(noise(7).pre[0], 64)
    images, _, _, _ = run(1, batch, blur=7)
    plain = jnp.asarray(batch.pre[0, :, :, None] / 255, jnp.float32)
    kinds = [np.asarray(gaussian_blur(plain, jnp.asarray(size), largest=7))[:, :, 0] for size in (3, 5, 7)]
    errors = np.abs(images[changed(images, batch), None] - np.stack(kinds)).max(axis=(2, 3, 4))
    assert (errors.min(axis=1) < 1e-4).all()
    assert set(errors.argmin(axis=1)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("h", "w", "limit"),
    [
        (512, 1024, 2.5),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((512, 1024, 1.0), (512, 1024, 4.0), (1024, 1024, 4.0))
        ),
    ],
)
def test_clahe_of_a_grey_image_is_opencvs(limit, h, w):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:h, :w]
    grey = 100 + 40 * np.sin(x / 40) * np.cos(y / 55) + 12 * rng.standard_normal((h, w))
    grey = np.clip(grey, 0, 255).astype(np.uint8)
    expected = cv2.createCLAHE(limit, (8, 8)).apply(grey).astype(float)
    image = np.repeat(grey[..., None, None], 3, axis=-1).astype(np.float32) / 255
    got = np.asarray(clahe(jnp.asarray(image), jnp.asarray(limit)))[:, :, 0] * 255
    np.testing.assert_allclose(got[..., 0], got[..., 1], atol=1e-3)
    assert np.abs(expected - grey).mean() > 5
    # OpenCV works in whole grey levels and hands out what it clipped in whole counts, the rest to the dark end;
    # both vanish in large tiles.
    assert np.abs(got[..., 0] - expected).mean() < 1.0 and np.abs(got[..., 0] - expected).max() < 4


def test_gaussian_noise_has_its_variance_and_is_drawn_for_each_image():
    batch = alike(np.full((64, 64, 3), 128, np.uint8), 64)
    pre, post, _, _ = run(0, batch, gauss_noise=50.0)
    noisy = changed(pre, batch)
    assert 18 <= noisy.sum() <= 46
    residual = [255 * (image[noisy] - 128 / 255) for image in (pre, post)]
    variances = residual[0].var(axis=(1, 2, 3))
    assert 9 < variances.min() < 20 and 40 < variances.max() < 52
    # One strength a pair, but other noise.
    np.testing.assert_allclose(residual[1].var(axis=(1, 2, 3)), variances, rtol=0.1)
    assert abs(np.corrcoef(residual[0].ravel(), residual[1].ravel())[0, 1]) < 0.02
    assert np.abs(residual[0].mean(axis=(1, 2, 3))).max() < 0.5


def test_iso_noise_grows_with_contrast_and_leaves_a_flat_grey_image():
    grey = alike(np.full((32, 32, 3), 90, np.uint8), 16)
    images, _, _, _ = run(0, grey, iso_noise=0.5)
    np.testing.assert_allclose(images, 90 / 255, atol=1e-3)
    coloured = alike(texture(), 64)
    images, _, _, _ = run(0, coloured, iso_noise=0.5)
    noisy = changed(images, coloured)
    assert 18 <= noisy.sum() <= 46 and images.min() >= -1e-6 and images.max() <= 1 + 1e-6
    luma = (images - texture() / 255)[noisy] @ [0.299, 0.587, 0.114]
    assert (luma.mean(axis=(1, 2)) > 0).all(), "shot noise brightens"


def test_a_group_applies_one_of_its_operations():
    batch = alike(texture(), 64)
    images, _, _, _ = run(0, batch, gamma=0.2, brightness=0.2)
    moved = images[changed(images, batch)]
    with np.errstate(divide="ignore"):
        powers = np.log(moved) / np.log(texture() / 255)
    is_power = np.ptp(powers, axis=(1, 2, 3)) < 1e-3
    is_shift = np.ptp(moved - texture() / 255, axis=(1, 2, 3)) < 1e-3
    assert (is_power ^ is_shift).all()
    assert is_power.sum() >= 8 and is_shift.sum() >= 8


@pytest.mark.slow
def test_the_step_is_traced_once():
    traces = []

    @jax.jit
    def step(key, batch):
        traces.append(1)
        return augment(key, batch, AugmentConfig())

    for seed in range(3):
        pre, post, labels, valid = step(jax.random.key(seed), noise(seed))
        assert pre.shape == post.shape == (4, 32, 48, 3) and labels.shape == valid.shape == (4, 32, 48)
        assert all(np.isfinite(x).all() for x in (pre, post, labels, valid))
    assert len(traces) == 1
