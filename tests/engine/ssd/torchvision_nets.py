"""The networks that torchvision has, as far as their weights matter: its names and shapes, in few lines.

Where ``as_tao`` is set, strides and poolings are TAO's, which don't show in the weights. So a backbone with the weights
taken over has to give the very output of such a network.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VGG_PLAN = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
RESNET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
V2_BLOCKS = (
    (1, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 2), (6, 32, 1), (6, 32, 1), (6, 64, 2), (6, 64, 1), (6, 64, 1),
    (6, 64, 1), (6, 96, 1), (6, 96, 1), (6, 96, 1), (6, 160, 2),
)  # fmt: skip
INCEPTIONS = {
    "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}  # fmt: skip
SQUEEZES = {"1.0": (96, 7, (3, 4, 5, 7, 8, 9, 10, 12)), "1.1": (64, 3, (3, 4, 6, 7, 9, 10, 11, 12))}


def conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)


class ResNetBlock(nn.Module):
    def __init__(self, inputs: int, channels: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = channels * 4 if bottleneck else channels
        shapes = [(inputs, channels, 3), (channels, channels, 3)]
        if bottleneck:
            shapes = [(inputs, channels, 1), (channels, channels, 3), (channels, outputs, 1)]
        self.count = len(shapes)
        for i, (a, b, kernel) in enumerate(shapes, start=1):
            self.add_module(f"conv{i}", conv(a, b, kernel, stride if i == 1 else 1))
            self.add_module(f"bn{i}", nn.BatchNorm2d(b))
        self.stride = stride
        if inputs != outputs:
            self.downsample = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = F.relu(y) if i < self.count else y
        # An identity where torchvision has one; TAO's strides also fall on those of stage 1.
        shortcut = (
            self.downsample(x) if hasattr(self, "downsample") else x[:, :, :: self.stride, :: self.stride]
        )
        return F.relu(y + shortcut)


class ResNet(nn.Module):
    def __init__(self, nlayers: int) -> None:
        super().__init__()
        bottleneck = nlayers >= 50
        self.conv1, self.bn1 = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
        inputs = 64
        for stage, (count, stride) in enumerate(
            zip(RESNET_BLOCKS[nlayers], (2, 2, 2, 1), strict=True), start=1
        ):
            channels = 32 * 2**stage
            blocks = []
            for i in range(count):
                blocks.append(ResNetBlock(inputs, channels, stride if i == 0 else 1, bottleneck))
                inputs = channels * 4 if bottleneck else channels
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


class VGG(nn.Module):
    def __init__(self, nlayers: int, norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for block, repeat in enumerate(VGG_PLAN[nlayers]):
            for i in range(repeat):
                outputs = (64, 128, 256, 512, 512)[block]
                layers.append(conv(inputs, outputs, 3, 2 if block and i == 0 else 1, bias=True))
                layers += [nn.BatchNorm2d(outputs)] if norm else []
                layers.append(nn.ReLU())
                inputs = outputs
            layers.append(nn.Identity())  # the pooling, which has no weights
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, expansion: int, outputs: int, stride: int, old: bool) -> None:
        super().__init__()
        wide = inputs * expansion
        groups: list[list[nn.Module]] = []
        if expansion > 1:
            groups.append([conv(inputs, wide, 1), nn.BatchNorm2d(wide), nn.ReLU()])
        groups.append([conv(wide, wide, 3, stride, groups=wide), nn.BatchNorm2d(wide), nn.ReLU()])
        last = [conv(wide, outputs, 1), nn.BatchNorm2d(outputs)]
        flat = [layer for group in groups for layer in group]
        parts = flat if old else [nn.Sequential(*group) for group in groups]
        self.conv = nn.Sequential(*parts, *last)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """With ReLU, as TAO's, where torchvision has ReLU6; one block more than TAO's, which is not part of the output."""

    def __init__(self, old: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(conv(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU())]
        inputs = 32
        for expansion, outputs, stride in V2_BLOCKS:
            layers.append(InvertedResidual(inputs, expansion, outputs, stride, old))
            inputs = outputs
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.features[:14](x)


class Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = conv(inputs, squeezed, 1, bias=True)
        self.expand1x1, self.expand3x3 = (
            conv(squeezed, expanded, 1, bias=True),
            conv(squeezed, expanded, 3, bias=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], dim=1)


class SqueezeNet(nn.Module):
    """Poolings where TAO has them: behind the first convolution, and behind fire 4 and 8."""

    def __init__(self, version: str) -> None:
        super().__init__()
        channels, kernel, places = SQUEEZES[version]
        layers: dict[int, nn.Module] = {i: nn.Identity() for i in range(13)}
        layers[0], layers[1], layers[2] = (
            conv(3, channels, kernel, 2, bias=True),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        inputs = channels
        for number, place in enumerate(places):
            squeezed = 16 * (number // 2 + 1)
            fire = Fire(inputs, squeezed, 4 * squeezed)
            inputs = 8 * squeezed
            layers[place] = fire
        self.pooled = (places[2], places[6])
        self.features = nn.Sequential(*layers.values())

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.pooled:
                x = F.max_pool2d(x, 3, 2, 1)
        return x


class BasicConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv, self.bn = conv(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    def __init__(self, inputs: int, one: int, r3: int, three: int, r5: int, five: int, pooled: int) -> None:
        super().__init__()
        self.branch1 = BasicConv(inputs, one, 1)
        self.branch2 = nn.Sequential(BasicConv(inputs, r3, 1), BasicConv(r3, three, 3))
        self.branch3 = nn.Sequential(BasicConv(inputs, r5, 1), BasicConv(r5, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), BasicConv(inputs, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)


class GoogLeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (
            BasicConv(3, 64, 7, 2),
            BasicConv(64, 64, 1),
            BasicConv(64, 192, 3),
        )
        for name, numbers in INCEPTIONS.items():
            self.add_module(f"inception{name}", Inception(*numbers))
        self.aux1 = nn.Sequential(OrderedDict(conv=BasicConv(512, 8, 1)))
        self.fc = nn.Linear(1024, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 2, 2)
        x = F.max_pool2d(self.conv3(self.conv2(x)), 2, 2)
        for name in INCEPTIONS:
            x = getattr(self, f"inception{name}")(x)
            x = F.max_pool2d(x, 2, 2) if name == "3b" else x
        return x


def with_random_numbers(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return a network with weights, biases and statistics that a mistake about any of them would show in."""
    with torch.device("meta"):  # PyTorch's own first weights take longer than everything else
        net = build()
    net.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(tensor.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.normal_(0.0, (2.0 / layer.weight[0].numel()) ** 0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.copy_(draw(layer.bias, -0.1, 0.1))
            elif isinstance(layer, nn.BatchNorm2d):
                # Some channels hardly ever vary: there the epsilons differ most.
                layer.running_var.copy_(draw(layer.running_var, 0.0, 1.0) ** 4 + 1e-5)
                layer.weight.copy_((layer.running_var + layer.eps).sqrt() * draw(layer.weight, 0.3, 0.9))
                layer.bias.copy_(draw(layer.bias, -0.2, 0.2))
                layer.running_mean.copy_(draw(layer.running_mean, -0.2, 0.2))
    return net.eval()
