"""The samples that rows are judged on: truth and actors of a data set, and its natural and interactive parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from wpt_policy import se3
from wpt_policy.plan import moved
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.metrics import (
    EvaluationSample,
    Predictions,
    PrimaryMetrics,
    WaypointKind,
    samples_of_scene,
)
from wpt_scenes.scene import load_scene
from wpt_scenes.scene_types import Scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import WaypointFrame

from wpt_training.data.side_tables import SideTables
from wpt_training.errors import TrainingError

PARTS = ("all", "natural", "interactive")


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedSet:
    """name: of the data set and version. samples: by keyframe, only labelled ones. keyframe_from_reference: (4, 4) by
    sample token, base_link at the reference stamp to base_link at the keyframe. natural, interactive: sample tokens, the
    parts of the data set; empty where it has no such lists.
    """

    name: str
    samples: tuple[EvaluationSample, ...]
    keyframe_from_reference: Mapping[str, np.ndarray]
    natural: frozenset[str]
    interactive: frozenset[str]

    @cached_property
    def primary(self) -> PrimaryMetrics:
        """The primary metric on these samples: truth exactly 0.5 s, 1.0 s ... after the reference stamp."""
        return PrimaryMetrics(self.samples, WaypointKind.TIME)

    def part(self, name: str) -> frozenset[str]:
        """Return the tokens of a part of PARTS."""
        if name == "all":
            return frozenset(sample.token for sample in self.samples)
        return {"natural": self.natural, "interactive": self.interactive}[name]

    def without(self, tokens: AbstractSet[str]) -> JudgedSet:
        """Return the set without some samples; raises TrainingError where none is left."""
        samples = tuple(sample for sample in self.samples if sample.token not in tokens)
        if not samples:
            raise TrainingError(
                f"none of the {len(self.samples)} samples of {self.name} is labelled in the cache, expected some; "
                "build the cache of the same data set again."
            )
        return replace(
            self, samples=samples, natural=self.natural - tokens, interactive=self.interactive - tokens
        )

    def as_predictions(
        self, planner: str, positions: Mapping[str, np.ndarray], kind: WaypointKind = WaypointKind.TIME
    ) -> Predictions:
        """Return plans (6, 2), by token in base_link at the reference stamp, as the metrics take them.

        Tokens that are not judged are left out.
        """
        there = {
            token: moved(np.asarray(plan, dtype=np.float64), self.keyframe_from_reference[token])
            for token, plan in positions.items()
            if token in self.keyframe_from_reference
        }
        return Predictions(planner=planner, kind=kind, frame=WaypointFrame.EGO, positions=there, refused={})


def load_judged_set(
    dataroot: Path, version: str, *, tokens: Iterable[str] | None = None, drivable: bool = True
) -> JudgedSet:
    """Load the labelled samples of a version that have a known future, or those of them that ``tokens`` names.

    drivable: with the masks of drivable area, for the off-road variant. Raises DatasetError for unusable tables,
    TrainingError where no sample is left.
    """
    tables = NuScenesTables.load(dataroot, version)
    side = SideTables.load(Path(dataroot) / version)
    wanted = None if tokens is None else frozenset(tokens)
    samples: list[EvaluationSample] = []
    keyframe_from_reference = {}
    for name in tables.scene_names():
        scene = load_scene(tables, name)
        if wanted is not None and not any(keyframe.sample_token in wanted for keyframe in scene.keyframes):
            continue
        area = _drivable_area(tables, scene) if drivable else None
        for sample, keyframe in zip(samples_of_scene(scene, area), scene.keyframes, strict=True):
            if sample.token in side.unlabelled or (wanted is not None and sample.token not in wanted):
                continue
            truth = sample.truth.get((WaypointKind.TIME, WaypointFrame.EGO))
            if truth is None or not truth[1].any():
                continue
            samples.append(sample)
            pose = scene.poses.at(sample.reference_stamp_ns)
            keyframe_from_reference[sample.token] = se3.inverse(keyframe.global_from_base) @ pose
    if not samples:
        raise TrainingError(
            f"{dataroot} {version} has no labelled sample with a future among those asked for, expected some; "
            "check the version and the list of tokens."
        )
    return JudgedSet(
        name=f"{Path(dataroot).name} {version}",
        samples=tuple(samples),
        keyframe_from_reference=keyframe_from_reference,
        natural=side.natural & keyframe_from_reference.keys(),
        interactive=side.interactive & keyframe_from_reference.keys(),
    )


def _drivable_area(tables: NuScenesTables, scene: Scene) -> DrivableArea | None:
    """The off-road variant has no number without a map, and its reason stands in the report."""
    try:
        return DrivableArea.load(tables, scene)
    except DatasetError:
        return None
