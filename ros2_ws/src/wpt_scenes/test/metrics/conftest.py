"""Hand-made scenes: one box at a known place, a LIDAR_TOP exactly 1 m ahead of the rear axle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from wpt_policy import se3
from wpt_scenes.metrics import EvaluationSample, Predictions, WaypointKind
from wpt_scenes.metrics.scene_record import DrivableLookup, make_record
from wpt_scenes.scene_types import Box3D
from wpt_scenes.truth import NUM_STEPS, WaypointFrame

# x right, y forward, 1 m ahead of base_link and 2 m up.
BASE_FROM_LIDAR = np.array(
    [[0.0, 1.0, 0.0, 1.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 0.0, 1.0]]
)


@dataclass(frozen=True, kw_only=True)
class BoxAt:
    """A box with its near left corner etc. given by centre, in the global frame."""

    x: float
    y: float
    length: float = 2.0
    width: float = 2.0
    yaw: float = 0.0
    category: str = "vehicle.car"
    instance: str = "one"
    visibility: int | None = 4
    lidar_points: int | None = 5
    radar_points: int | None = 0


class SceneMaker:
    """Builds samples of scenes from poses and boxes."""

    base_from_lidar = BASE_FROM_LIDAR

    def straight(
        self,
        *,
        keyframes: int,
        step_m: float,
        boxes: Mapping[int, Sequence[BoxAt]] | None = None,
        start: np.ndarray | None = None,
        drivable: DrivableLookup | None = None,
        name: str = "scene-0001",
    ) -> list[EvaluationSample]:
        """An ego that goes ``step_m`` along global x between keyframes (moved as a whole by ``start``)."""
        poses = [se3.planar(step_m * keyframe, 0.0, 0.0) for keyframe in range(keyframes)]
        return self.along(poses, boxes=boxes, start=start, drivable=drivable, name=name)

    def along(
        self,
        poses: Sequence[np.ndarray],
        *,
        boxes: Mapping[int, Sequence[BoxAt]] | None = None,
        start: np.ndarray | None = None,
        drivable: DrivableLookup | None = None,
        name: str = "scene-0001",
    ) -> list[EvaluationSample]:
        start = np.eye(4) if start is None else start
        poses = [start @ pose for pose in poses]
        annotated = [
            [self._box(start, box, keyframe) for box in (boxes or {}).get(keyframe, ())]
            for keyframe in range(len(poses))
        ]
        record = make_record(
            name=name,
            stamps_ns=[500_000_000 * keyframe for keyframe in range(len(poses))],
            global_from_base=poses,
            base_from_lidar=[BASE_FROM_LIDAR] * len(poses),
            boxes=annotated,
            drivable=drivable,
        )
        return [
            EvaluationSample(
                token=f"{name}-{index}",
                scene_name=name,
                truth=self._truth(poses, index),
                base_from_lidar=BASE_FROM_LIDAR,
                record=record,
                index=index,
                reference_stamp_ns=500_000_000 * index,
            )
            for index in range(len(poses))
        ]

    def everywhere(self, box: BoxAt, keyframes: int) -> dict[int, list[BoxAt]]:
        """The same standing box at every keyframe."""
        return {keyframe: [box] for keyframe in range(keyframes)}

    def predictions(
        self,
        samples: Sequence[EvaluationSample],
        waypoints: np.ndarray,
        *,
        frame: WaypointFrame = WaypointFrame.EGO,
        kind: WaypointKind = WaypointKind.INDEX,
        planner: str = "planner",
    ) -> Predictions:
        """The same (6, 2) waypoints for every sample."""
        return Predictions(
            planner=planner,
            kind=kind,
            frame=frame,
            positions={sample.token: np.array(waypoints, dtype=np.float64) for sample in samples},
            refused={},
        )

    @staticmethod
    def _truth(poses: Sequence[np.ndarray], index: int) -> dict:
        truth = {}
        for frame, mount in ((WaypointFrame.EGO, np.eye(4)), (WaypointFrame.LIDAR, BASE_FROM_LIDAR)):
            positions = np.full((NUM_STEPS, 2), np.nan)
            for step, future in enumerate(poses[index + 1 : index + 1 + NUM_STEPS]):
                positions[step] = (se3.inverse(poses[index] @ mount) @ future @ mount)[:2, 3]
            known = np.isfinite(positions[:, 0])
            truth[WaypointKind.INDEX, frame] = (positions, known)
            if frame is WaypointFrame.EGO:
                truth[WaypointKind.TIME, frame] = (positions, known)
        return truth

    @staticmethod
    def _box(start: np.ndarray, box: BoxAt, keyframe: int) -> Box3D:
        return Box3D(
            token=f"{box.instance}-{keyframe}",
            instance_token=box.instance,
            category=box.category,
            global_from_box=start @ se3.planar(box.x, box.y, box.yaw),
            size_lwh=np.array([box.length, box.width, 1.5]),
            velocity=np.zeros(3),
            visibility=box.visibility,
            num_lidar_pts=box.lidar_points,
            num_radar_pts=box.radar_points,
        )


@pytest.fixture(scope="session")
def scenes() -> SceneMaker:
    return SceneMaker()


@pytest.fixture(scope="session")
def box_at() -> type[BoxAt]:
    return BoxAt
