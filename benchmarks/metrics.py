"""Time of the open-loop metrics on a validation set's worth of samples: every variant, 20 jitter draws.

    python benchmarks/metrics.py [--scenes 150] [--keyframes 40] [--boxes 30] [--planners 1]

Prints one JSON line: samples, draws, seconds for making the samples' arrays and for the evaluation of each planner.
Scenes are drawn at random (seeded): an ego on a random walk among boxes that stand and move around its path.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time

import numpy as np
from wpt_policy import se3
from wpt_scenes.metrics import EvaluationSample, Jitter, Predictions, WaypointKind, evaluate_predictions
from wpt_scenes.metrics.scene_record import make_record
from wpt_scenes.scene_types import Box3D
from wpt_scenes.truth import NUM_STEPS, WaypointFrame

CATEGORIES = (
    "vehicle.car",
    "vehicle.truck",
    "vehicle.bicycle",
    "human.pedestrian.adult",
    "movable_object.barrier",
)
# LIDAR_TOP as nuScenes mounts it: x right, y forward.
BASE_FROM_LIDAR = np.array([[0.0, 1, 0, 0.94], [-1, 0, 0, 0], [0, 0, 1, 1.84], [0, 0, 0, 1]])


class EverythingDrivable:
    """A drivable area without a border: the look-up costs nothing, the footprint points are still made."""

    def contains(self, points_global: np.ndarray) -> np.ndarray:
        return np.ones(len(points_global), dtype=bool)


def random_scene(number: int, keyframes: int, boxes: int) -> list[EvaluationSample]:
    """Return the samples of one random scene."""
    rng = np.random.default_rng(number)
    speed, turn = rng.uniform(0.0, 12.0), rng.normal(0.0, 0.05)
    poses = [se3.planar(1000.0, 1000.0, rng.uniform(-math.pi, math.pi))]
    for _ in range(keyframes - 1):
        poses.append(poses[-1] @ se3.planar(0.5 * speed, 0.0, 0.5 * turn))
    annotated: list[list[Box3D]] = [[] for _ in range(keyframes)]
    for instance in range(2 * boxes):
        size = np.array([rng.uniform(0.6, 8.0), rng.uniform(0.6, 2.5), 1.6])
        pose = poses[rng.integers(keyframes)] @ se3.planar(
            *rng.normal(0.0, 20.0, 2), rng.uniform(-math.pi, math.pi)
        )
        step = se3.planar(rng.uniform(0.0, 4.0), 0.0, rng.normal(0.0, 0.02))
        first = int(rng.integers(keyframes))
        for keyframe in range(first, min(keyframes, first + keyframes // 2)):
            annotated[keyframe].append(
                Box3D(
                    token=f"{number}-{instance}-{keyframe}",
                    instance_token=f"{number}-{instance}",
                    category=CATEGORIES[instance % len(CATEGORIES)],
                    global_from_box=pose,
                    size_lwh=size,
                    velocity=np.zeros(3),
                    visibility=4,
                    num_lidar_pts=5,
                    num_radar_pts=1,
                )
            )
            pose = pose @ step
    record = make_record(
        name=f"scene-{number:04d}",
        stamps_ns=[500_000_000 * keyframe for keyframe in range(keyframes)],
        global_from_base=poses,
        base_from_lidar=[BASE_FROM_LIDAR] * keyframes,
        boxes=annotated,
        drivable=EverythingDrivable(),
    )
    samples = []
    for index, pose in enumerate(poses):
        truth = {}
        for frame, mount in ((WaypointFrame.EGO, np.eye(4)), (WaypointFrame.LIDAR, BASE_FROM_LIDAR)):
            positions = np.full((NUM_STEPS, 2), np.nan)
            for step, future in enumerate(poses[index + 1 : index + 1 + NUM_STEPS]):
                positions[step] = (se3.inverse(pose @ mount) @ future @ mount)[:2, 3]
            truth[WaypointKind.INDEX, frame] = (positions, np.isfinite(positions[:, 0]))
        samples.append(
            EvaluationSample(
                token=f"{number}-{index}",
                scene_name=record.name,
                truth=truth,
                base_from_lidar=BASE_FROM_LIDAR,
                record=record,
                index=index,
            )
        )
    return samples


def noisy_truth(samples: list[EvaluationSample], number: int) -> Predictions:
    """Return a planner that errs by a growing, seeded amount."""
    rng = np.random.default_rng(number)
    growth = np.arange(1, NUM_STEPS + 1)[:, None] * 0.15
    positions = {
        sample.token: np.nan_to_num(sample.truth[WaypointKind.INDEX, WaypointFrame.EGO][0])
        + rng.normal(0.0, 1.0, (NUM_STEPS, 2)) * growth
        for sample in samples
    }
    return Predictions(
        planner=f"noisy_{number}",
        kind=WaypointKind.INDEX,
        frame=WaypointFrame.EGO,
        positions=positions,
        refused={},
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=150)
    parser.add_argument("--keyframes", type=int, default=40)
    parser.add_argument("--boxes", type=int, default=30, help="annotated boxes per keyframe, about")
    parser.add_argument("--planners", type=int, default=1)
    parser.add_argument("--draws", type=int, default=20)
    arguments = parser.parse_args()
    started = time.perf_counter()
    samples = [
        sample
        for number in range(arguments.scenes)
        for sample in random_scene(number, arguments.keyframes, arguments.boxes)
    ]
    made = time.perf_counter()
    planners = [noisy_truth(samples, number) for number in range(arguments.planners)]
    begun = time.perf_counter()
    report = evaluate_predictions(samples, planners, jitter=Jitter(draws=arguments.draws))
    ended = time.perf_counter()
    rows = len(report["planners"])
    print(
        json.dumps(
            {
                "samples": len(samples),
                "boxes_per_keyframe": round(
                    sum(len(s.record.category) / s.record.keyframe_count for s in samples) / len(samples), 1
                ),
                "draws": arguments.draws,
                "rows": rows,
                "making_samples_s": round(made - started, 2),
                "evaluation_s": round(ended - begun, 2),
                "evaluation_per_row_s": round((ended - begun) / rows, 2),
                "noisy_0_collision_exact": report["planners"]["noisy_0"]["collision"]["collision_exact"][
                    "box"
                ]["at_step"],
                "python": platform.python_version(),
                "numpy": np.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
