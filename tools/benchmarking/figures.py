"""What is measured of a case, as rows: rates, ratios, shares of what the hardware can do at best."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarking import report
from benchmarking.case import DECODED, JAXCD, NETWORK, RIVALS, STEP, Case
from benchmarking.process import about_side, measured
from jaxcd.base.errors import ConfigError


def environment(folder: str) -> dict[str, str]:
    """Environment of the sides: memory is taken as it is needed; what is compiled is kept in `folder`."""
    return {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(Path(folder) / "inductor"),
    }


def ceilings(dtype: str, environment: Mapping[str, str]) -> dict[str, float]:
    """Measure a large matrix product and a large copy.

    Raises:
        ConfigError: one of them can't be measured.
    """
    found = {}
    for suite, unit in (("matmul", "flops"), ("copy", "bytes")):
        (side,) = measured(Case(suite=suite, dtype=dtype), environment)
        if side.failed:
            raise ConfigError(f"the ceiling of {suite} in {dtype} can't be measured: {side.failed}")
        found[f"{unit}_per_second"] = side.about[unit] / side.median
    rates = f"{found['flops_per_second'] / 1e12:.2f} TFLOP/s, {found['bytes_per_second'] / 1e9:.1f} GB/s"
    print(f"\na large matrix product and a large copy in {dtype}: {rates}", flush=True)
    return found


def rows(
    case: Case,
    ceiling: Mapping[str, float],
    environment: Mapping[str, str],
    *,
    names: Sequence[str] = (),
    rounds: int = 0,
    again: bool = True,
) -> list[dict[str, Any]]:
    """Measure a case; one row a side.

    Args:
        case: what is measured.
        ceiling: of `ceilings`, for the case's type.
        environment: of the sides.
        names: of the sides (default all of the case).
        rounds: in which they take turns (default those of `measured`).
        again: also tell how long jaxcd's side compiles when the result is kept on disk; takes a further process.
    """
    print(f"\n{case}", flush=True)
    sides = measured(case, environment, names=names, rounds=rounds)
    medians = {side.name: side.median for side in sides if not side.failed}
    rivals = [seconds for name, seconds in medians.items() if name in RIVALS]
    rows = []
    for side in sides:
        row: dict[str, Any] = {"case": str(case), **asdict(case), "side": side.name, **side.about}
        if not side.failed:
            seconds = side.median
            row["seconds"], row["quartiles"] = seconds, np.percentile(side.times, (25, 75)).tolist()
            row["pairs_per_second"] = case.batch / seconds
            row["megapixels_per_second"] = case.batch * case.tile**2 / seconds / 1e6
            if rivals and side.name not in RIVALS:
                row["times_rival"] = min(rivals) / seconds
            if STEP in medians and side.name != STEP:
                row["share_of_step"] = medians[STEP] / seconds
            for alone, name in ((NETWORK, "share_of_network"), (DECODED, "share_of_decoding")):
                if alone in medians and side.name == JAXCD:
                    row[name] = medians[alone] / seconds
            if "compile_seconds" in side.about and side.name not in RIVALS and again:
                repeated = about_side(case, side.name, environment)
                if "compile_seconds" in repeated:
                    row["compile_cached_seconds"] = repeated["compile_seconds"]
            if "flops" in side.about:
                for unit, of in (("flops", "matmul"), ("bytes", "copy")):
                    row[f"{unit}_per_second"] = side.about[unit] / seconds
                    row[f"share_of_{of}"] = row[f"{unit}_per_second"] / ceiling[f"{unit}_per_second"]
        print(report.line(row), flush=True)
        rows.append({name: value for name, value in row.items() if name not in ("cache", "tiles")})
    return rows
