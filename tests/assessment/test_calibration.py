"""Calibration: a table by hand, weights, and a temperature that is found again."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from jaxcd.assessment.calibration import calibration, fit_temperature, logits_of, tempered


def test_a_table_by_hand() -> None:
    found = calibration(np.array([0.1, 0.3, 0.9, 0.7]), np.array([False, True, True, True]), bins=2)
    assert found.predicted.tolist() == pytest.approx([0.2, 0.8])
    assert found.found.tolist() == [0.5, 1.0]
    assert found.error == pytest.approx(0.5 * 0.3 + 0.5 * 0.2)
    weighted = calibration(
        np.array([0.1, 0.3, 0.9, 0.7]), np.array([False, True, True, True]), np.array([3.0, 1, 2, 2]), bins=2
    )
    assert weighted.found.tolist() == [0.25, 1.0]
    assert weighted.error == pytest.approx(0.5 * abs(0.15 - 0.25) + 0.5 * 0.2)


def test_the_curve_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    probability = generator.random(500)
    damaged = generator.random(500) < probability
    true, predicted = calibration_curve(damaged, probability, n_bins=10)
    found = calibration(probability, damaged)
    np.testing.assert_allclose(found.found, true)
    np.testing.assert_allclose(found.predicted, predicted)


def test_the_temperature_is_found_again_and_lessens_the_error() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 2, 4000)
    damaged = generator.random(4000) < 1 / (1 + np.exp(-logits))
    sharp = 3 * logits
    temperature = fit_temperature(sharp, damaged)
    assert temperature == pytest.approx(3, rel=0.1)
    before, after = (calibration(tempered(sharp, each), damaged).error for each in (1.0, temperature))
    assert after < before / 3
    np.testing.assert_allclose(logits_of(tempered(logits, 1.0)), logits, atol=1e-6)


def test_few_labels_that_are_told_apart_leave_some_doubt() -> None:
    damaged = np.arange(20) < 8
    temperature = fit_temperature(np.where(damaged, 2.0, -2.0), damaged)
    assert temperature == pytest.approx(0.5, rel=1e-3)
