"""The cards that programs are compiled for: a TOML file each, turned into what XLA's compiler reads."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxcd.base.errors import ConfigError

FOLDER = Path(__file__).parent / "targets"
_DEVICE = {
    "core_count": int, "fpus_per_core": int, "clock_rate_ghz": float, "memory_bandwidth": int,
    "device_memory_size": int, "l2_cache_size": int, "threads_per_core_limit": int, "shared_memory_per_core": int,
    "shared_memory_per_block": int, "shared_memory_per_block_optin": int, "registers_per_core_limit": int,
    "registers_per_block_limit": int, "pcie_bandwidth": int, "ecc_enabled": bool,
}  # fmt: skip
_OTHERS = {"compute_capability": list, "accelerated_features": bool, "scalar_units": dict, "matrix_units": dict}
_CARD = {"name": str, "bandwidth": float, "bf16_rate": float, "f32_rate": float}
# What all of NVIDIA's cards have in common.
_COMMON = {
    "threads_per_block_limit": 1024, "threads_per_warp": 32, "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 65535, "block_dim_limit_z": 65535, "thread_dim_limit_x": 1024, "thread_dim_limit_y": 1024,
    "thread_dim_limit_z": 64, "device_address_bits": 64,
}  # fmt: skip
# Numbers of XLA's types of elements (PrimitiveType).
_TYPES = {
    "s8": 2,
    "s32": 4,
    "s64": 5,
    "u8": 6,
    "f16": 10,
    "f32": 11,
    "f64": 12,
    "bf16": 16,
    "f8e5m2": 19,
    "f8e4m3fn": 20,
}
_CUDA, _CUDNN = "13.0.0", (9, 10, 0)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A card.

    Attributes:
        name: as its maker calls it.
        bandwidth: bytes a second that the bound is computed with.
        rates: operations a second on tensor cores, by type of the operands.
        memory: bytes.
        text: XLA's GpuTargetConfigProto, as text.
    """

    name: str
    bandwidth: float
    rates: Mapping[str, float]
    memory: int
    text: str

    def rate(self, dtype: str) -> float:
        """Operations a second on operands of this type."""
        return self.rates["bf16" if dtype in ("bf16", "f16") else "f32"]


def known() -> list[str]:
    """Names of the cards that have a file."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Target:
    """Read a card.

    Args:
        name: one of `known()`, or path of a TOML file like theirs.

    Raises:
        ConfigError: there is no such card, or its file lacks a field.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(f"--target: expected {', '.join(known())} or a file like theirs (.toml), got {name!r}")
    try:
        read = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--target: {path}: not TOML ({error})") from error
    card, device = (
        _table(path, read, table, fields) for table, fields in (("card", _CARD), ("device", _DEVICE | _OTHERS))
    )
    rates = {kind: float(card[f"{kind}_rate"]) for kind in ("bf16", "f32")}
    return Target(
        name=card["name"],
        bandwidth=float(card["bandwidth"]),
        rates=rates,
        memory=device["device_memory_size"],
        text=_text(path, card["name"], device),
    )


def _table(path: Path, read: Mapping[str, Any], table: str, fields: Mapping[str, type]) -> dict[str, Any]:
    found = read.get(table)
    if not isinstance(found, dict):
        raise ConfigError(f"--target: {path}: no table [{table}]; see {FOLDER / 'h100.toml'}")
    for name, kind in fields.items():
        if name not in found:
            raise ConfigError(f"--target: {path}: [{table}] lacks {name}; see {FOLDER / 'h100.toml'}")
        value, wanted = found[name], (int, float) if kind is float else kind
        if not isinstance(value, wanted) or isinstance(value, bool) != (kind is bool):
            raise ConfigError(f"--target: {path}: [{table}] {name}: expected {kind.__name__}, got {value!r}")
        if kind in (int, float) and value <= 0:
            raise ConfigError(f"--target: {path}: [{table}] {name}: expected a number above 0, got {value!r}")
    return found


def _text(path: Path, name: str, device: Mapping[str, Any]) -> str:
    """Write the card as XLA's protocol buffer."""
    try:
        major, minor = (int(number) for number in device["compute_capability"])
        scalar = [_rate(kind, clock=device["clock_rate_ghz"], row=row) for kind, row in device["scalar_units"].items()]
        matrix = [_rate(kind, clock=row[2], row=row[:2]) for kind, row in device["matrix_units"].items()]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ConfigError(
            f"--target: {path}: compute_capability, scalar_units or matrix_units is not as in {FOLDER / 'h100.toml'}"
        ) from error
    capability: dict[str, Any] = {"major": major, "minor": minor}
    if device["accelerated_features"]:
        capability["feature_extension"] = _Word("ACCELERATED_FEATURES")
    info = {
        **_COMMON,
        **{field: device[field] for field in _DEVICE},
        "cuda_compute_capability": capability,
        "scalar_unit_description": {"rate_infos": scalar},
        "matrix_unit_description": {"rate_infos": matrix},
        "device_vendor": "NVIDIA Corporation",
        "name": name,
        **dict.fromkeys(("driver_version", "runtime_version", "compile_time_toolkit_version"), _CUDA),
        "dnn_version": ".".join(map(str, _CUDNN)),
    }
    numbers = dict(zip(("major", "minor", "patch"), _CUDNN, strict=True))
    return _message(
        {"gpu_device_info": info, "platform_name": "CUDA", "dnn_version_info": numbers, "device_description_str": name}
    )


class _Word(str):
    """A value that is written without quotes."""


def _rate(kind: str, *, clock: float, row: list[int]) -> dict[str, Any]:
    units, operations = row
    return {
        "key": _TYPES[kind],
        "value": {"clock_rate_ghz": clock, "units_per_core": units, "ops_per_clock": operations},
    }


def _message(fields: Mapping[str, Any], indent: str = "") -> str:
    lines = []
    for name, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                lines.append(f"{indent}{name} {{\n{_message(each, indent + '  ')}{indent}}}\n")
                continue
            if isinstance(each, bool):
                each = str(each).lower()
            elif isinstance(each, str) and not isinstance(each, _Word):
                each = f'"{each}"'
            lines.append(f"{indent}{name}: {each}\n")
    return "".join(lines)
