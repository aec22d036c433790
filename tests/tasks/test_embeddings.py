import numpy as np
import pytest
from PIL import Image

from jaxcd.config import ContrastConfig
from jaxcd.tasks import embeddings
from jaxcd.tasks.embeddings import Classified, Embedded

PLAIN = ContrastConfig(normalise=False)
NORMED = ContrastConfig()


def siamese(n=60, *, apart=1.0, seed=0, c=8) -> Embedded:
    """Pairs whose sides are equal but for noise, or `apart` along the first axis where there is damage."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((n, c)).astype(np.float32)
    damaged = (np.arange(n) % 2)[:, None]
    second = first + 0.05 * rng.standard_normal((n, c)).astype(np.float32)
    second[:, 0] += apart * damaged[:, 0]
    return Embedded(first, second, damaged)


def test_pairs_are_told_apart_by_what_the_loss_measures():
    pairs = embeddings.of_pairs(siamese(), PLAIN)
    assert pairs.vectors[pairs.damaged == 1, 0].mean() == pytest.approx(1, abs=0.05)
    assert np.abs(pairs.vectors[pairs.damaged == 0]).max() < 0.3
    training, validation = (embeddings.of_pairs(siamese(seed=seed), PLAIN) for seed in (1, 2))
    assert (
        embeddings.nearest_neighbour(training, validation) == 1.0
        and embeddings.linear_probe(training, validation) == 1.0
    )
    nothing = [embeddings.of_pairs(siamese(400, apart=0.0, seed=seed), PLAIN) for seed in (1, 2)]
    assert embeddings.nearest_neighbour(*nothing) == pytest.approx(0.5, abs=0.1)
    assert embeddings.linear_probe(*nothing) == pytest.approx(0.5, abs=0.1)


def test_the_pairs_of_early_fusion_are_counted_one_by_one_in_order():
    first, second = np.eye(3, 4), 2 * np.eye(3, 4)
    pairs = embeddings.of_pairs(Embedded(first, second, np.array([[0, 1], [1, 1], [0, 0]])), PLAIN)
    np.testing.assert_array_equal(pairs.vectors, np.concatenate([first, second]))
    assert pairs.damaged.tolist() == [0, 1, 0, 1, 1, 0]
    assert Embedded(first, second, np.array([[0, 1], [1, 1], [0, 0]])).differ.tolist() == [1, 0, 0]


def test_a_probe_is_linear_and_a_neighbour_is_not():
    """Damage around a ring of intact pairs: no line parts them, the nearest neighbour does."""
    rng = np.random.default_rng(0)

    def ring(n):
        damaged = np.arange(n) % 2
        angle, radius = rng.uniform(0, 2 * np.pi, n), 1.0 + 2.0 * damaged
        return Classified(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), damaged)

    training, validation = ring(200), ring(200)
    assert embeddings.nearest_neighbour(training, validation) == 1.0
    assert embeddings.linear_probe(training, validation) < 0.65


def test_the_probe_is_ridge_regression():
    from sklearn.linear_model import RidgeClassifier
    from sklearn.preprocessing import StandardScaler

    training, validation = (embeddings.of_pairs(siamese(80, apart=0.1, seed=seed), PLAIN) for seed in (3, 4))
    scaler = StandardScaler().fit(training.vectors)
    ridge = RidgeClassifier(alpha=0.01 * 80).fit(scaler.transform(training.vectors), training.damaged)
    expected = ridge.score(scaler.transform(validation.vectors), validation.damaged)
    assert 0.6 < expected < 1.0 and embeddings.linear_probe(training, validation) == pytest.approx(expected)


def test_spread_tells_a_collapse():
    points = siamese(4000)
    assert embeddings.spread(points._replace(second=points.first), PLAIN) == pytest.approx(2 * 8, rel=0.05)
    wide = ContrastConfig(normalise=False, margin=4.0)
    assert embeddings.spread(points._replace(second=points.first), wide) == pytest.approx(2 * 8 / 4, rel=0.05)
    assert embeddings.spread(points, NORMED) == pytest.approx(2, rel=0.05)  # of random directions
    point = np.ones((50, 8)) * np.linspace(1, 2, 50)[:, None]  # of other lengths, but one direction
    assert embeddings.spread(Embedded(point, point, np.zeros((50, 1), int)), NORMED) < 1e-6


def test_histograms_count_every_distance():
    values = np.array([0.0, 0.05, 0.1, 3.95, 4.0, 17.0])
    low, high, counts = embeddings.distance_histogram(values, NORMED)
    assert (low, high, sum(counts)) == (0.0, 4.0, 6) and counts[:2] == (2, 1) and counts[-1] == 3


def test_the_picture_shows_both_kinds(tmp_path):
    training, validation = siamese(seed=1), siamese(seed=2)
    pairs = [embeddings.of_pairs(part, NORMED) for part in (training, validation)]
    embeddings.draw(*pairs, validation, NORMED, tmp_path / "e.png")
    pixels = np.asarray(Image.open(tmp_path / "e.png").convert("RGB")).astype(int).reshape(-1, 3)
    for colour in ((214, 39, 40), (31, 119, 180)):  # tab:red and tab:blue, as points of the right half
        assert (np.abs(pixels - colour).max(axis=1) < 3).sum() > 100
    assert [path.name for path in tmp_path.iterdir()] == ["e.png"]


def test_a_collapse_is_warned_of_and_a_spread_is_not(tmp_path):
    """A real network whose last layer forgets its input."""
    from jaxcd.learn import sharding, steps
    from jaxcd.tasks.contrastive import Pretraining
    from tests.learn.batches import random_batch, small_config

    config = small_config(batch=8)
    config.task, config.contrast.samples = "contrastive", 16
    network, state, _ = steps.initial_state(config, steps=1)

    def batches():
        for seed in range(9):
            batch = random_batch(8, seed=seed)
            yield batch._replace(labels=batch.labels * (np.arange(8) % 2).astype(np.uint8)[:, None, None])

    task = Pretraining(
        places=1, batches=lambda *_: batches(), name=str, training_batches=batches, validation_batches=batches
    )
    validate = task.validator(config, network, sharding.training_mesh(config), tmp_path)
    validated = validate(state.params, state.stats, 5, lambda given: given)
    assert validated.score == -validated.figures.loss and validated.threshold is None
    assert "chance 0.5" in validated.summary
    layer = state.params["embedding"]
    flat = {"kernel": 0 * layer["kernel"], "bias": layer["bias"] + 1}
    collapsed = validate(state.params | {"embedding": flat}, state.stats, 6, lambda given: given)
    assert "nearly one point (mean squared distance 0.0000 margins)" in collapsed.warning
    assert collapsed.figures.loss == pytest.approx(
        0.5, abs=1e-4
    )  # half of the elements, at no distance, cost the margin's square
    wide = {"kernel": 50 * (layer["kernel"] - layer["kernel"].mean()), "bias": layer["bias"]}
    assert not validate(state.params | {"embedding": wide}, state.stats, 7, lambda given: given).warning
    pictures = sorted(path.name for path in (tmp_path / "embeddings").iterdir())
    assert pictures == [f"step_000000{k}.png" for k in (5, 6, 7)]
