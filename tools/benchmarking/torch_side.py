"""PyTorch's side at its best: channels last, autocast, fused AdamW, autotuned convolutions, compiled or eager."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_reference import build

from benchmarking.case import Case
from benchmarking.images import SETS, images
from jaxcd.base.processes import cores


def prepare(case: Case, *, compiled: bool) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Build network and optimiser, run a first step; return how to run steps, and what there is to tell."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    if device.type == "cpu":
        torch.set_num_threads(cores())
    torch.manual_seed(0)
    mean = torch.tensor((0.485, 0.456, 0.406), device=device).view(1, 3, 1, 1)
    deviation = torch.tensor((0.229, 0.224, 0.225), device=device).view(1, 3, 1, 1)
    model: Any = build(case.model, case.size).to(device)
    model = model.to(memory_format=torch.channels_last)
    model.train(case.suite == "step")
    sets = [tuple(torch.from_numpy(array).to(device) for array in arrays) for arrays in images(case)]
    # Bytes in NHWC become NCHW in channels-last memory without moving.
    sets = [(pre.permute(0, 3, 1, 2), post.permute(0, 3, 1, 2), *rest) for pre, post, *rest in sets]

    def forward(pre: Tensor, post: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=case.dtype == "bfloat16"):
            return model((pre.float() / 255 - mean) / deviation, (post.float() / 255 - mean) / deviation).float()

    def loss(pre: Tensor, post: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        # Soft Dice as in `torch_reference`, but by products with the mask: chosen pixels would have no fixed shape.
        probability, truth, mask = torch.sigmoid(forward(pre, post)), labels.float(), valid.float()
        both, total = (probability * truth * mask).sum(), ((probability + truth) * mask).sum()
        return 1 - (2 * both + 1) / (total + 1)

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=2e-3, fused=True)
    objective: Any = torch.compile(loss) if compiled else loss
    predict: Any = torch.compile(forward) if compiled else forward

    def step(arrays: tuple[Tensor, ...]) -> None:
        if case.suite == "step":
            optimizer.zero_grad(set_to_none=True)
            objective(*arrays).backward()
            optimizer.step()
        else:
            with torch.inference_mode():
                predict(*arrays[:2]).sigmoid()

    def run(count: int) -> float:
        start = time.perf_counter()
        for k in range(count):
            step(sets[k % SETS])
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    about: dict[str, Any] = {"device": str(device), "versions": {"torch": torch.__version__}}
    first = run(1)
    if compiled:
        about["compile_seconds"] = first - run(1)
    return run, about
