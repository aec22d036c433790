"""XLA's text of an optimised program, as computations and instructions.

Only what counting needs is kept: types, operands, attributes as text, and the lines of code behind an instruction.
Layouts are left out, because an array has as many bytes in any of them.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_BITS = {
    "pred": 8, "token": 0, "opaque": 0,
    "s2": 2, "u2": 2, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16,
    "s32": 32, "u32": 32, "s64": 64, "u64": 64,
    "f16": 16, "bf16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128,
}  # fmt: skip
_ARRAY = re.compile(r"(\w+)\[([\d,<=\s]*)\](?:\{[^}]*\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|\w+_computations?)=\{?((?:%[\w.\-]+(?:, )?)+)\}?")


@dataclass(frozen=True)
class Type:
    """Type of a value: an array, or a tuple with types in `parts`."""

    dtype: str = ""
    dims: tuple[int, ...] = ()
    parts: tuple["Type", ...] | None = None

    @property
    def elements(self) -> int:
        """Number of elements, over all arrays of a tuple."""
        return math.prod(self.dims) if self.parts is None else sum(part.elements for part in self.parts)

    @property
    def bytes(self) -> int:
        """Size in memory."""
        if self.parts is not None:
            return sum(part.bytes for part in self.parts)
        return -(-math.prod(self.dims) * _bits(self.dtype) // 8)

    @property
    def arrays(self) -> Iterator["Type"]:
        """The arrays of a tuple, those of nested tuples too; or the array itself."""
        if self.parts is None:
            yield self
        else:
            for part in self.parts:
                yield from part.arrays


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        name: unique within its module.
        type: of its result.
        opcode: as XLA writes it (`fusion`, `custom-call`, ...).
        operands: names of instructions of the same computation.
        literal: what stands in the parentheses, for constants and parameters.
        attributes: the rest of the line.
    """

    name: str
    type: Type
    opcode: str
    operands: tuple[str, ...]
    literal: str
    attributes: str

    def attribute(self, name: str) -> str:
        """Value of an attribute as text (`{0,1}`, `b01f_o01i->b01f`, `5`), or empty."""
        found = re.search(rf'\b{name}=(\{{[^}}]*\}}|"[^"]*"|[^,\s]+)', self.attributes)
        return found.group(1).strip('"') if found else ""

    def called(self, attribute: str = "") -> tuple[str, ...]:
        """Names of the computations that it calls, through one attribute or any."""
        names: list[str] = []
        for key, value in _CALLED.findall(self.attributes):
            if attribute in ("", key):
                names += _NAME.findall(value)
        return tuple(names)

    @property
    def op_name(self) -> str:
        """JAX's path of the operation, such as `jit(step)/transpose(jvp())/mul`."""
        found = re.search(r'op_name="((?:[^"\\]|\\.)*)"', self.attributes)
        return found.group(1).replace("\\'", "'") if found else ""


@dataclass(frozen=True)
class Computation:
    """A computation: its instructions in order; the result is `root`."""

    name: str
    instructions: Mapping[str, Instruction]
    root: str

    def parameters(self) -> list[Instruction]:
        """The parameters in order."""
        found = [each for each in self.instructions.values() if each.opcode == "parameter"]
        return sorted(found, key=lambda each: int(each.literal))


@dataclass(frozen=True)
class Frame:
    """A line of code: file, function, line."""

    file: str
    function: str
    line: int


@dataclass
class Module:
    """A program."""

    computations: dict[str, Computation] = field(default_factory=dict)
    entry: str = ""
    frames: dict[int, tuple[int, Frame]] = field(default_factory=dict)

    def stack(self, instruction: Instruction) -> list[Frame]:
        """The lines of code behind an instruction, innermost first."""
        found = re.search(r"stack_frame_id=(\d+)", instruction.attributes)
        at, seen, lines = int(found.group(1)) if found else 0, set(), []
        while at in self.frames and at not in seen:
            seen.add(at)
            parent, frame = self.frames[at]
            lines.append(frame)
            at = parent
        if not lines:  # older texts name the line itself
            file = re.search(r'source_file="([^"]*)"', instruction.attributes)
            line = re.search(r"source_line=(\d+)", instruction.attributes)
            if file and line:
                lines.append(Frame(file.group(1), "", int(line.group(1))))
        return lines


def parse(text: str) -> Module:
    """Read the text of a compiled module (`compiled.as_text()`).

    Raises:
        ValueError: the text has no entry computation, or an instruction of an unknown form.
    """
    module = Module(frames=_frames(text))
    name, instructions, root, entry = "", {}, "", False
    for line in text.splitlines():
        if not name:
            start = _COMPUTATION.match(line)
            if start:
                entry, name, instructions, root = bool(start.group(1)), start.group(2), {}, ""
        elif line.startswith("}"):
            module.computations[name] = Computation(name, instructions, root)
            module.entry = name if entry else module.entry
            name = ""
        elif line.strip():
            is_root, instruction = _instruction(line)
            instructions[instruction.name] = instruction
            root = instruction.name if is_root or not root else root
    if not module.entry:
        raise ValueError("the text has no ENTRY computation")
    return module


def _instruction(line: str) -> tuple[bool, Instruction]:
    head = _INSTRUCTION.match(line)
    if not head:
        raise ValueError(f"not an instruction: {line.strip()[:100]}")
    kind, at = _type(line, head.end())
    opcode = _OPCODE.match(line, at)
    if not opcode:
        raise ValueError(f"no operation in: {line.strip()[:100]}")
    end = _closing(line, opcode.end() - 1)
    inner, rest = line[opcode.end() : end], line[end + 1 :]
    operands = () if opcode.group(1) in ("constant", "parameter") else tuple(_NAME.findall(inner))
    return bool(head.group(1)), Instruction(head.group(2), kind, opcode.group(1), operands, inner, rest)


def _closing(text: str, at: int) -> int:
    """Place of the parenthesis that closes the one at `at`, quoted text left out."""
    depth, quoted = 0, False
    for i in range(at, len(text)):
        c = text[i]
        if c == '"' and text[i - 1] != "\\":
            quoted = not quoted
        elif not quoted and c == "(":
            depth += 1
        elif not quoted and c == ")":
            depth -= 1
            if depth == 0:
                return i
    raise ValueError(f"no closing parenthesis: {text.strip()[:100]}")


def _type(text: str, at: int) -> tuple[Type, int]:
    """Read a type at `at`; returns it and where it ends."""
    if text[at] == "(":
        parts: list[Type] = []
        at += 1
        while text[at] != ")":
            comment = re.compile(r"(?:/\*.*?\*/|[,\s])+").match(text, at)
            if comment:
                at = comment.end()
                continue
            part, at = _type(text, at)
            parts.append(part)
        return Type(parts=tuple(parts)), at + 1
    found = _ARRAY.match(text, at)
    if not found:
        raise ValueError(f"not a type: {text[at : at + 60]}")
    dims = tuple(int(d.strip(" <=")) for d in found.group(2).split(",") if d.strip(" <="))
    return Type(found.group(1), dims), found.end()


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    if dtype.startswith("f8"):
        return 8
    raise ValueError(f"unknown type of elements: {dtype}")


def _frames(text: str) -> dict[int, tuple[int, Frame]]:
    """Read the tables at the head: number of a frame -> number of its caller, and its line."""
    tables: dict[str, dict[int, str]] = {}
    rows: dict[int, str] | None = None
    for line in text.splitlines():
        if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
            rows = tables.setdefault(line, {})
        elif not line.strip():
            rows = None
        elif rows is not None:
            number, _, rest = line.partition(" ")
            rows[int(number)] = rest
        elif "StackFrames" in tables:
            break
    files, functions = (
        {i: name.strip('"') for i, name in tables.get(table, {}).items()} for table in ("FileNames", "FunctionNames")
    )
    places = {i: _numbers(row) for i, row in tables.get("FileLocations", {}).items()}
    frames = {}
    for i, row in tables.get("StackFrames", {}).items():
        frame, place = _numbers(row), places[_numbers(row)["file_location_id"]]
        line = Frame(files[place["file_name_id"]], functions[place["function_name_id"]], place["line"])
        # The caller's number is printed one higher than meant: the outermost frame names itself.
        frames[i] = frame.get("parent_frame_id", 1) - 1, line
    return frames


def _numbers(row: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", row)}


def backwards(computation: Computation) -> Sequence[Instruction]:
    """The instructions from the last to the first; each one comes after all that take its result."""
    return list(computation.instructions.values())[::-1]
