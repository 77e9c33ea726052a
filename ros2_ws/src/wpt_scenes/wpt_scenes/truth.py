"""What the ego and the others really did: waypoints, boxes and the command derived from them.

Two kinds of future waypoints exist and are never mixed:

- *index-based* (``future_waypoints``): the poses of keyframes i+1..i+6. nuScenes keyframes are 0.4 to 0.6 s
  apart, so the "3 s" waypoint lies 2.85 to 3.10 s ahead. Published nuScenes planning numbers are of this
  kind.
- *time-interpolated* (``timed_waypoints``): the recorded poses at exactly 0.5 s, 1.0 s, ... after a stamp.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from wpt_policy import se3
from wpt_policy.frame import Command, CommandSource
from wpt_policy.plan import moved

from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.pose_track import PoseTrack
from wpt_scenes.scene_types import BoxInBase, Keyframe, Scene

# Six steps of 0.5 s: the 3 s horizon of nuScenes planning evaluation (ST-P3, UniAD, VAD).
NUM_STEPS = 6
STEP_NS = 500_000_000

# nuScenes rule: at least 2 m to one side after 3 s is a turn (the command of UniAD, VAD and their relatives).
COMMAND_OFFSET_M = 2.0


class WaypointFrame(Enum):
    """EGO: base_link origins in base_link at the keyframe's stamp (x forward, y left).

    LIDAR: LIDAR_TOP origins in LIDAR_TOP at the keyframe's stamp (x right, y forward), as the ground truth of
    ST-P3, UniAD and VAD is. The two trace different points of the car (0.94 m apart): one is no rotation of
    the other.
    """

    EGO = "ego"
    LIDAR = "lidar"


def future_waypoints(
    scene: Scene, index: int, frame: WaypointFrame | str = WaypointFrame.EGO, steps: int = NUM_STEPS
) -> tuple[np.ndarray, np.ndarray]:
    """Return the index-based waypoints of keyframe ``index``: positions (steps, 2) m and valid (steps,) bool.

    Row k is keyframe index + 1 + k, moved by full SE(3) and then reduced to x, y. Where the scene ends
    positions are NaN and valid is False. Raises DatasetError for an index outside the scene, or for LIDAR
    without LIDAR_TOP.
    """
    frame = WaypointFrame(frame)
    current = keyframe_at(scene, index)
    target_from_global = se3.inverse(_global_from_origin(scene, current, frame))
    positions = np.full((steps, 2), np.nan)
    valid = np.zeros(steps, dtype=bool)
    for step, keyframe in enumerate(scene.keyframes[index + 1 : index + 1 + steps]):
        origin = _global_from_origin(scene, keyframe, frame)[:3, 3]
        positions[step] = se3.apply(target_from_global, origin[None])[0, :2]
        valid[step] = True
    return positions, valid


def timed_waypoints(
    track: PoseTrack, reference_stamp_ns: int, steps: int = NUM_STEPS, step_ns: int = STEP_NS
) -> tuple[np.ndarray, np.ndarray]:
    """Return the time-interpolated waypoints after a stamp: positions (steps, 2) m and valid (steps,) bool.

    Row k is the recorded pose exactly (k + 1) * step_ns after reference_stamp_ns, in base_link at that stamp.
    Beyond the recording positions are NaN and valid is False. Raises DatasetError when the reference itself
    is not covered.
    """
    base_from_global = se3.inverse(track.at(reference_stamp_ns))
    positions = np.full((steps, 2), np.nan)
    valid = np.zeros(steps, dtype=bool)
    for step in range(steps):
        stamp = reference_stamp_ns + (step + 1) * step_ns
        if track.covers(stamp):
            positions[step] = se3.apply(base_from_global, track.at(stamp)[:3, 3][None])[0, :2]
            valid[step] = True
    return positions, valid


def future_boxes(
    scene: Scene, index: int, steps: int = NUM_STEPS
) -> tuple[tuple[BoxInBase, ...] | None, ...]:
    """Return the boxes of keyframes index to index + steps, all in base_link of keyframe ``index``.

    Entry 0 is the present. An entry is None where the scene has ended (an empty tuple means: nothing was
    there).
    """
    current = keyframe_at(scene, index)
    entries: list[tuple[BoxInBase, ...] | None] = []
    for step in range(steps + 1):
        if index + step >= len(scene.keyframes):
            entries.append(None)
            continue
        boxes = scene.keyframes[index + step].boxes
        entries.append(tuple(box.in_base(current.global_from_base) for box in boxes))
    return tuple(entries)


def derived_command(scene: Scene, index: int) -> tuple[Command, CommandSource]:
    """Return the command of keyframe ``index`` by the nuScenes rule, which reads the TRUE FUTURE.

    At least 2 m to the right after six keyframes: RIGHT; at least 2 m to the left: LEFT; else STRAIGHT. The
    side is the x axis of LIDAR_TOP (base_link's y in a scene without LIDAR_TOP). Where the scene ends before,
    the last known waypoint decides; without any future the command is UNKNOWN with source UNKNOWN.
    """
    current = keyframe_at(scene, index)
    if current.base_from_lidar is not None:
        positions, valid = future_waypoints(scene, index, WaypointFrame.LIDAR)
        to_the_right = positions[:, 0]
    else:
        positions, valid = future_waypoints(scene, index, WaypointFrame.EGO)
        to_the_right = -positions[:, 1]
    if not valid.any():
        return Command.UNKNOWN, CommandSource.UNKNOWN
    offset = float(to_the_right[np.flatnonzero(valid)[-1]])
    if offset >= COMMAND_OFFSET_M:
        return Command.RIGHT, CommandSource.DERIVED_FROM_FUTURE
    if offset <= -COMMAND_OFFSET_M:
        return Command.LEFT, CommandSource.DERIVED_FROM_FUTURE
    return Command.STRAIGHT, CommandSource.DERIVED_FROM_FUTURE


def plan_in_keyframe(
    positions: np.ndarray,
    reference_stamp_ns: int,
    track: PoseTrack,
    keyframe_global_from_base: np.ndarray,
) -> np.ndarray:
    """Move plan positions (N, 2) from base_link at their reference stamp into base_link at the keyframe.

    The pose at the reference stamp is interpolated in ``track``; keyframe_global_from_base (4, 4) is the
    keyframe's own recorded pose. Offline evaluation and the evaluation node both call this, so that a plan
    through the node and the same plan offline are judged alike. Raises DatasetError when the track does not
    cover the reference stamp.
    """
    keyframe_from_reference = se3.inverse(keyframe_global_from_base) @ track.at(reference_stamp_ns)
    return moved(np.asarray(positions, dtype=np.float64), keyframe_from_reference)


def keyframe_at(scene: Scene, index: int) -> Keyframe:
    """Return keyframe ``index``; raises DatasetError outside the scene (a negative index is outside)."""
    if not 0 <= index < len(scene.keyframes):
        raise DatasetError(
            f"{scene.name} has no keyframe {index}, expected 0 to {len(scene.keyframes) - 1}; ask for one "
            "of these"
        )
    return scene.keyframes[index]


def _global_from_origin(scene: Scene, keyframe: Keyframe, frame: WaypointFrame) -> np.ndarray:
    if frame is WaypointFrame.EGO:
        return keyframe.global_from_base
    if keyframe.base_from_lidar is None:
        raise DatasetError(
            f"keyframe {keyframe.index} of {scene.name} has no LIDAR_TOP, which waypoints in the LiDAR "
            "frame need; "
            "ask for the ego frame"
        )
    return keyframe.global_from_base @ keyframe.base_from_lidar


def waypoint_count(valid: np.ndarray) -> int:
    """Return how many leading waypoints of a valid mask (T,) are known; none follows the first gap."""
    return int(np.argmin(np.append(np.asarray(valid, dtype=bool), False)))
