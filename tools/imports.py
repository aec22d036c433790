"""Draw the house: its rooms, their layers, and which room imports which; exit with 1 where an import runs uphill.

    python tools/imports.py

A room imports rooms above it in `ROOMS` alone, as docs/design.md draws them; entries (`jaxcd/train.py` and the like)
import all, and nothing imports an entry.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

# Each room with those it may import, itself always included: never one that comes later.
ROOMS: dict[str, frozenset[str]] = {
    room: frozenset(uses.split())
    for room, uses in {
        "base": "",
        "config": "base",
        "scenes": "base",
        "models": "base config",
        "simulator": "base scenes",
        "sources": "base config scenes simulator",
        "store": "base config scenes sources",
        "feed": "base config store",
        "learn": "base config models",
        "runs": "base config models learn",
        "tasks": "base config models store feed learn runs",
        "mapping": "base config scenes models learn runs",
        "assessment": "base config scenes",
        "active": "base config scenes models learn runs mapping assessment",
        "tuning": "base config learn runs",
        "labelling": "base config scenes sources store feed learn runs mapping assessment active",
        "entry": "base config scenes simulator sources store feed models learn runs tasks mapping "
        "assessment active tuning labelling",
    }.items()
}
MOST_MODULES, MOST_LAYERS = 12, 8

_NOT_BARE = frozenset({"rasterio", "grain", "tensorflow_datasets", "cv2"})
_BARE_ROOMS = ("models", "learn", "runs")
_FORBIDDEN = {room: _NOT_BARE for room in _BARE_ROOMS} | {
    room: frozenset({"jax", "flax", "optax", "orbax"}) for room in ("scenes", "simulator", "sources", "store")
}
# What a bare accelerator machine has: models, learn and runs import nothing else outside of their functions.
_BARE = frozenset({"jaxcd", "jax", "flax", "optax", "orbax", "etils", "numpy", "jaxtyping", *sys.stdlib_module_names})
_NOWHERE = frozenset({"tensorflow", "torch", "tools", "tests", "configs"})
# Packages of the extra `active`, and the rooms that may import them.
_STATISTICS, _STATISTICAL_ROOMS = frozenset({"sklearn", "statsmodels", "threadpoolctl"}), ("assessment", "active")


class Import(NamedTuple):
    """A module that a line imports; `lazy` where a function has to be called for it."""

    line: int
    module: str
    lazy: bool


class House(NamedTuple):
    """What the imports of a package say.

    Attributes:
        modules: of each room, the names of its modules (packages inside a room are part of it).
        arrows: of each room, the other rooms that it imports.
        violations: one line for each import that must not be.
    """

    modules: dict[str, list[str]]
    arrows: dict[str, set[str]]
    violations: list[str]

    @property
    def layers(self) -> dict[str, int]:
        """The layer of each room but the entries: 1, or one above the highest that it imports."""
        found: dict[str, int] = {}
        for room in ROOMS:
            if room in self.modules and room != "entry":
                found[room] = 1 + max((found[used] for used in self.arrows[room] if used in found), default=0)
        return found


def main() -> int:
    """Print the house; returns 1 where an import must not be, or a room or the house is too large."""
    house = read(ROOT)
    layers = house.layers
    for room, modules in house.modules.items():
        uses = ", ".join(used for used in ROOMS if used in house.arrows[room]) or "nothing"
        layer = f"layer {layers[room]}" if room in layers else "entries"
        print(f"{room:<11}{layer:<9}{len(modules):>3} modules   imports {uses}")
    problems = [*house.violations, *too_large(house)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def too_large(house: House) -> list[str]:
    """Name the folders with more than `MOST_MODULES` modules, and say whether there are more than `MOST_LAYERS`."""
    folders: dict[str, int] = {}
    for modules in house.modules.values():
        for module in modules:
            folder = module.rpartition(".")[0]
            folders[folder] = folders.get(folder, 0) + 1
    found = [
        f"{folder} has {count} modules, more than {MOST_MODULES}"
        for folder, count in folders.items()
        if count > MOST_MODULES
    ]
    layers = max(house.layers.values(), default=0)
    return found + ([f"{layers} layers, more than {MOST_LAYERS}"] if layers > MOST_LAYERS else [])


def read(root: Path) -> House:
    """Read every import of the package under `root`."""
    files = {}
    for path in sorted((root / "jaxcd").rglob("*.py")):
        names = path.relative_to(root).with_suffix("").parts
        files[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    house = House({}, {}, [])
    rooms = {room: [] for room in ROOMS}
    for module, path in files.items():
        room, where = room_of(module, path), path.relative_to(root)
        if room not in ROOMS:
            house.violations.append(f"{where}: docs/design.md has no room {room!r}")
            continue
        if path.name != "__init__.py":
            rooms[room].append(module)
        arrows = house.arrows.setdefault(room, set())
        for found in imports_of(path.read_text(), module, set(files), path.name == "__init__.py"):
            top = found.module.split(".")[0]
            used = room_of(found.module, files.get(found.module)) if top == "jaxcd" else ""
            house.violations.extend(f"{where}:{found.line}: {reason}" for reason in _reasons(module, room, found, used))
            if used and used != room and found.module != "jaxcd":
                arrows.add(used)
    house.modules.update({room: modules for room, modules in rooms.items() if room in house.arrows})
    return house


def _reasons(module: str, room: str, found: Import, used: str) -> Iterator[str]:
    """Say why an import must not be; `used` is the room of a module of jaxcd."""
    top = found.module.split(".")[0]
    if top in _NOWHERE | _FORBIDDEN.get(room, frozenset()):
        yield f"{room} must not import {top}"
    elif top in _STATISTICS and room not in _STATISTICAL_ROOMS:
        yield f"{room} must not import {top}, only {' and '.join(_STATISTICAL_ROOMS)} may"
    elif room in _BARE_ROOMS and not found.lazy and top not in _BARE:
        yield f"a bare machine has no {top}: import it in the function that needs it"
    if used == "entry" and found.module not in (module, "jaxcd"):
        yield f"nothing imports an entry ({found.module})"
    elif used not in ("", "entry", room) and used not in ROOMS[room]:
        yield f"{room} must not import {used} ({found.module})"


def room_of(module: str, path: Path | None) -> str:
    """Name the room that a module of jaxcd is in; the package's own files are entries."""
    parts = module.split(".")
    alone = len(parts) == 1 or (len(parts) == 2 and path is not None and path.name != "__init__.py")
    return "entry" if alone else parts[1]


def imports_of(source: str, module: str, modules: set[str], is_package: bool) -> Iterator[Import]:
    """Yield every module a source imports, `from package import module` resolved to the module."""
    tree = ast.parse(source)
    inside = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, node in inside)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: None if is_package and node.level == 1 else is_package - node.level]
                base = ".".join([*parents, base]).rstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(node.lineno, full if full in modules else base, node in inside)


if __name__ == "__main__":
    raise SystemExit(main())
