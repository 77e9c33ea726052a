"""What a prediction is judged by: truth, and the scene around it where one is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wpt_scenes.metrics.scene_record import DrivableLookup, SceneRecord, record_of_scene
from wpt_scenes.metrics.waypoints import PredictionError, WaypointBatch, WaypointKind
from wpt_scenes.scene_types import Scene
from wpt_scenes.truth import NUM_STEPS, WaypointFrame, future_waypoints, plan_in_keyframe, timed_waypoints

TruthKey = tuple[WaypointKind, WaypointFrame]


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationSample:
    """One keyframe to be judged.

    truth: (positions (6, 2), known (6,)) by kind and frame; known steps come first. base_from_lidar: (4, 4) mount of
    LIDAR_TOP, None when unknown. record, index: the scene's arrays and this keyframe in them, None and -1 where truth
    alone is known (no boxes, no drivable area, no neighbours); earlier_keyframes may then say how many keyframes of the
    scene come before (None: unknown). reference_stamp_ns: newest image stamp of the keyframe,
    where time-based truth starts; 0 where only index-based truth is known.
    """

    token: str
    scene_name: str
    truth: Mapping[TruthKey, tuple[np.ndarray, np.ndarray]]
    base_from_lidar: np.ndarray | None
    record: SceneRecord | None = None
    index: int = -1
    earlier_keyframes: int | None = None
    reference_stamp_ns: int = 0

    def __post_init__(self) -> None:
        for (kind, frame), (positions, known) in self.truth.items():
            if positions.shape != (NUM_STEPS, 2) or known.shape != (NUM_STEPS,):
                raise PredictionError(
                    f"truth of token {self.token} ({kind.value}, {frame.value}) has shapes {positions.shape} and "
                    f"{known.shape}, expected ({NUM_STEPS}, 2) and ({NUM_STEPS},); give six steps and a mask"
                )
            if not np.all(np.isfinite(positions[known])):
                raise PredictionError(
                    f"truth of token {self.token} has a known waypoint that is not finite; set its mask to false"
                )
            if np.any(known[1:] & ~known[:-1]):
                raise PredictionError(
                    f"truth of token {self.token} has a known step after an unknown one (mask {known.tolist()}), "
                    "expected known steps first; a scene ends only once"
                )

    @property
    def past(self) -> int | None:
        """How many keyframes of the scene come before this one, None when unknown."""
        return self.earlier_keyframes if self.record is None else self.index


def samples_of_scene(
    scene: Scene, drivable: DrivableLookup | None = None, references_ns: Sequence[int] | None = None
) -> list[EvaluationSample]:
    """Return one sample per keyframe of a scene, in order, with truth of both kinds and in every frame it has.

    references_ns: newest image stamp of each keyframe, for scenes that hold no images; else it is read from them.
    """
    record = record_of_scene(scene, drivable)
    frames = [WaypointFrame.EGO] if record.base_from_lidar is None else list(WaypointFrame)
    samples = []
    for index, keyframe in enumerate(scene.keyframes):
        truth: dict[TruthKey, tuple[np.ndarray, np.ndarray]] = {
            (WaypointKind.INDEX, frame): future_waypoints(scene, index, frame) for frame in frames
        }
        if references_ns is not None:
            reference = references_ns[index]
        else:
            reference = max((image.stamp_ns for image in keyframe.images.values()), default=keyframe.stamp_ns)
        if scene.poses.covers(reference):
            positions, known = timed_waypoints(scene.poses, reference)
            moved = plan_in_keyframe(positions, reference, scene.poses, keyframe.global_from_base)
            truth[WaypointKind.TIME, WaypointFrame.EGO] = (moved, known)
        samples.append(
            EvaluationSample(
                token=keyframe.sample_token,
                scene_name=scene.name,
                truth=truth,
                base_from_lidar=None if record.base_from_lidar is None else keyframe.base_from_lidar,
                record=record,
                index=index,
                reference_stamp_ns=reference,
            )
        )
    return samples


def with_truth(
    samples: Sequence[EvaluationSample], truth: Sequence[EvaluationSample]
) -> list[EvaluationSample]:
    """Return the samples that ``truth`` names, each with the truth given there in place of its own of that kind and frame.

    Everything else (boxes, poses, drivable area) stays. Raises PredictionError when a token of ``truth`` is unknown.
    """
    by_token = {sample.token: sample for sample in samples}
    unknown = [given.token for given in truth if given.token not in by_token]
    if unknown:
        raise PredictionError(
            f"the truth file has {len(unknown)} tokens that the chosen scenes lack (first: {unknown[0]}), expected tokens "
            "of these scenes; add the scenes, or judge without a dataset"
        )
    given = {sample.token: sample.truth for sample in truth}
    return [
        replace(sample, truth={**sample.truth, **given[sample.token]})
        for sample in samples
        if sample.token in given
    ]


def truth_batch(
    samples: Sequence[EvaluationSample], kind: WaypointKind, frame: WaypointFrame
) -> WaypointBatch:
    """Return the truth of N samples; raises PredictionError naming the first sample that has none of that kind."""
    for sample in samples:
        if (kind, frame) not in sample.truth:
            there = ", ".join(f"{k.value}/{f.value}" for k, f in sample.truth) or "none"
            raise PredictionError(
                f"token {sample.token} has no {kind.value}-based truth in the {frame.value} frame (it has: {there}); "
                "give predictions of a kind and in a frame that the truth has"
            )
    pairs = [sample.truth[kind, frame] for sample in samples]
    return WaypointBatch(
        kind=kind,
        frame=frame,
        positions=np.array([positions for positions, _ in pairs], dtype=np.float64).reshape(-1, NUM_STEPS, 2),
        known=np.array([known for _, known in pairs], dtype=bool).reshape(-1, NUM_STEPS),
    )


def mounts(samples: Sequence[EvaluationSample]) -> np.ndarray | None:
    """Return the (N, 4, 4) mounts of LIDAR_TOP, or None when any sample has none."""
    if any(sample.base_from_lidar is None for sample in samples):
        return None
    return np.array([sample.base_from_lidar for sample in samples], dtype=np.float64).reshape(-1, 4, 4)
