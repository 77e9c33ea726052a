"""Image backbone (ResNet-style) and a feature pyramid with one output. Shape letters: wpt_policy.network.

Every convolution and pool of stride 2 here has an odd kernel with half of it as padding, so feature (i, j) of
a map of stride s is centred on input pixel (s * i, s * j) exactly. The pyramid keeps that, and the sampler
relies on it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from wpt_policy.policy_config import BackboneConfig, NeckConfig

BOTTLENECK_EXPANSION = 4  # He et al., Deep Residual Learning, table 1


def convolution_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, activate: bool = True
) -> nn.Sequential:
    """Return convolution, batch norm and, where asked, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if activate:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """A basic or bottleneck residual block. outputs: channels of its output."""

    def __init__(self, inputs: int, width: int, *, stride: int = 1, kind: str = "basic"):
        super().__init__()
        if kind == "basic":
            outputs = width
            self.branch = nn.Sequential(
                convolution_norm(inputs, width, 3, stride=stride),
                convolution_norm(width, outputs, 3, activate=False),
            )
        else:
            outputs = width * BOTTLENECK_EXPANSION
            self.branch = nn.Sequential(
                convolution_norm(inputs, width, 1),
                convolution_norm(width, width, 3, stride=stride),
                convolution_norm(width, outputs, 1, activate=False),
            )
        self.outputs = outputs
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inputs == outputs
            else convolution_norm(inputs, outputs, 1, stride=stride, activate=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.branch(x) + self.shortcut(x))


class Backbone(nn.Module):
    """[B, 3, H, W] normalised images -> a feature map per stage, finest first. channels, strides: of each."""

    def __init__(self, config: BackboneConfig):
        super().__init__()
        self.stem = convolution_norm(3, config.stem_channels, config.stem_kernel, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if config.stem_max_pool else nn.Identity()
        self.stages = nn.ModuleList()
        channels = config.stem_channels
        self.channels: list[int] = []
        for width, depth, stride in zip(
            config.stage_widths, config.stage_depths, config.stage_strides, strict=True
        ):
            blocks = []
            for index in range(depth):
                block = ResidualBlock(channels, width, stride=stride if index == 0 else 1, kind=config.block)
                channels = block.outputs
                blocks.append(block)
            self.stages.append(nn.Sequential(*blocks))
            self.channels.append(channels)
        self.strides = config.strides()

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.pool(self.stem(images))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class FeaturePyramid(nn.Module):
    """Backbone features -> [B, C, h, w] at config.stride; coarser stages are added from the top down."""

    def __init__(self, config: NeckConfig, backbone: Backbone):
        super().__init__()
        # Of several stages of one stride the last has seen most; stages finer than the output are left out.
        last_of_stride = {stride: index for index, stride in enumerate(backbone.strides)}
        self.levels = [index for stride, index in last_of_stride.items() if stride >= config.stride]
        self.laterals = nn.ModuleList(
            nn.Conv2d(backbone.channels[level], config.channels, 1) for level in self.levels
        )
        self.output = convolution_norm(config.channels, config.channels, 3)

    def forward(self, features: list[Tensor]) -> Tensor:
        maps = [lateral(features[level]) for lateral, level in zip(self.laterals, self.levels, strict=True)]
        merged = maps[-1]
        for finer in reversed(maps[:-1]):
            merged = finer + doubled(merged, finer.shape[-2], finer.shape[-1])
        return self.output(merged)


def doubled(x: Tensor, height: int, width: int) -> Tensor:
    """Return [B, C, h, w] upsampled by 2 with feature (2i, 2j) exactly over (i, j), as the strides put them.

    height, width: wanted, 2h or 2h - 1. Interpolation with align_corners=False would shift by a quarter
    feature.
    """
    h, w = x.shape[-2:]
    x = functional.interpolate(x, size=(2 * h - 1, 2 * w - 1), mode="bilinear", align_corners=True)
    return functional.pad(x, (0, width - (2 * w - 1), 0, height - (2 * h - 1)), mode="replicate")


def fold_norms(network: nn.Module) -> None:
    """Fold every batch norm into the convolution before it, in place. For inference only: the norms are gone
    then.
    """
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for index in range(len(module) - 1):
            convolution, norm = module[index], module[index + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[index] = fuse_conv_bn_eval(convolution, norm)
                module[index + 1] = nn.Identity()
