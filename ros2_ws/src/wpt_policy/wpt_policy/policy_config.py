"""policy.json as frozen dataclasses: everything a runner must not guess about a policy.

Reading is strict: a missing, unknown, contradicting or wrongly typed field is a BundleError that names it by
its path in the file, e.g. ``history.interval_s``. The dataclasses are the one description of the file: a
field added to one of them is required in every file from then on (and FORMAT_VERSION rises).
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from dataclasses import dataclass

from wpt_policy.frame import Command
from wpt_policy.image_input import ImageInputSpec
from wpt_policy.strict_json import BundleError, read_dataclass, read_object, written

# 2: the ego's motion read in the fusion; the plan decoder's glance and second look. 3: its peaks, and a bounded correction.
FORMAT_VERSION = 3
OUTPUT_FRAME = "base_link"

# Ego inputs a policy may read, and what each is divided by on its way into the network, so that city driving
# lies within about +-1: 10 m/s, 1 m/s sideways, 0.5 rad/s (a 90 degree turn in 3 s).
EGO_INPUT_SCALES: Mapping[str, float] = types.MappingProxyType(
    {"speed": 10.0, "lateral_speed": 1.0, "yaw_rate": 0.5}
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _require(condition: bool, field: str, problem: str) -> None:
    if not condition:
        raise BundleError(problem, field=field)


def _require_positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _require(value > 0, name, f"is {value}, expected a positive number")


def _require_unique(field: str, values: tuple[str, ...]) -> None:
    repeated = sorted({value for value in values if values.count(value) > 1})
    _require(not repeated, field, f"names {', '.join(repeated)} more than once, expected each name once")


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """RGB mean and standard deviation in units of 0..255; the network sees (pixel - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        _require(min(self.std) > 0, "std", f"is {list(self.std)}, expected three positive numbers")


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """A ResNet-style image backbone.

    block: basic (two 3x3 convolutions) or bottleneck (1x1, 3x3, 1x1 with 4 times the width at its output).
    stem_kernel: 3 or 7, always stride 2; stem_max_pool: a 3x3 max pool of stride 2 after it.
    stage_widths, stage_depths, stage_strides: one value per stage.
    """

    block: str
    stem_channels: int
    stem_kernel: int
    stem_max_pool: bool
    stage_widths: tuple[int, ...]
    stage_depths: tuple[int, ...]
    stage_strides: tuple[int, ...]

    def __post_init__(self) -> None:
        _require(
            self.block in ("basic", "bottleneck"), "block", f"is {self.block!r}, expected basic or bottleneck"
        )
        _require_positive(self, "stem_channels")
        _require(self.stem_kernel in (3, 7), "stem_kernel", f"is {self.stem_kernel}, expected 3 or 7")
        count = len(self.stage_widths)
        _require(count > 0, "stage_widths", "is empty, expected at least one stage")
        for name in ("stage_depths", "stage_strides"):
            length = len(getattr(self, name))
            _require(length == count, name, f"has {length} values, expected {count} as stage_widths has")
        for name in ("stage_widths", "stage_depths"):
            values = getattr(self, name)
            _require(min(values) > 0, name, f"is {list(values)}, expected positive numbers")
        _require(
            set(self.stage_strides) <= {1, 2},
            "stage_strides",
            f"is {list(self.stage_strides)}, expected only 1 and 2",
        )

    def strides(self) -> tuple[int, ...]:
        """Return the stride of each stage's output in input pixels."""
        stride = 4 if self.stem_max_pool else 2
        result = []
        for step in self.stage_strides:
            stride *= step
            result.append(stride)
        return tuple(result)


@dataclass(frozen=True, kw_only=True)
class NeckConfig:
    """A small feature pyramid with one output. stride: of that output in input pixels, that of a stage."""

    channels: int
    stride: int

    def __post_init__(self) -> None:
        _require_positive(self, "channels", "stride")


@dataclass(frozen=True, kw_only=True)
class BevEncoderConfig:
    """Image features to bird's-eye view.

    heads: of the attention over (camera, height) samples. layers: attention layers. blocks: residual 3x3
    convolution blocks after each. cameras_per_point: how many cameras may contribute to one point of a
    pillar; where more see it, those that see it nearest to their image centre are taken.
    """

    channels: int
    heads: int
    layers: int
    blocks: int
    cameras_per_point: int

    def __post_init__(self) -> None:
        _require_positive(self, "channels", "heads", "layers", "cameras_per_point")
        _require(self.blocks >= 0, "blocks", f"is {self.blocks}, expected 0 or more")
        _require_divisible(self)


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Temporal fusion. blocks: residual 3x3 convolution blocks after the fusing convolution."""

    blocks: int

    def __post_init__(self) -> None:
        _require(self.blocks >= 0, "blocks", f"is {self.blocks}, expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class PlanDecoderConfig:
    """The plan decoder (wpt_policy.network.plan_decoder). channels: width of the step queries."""

    channels: int
    heads: int
    feedforward_channels: int

    def __post_init__(self) -> None:
        _require_positive(self, "channels", "heads", "feedforward_channels")
        _require_divisible(self)


def _require_divisible(config: BevEncoderConfig | PlanDecoderConfig) -> None:
    _require(
        config.channels % config.heads == 0,
        "heads",
        f"is {config.heads}, expected a divisor of channels ({config.channels})",
    )


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of the student network (wpt_policy.network.student)."""

    network: str
    backbone: BackboneConfig
    neck: NeckConfig
    bev_encoder: BevEncoderConfig
    fusion: FusionConfig
    plan_decoder: PlanDecoderConfig

    def __post_init__(self) -> None:
        _require(self.network == "student", "network", f"is {self.network!r}, expected 'student'")
        strides = self.backbone.strides()
        _require(
            self.neck.stride in strides,
            "neck.stride",
            f"is {self.neck.stride}, expected one of the backbone's strides {list(strides)}",
        )


@dataclass(frozen=True, kw_only=True)
class BevGrid:
    """The bird's-eye-view grid in base_link at the reference stamp.

    x_range_m (forward), y_range_m (left), cell_m: metres. heights_m: of the pillar points above the ground,
    metres. A BEV tensor is [..., X, Y]; cell (i, j) has its centre at x_range_m[0] + (i + 0.5) * cell_m, and
    y alike.
    """

    x_range_m: tuple[float, float]
    y_range_m: tuple[float, float]
    cell_m: float
    heights_m: tuple[float, ...]

    def __post_init__(self) -> None:
        _require_positive(self, "cell_m")
        for name in ("x_range_m", "y_range_m"):
            low, high = getattr(self, name)
            _require(low < high, name, f"is [{low:g}, {high:g}], expected the smaller number first")
            cells = (high - low) / self.cell_m
            _require(
                abs(cells - round(cells)) < 1e-6 * cells and round(cells) > 1,
                name,
                f"spans {high - low:g} m, expected two or more whole cells of {self.cell_m:g} m",
            )
        _require(len(self.heights_m) > 0, "heights_m", "is empty, expected at least one height")
        _require(
            all(a < b for a, b in zip(self.heights_m, self.heights_m[1:], strict=False)),
            "heights_m",
            f"is {list(self.heights_m)}, expected rising heights",
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells (X, Y)."""
        return (
            round((self.x_range_m[1] - self.x_range_m[0]) / self.cell_m),
            round((self.y_range_m[1] - self.y_range_m[0]) / self.cell_m),
        )


@dataclass(frozen=True, kw_only=True)
class PlanSpec:
    """steps: future points, dt_s: seconds between them, commands: those the policy was trained with, in its
    order.
    """

    steps: int
    dt_s: float
    commands: tuple[Command, ...]

    def __post_init__(self) -> None:
        _require_positive(self, "steps", "dt_s")
        _require(len(self.commands) > 0, "commands", "is empty, expected at least one command")
        _require_unique("commands", tuple(command.label for command in self.commands))
        _require(
            Command.UNKNOWN not in self.commands, "commands", "holds 'unknown', expected real commands only"
        )


@dataclass(frozen=True, kw_only=True)
class HistorySpec:
    """Which earlier bird's-eye views the policy reads.

    entries: how many; entry i is the one nearest to i * interval_s before the set, within tolerance_s.
    largest_gap_s: a longer pause between two sets empties the memory.
    """

    entries: int
    interval_s: float
    tolerance_s: float
    largest_gap_s: float

    def __post_init__(self) -> None:
        _require(self.entries >= 0, "entries", f"is {self.entries}, expected 0 or more")
        _require_positive(self, "interval_s", "tolerance_s")
        _require(
            self.tolerance_s < self.interval_s / 2,
            "tolerance_s",
            f"is {self.tolerance_s:g}, expected less than half of interval_s ({self.interval_s:g}), "
            "or one set could be two entries",
        )
        _require(
            self.largest_gap_s >= self.interval_s + self.tolerance_s,
            "largest_gap_s",
            f"is {self.largest_gap_s:g}, expected at least interval_s + tolerance_s "
            f"({self.interval_s + self.tolerance_s:g}), or sets at that interval never have a memory",
        )


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the weights come from. trained: False for seeded random weights. metrics: name -> value."""

    trained: bool
    dataset: str
    commit: str
    seed: int
    metrics: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", types.MappingProxyType(dict(self.metrics)))
        _require(
            not self.trained or bool(self.dataset),
            "dataset",
            "is empty, expected the data set that trained these weights",
        )


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The whole of policy.json. weights_sha256 is "" until the bundle is saved."""

    format_version: int
    name: str
    architecture: Architecture
    cameras: tuple[str, ...]
    may_mask: tuple[str, ...]
    image_input: ImageInputSpec
    normalisation: Normalisation
    bev: BevGrid
    plan: PlanSpec
    history: HistorySpec
    ego_inputs: tuple[str, ...]
    output_frame: str
    provenance: Provenance
    weights_sha256: str

    def __post_init__(self) -> None:
        _require(
            self.format_version == FORMAT_VERSION,
            "format_version",
            f"is {self.format_version}, expected {FORMAT_VERSION}; "
            + (
                "the bundle is newer than this software: update it"
                if self.format_version > FORMAT_VERSION
                else "export the bundle again"
            ),
        )
        _require(
            _NAME.fullmatch(self.name) is not None,
            "name",
            f"is {self.name!r}, expected letters, digits, '.', '_' and '-' only",
        )
        _require(len(self.cameras) > 0, "cameras", "is empty, expected at least one camera")
        _require_unique("cameras", self.cameras)
        _require_unique("may_mask", self.may_mask)
        strangers = [name for name in self.may_mask if name not in self.cameras]
        _require(
            not strangers,
            "may_mask",
            f"holds {', '.join(strangers)}, expected only names in cameras ({', '.join(self.cameras)})",
        )
        _require(
            self.architecture.bev_encoder.cameras_per_point <= len(self.cameras),
            "architecture.bev_encoder.cameras_per_point",
            f"is {self.architecture.bev_encoder.cameras_per_point}, expected at most the number of cameras "
            f"({len(self.cameras)})",
        )
        strides = self.architecture.backbone.strides()
        smallest = min(self.image_input.width, self.image_input.height)
        _require(
            smallest >= 2 * strides[-1],
            "image_input",
            f"is {self.image_input.width}x{self.image_input.height}, expected at least {2 * strides[-1]} "
            f"pixels on each side for a backbone of stride {strides[-1]}",
        )
        _require_unique("ego_inputs", self.ego_inputs)
        unknown = [name for name in self.ego_inputs if name not in EGO_INPUT_SCALES]
        _require(
            not unknown,
            "ego_inputs",
            f"holds {', '.join(unknown)}, expected names out of {', '.join(EGO_INPUT_SCALES)}",
        )
        _require(
            self.output_frame == OUTPUT_FRAME,
            "output_frame",
            f"is {self.output_frame!r}, expected {OUTPUT_FRAME!r}",
        )
        _require(
            self.weights_sha256 == "" or _SHA256.fullmatch(self.weights_sha256) is not None,
            "weights_sha256",
            f"is {self.weights_sha256!r}, expected 64 lower-case hexadecimal digits",
        )


def to_json(config: PolicyConfig) -> str:
    """Return the text of policy.json."""
    return written(config)


def from_json(text: str | bytes) -> PolicyConfig:
    """Read policy.json's text strictly; raises BundleError naming the field."""
    document = read_object(text, "policy.json")
    version = document.get("format_version")
    # Looked at before anything else: the fields of a newer format are not this version's to judge.
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT_VERSION:
        raise BundleError(
            f"is {version}, expected {FORMAT_VERSION}; the bundle is newer than this software: update it",
            field="format_version",
        )
    return read_dataclass(PolicyConfig, document, "")
