"""ResNet-18, -34 and -50 in plain PyTorch, with torchvision's names: what the encoders are compared with.

Written from the paper (arXiv:1512.03385) and torchvision's documentation, sharing no code with `jaxcd/`. torchvision
itself needs compiled operators that fit the build of torch, which a machine with torch for CPUs alone may lack.
"""

import torch
from torch import Tensor, nn

REPEATS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


class Basic(nn.Module):
    expansion = 1

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(channels, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def shortcut(channels: int, wide: int, stride: int) -> nn.Module:
    if stride == 1 and channels == wide:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, wide, 1, stride, bias=False), nn.BatchNorm2d(wide))


class ResNet(nn.Module):
    """The whole classifier, so that its state dict is a published one's; `features` is what the encoders give."""

    def __init__(self, name: str):
        super().__init__()
        block = Bottleneck if name == "resnet50" else Basic
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for row, repeats in enumerate(REPEATS[name]):
            width, blocks = 64 * 2**row, []
            for i in range(repeats):
                blocks.append(block(channels, width, 2 if row and i == 0 else 1))
                channels = width * block.expansion
            setattr(self, f"layer{row + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, 1000)

    def features(self, x: Tensor) -> list[Tensor]:
        found = [torch.relu(self.bn1(self.conv1(x)))]
        x = self.maxpool(found[0])
        for layer in (self.layer1, self.layer2, self.layer3):
            x = layer(x)
            found.append(x)
        return found
