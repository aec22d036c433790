"""This machine's processor, and the folder in which jaxcd keeps what it has found out or made there."""

import hashlib
import os
import platform
from pathlib import Path

_HALF_PRECISION = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}  # Intel's and AMD's names, and Arm's


def cache_folder() -> Path:
    """Return the folder of this user's files that can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "jaxcd"


def cpu_digest() -> str:
    """Return a name for the kind of CPU that this machine has."""
    kind = "".join(sorted(_cpu_lines())) or f"{platform.machine()} {platform.processor()}"
    return hashlib.sha256(kind.encode()).hexdigest()[:12]


def cpu_has_bfloat16() -> bool:
    """Say whether the CPU multiplies bfloat16 itself, as far as the system tells."""
    return any(_HALF_PRECISION & set(line.partition(":")[2].split()) for line in _cpu_lines())


def _cpu_lines() -> set[str]:
    """Return the lines that say what kind of CPU this is; none where the system has no /proc."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {line for line in lines if line.startswith(("model name", "flags", "Features"))}
