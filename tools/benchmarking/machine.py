"""What a figure was measured on."""

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxcd.base.processes import cores

_ROOT = Path(__file__).resolve().parents[2]
_SETTINGS = ("XLA_FLAGS", "GLIBC_TUNABLES")  # that change speeds
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "grain", "torch", "albumentations")


def machine(about: dict[str, Any]) -> dict[str, Any]:
    """Describe this machine, its software, and the code.

    Args:
        about: what jaxcd's side told: backend and device.
    """
    return {
        "date": time.strftime("%Y-%m-%d"),
        "backend": about["backend"],
        "device": about["device"],
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": dict(filter(None, map(_version, _PACKAGES))),
        "environment": {name: os.environ[name] for name in _SETTINGS if name in os.environ},
        "commit": _commit(),
    }


def _version(package: str) -> tuple[str, str] | None:
    try:
        return package, metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    """Name the commit, with a + where files differ from it; empty outside a checkout."""

    def git(*arguments: str) -> str:
        try:
            return subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True).stdout.strip()
        except OSError:
            return ""

    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
