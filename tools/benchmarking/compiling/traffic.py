"""Bytes between kernels and memory, counted from XLA's text.

A kernel reads each operand once and writes each result once. What costs nothing: tuples and their parts, bitcasts,
constants, ends of asynchronous pairs. Less than a whole operand is counted where a kernel takes slices of it or
gathers from it, and less than a whole result where it changes some elements in place. Bodies of loops count as often
as they run; of a conditional the most expensive branch. A workspace that a library asks for is no traffic here, and
what second-level caches keep from one kernel to the next is not seen.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarking.compiling.hlo import Computation, Instruction, Module, Type, backwards

_FREE = {
    "parameter", "constant", "bitcast", "get-tuple-element", "tuple", "after-all", "opt-barrier", "add-dependency",
    "domain", "partition-id", "replica-id",
}  # fmt: skip
_SLICES = ("slice", "dynamic-slice", "gather")
_LIBRARIES = ("__cudnn$", "__cublas$")  # their last result may be a workspace
_RENAMES = ("bitcast", "reshape")


@dataclass(frozen=True)
class Kernel:
    """One instruction that runs on the card.

    Attributes:
        instruction: as in the text.
        computation: that it stands in.
        times: how often it runs.
        read: bytes, each time.
        written: bytes, each time.
    """

    instruction: Instruction
    computation: Computation
    times: int
    read: int
    written: int


@dataclass
class Traffic:
    """All kernels of a program, and what had to be assumed to count them."""

    kernels: list[Kernel] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def traffic(module: Module) -> Traffic:
    """Count the bytes of each kernel of a program."""
    found = Traffic()
    found.kernels = list(_kernels(module, module.computations[module.entry], 1, found.notes))
    return found


def _kernels(module: Module, computation: Computation, times: int, notes: list[str]) -> Iterator[Kernel]:
    for each in computation.instructions.values():
        if each.opcode in _FREE or each.opcode.endswith(("-done", "-update")):
            continue
        if each.opcode == "while":
            (body,), (condition,) = each.called("body"), each.called("condition")
            turns = _turns(module, each)
            if turns is None:
                turns = 1
                notes.append(f"{each.name}: how often the loop runs is not in the text; counted once")
            yield from _kernels(module, module.computations[body], times * turns, notes)
            yield from _kernels(module, module.computations[condition], times * (turns + 1), notes)
        elif each.opcode == "conditional":
            branches = [list(_kernels(module, module.computations[name], times, notes)) for name in each.called()]
            notes.append(f"{each.name}: the most expensive of {len(branches)} branches is counted")
            yield from max(branches, key=lambda kernels: sum(k.times * (k.read + k.written) for k in kernels))
        elif each.opcode in ("call", "async-start"):
            for name in each.called():
                yield from _kernels(module, module.computations[name], times, notes)
        else:
            read, written = _moved(module, computation, each)
            yield Kernel(each, computation, times, read, written)


def _turns(module: Module, loop: Instruction) -> int | None:
    """How often a loop runs: as XLA says it, or from a condition `counter < constant` (counters begin at 0)."""
    known = re.search(r'known_trip_count[":={\s]+n[":\s]+(\d+)', loop.attributes)
    if known:
        return int(known.group(1))
    condition = module.computations[loop.called("condition")[0]]
    seen = [condition]
    seen += [module.computations[n] for each in condition.instructions.values() for n in each.called()]
    text = [each for computation in seen for each in computation.instructions.values()]
    less = any(each.opcode == "compare" and each.attribute("direction") == "LT" for each in text)
    limits = [int(each.literal) for each in text if each.opcode == "constant" and each.literal.isdecimal()]
    return limits[0] if less and len(limits) == 1 else None


def _moved(module: Module, computation: Computation, each: Instruction) -> tuple[int, int]:
    """Bytes that a kernel reads and writes."""
    operands = {name: computation.instructions[name].type for name in dict.fromkeys(each.operands)}
    if each.opcode.endswith("-start"):  # the type also holds the operand
        whole = sum(kind.bytes for kind in operands.values())
        return whole, whole
    if each.opcode == "fusion":
        fused = module.computations[each.called("calls")[0]]
        read = dict.fromkeys(operands, 0)
        parameters = fused.parameters()
        parts = _read(fused)
        for name, parameter in zip(each.operands, parameters, strict=True):
            read[name] = max(read[name], parts[parameter.name])
        return sum(read.values()), _written(fused)
    if each.opcode == "custom-call":
        return sum(kind.bytes for kind in operands.values()), _results(each).bytes
    # Any other instruction is a fusion of one.
    parameters = {
        name: Instruction(name, kind, "parameter", (), str(i), "") for i, (name, kind) in enumerate(operands.items())
    }
    alone = Computation(each.name, {**parameters, each.name: each}, each.name)
    parts = _read(alone)
    return sum(parts[name] for name in operands), _written(alone)


def _results(call: Instruction) -> Type:
    """What a library call gives, without its workspace."""
    parts, target = call.type.parts, call.attribute("custom_call_target")
    if parts and target.startswith(_LIBRARIES) and parts[-1].dtype in ("u8", "s8") and len(parts) > 1:
        return Type(parts=parts[:-1])
    return call.type


def _read(fused: Computation) -> dict[str, int]:
    """Bytes that a fusion reads of each parameter.

    From the result backwards: how many elements of a value its users take. Elementwise operations take as many of
    their operands as are taken of their result; no value is read more than once.
    """
    taken: dict[str, float] = dict.fromkeys(fused.instructions, 0.0)
    updated = _updated(fused)
    taken[fused.root] = float(fused.instructions[fused.root].type.elements)
    sizes = {name: each.type.elements for name, each in fused.instructions.items()}
    for each in backwards(fused):
        mine = taken[each.name] = min(taken[each.name], float(sizes[each.name]))
        for name in dict.fromkeys(each.operands):  # x + x takes x once
            places = [i for i, operand in enumerate(each.operands) if operand == name]
            taken[name] += max(_share(each, i, mine, fused, in_place=each.name in updated) for i in places)
    shares = {}
    for each in fused.parameters():
        size = sizes[each.name]
        shares[each.name] = round(each.type.bytes * min(1.0, taken[each.name] / size)) if size else 0
    return shares


def _share(each: Instruction, i: int, mine: float, fused: Computation, *, in_place: bool) -> float:
    """Elements of operand `i` that are taken where `mine` elements of the result are."""
    size = fused.instructions[each.operands[i]].type.elements
    if mine == 0:
        return 0.0
    if each.opcode in _SLICES:
        return min(mine, size) if i == 0 else size
    if each.opcode == "dynamic-update-slice":
        update = fused.instructions[each.operands[1]].type.elements
        return (0.0 if in_place else max(mine - update, 0)) if i == 0 else size
    if each.opcode == "scatter" and i == 0 and in_place:
        return min(size, fused.instructions[each.operands[-1]].type.elements)
    if each.opcode == "broadcast":
        return size
    if each.opcode in ("tuple", "get-tuple-element"):
        return size
    whole = each.type.elements
    return size * mine / whole if whole else 0.0


def _updated(fused: Computation) -> dict[str, int]:
    """Results that a fusion changes in place: the operation that does it -> bytes that it writes."""
    found = {}
    for name in _roots(fused):
        each = _behind(fused, name)
        if each.opcode in ("dynamic-update-slice", "scatter") and (
            _behind(fused, each.operands[0]).opcode == "parameter"
        ):
            update = fused.instructions[each.operands[1 if each.opcode == "dynamic-update-slice" else -1]]
            found[each.name] = min(update.type.bytes, each.type.bytes)
    return found


def _roots(fused: Computation) -> tuple[str, ...]:
    root = fused.instructions[fused.root]
    return root.operands if root.opcode == "tuple" else (root.name,)


def _behind(fused: Computation, name: str) -> Instruction:
    """What stands behind operations that only give a value another name or form."""
    each = fused.instructions[name]
    while each.opcode in _RENAMES and each.operands:
        each = fused.instructions[each.operands[0]]
    return each


def _written(fused: Computation) -> int:
    """Bytes that a fusion writes."""
    updated = _updated(fused)
    return sum(updated.get(_behind(fused, name).name, fused.instructions[name].type.bytes) for name in _roots(fused))
