"""The networks and losses in PyTorch, as the reference that jaxcd is compared with.

Written from the description of the method alone, sharing no code with `jaxcd/`, so that an error in
one of the two shows as a difference. Parameter names are those of the published checkpoints.
Images are NCHW here.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Output channels of the convolutions of each encoder block; the input is that of the block before.
_MEDIUM_ENCODER = [[16, 16], [32, 32], [64, 64, 64], [128, 128, 128]]
ENCODER = {
    "small": [[16], [32], [64]],
    "medium": _MEDIUM_ENCODER,
    "large": [*_MEDIUM_ENCODER, [256, 256, 256]],
}
# Output channels of the convolutions of each decoder block, deepest first; the last one is the logit.
_MEDIUM_DECODER = [[128, 128, 64], [64, 64, 32], [32, 16], [16, 1]]
DECODER = {
    "small": [[32], [16], [1]],
    "medium": _MEDIUM_DECODER,
    "large": [[256, 256, 128], *_MEDIUM_DECODER],
}
NAMES = ("fc_ef", "fc_siam_conc", "fc_siam_diff")
SIZES = ("small", "medium", "large")


class Encoder(nn.Module):
    """Blocks of convolution, norm, dropout, ReLU; every block ends in a 2x2 maximum."""

    def __init__(self, channels: int, blocks: list[list[int]], dropout: float):
        super().__init__()
        self.blocks = blocks
        self.encoder = nn.ModuleDict()
        for i, block in enumerate(blocks):
            for j, width in enumerate(block):
                self.encoder[f"conv{i}_{j}"] = nn.Conv2d(channels, width, 3, padding=1)
                self.encoder[f"bn{i}_{j}"] = nn.BatchNorm2d(width)
                channels = width
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the deepest features and the features before each block's pooling, shallowest first."""
        skips = []
        for i, block in enumerate(self.blocks):
            for j in range(len(block)):
                x = self.encoder[f"bn{i}_{j}"](self.encoder[f"conv{i}_{j}"](x))
                x = torch.relu(self.dropout(x))
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        return x, skips


class Decoder(nn.Module):
    """Blocks of transposed convolution, concatenation with the skip, convolutions."""

    def __init__(self, channels: int, skips: list[int], blocks: list[list[int]], dropout: float):
        super().__init__()
        self.blocks = blocks
        self.decoder = nn.ModuleDict()
        for i, block in enumerate(blocks):
            self.decoder[f"conv_t{i}"] = nn.ConvTranspose2d(channels, channels, 2, stride=2)
            channels += skips[i]
            for j, width in enumerate(block):
                self.decoder[f"conv{i}_{j}"] = nn.Conv2d(channels, width, 3, padding=1)
                if not self._is_last(i, j):
                    self.decoder[f"bn{i}_{j}"] = nn.BatchNorm2d(width)
                channels = width
        self.dropout = nn.Dropout2d(dropout)

    def _is_last(self, i: int, j: int) -> bool:
        return i == len(self.blocks) - 1 and j == len(self.blocks[-1]) - 1

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Return the logits; `skips` come deepest first."""
        for i, block in enumerate(self.blocks):
            x = torch.cat([self.decoder[f"conv_t{i}"](x), skips[i]], dim=1)
            for j in range(len(block)):
                x = self.decoder[f"conv{i}_{j}"](x)
                if not self._is_last(i, j):
                    x = self.dropout(torch.relu(self.decoder[f"bn{i}_{j}"](x)))
        return x


class ChangeNetwork(nn.Module):
    """FC-EF, FC-Siam-Conc or FC-Siam-Diff (Daudt, Le Saux, Boulch 2018, arXiv:1810.08462)."""

    def __init__(self, name: str, size: str, dropout: float):
        super().__init__()
        self.name = name
        blocks = ENCODER[size]
        widths = [block[-1] for block in reversed(blocks)]
        skips = [2 * width for width in widths] if name == "fc_siam_conc" else widths
        self.encoder = Encoder(6 if name == "fc_ef" else 3, blocks, dropout)
        self.decoder = Decoder(widths[0], skips, DECODER[size], dropout)

    def forward(self, pre: Tensor, post: Tensor) -> Tensor:
        """Map normalised images [b, 3, h, w] to logits [b, h, w]."""
        if self.name == "fc_ef":
            deep, skips = self.encoder(torch.cat([pre, post], dim=1))
        else:
            # Pre first: in training each call moves the running statistics, and their order matters.
            _, before = self.encoder(pre)
            deep, after = self.encoder(post)
            if self.name == "fc_siam_conc":
                skips = [torch.cat(pair, dim=1) for pair in zip(after, before, strict=True)]
            else:
                skips = [torch.abs(a - b) for a, b in zip(before, after, strict=True)]
        return self.decoder(deep, skips[::-1])[:, 0]


def build(name: str, size: str = "large", dropout: float = 0.0) -> ChangeNetwork:
    """Make one of the nine networks.

    Args:
        name: one of `NAMES`.
        size: one of `SIZES`.
        dropout: rate of both the encoder's elementwise and the decoder's channel dropout.
    """
    if name not in NAMES or size not in SIZES:
        raise ValueError(f"no network {name!r} of size {size!r}; names {NAMES}, sizes {SIZES}")
    return ChangeNetwork(name, size, dropout)


def randomise(model: ChangeNetwork, seed: int) -> ChangeNetwork:
    """Draw every entry of the state dict, also what starts at 0 or 1 and would hide a mistake there."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in model.state_dict().items():
        if value.ndim == 4:
            fan_in = value.shape[0] if ".conv_t" in key else value[0].numel()
            value.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        elif key.endswith((".running_var", ".weight")):
            value.uniform_(0.5, 1.5, generator=generator)
        elif key.endswith((".running_mean", ".bias")):
            value.normal_(0, 0.2, generator=generator)
    return model


def bce(logits: Tensor, labels: Tensor, valid: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy, mean over the valid pixels."""
    mask = valid.bool()
    weight = torch.tensor(positive_weight, dtype=logits.dtype)
    return functional.binary_cross_entropy_with_logits(logits[mask], labels[mask].to(logits), pos_weight=weight)


def _overlap(logits: Tensor, labels: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    mask = valid.bool()
    probability, truth = torch.sigmoid(logits[mask]), labels[mask].to(logits)
    return (probability * truth).sum(), probability.sum() + truth.sum()


def dice(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Soft Dice loss over the whole batch, smoothing 1."""
    both, total = _overlap(logits, labels, valid)
    return 1 - (2 * both + 1) / (total + 1)


def iou(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """Soft Jaccard loss over the whole batch, smoothing 1."""
    both, total = _overlap(logits, labels, valid)
    return 1 - (both + 1) / (total - both + 1)
