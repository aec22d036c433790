"""The meshes of devices that steps run on, and how batches and weights get there.

Batches are spread along the one axis "data"; weights and keys are on all devices.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int32

from jaxcd.base import hosts
from jaxcd.base.ahead import held_back
from jaxcd.base.errors import ConfigError
from jaxcd.base.types import Batch
from jaxcd.config import Config


def training_mesh(config: Config) -> Mesh:
    """Return the one-axis mesh that training batches are sharded over: the devices of process 0, of process 1, ...

    Raises:
        ConfigError: the machine has fewer devices, or a batch that they can't share evenly.
    """
    own, processes = jax.local_devices(), jax.process_count()
    n, micro = config.train.devices or len(own), config.train.batch // config.train.accumulation
    if n > len(own):
        raise ConfigError(f"config.train.devices: {n} asked for, this machine has {len(own)}")
    if micro % (n * processes):
        where = f" of {processes} processes" if processes > 1 else ""
        fewer = "fewer processes" if n == 1 and processes > 1 else "--config.train.devices=1"
        raise ConfigError(
            f"config.train.batch: {n * processes} devices{where} can't share micro-batches of {micro} pairs evenly; "
            f"set a multiple of {n * processes * config.train.accumulation}, or {fewer}"
        )
    by_process = [[each for each in jax.devices() if each.process_index == i][:n] for i in range(processes)]
    return Mesh([each for devices in by_process for each in devices], ("data",))


def evaluation_mesh(config: Config) -> Mesh:
    """Return the mesh of `config.train.devices` devices (0: all), or of those there are on a smaller machine.

    They are this process's own: of several processes, each evaluates a share of the batches by itself.
    """
    return Mesh(jax.local_devices()[: config.train.devices or None], ("data",))


def own_copy(tree: Any, config: Config) -> Any:
    """Return a tree on this process's own devices, for what it computes by itself."""
    return tree if jax.process_count() == 1 else replicate(tree, evaluation_mesh(config))


def shard_batch(batch: Batch, mesh: Mesh) -> Batch:
    """Spread the pairs of a host batch (this process's share), a multiple of the mesh's size, over the devices."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def on_device(batches: Iterator[Batch], mesh: Mesh, *, ahead: int) -> Iterator[tuple[np.ndarray, Batch]]:
    """Give batches with the ids of their places; each is moved to the devices some batches before it is needed."""
    moved = ((np.asarray(batch.ids), shard_batch(batch, mesh)) for batch in batches)
    return held_back(moved, ahead - 1)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put a tree of arrays, the same ones in all processes, on every device of the mesh."""
    sharding = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda x: _replicated(x, sharding), tree)


def _replicated(x: Array, sharding: NamedSharding) -> Array:
    # By way of the host: `device_put` would compare every array over the network, and takes none that lies elsewhere.
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_replicated(jax.random.key_data(x), sharding), impl=jax.random.key_impl(x))
    host = np.asarray(x)
    return jax.make_array_from_process_local_data(sharding, host, host.shape)


def any_of(mesh: Mesh) -> Callable[[int], Int32[Array, ""]]:
    """Make the step `number of this process -> the largest of all processes'`, on the devices of a mesh.

    All processes call this together. It connects the devices: gloo waits 30 s for all of them at their first sum, which
    is less than the steps of some networks compile in.
    """
    largest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
    devices = len(mesh.local_devices)

    def of_all(number: int) -> Int32[Array, ""]:
        spread = NamedSharding(mesh, PartitionSpec("data"))
        return largest(jax.make_array_from_process_local_data(spread, np.full(devices, number, np.int32)))

    hosts.meet("devices")
    of_all(0).block_until_ready()
    return of_all
