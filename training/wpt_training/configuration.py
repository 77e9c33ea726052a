"""Configurations of a whole run. A configuration is a Python function that returns an ExperimentConfig.

Everything is frozen, keyword-only and validated on construction; an invalid value raises TrainingError naming the field.
Sources of the defaults: the paper and its relatives as far as they are published; where they are silent the choice is
stated in training/README.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from wpt_policy.policy_config import PolicyConfig
from wpt_policy.policy_presets import compact as compact_policy
from wpt_policy.policy_presets import reference as reference_policy

from wpt_training.errors import TrainingError

RULES = ("NC", "DAC", "TTC", "EP", "Comf")
EXTRA_RULES = ("TLC", "DDC")  # traffic-light and driving-direction compliance; not in the paper


def _require(condition: bool, owner: object, field: str, expected: str) -> None:
    if not condition:
        raise TrainingError(
            f"{type(owner).__name__}.{field} is {getattr(owner, field)!r}, expected {expected}; change the configuration."
        )


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One stage's optimisation. samples: seen in all, with repetition. AdamW, linear warm-up, cosine to min_rate_share.

    backbone_rate_share: the image backbone's learning rate as a share. clip_norm: of the gradient over all parameters.
    """

    samples: int
    batch: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.05
    min_rate_share: float = 1e-2
    backbone_rate_share: float = 1.0
    clip_norm: float = 5.0

    def __post_init__(self) -> None:
        for name in ("samples", "batch", "learning_rate", "clip_norm", "backbone_rate_share"):
            _require(getattr(self, name) > 0, self, name, "a positive number")
        _require(self.weight_decay >= 0, self, "weight_decay", "zero or more")
        for name in ("warmup_share", "min_rate_share"):
            _require(0 <= getattr(self, name) <= 1, self, name, "a share from 0 to 1")

    @property
    def steps(self) -> int:
        return max(1, self.samples // self.batch)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """train_samples: keyframes used for training at most. largest_boxes: M; route_points: R, 1 m apart.

    occupancy_cell_m: of the occupancy grid, which has the range of the policy's bird's-eye view.
    """

    train_samples: int = 20_000
    occupancy_cell_m: float = 0.5
    largest_boxes: int = 48
    route_points: int = 81

    def __post_init__(self) -> None:
        for name in ("train_samples", "occupancy_cell_m", "largest_boxes", "route_points"):
            _require(getattr(self, name) > 0, self, name, "a positive number")


@dataclass(frozen=True, kw_only=True)
class EmphasisConfig:
    """What students see more of. Samples of changing motion (data.changing_motion; all others count once):

    changing_from: error of going on at the present speed above which a sample counts as changing. changing: how often such
    a sample is seen; starting: how often one whose ego stands, or hardly moves. standing_share: of a batch's samples, so many
    are told a second time as if the ego stood there (student.standing_start).
    """

    changing_from: float = 0.25
    changing: int = 3
    starting: int = 6
    standing_share: float = 0.25

    def __post_init__(self) -> None:
        _require(self.changing_from > 0, self, "changing_from", "a positive number")
        for name in ("changing", "starting"):
            _require(getattr(self, name) >= 1, self, name, "one or more")
        _require(0 <= self.standing_share <= 1, self, "standing_share", "a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """network: sizes of W's encoder and fusion (its plan decoder is not used). blocks: of the world decoder.

    conditional_norm: semantic conditional normalisation of the memory, as in Drive-OccWorld (reference only). joint:
    the encoder goes on learning with the roll-out; off, it stays as its perception pre-training left it, which costs a
    fifth of the time and lets the present features be computed once.
    """

    network: PolicyConfig
    blocks: int = 2
    action_channels: int = 64
    conditional_norm: bool = False
    moving_weight: float = 4.0
    joint: bool = False

    def __post_init__(self) -> None:
        for name in ("blocks", "action_channels", "moving_weight"):
            _require(getattr(self, name) > 0, self, name, "a positive number")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """kind: "compact" (whole trajectories, one roll-out) or "reference" (one displacement a step, roll-out by step).

    candidates: K for each command. channels, heads, feedforward_channels: of its plan decoder. select_by: which candidate
    gets the imitation loss: "reward" (Eq 14 from the targets, the default) or "nearest" (Baseline-T: no reward).
    """

    kind: str = "compact"
    candidates: int = 20
    channels: int = 64
    heads: int = 4
    feedforward_channels: int = 128
    select_by: str = "reward"

    def __post_init__(self) -> None:
        _require(self.kind in ("compact", "reference"), self, "kind", "'compact' or 'reference'")
        _require(self.select_by in ("reward", "nearest"), self, "select_by", "'reward' or 'nearest'")
        for name in ("candidates", "channels", "heads", "feedforward_channels"):
            _require(getattr(self, name) > 0, self, name, "a positive number")


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """rules: simulation heads that are trained and combined; weights: of Eq 14 (imitation, NC, DAC, the rest).

    sampled_features: the reward model also reads world features under the candidate's footprint and at a glance (off:
    pooled only, as in the paper). detach_simulation: simulation heads do not train the fused feature, as in
    the authors' code. imitation_temperature_m: of Eq 11.
    progress: "route" (over the expert's and safe candidates') or "paper". truth_share: share of the stage whose rule
    targets come from true occupancy, then the world model's own (1: never). least_agreement: balanced accuracy of NC
    below which the world model's occupancy is never used. shuffled_targets: a control that has no knowledge of the world.
    """

    channels: int = 64
    rules: tuple[str, ...] = RULES
    weights: tuple[float, float, float, float] = (0.1, 0.5, 0.5, 1.0)
    sampled_features: bool = True
    detach_simulation: bool = False
    imitation_temperature_m: float = 1.0
    progress: str = "route"
    truth_share: float = 0.5
    least_agreement: float = 0.75
    shuffled_targets: bool = False

    def __post_init__(self) -> None:
        _require(self.channels > 0, self, "channels", "a positive number")
        known = RULES + EXTRA_RULES
        _require(set(self.rules) <= set(known), self, "rules", f"some of {', '.join(known)}")
        _require(len(set(self.rules)) == len(self.rules), self, "rules", "each rule once")
        _require(min(self.weights) >= 0, self, "weights", "four numbers of zero or more")
        _require(self.imitation_temperature_m > 0, self, "imitation_temperature_m", "a positive number")
        _require(self.progress in ("route", "paper"), self, "progress", "'route' or 'paper'")
        _require(0 <= self.truth_share <= 1, self, "truth_share", "a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """displacement: mean L2. sideways: its part across the true path once more. collision: for ego boxes inflated by 0,
    0.5, 1 m. The rest by name.
    """

    displacement: float = 1.0
    sideways: float = 1.0
    collision: tuple[float, float, float] = (2.5, 1.0, 0.25)
    current_occupancy: float = 0.3  # beside displacements of about 1 m
    ego_motion: float = 0.1
    confidence: float = 0.1
    imitation_reward: float = 0.1
    simulation_reward: float = 0.1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            _require(min(value if isinstance(value, tuple) else (value,)) >= 0, self, field.name, "zero or more")


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """policy, world_reward: weights of Eq 15 and Eq 16, 0 for off. truth_share: of the stage, then teacher's candidates.

    logits: which of Eq 16's heads: "all", "imitation", or "best_per_head" (a variant of the authors' code: each head's own
    best candidate). reward_share: of a batch's samples, one at least, that Eq 16 is computed for where queries are kept
    (stages.teacher_queries), since each needs a roll-out. reward_model: "own_losses" (it goes on learning from its own
    only), "frozen", or "coupled" (the authors' variant: Eq 16 reaches it and the target is not detached). rule_losses: a
    control that gives the student the rules' losses from truth and no teacher. teacher_choice: "reward", "imitation", "confidence", "random" or "oracle".
    smoothing: spread of the neighbouring paths over which Eq 16's logits are averaged on both sides, as a share of the plan's
    length (student.distillation.path_logits); 0: of the paths as they are, as printed.
    """

    policy: float = 0.0
    world_reward: float = 0.0
    truth_share: float = 0.5
    logits: str = "all"
    reward_share: float = 1.0
    smoothing: float = 0.0
    reward_model: str = "own_losses"
    rule_losses: float = 0.0
    teacher_choice: str = "reward"

    def __post_init__(self) -> None:
        for name in ("policy", "world_reward", "rule_losses", "smoothing"):
            _require(getattr(self, name) >= 0, self, name, "zero or more")
        _require(0 <= self.truth_share <= 1, self, "truth_share", "a share from 0 to 1")
        _require(0 < self.reward_share <= 1, self, "reward_share", "a share above 0, at most 1")
        _require(
            self.logits in ("all", "imitation", "best_per_head"), self, "logits", "'all', 'imitation' or 'best_per_head'"
        )
        _require(
            self.reward_model in ("own_losses", "frozen", "coupled"),
            self, "reward_model", "'own_losses', 'frozen' or 'coupled'",
        )  # fmt: skip
        _require(
            self.teacher_choice in ("reward", "imitation", "confidence", "random", "oracle"),
            self, "teacher_choice", "'reward', 'imitation', 'confidence', 'random' or 'oracle'",
        )  # fmt: skip
        _require(
            self.smoothing == 0 or (self.logits != "best_per_head" and self.reward_model != "coupled"),
            self, "smoothing", "0 with the authors' variants ('best_per_head', 'coupled')",
        )  # fmt: skip

    @property
    def needs_teacher(self) -> bool:
        return self.policy > 0 or self.world_reward > 0


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """A whole run. student: the shipped network's sizes, smaller than the teacher's (world.network).

    student_joint: the student's encoder goes on learning with the plan; off, it stays as its perception pre-training left
    it, every set's view is computed once, and a sample costs a fifth. emphasis: of the samples in the student's stage.
    forgotten_history: share of the samples whose remembered view is taken away in the student's stage.
    precision: "float32", "bfloat16" or "probe" (bfloat16 where a short probe finds it faster). workers: of the data
    loader. checkpoint_minutes: between checkpoints. deterministic: torch's deterministic algorithms.
    """

    name: str
    student: PolicyConfig
    world: WorldConfig
    teacher: TeacherConfig
    reward: RewardConfig
    data: DataConfig
    losses: LossWeights
    perception_stage: Schedule
    world_stage: Schedule
    teacher_stage: Schedule
    student_stage: Schedule
    emphasis: EmphasisConfig = EmphasisConfig()
    student_joint: bool = False
    forgotten_history: float = 0.1
    precision: str = "float32"
    workers: int = 0
    checkpoint_minutes: float = 3.0
    deterministic: bool = True

    def __post_init__(self) -> None:
        _require(
            self.precision in ("float32", "bfloat16", "probe"), self, "precision", "'float32', 'bfloat16' or 'probe'"
        )
        _require(0 <= self.forgotten_history < 1, self, "forgotten_history", "a share from 0 to less than 1")
        _require(self.workers >= 0, self, "workers", "zero or more")
        _require(self.checkpoint_minutes > 0, self, "checkpoint_minutes", "a positive number")
        mine, worlds = self.student, self.world.network
        for field in ("cameras", "image_input", "bev", "plan", "history"):
            if getattr(mine, field) != getattr(worlds, field):
                raise TrainingError(
                    f"ExperimentConfig {self.name}: student.{field} and world.network.{field} differ, expected the same, "
                    "since both learn from the same samples; make them equal."
                )

    @property
    def commands(self) -> int:
        return len(self.student.plan.commands)

    @property
    def steps(self) -> int:
        """Future steps T."""
        return self.student.plan.steps

    @property
    def occupancy_shape(self) -> tuple[int, int]:
        """Cells (X, Y) of the occupancy grid."""
        bev, cell = self.student.bev, self.data.occupancy_cell_m
        return tuple(round((high - low) / cell) for low, high in (bev.x_range_m, bev.y_range_m))

    def with_(self, **changes: Any) -> ExperimentConfig:
        """Return a copy with fields changed."""
        return dataclasses.replace(self, **changes)


def as_json(config: ExperimentConfig) -> str:
    """Return a configuration as JSON text, for provenance and for telling whether two runs are alike."""
    return json.dumps(_plain(config), sort_keys=True)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value


def compact() -> ExperimentConfig:
    """The configuration for two CPU cores.

    Small batches: of 7,000 samples in steps of 16 the pre-training learned no vehicle at all, in steps of 4 it did; of
    24,000 samples in steps of 8 a student came 1.92 m near to the truth on dev, in steps of 4 1.77 m.
    """
    return ExperimentConfig(
        name="compact",
        student=compact_policy("wpt-compact", width=16, bev_channels=32),
        world=WorldConfig(network=compact_policy("wpt-compact-world", width=24, bev_channels=48)),
        teacher=TeacherConfig(),
        reward=RewardConfig(),
        data=DataConfig(),
        losses=LossWeights(),
        perception_stage=Schedule(samples=40_000, batch=4),
        world_stage=Schedule(samples=40_000, batch=4),
        teacher_stage=Schedule(samples=30_000, batch=4),
        student_stage=Schedule(samples=40_000, batch=4),
        precision="probe",
    )


def short() -> ExperimentConfig:
    """compact's networks with two thirds of its data and of its samples seen: one seed's chain in three hours on two cores."""
    return _with_samples(compact(), name="short", rows=14_000, perception=28_000, world=10_000, teacher=24_000, student=40_000)


def tiny() -> ExperimentConfig:
    """The whole chain on 2,000 samples in about 20 minutes on two cores: does everything converge?"""
    return _with_samples(compact(), name="tiny", rows=2_000, perception=4_000, world=3_000, teacher=3_000, student=4_000)


def _with_samples(full: ExperimentConfig, *, name: str, rows: int, **samples: int) -> ExperimentConfig:
    stages = {
        f"{stage}_stage": dataclasses.replace(getattr(full, f"{stage}_stage"), samples=count)
        for stage, count in samples.items()
    }
    return full.with_(name=name, data=dataclasses.replace(full.data, train_samples=rows), **stages)


def medium() -> ExperimentConfig:
    """For one GPU: compact's images and grid, wider networks, more samples."""
    return ExperimentConfig(
        name="medium",
        student=compact_policy("wpt-medium", width=32, bev_channels=64),
        world=WorldConfig(network=compact_policy("wpt-medium-world", width=48, bev_channels=96), blocks=3),
        teacher=TeacherConfig(channels=128, heads=8, feedforward_channels=256),
        reward=RewardConfig(channels=128),
        data=DataConfig(),
        losses=LossWeights(),
        perception_stage=Schedule(samples=200_000, batch=32),
        world_stage=Schedule(samples=200_000, batch=32),
        teacher_stage=Schedule(samples=150_000, batch=32),
        student_stage=Schedule(samples=200_000, batch=32),
        precision="probe",
        workers=8,
    )


def reference() -> ExperimentConfig:
    """The paper's size: ResNet-50 at 800x448, 200x200 cells of 256 channels, per-step teacher. For several GPUs."""
    schedule = Schedule(
        samples=24 * 28_130, batch=1, learning_rate=2e-4, backbone_rate_share=0.1, clip_norm=35.0, warmup_share=0.01
    )
    return ExperimentConfig(
        name="reference",
        student=reference_policy("wpt-reference"),
        world=WorldConfig(
            network=reference_policy("wpt-reference-world", layers_of_resnet=101),
            blocks=3,
            action_channels=256,
            conditional_norm=True,
            joint=True,
        ),
        teacher=TeacherConfig(kind="reference", channels=256, heads=8, feedforward_channels=512),
        reward=RewardConfig(channels=256),
        data=DataConfig(train_samples=28_130, occupancy_cell_m=0.512),
        losses=LossWeights(),
        perception_stage=schedule,
        world_stage=schedule,
        teacher_stage=dataclasses.replace(schedule, samples=12 * 28_130),
        student_stage=dataclasses.replace(schedule, samples=12 * 28_130),
        student_joint=True,
        precision="probe",
        workers=4,
        deterministic=False,
    )


CONFIGURATIONS: Mapping[str, Callable[[], ExperimentConfig]] = {
    function.__name__: function for function in (tiny, short, compact, medium, reference)
}


def configuration(name: str) -> ExperimentConfig:
    """Return a configuration by name; raises TrainingError for an unknown one."""
    if name not in CONFIGURATIONS:
        raise TrainingError(f"configuration {name!r} is unknown: choose one of {', '.join(CONFIGURATIONS)}.")
    return CONFIGURATIONS[name]()
