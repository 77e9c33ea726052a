"""Feature maps lie where the sampler believes they lie."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from wpt_policy.network.backbone import Backbone, FeaturePyramid, doubled, fold_norms
from wpt_policy.policy_config import BackboneConfig, NeckConfig


def backbone_config(**changes) -> BackboneConfig:
    values = {
        "block": "basic", "stem_channels": 4, "stem_kernel": 3, "stem_max_pool": False,
        "stage_widths": (4, 8), "stage_depths": (1, 2), "stage_strides": (2, 2),
    }  # fmt: skip
    return BackboneConfig(**(values | changes))


@pytest.mark.parametrize("height", [5, 6])
@pytest.mark.parametrize("width", [7, 8])
def test_doubling_puts_even_features_over_the_coarse_ones(height: int, width: int) -> None:
    coarse = torch.randn(2, 3, (height + 1) // 2, (width + 1) // 2)
    fine = doubled(coarse, height, width)
    assert fine.shape == (2, 3, height, width)
    torch.testing.assert_close(fine[..., ::2, ::2], coarse)
    torch.testing.assert_close(fine[..., 1, ::2], (coarse[..., 0, :] + coarse[..., 1, :]) / 2)


@pytest.mark.parametrize(
    ("config", "strides", "channels"),
    [
        (backbone_config(), (4, 8), [4, 8]),
        (
            backbone_config(block="bottleneck", stem_kernel=7, stem_max_pool=True, stage_strides=(1, 2)),
            (4, 8),
            [16, 32],
        ),
    ],
)
def test_strides_and_channels(config: BackboneConfig, strides: tuple[int, ...], channels: list[int]) -> None:
    backbone = Backbone(config).eval()
    assert backbone.strides == strides and backbone.channels == channels
    features = backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (count, 64 // stride, 96 // stride) for count, stride in zip(channels, strides, strict=True)
    ]


class PixelOfFeature(nn.Module):
    """A backbone whose convolutions all take their centre tap: the feature is the pixel that it is centred
    on.
    """

    def __init__(self, config: BackboneConfig):
        super().__init__()
        self.backbone = Backbone(config).eval()
        for module in self.backbone.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.zeros_(module.weight)
                middle = module.kernel_size[0] // 2
                for channel in range(min(2, *module.weight.shape[:2])):
                    module.weight.data[channel, channel, middle, middle] = 1.0
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self.backbone(images)


@pytest.mark.parametrize("stem_kernel", [3, 7])
def test_feature_i_is_centred_on_pixel_stride_times_i(stem_kernel: int) -> None:
    config = backbone_config(stem_kernel=stem_kernel)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    images = torch.stack([columns, rows, rows * 0])[None]
    blocks = (1, 2)
    for stride, depth_so_far, feature in zip(
        (4, 8), (blocks[0], sum(blocks)), PixelOfFeature(config)(images), strict=True
    ):
        # Each residual block adds its identity branch to its shortcut, so the value doubles.
        value = feature[0, :2] / 2.0**depth_so_far
        torch.testing.assert_close(value[0], columns[::stride, ::stride])
        torch.testing.assert_close(value[1], rows[::stride, ::stride])


def test_the_pyramid_adds_coarse_features_in_place() -> None:
    """With identity convolutions the pyramid's output is the sum of two maps of one linear ramp."""
    backbone = Backbone(backbone_config())
    pyramid = FeaturePyramid(NeckConfig(channels=4, stride=4), backbone).eval()
    for convolution in pyramid.modules():
        if isinstance(convolution, nn.Conv2d):
            nn.init.zeros_(convolution.weight)
            middle = convolution.kernel_size[0] // 2
            convolution.weight.data[0, 0, middle, middle] = 1.0
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        if isinstance(convolution, nn.BatchNorm2d):
            convolution.eps = 0.0
    ramp = torch.arange(16.0).expand(1, 1, 12, 16)
    fine = functional.pad(ramp, (0, 0, 0, 0, 0, 3))
    coarse = functional.pad(ramp[..., ::2, ::2], (0, 0, 0, 0, 0, 7))
    merged = pyramid([fine, coarse])[0, 0]
    torch.testing.assert_close(merged[:, :15], 2.0 * ramp[0, 0, :, :15])


def test_folded_norms_change_nothing() -> None:
    torch.manual_seed(0)
    backbone = Backbone(backbone_config())
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    backbone.eval()
    images = torch.randn(2, 3, 32, 48)
    before = backbone(images)
    fold_norms(backbone)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    for expected, folded in zip(before, backbone(images), strict=True):
        torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-5)
