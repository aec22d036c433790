"""What to lower when the device's memory does not suffice."""

import contextlib
from collections.abc import Iterator

import jax

from jaxcd.config import Config
from jaxcd.errors import DeviceMemoryError


@contextlib.contextmanager
def explained_memory(config: Config) -> Iterator[None]:
    """Turn XLA's page on exhausted memory into one line with the settings that decide it.

    Raises:
        DeviceMemoryError: in place of XLA's RESOURCE_EXHAUSTED.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        t, d, m = config.train, config.data, config.model
        raise DeviceMemoryError(
            f"out of memory on {jax.devices()[0].device_kind}: lower config.train.batch ({t.batch}) or "
            f"config.data.crop ({d.crop}), raise config.train.accumulation ({t.accumulation}), lower "
            f"config.train.eval_batch ({t.eval_batch}), or set config.model.dtype=bfloat16 (now {m.dtype})"
        ) from error
