"""What a kernel is for, and the line of code that it comes from."""

from pathlib import Path

from benchmarking.compiling.hlo import Frame, Instruction, Module
from benchmarking.compiling.traffic import Kernel

CONVOLUTION, PRODUCT = "convolutions", "matrix products"
STATISTICS, NORM, NORM_BACK = "BatchNorm statistics", "BatchNorm, ReLU and pooling", "BatchNorm's gradient"
GRADIENT, CONCATENATION = "gradients of ReLU, pooling and skips", "concatenation"
TRANSPOSE, AUGMENTATION, OPTIMISER = "transposes and copies", "input and augmentation", "optimiser"
LOSS, OTHER = "loss", "other"
KINDS = (
    CONVOLUTION, PRODUCT, STATISTICS, NORM, NORM_BACK, GRADIENT, CONCATENATION, TRANSPOSE, AUGMENTATION, OPTIMISER,
    LOSS, OTHER,
)  # fmt: skip

_ROOT = Path(__file__).resolve().parents[3]
_LARGE = 1 / 8  # of the largest array of a kernel: what is smaller does not say what the kernel is for
_MOVES = ("transpose", "copy", "bitcast", "parameter", "convert", "tuple", "get-tuple-element")


def kind(module: Module, kernel: Kernel) -> str:
    """Say which of `KINDS` a kernel is of.

    XLA fuses operations of several kinds into a kernel. The first that is found in the order of this function gives
    the kernel its name: a pass over activations is named after the BatchNorm that it does, if it does any.
    """
    each = kernel.instruction
    inside = _inside(module, kernel)
    stacks = [(one, module.stack(one)) for one in inside]
    for name, files in (
        (AUGMENTATION, ("learn/augmentation/",)),
        (OPTIMISER, ("learn/optimizer.py", "/optax/")),
    ):
        if any(_within(stack, files) for _, stack in stacks):
            return name
    target = each.attribute("custom_call_target")
    if target.startswith("__cudnn$conv") or _any(inside, "convolution"):
        return CONVOLUTION
    if target.startswith("__cublas$") or _any(inside, "dot"):
        return PRODUCT
    if all(one.opcode in _MOVES for one in inside):
        return TRANSPOSE
    if _any(inside, "concatenate") and "transpose(" not in each.op_name:
        return CONCATENATION
    norm = [one for one, stack in stacks if any(frame.function.startswith("BatchNorm.") for frame in stack)]
    if any(_backward(one) for one in norm):
        return NORM_BACK
    if _any(inside, "transpose"):
        return TRANSPOSE
    if any(_within(stack, ("learn/losses.py",)) for _, stack in stacks):
        return LOSS
    if any(_backward(one) for one in inside):
        return GRADIENT
    if norm and _any(inside, "reduce"):
        return STATISTICS
    return NORM if norm or _network(stacks) else OTHER


def _network(stacks: list[tuple[Instruction, list[Frame]]]) -> bool:
    return any(_within(stack, ("jaxcd/models/blocks.py",)) for _, stack in stacks)


def _inside(module: Module, kernel: Kernel) -> list[Instruction]:
    """The operations of a kernel on its large arrays."""
    if kernel.instruction.opcode != "fusion":
        return [kernel.instruction]
    fused = module.computations[kernel.instruction.called("calls")[0]].instructions.values()
    sizes = {each.name: max((kind.elements for kind in each.type.arrays), default=0) for each in fused}
    for each in fused:  # a reduction is as large as what it takes
        if each.opcode in ("reduce", "dot", "convolution", "scatter"):
            sizes[each.name] = max(sizes[each.name], *(sizes[name] for name in each.operands))
    least = _LARGE * max(sizes.values(), default=0)
    return [each for each in fused if sizes[each.name] >= least and each.opcode not in ("parameter", "constant")]


def _any(inside: list[Instruction], opcode: str) -> bool:
    return any(each.opcode == opcode for each in inside)


def _backward(each: Instruction) -> bool:
    return "transpose(" in each.op_name


def _within(stack: list[Frame], files: tuple[str, ...]) -> bool:
    return any(part in frame.file for frame in stack for part in files)


def source(module: Module, kernel: Kernel) -> str:
    """Name the innermost line of jaxcd behind a kernel, `jaxcd/models/blocks.py:62`; else of any code, or empty."""
    stack = module.stack(kernel.instruction)
    for frame in stack:
        try:
            name = Path(frame.file).relative_to(_ROOT)
        except ValueError:
            continue
        if name.parts[0] == "jaxcd":
            return f"{name}:{frame.line}"
    return f"{Path(stack[0].file).name}:{stack[0].line}" if stack else ""
