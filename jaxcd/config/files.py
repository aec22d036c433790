"""Reads and writes configurations, and names the fields in which two of them define different runs."""

import dataclasses
import json
import typing
from collections.abc import Sequence
from pathlib import Path

from jaxcd.base import fingerprints
from jaxcd.base.errors import ConfigError
from jaxcd.base.files import write_whole
from jaxcd.config import Config

_HOSTS = ("hosts.coordinator", "hosts.processes", "hosts.index", "hosts.timeout")
# A run may be resumed with other values of these fields: they say where copies lie and how the work is shared. They do
# not change the result (`devices` changes its rounding).
_RUNTIME_FIELDS = (
    "data.cache",
    "data.incomplete",
    "data.workers",
    "data.prefetch",
    "train.devices",
    "train.eval_batch",
    "train.log_every",
    *_HOSTS,
)

# Fields that each process of a run on several may have for itself.
_OWN_FIELDS = ("data.cache", "data.workers", "data.prefetch", *_HOSTS)


def to_dict(config: Config) -> dict:
    """Return the configuration as plain nested dictionaries that JSON can hold."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(values: dict) -> Config:
    """Rebuild a configuration from the dictionaries of `to_dict`, and validate it.

    Raises:
        ConfigError: an unknown field, a wrong type or an impossible value.
    """
    config = _build(Config, _as_now(values), "config")
    config.validate()
    return config


def _as_now(values: dict) -> dict:
    """Return the values with the names of today: `data.register` was one of `data.scenes`."""
    data = values.get("data")
    if not isinstance(data, dict) or not isinstance(scenes := data.get("scenes"), dict) or "register" not in scenes:
        return values
    kept = {name: value for name, value in scenes.items() if name != "register"}
    return values | {"data": data | {"scenes": kept, "register": scenes["register"]}}


def difference(old: Config, new: Config) -> str | None:
    """Name the first field in which two configurations define different runs, or None.

    Fields that only say how the work is organised (worker counts, logging) don't count.
    """
    return fingerprints.difference(_defining(old), _defining(new))


def read(path: Path) -> Config:
    """Read the configuration that `write` wrote into a run folder.

    Raises:
        ConfigError: the file is not JSON, or holds no configuration.
    """
    try:
        values = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a run's configuration ({error})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not a run's configuration (expected an object)")
    return from_dict(values)


def write(config: Config, path: Path) -> None:
    """Write the configuration as JSON, whole or not at all."""
    write_whole(path, json.dumps(to_dict(config), indent=2) + "\n")


def write_python(config: Config, path: Path, *, about: str) -> None:
    """Write the configuration as a config file, whole or not at all.

    Args:
        config: the configuration that the file's `get_config()` returns.
        path: the `.py` file.
        about: docstring of the file.
    """
    kinds = {"Config"}
    changed = _changed(config)
    plain = [name for name, value in changed.items() if not dataclasses.is_dataclass(value)]
    ordered = [*plain, *(name for name in changed if name not in plain)]
    fields = [f"        {name}={_literal(changed[name], kinds)}," for name in ordered]
    used = ", ".join(sorted(kinds))
    opening = about.strip() + ("\n" if "\n" in about.strip() else "")
    lines = [f'"""{opening}"""', "", f"from jaxcd.config import {used}", "", "", "def get_config() -> Config:"]
    lines += [
        '    """All that differs from the defaults."""',
        "    return Config(",
        *fields,
    ]
    write_whole(path, "\n".join([*lines, "    )", ""]))


def _changed(node: typing.Any) -> dict[str, typing.Any]:
    default = type(node)()
    return {
        item.name: getattr(node, item.name)
        for item in dataclasses.fields(node)
        if getattr(node, item.name) != getattr(default, item.name)
    }


def _literal(value: typing.Any, kinds: set[str]) -> str:
    """Write a value as Python; the names of the groups that it needs are added to `kinds`."""
    if dataclasses.is_dataclass(value):
        kind = type(value).__name__
        kinds.add(kind)
        return f"{kind}({', '.join(f'{name}={_literal(own, kinds)}' for name, own in _changed(value).items())})"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def shared_by_processes(config: Config) -> dict:
    """Return the fields in which the processes of one run have to agree."""
    return _without(config, _OWN_FIELDS)


def _defining(config: Config) -> dict:
    """Return the fields that define a run."""
    return _without(config, _RUNTIME_FIELDS)


def _without(config: Config, names: Sequence[str]) -> dict:
    values = to_dict(config)
    for name in names:
        group, field = name.split(".")
        del values[group][field]
    return {"config": values}


def _build(cls: type, values: dict, path: str) -> typing.Any:
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{path}.{unknown[0]}: no such field; there are {', '.join(hints)}")
    built = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            if not isinstance(value, dict):
                raise ConfigError(f"{path}.{name}: expected an object, got {value!r}")
            value = _build(typing.cast(type, hints[name]), value, f"{path}.{name}")
        elif isinstance(value, list):
            value = tuple(value)
        built[name] = value
    return cls(**built)
