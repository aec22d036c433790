"""What all entries share: they report errors in one line, and print the device that they use.

Loader processes import the entry's module again, and this one with it. They do not need jax, so only functions import
it here.
"""

import errno
import functools
import glob
import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from jaxcd.base.errors import DeviceError, JaxcdError
from jaxcd.base.files import FULL, full_disk
from jaxcd.base.machine import cache_folder, cpu_digest
from jaxcd.base.processes import keep_freed_memory

_NO_SPACE = os.strerror(errno.ENOSPC)
# What a user can do about an error of a file, by the system's error number.
_REMEDIES = {
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "name a folder that can be written to",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of this path is a file; check the path",
    errno.EISDIR: "a file was expected here; check the path",
    errno.EEXIST: "a file of this name is in the way; name another folder",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.EIO: "the disk or its connection fails; check it and run the same command again",
    errno.ESTALE: "the network disk went away; check it and run the same command again",
}


def guarded(main: Callable[[Sequence[str] | None], int]) -> Callable[..., int]:
    """Wrap an entry's `main(argv) -> exit code`: an error that a user can cause becomes one line and exit code 2."""

    @functools.wraps(main)
    def wrapper(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:
            # The program that reads our output (such as `head`) has closed it. At exit, Python would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except Exception as error:
            message = explained(error)
            if message is None:
                raise
            return _fail(message)

    return wrapper


def explained(error: Exception) -> str | None:
    """Say in one line what a user can do about an error; None where it is a defect of jaxcd."""
    if isinstance(error, JaxcdError):
        return str(error)
    if isinstance(error, OSError):
        return _system_message(error)
    # Orbax and TFDS raise errors of their own, which keep only the text of the system's error.
    return str(full_disk(_unwritten(error))) if _NO_SPACE in str(error) else None


def announce_device() -> None:
    """Prepare this process for jax and print the device; warn if jax does not use the machine's accelerator.

    Raises:
        DeviceError: jax finds no device of the kind that JAX_PLATFORMS names.
    """
    quiet_libraries()
    keep_freed_memory()
    import jax

    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # jax 0.10 asserts where the plugin is not installed
        wanted = os.environ.get("JAX_PLATFORMS", "")
        reason = " ".join(str(error).split())[:200] or "no such backend"
        raise DeviceError(
            f"JAX_PLATFORMS={wanted}: JAX cannot use it here ({reason}); unset it, or install JAX for that device "
            "(pip install 'jaxcd[cuda13]')"
        ) from error
    _keep_compiled(devices[0].platform)
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    print(f"device: {len(devices)} x {devices[0].platform} ({kinds}), jax {jax.__version__}", flush=True)
    unused = unused_accelerator()
    if devices[0].platform == "cpu" and unused:
        print(
            f"WARNING: this machine has {unused}, but JAX runs on the CPU, tens of times slower.\n"
            "WARNING: install JAX for it, e.g. pip install 'jaxcd[cuda13]' (drivers from 580) or 'jaxcd[cuda12]', and "
            "see that JAX_PLATFORMS is not set to cpu.",
            file=sys.stderr,
            flush=True,
        )


def _keep_compiled(backend: str) -> None:
    """Let XLA keep compiled code in a folder, which all later processes use.

    JAX_COMPILATION_CACHE_DIR names another folder.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    folder = cache_folder() / "compiled"
    if backend == "cpu":
        # JAX's cache key leaves out the CPU's features: machines that share a home directory would load code compiled
        # for other CPUs.
        folder /= cpu_digest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))


def quiet_libraries() -> None:
    """Silence the logs of libraries: warnings that do not concern users, and errors that Orbax logs and also raises."""
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _unraisable


def unused_accelerator() -> str | None:
    """Return the kind of accelerator that the operating system shows, or None if it shows none."""
    if glob.glob("/dev/nvidia[0-9]*") or shutil.which("nvidia-smi"):
        return "an NVIDIA GPU"
    if os.path.exists("/dev/kfd"):
        return "an AMD GPU"
    if glob.glob("/dev/accel[0-9]*"):
        return "a TPU"
    return None


def _unraisable(unraisable: Any) -> None:
    """Hide the error "Event loop is closed": after one failed read or write, Orbax closes the loop for all others."""
    if not (isinstance(unraisable.exc_value, RuntimeError) and str(unraisable.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(unraisable)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return 2


def _system_message(error: OSError) -> str | None:
    """Return a message on an error of the operating system; None if it names no file, or users can do nothing."""
    if error.errno in FULL:
        return str(full_disk(f"could not write {error.filename}" if error.filename else _unwritten(error)))
    if error.filename is None or error.errno not in _REMEDIES:
        return None
    return f"{error.filename}: {os.strerror(error.errno).lower()}; {_REMEDIES[error.errno]}"


def _unwritten(error: Exception) -> str:
    """Return which file could not be written, or else the text of the error."""
    paths = re.findall(r"[\"'](/[^\"']+)[\"']", str(error))
    return f"could not write {paths[0]}" if paths else " ".join(str(error).split())[:300]
