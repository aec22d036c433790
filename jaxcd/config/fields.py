"""Declares settings: a field holds its default, its help and its bounds, and flags and checks are made from it."""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from jaxcd.base.errors import ConfigError

_HELP, _BOUND = "help", "bound"


class Bound(NamedTuple):
    """A condition on a value, as a function and in words."""

    holds: Callable[[Any], bool]
    expected: str


class Setting(NamedTuple):
    """A field of a configuration, as its flag and its help need it.

    Attributes:
        path: its name as a user writes it, such as config.data.crop.
        type: type of its values.
        default: its value if the user sets none.
        about: its help text.
        expected: its bounds in words, or empty.
    """

    path: str
    type: Any
    default: Any
    about: str
    expected: str


def setting(default: Any, about: str, bound: Bound | None = None) -> Any:
    """Declare a field of a configuration.

    Args:
        default: its value if the user sets none.
        about: its help text, to which `--help` adds default and bounds.
        bound: condition on its value, besides the type.
    """
    return dataclasses.field(default=default, metadata={_HELP: about, _BOUND: bound})


def one_of(*options: Any) -> Bound:
    """Accept the given values."""
    return Bound(lambda value: value in options, f"one of {', '.join(map(str, options))}")


def at_least(low: float, unit: str = "") -> Bound:
    """Accept values of at least `low`."""
    return Bound(lambda value: value >= low, f"at least {low}{unit and f' {unit}'}")


def above_zero(what: str) -> Bound:
    """Accept positive values; `what` names one, such as "a rate"."""
    return Bound(lambda value: value > 0, f"{what} above 0")


def below_one(what: str = "") -> Bound:
    """Accept values of at least 0 and below 1."""
    return Bound(lambda value: 0 <= value < 1, f"{what and f'{what} of '}at least 0 and below 1")


def seed() -> Bound:
    """Accept seeds of a random generator."""
    return Bound(lambda value: 0 <= value < 2**63, "at least 0 and below 2**63")


SHARE = Bound(lambda value: 0 <= value <= 1, "a share between 0 and 1")
SHARES = Bound(
    lambda shares: all(share > 0 for share in shares) and abs(sum(shares) - 1) < 1e-6, "shares above 0 that sum to 1"
)


def settings_of(kind: Any, path: str) -> Iterator[Setting]:
    """List the settings of a configuration class and of the groups in it, in their order."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint, where = hints[field.name], f"{path}.{field.name}" if path else field.name
        if dataclasses.is_dataclass(hint):
            yield from settings_of(hint, where)
        else:
            bound = field.metadata.get(_BOUND)
            about = field.metadata.get(_HELP, "")
            yield Setting(where, hint, field.default, about, bound.expected if bound else "")


def check(node: Any, path: str) -> None:
    """Check the types of all values first, then their bounds.

    Args:
        node: a configuration.
        path: text before its fields' names in messages, such as "config.data.".

    Raises:
        ConfigError: at the first invalid field; the message names it.
    """
    check_types(node, path)
    check_bounds(node, path)


def check_bounds(node: Any, path: str) -> None:
    """Check the bounds of all values of a configuration and of the groups in it; a value of None is not checked.

    Raises:
        ConfigError: at the first invalid field.
    """
    for field in dataclasses.fields(node):
        value, where = getattr(node, field.name), f"{path}{field.name}"
        bound = field.metadata.get(_BOUND)
        if dataclasses.is_dataclass(value):
            check_bounds(value, f"{where}.")
        elif bound is not None and value is not None and not bound.holds(value):
            raise ConfigError(f"{where}: expected {bound.expected}, got {value!r}")


def check_types(node: Any, path: str) -> None:
    """Check the types of a configuration and of the groups in it.

    Raises:
        ConfigError: at the first field of another type.
    """
    hints = typing.get_type_hints(type(node))
    for name, hint in hints.items():
        value, where = getattr(node, name), f"{path}{name}"
        if dataclasses.is_dataclass(hint):
            if type(value) is not hint:
                raise ConfigError(
                    f"{where}: is a group of fields and cannot be set to {value!r}; set one of its fields"
                )
            check_types(value, f"{where}.")
        elif isinstance(hint, types.GenericAlias):
            _check_tuple(value, hint, where)
        elif hint is float:
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
                raise ConfigError(f"{where}: expected a finite number, got {value!r}")
        elif type(value) is not hint:
            raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")


def _check_tuple(value: Any, hint: types.GenericAlias, where: str) -> None:
    kinds = hint.__args__
    example = "\"('a', 'b')\"" if kinds[0] is str else '"(0.7, 0.15, 0.15)"'
    wanted = "a tuple of text" if kinds[-1] is Ellipsis else f"{len(kinds)} numbers"
    accepted = str if kinds[0] is str else (int, float)
    if (
        not isinstance(value, tuple)
        or (kinds[-1] is not Ellipsis and len(value) != len(kinds))
        or not all(isinstance(item, accepted) and not isinstance(item, bool) for item in value)
        or any(isinstance(item, str) and "," in item for item in value)
    ):
        raise ConfigError(f"{where}: expected {wanted}, got {value!r}; write it as --{where}={example}")
