"""Errors of exhausted memory that say what to lower."""

import contextlib
from collections.abc import Iterator

import jax

from jaxcd.base.errors import DeviceMemoryError


@contextlib.contextmanager
def explained_memory(advice: str) -> Iterator[None]:
    """Turn XLA's page on exhausted memory, or the host's own, into one line.

    Args:
        advice: what to lower, and its value now.

    Raises:
        DeviceMemoryError: in place of XLA's RESOURCE_EXHAUSTED and of MemoryError.
    """
    try:
        yield
    except MemoryError as error:
        raise DeviceMemoryError(f"out of memory on the host: {advice}") from error
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DeviceMemoryError(f"out of memory on {jax.devices()[0].device_kind}: {advice}") from error
