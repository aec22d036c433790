"""Tests whether jaxlib's oneDNN gives right numbers on this machine.

The test runs in a process of its own, because oneDNN ends the process at settings that it cannot take. Its result is
kept in the user's cache folder.
"""

import functools
import hashlib
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxcd.base.files import write_whole
from jaxcd.base.machine import cache_folder, cpu_digest
from jaxcd.models.convolutions import by_onednn, calls
from jaxcd.models.convolutions.geometry import Window, centred, same

_SECONDS = 120  # longest time of a trial
_TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}  # largest error, as a share of the largest value
_JAXLIB = metadata.version("jaxlib")
_RIGHT = "right"
_WRONG, _REFUSED = 3, 4  # exit codes; Python's own for an error is 1
_REFUSALS = {_REFUSED, -signal.SIGABRT, -signal.SIGILL, -signal.SIGSEGV}
_PACKAGES = Path(__file__).resolve().parents[3]


@functools.cache
def failure(dtype: str) -> str:
    """Return the reason why the calls must not be used with a type ("float32" or "bfloat16"); empty if they may.

    The result is kept for other processes, unless the trial failed for another reason, such as a lack of time or
    memory.
    """
    code = hashlib.sha256(b"".join(Path(file).read_bytes() for file in (calls.__file__, by_onednn.__file__, __file__)))
    kept = cache_folder() / "onednn" / f"{dtype}-{_JAXLIB}-{cpu_digest()}-{code.hexdigest()[:12]}"
    try:
        answer = kept.read_text()
    except OSError:
        answer, lasting = _try(dtype)
        if lasting:
            _keep(kept, answer)
    return "" if answer == _RIGHT else answer


def _keep(path: Path, answer: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, answer)
    except OSError:
        pass  # the cache folder cannot be written: the next process runs the trial again


def _try(dtype: str) -> tuple[str, bool]:
    """Test the calls in another process; return the result, and whether later processes may use it, too."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", f"from {__name__} import check; raise SystemExit(check({dtype!r}))"]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, stdin=subprocess.DEVNULL, timeout=_SECONDS, text=True
        )
    except subprocess.TimeoutExpired:
        return f"the trial of oneDNN was not done in {_SECONDS} s", False
    if done.returncode == 0:
        return _RIGHT, True
    library = f"oneDNN of jaxlib {_JAXLIB}"
    if done.returncode == _WRONG:
        return f"{library} gives wrong numbers in {dtype} on this machine", True
    if done.returncode in _REFUSALS:
        return f"{library} does not take jaxcd's calls in {dtype} on this machine", True
    last = (done.stderr.strip().splitlines() or ["no output"])[-1]
    return f"the trial of oneDNN failed (exit code {done.returncode}, {last[:200]})", False


def check(dtype: str) -> int:
    """Compare the calls with XLA's convolutions and products in one type; return the exit code for the process."""
    dense = ((centred(3), 3, 16), (centred(3), 16, 1), (same(3, 2), 3, 8), (centred(7, 2), 5, 4), (centred(3), 7, 9))
    try:
        right = [_convolves(window, 1, c, d, dtype) for window, c, d in dense]
        right += [_convolves(window, 6, 6, 6, dtype) for window in (same(5), same(3, 2))]
        right += [_multiplies(transposed, dtype) for transposed in ("", "a", "b")]
    except jax.errors.JaxRuntimeError:
        return _REFUSED
    return 0 if all(right) else _WRONG


def _multiplies(transposed: str, dtype: str) -> bool:
    a, b = (jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype) for shape in ((70, 5), (5, 9)))
    given = a.T if transposed == "a" else a, b.T if transposed == "b" else b
    got = jax.jit(functools.partial(calls.product, transposed=transposed))(*given)
    return _near(got, a @ b, _TOLERANCE[dtype])


def _convolves(window: Window, groups: int, c: int, d: int, dtype: str) -> bool:
    """Compare a convolution and, for one group, its gradients."""
    draw = np.random.default_rng(0).standard_normal
    x = jnp.asarray(draw((2, 10, 14, c)), dtype)
    kernel = jnp.asarray(draw((window.kernel, window.kernel, c // groups, d)), dtype)

    def xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
        strides, padding, dimensions = (window.stride,) * 2, (window.padding,) * 2, ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=dimensions, feature_group_count=groups
        )

    expected, pull = jax.vjp(xla, x, kernel)
    gradient = jnp.asarray(draw(expected.shape), dtype)
    of_x, of_kernel = pull(gradient)
    pairs = [(jax.jit(lambda x, kernel: calls.convolution(x, kernel, window, groups))(x, kernel), expected)]
    if groups == 1 and by_onednn.has_input_gradient(window):
        pairs.append((jax.jit(lambda kernel, g: by_onednn.input_gradient(kernel, g, window))(kernel, gradient), of_x))
    if groups == 1 and by_onednn.has_kernel_gradient(x, window):
        pairs.append((jax.jit(by_onednn.kernel_gradient)(x, gradient), of_kernel))
    return all(_near(*pair, _TOLERANCE[dtype]) for pair in pairs)


def _near(got: jax.Array, expected: jax.Array, tolerance: float) -> bool:
    got, expected = got.astype(jnp.float32), expected.astype(jnp.float32)
    return bool(jnp.max(jnp.abs(got - expected)) <= tolerance * jnp.max(jnp.abs(expected)))
