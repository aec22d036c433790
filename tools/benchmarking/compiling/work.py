"""Operations of a kernel, counted from XLA's text.

A product and a sum count as two. Products of matrices and convolutions count all their taps, those on padding too;
every other operation counts one for each element of its result, reductions one for each element that they take.
"""

import math
import re
from typing import NamedTuple

from benchmarking.compiling.hlo import Computation, Instruction, Module

_MOVES = {
    "parameter", "constant", "bitcast", "get-tuple-element", "tuple", "broadcast", "reshape", "transpose", "slice",
    "dynamic-slice", "dynamic-update-slice", "concatenate", "pad", "gather", "copy", "reverse", "iota", "convert",
    "bitcast-convert",
}  # fmt: skip
_REDUCTIONS = ("reduce", "reduce-window", "scatter", "map", "sort")


class Work(NamedTuple):
    """Operations of a kernel.

    Attributes:
        matrix: of products of matrices and convolutions, which tensor cores do.
        other: all else.
        dtype: of the operands of `matrix`.
    """

    matrix: int = 0
    other: int = 0
    dtype: str = ""

    def __add__(self, more: "Work") -> "Work":  # type: ignore[override]
        """Both together."""
        return Work(self.matrix + more.matrix, self.other + more.other, self.dtype or more.dtype)


def work(module: Module, computation: Computation, each: Instruction) -> Work:
    """Count the operations of an instruction and of what it calls."""
    if each.opcode in ("fusion", "call"):
        fused = module.computations[each.called()[0]]
        return sum((work(module, fused, inner) for inner in fused.instructions.values()), Work())
    if each.opcode in _MOVES:
        return Work()
    operands = [computation.instructions[name].type for name in each.operands]
    dtype = operands[0].dtype if operands else ""
    target = each.attribute("custom_call_target")
    if each.opcode == "convolution" or target.startswith("__cudnn$conv"):
        return Work(matrix=_convolution(computation, each), dtype=dtype)
    if each.opcode == "dot":
        contracted = each.attribute("lhs_contracting_dims")
    elif target.startswith("__cublas$"):
        contracted = "".join(re.findall(r'"lhs_contracting_dimensions":\[([^\]]*)\]', each.attributes)[:1])
    elif each.opcode == "custom-call":
        return Work()  # what a library does inside is not in the text
    else:
        counted = operands if each.opcode in _REDUCTIONS and operands else [each.type]
        return Work(other=counted[0].elements)
    depth = math.prod(operands[0].dims[int(axis)] for axis in re.findall(r"\d+", contracted))
    result = next(each.type.arrays)
    return Work(matrix=2 * result.elements * depth, dtype=dtype)


def _convolution(computation: Computation, each: Instruction) -> int:
    """Operations of a convolution or of one of its gradients: each output of the forward one takes all taps."""
    lhs, rhs = (computation.instructions[name].type for name in each.operands[:2])
    result, target = next(each.type.arrays), each.attribute("custom_call_target")
    kernel, outputs = rhs, result
    if target.endswith("BackwardFilter"):
        kernel, outputs = result, rhs
    elif target.endswith("BackwardInput"):
        outputs = lhs
    labels = re.match(r"\w+_(\w+)->\w+", each.attribute("dim_labels"))
    features = kernel.dims[labels.group(1).index("o")] if labels else 1
    return 2 * outputs.elements * kernel.elements // features
