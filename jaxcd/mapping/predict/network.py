"""A trained network on windows of scenes: bytes in, probabilities in 16 bits out, one compile for a window's size."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt8, UInt16

from jaxcd import models
from jaxcd.base.scales import SCALES
from jaxcd.config import Config
from jaxcd.learn import ordinal, sharding
from jaxcd.learn.augmentation.augment import normalise
from jaxcd.learn.averaging import averaged
from jaxcd.runs.inference import Trained
from jaxcd.runs.memory import explained_memory

STEPS = 65534
"""A probability p is stored as the integer nearest to STEPS * p: in steps of 1.5e-5, finer than thresholds are."""
_SMALLER = "give smaller windows (--window)"


class WindowNetwork:
    """Predicts a batch of equal windows, one on each device."""

    def __init__(self, config: Config, trained: Trained, *, average: bool):
        """Put the network on the devices.

        Args:
            config: of its run.
            trained: the run's network.
            average: give the mean probability over flips and quarter turns, at eight times the work.
        """
        mesh = sharding.evaluation_mesh(config)
        self._mesh = mesh
        self.batch = mesh.size
        """Windows that one call takes."""
        self._images = NamedSharding(mesh, PartitionSpec("data"))
        self._weights = sharding.replicate((trained.params, trained.stats), mesh)
        network, wanted = trained.network, models.describe(config.model).normalisation
        answer = ordinal.exceedance if SCALES[config.data.scale].buildings else jax.nn.sigmoid

        def once(params: Any, stats: Any, pre: Array, post: Array) -> Float[Array, "b h w *k"]:
            logits, _ = models.apply(network.eval, params, stats, normalise(pre, wanted), normalise(post, wanted))
            return answer(logits)

        probability = averaged(once) if average else once

        def predict(params: Any, stats: Any, pre: Array, post: Array) -> UInt16[Array, "b h w *k"]:
            return jnp.round(probability(params, stats, pre, post) * STEPS).astype(jnp.uint16)

        self._predict = jax.jit(predict)

    def with_stats(self, stats: Any) -> "WindowNetwork":
        """Return the network with other BatchNorm statistics; nothing is compiled anew."""
        other = copy.copy(self)
        other._weights = (self._weights[0], sharding.replicate(stats, self._mesh))
        return other

    def __call__(
        self, pre: UInt8[np.ndarray, "b h w 3"], post: UInt8[np.ndarray, "b h w 3"]
    ) -> UInt16[Array, "b h w *k"]:
        """Predict windows before and after the event; returns at once, `fetch` waits for the result.

        Args:
            pre: RGB 0..255, up to `batch` windows with sides that are multiples of the network's stride.
            post: likewise.

        Returns:
            STEPS times the probability of damage; on a scale with several levels, times P(level >= j) for each of
            them, along a last axis: they never rise along it.
        """
        missing = self.batch - len(pre)
        if missing:
            pre, post = (np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))) for images in (pre, post))
        with explained_memory(_SMALLER):
            images = (jax.make_array_from_process_local_data(self._images, image) for image in (pre, post))
            return self._predict(*self._weights, *images)

    def fetch(self, result: UInt16[Array, "b h w *k"]) -> UInt16[np.ndarray, "b h w *k"]:
        """Bring a result of a call to the host.

        Raises:
            DeviceMemoryError: the windows were too large for the device, which reports it only now.
        """
        with explained_memory(_SMALLER):
            return np.asarray(result)
