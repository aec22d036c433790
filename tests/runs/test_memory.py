import jax
import jax.numpy as jnp
import pytest

from jaxcd.base.errors import DeviceMemoryError
from jaxcd.runs.memory import explained_memory


def test_exhausted_memory_is_one_line_with_the_remedy():
    with pytest.raises(DeviceMemoryError) as error, explained_memory("lower config.train.batch (8)"):
        jax.block_until_ready(jax.jit(lambda: jnp.ones((1 << 22, 1 << 22)))())
    assert str(error.value) == "out of memory on cpu: lower config.train.batch (8)"
    with pytest.raises(DeviceMemoryError, match="out of memory on the host: lower --batch"):
        with explained_memory("lower --batch"):
            bytearray(1 << 60)


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), explained_memory("lower it"):
        _ = 1 / 0
