"""A stand-in for jaxtyping, for machines that have only jax, flax, optax, orbax, numpy and torch."""

import sys
import types
from typing import Any


class _Shaped:
    """Any of jaxtyping's types: with a shape it says nothing."""

    def __class_getitem__(cls, _: Any) -> Any:
        return Any


def supply_jaxtyping() -> None:
    """Let `from jaxtyping import ...` work where the package is missing; annotations then check nothing."""
    try:
        import jaxtyping as _  # noqa: F401
    except ModuleNotFoundError:
        stand_in: Any = types.ModuleType("jaxtyping")
        stand_in.__getattr__ = lambda name: _array(name)
        sys.modules["jaxtyping"] = stand_in


def _array(name: str) -> Any:
    if name.startswith("__"):  # what Python's own machinery asks a module for
        raise AttributeError(name)
    if name == "Array":
        import jax

        return jax.Array
    return _Shaped
