"""Which annotated objects each metric counts, where it puts them, and in which frame.

Every function takes a scene's record and the (S,) keyframes to be judged and returns the objects of their six future
steps. Class, range, point and visibility filters differ between the public metrics; they are the reason why collision
rates of different code bases cannot be compared, so each is written out here with the file that it was read in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wpt_scenes.metrics.scene_record import SceneRecord
from wpt_scenes.truth import NUM_STEPS, STEP_NS

# The ten detection classes of mmdet3d's NuScenesDataset.NameMapping leave out emergency vehicles, wheelchairs,
# strollers and personal mobility; VAD, UniAD and BEV-Planner read boxes through it.
DETECTION_VEHICLES = frozenset(
    {
        "vehicle.bicycle",
        "vehicle.bus.bendy",
        "vehicle.bus.rigid",
        "vehicle.car",
        "vehicle.construction",
        "vehicle.motorcycle",
        "vehicle.trailer",
        "vehicle.truck",
    }
)
DETECTION_PEDESTRIANS = frozenset(
    {
        "human.pedestrian.adult",
        "human.pedestrian.child",
        "human.pedestrian.construction_worker",
        "human.pedestrian.police_officer",
    }
)
# OccWD4E2E's ignore list, with names as they are before the mapping.
NOT_OCCUPYING = frozenset(
    {
        "animal",
        "movable_object.barrier",
        "movable_object.debris",
        "movable_object.pushable_pullable",
        "movable_object.trafficcone",
        "noise",
        "static_object.bicycle_rack",
    }
)
# VAD filters objects by its perception range, by their place at the present keyframe (x right, y forward, metres).
VAD_RANGE_M = (15.0, 30.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Obstacles:
    """Q rectangles on the ground.

    owner: (Q,) sample * 6 + step, samples numbered within the call. centre: (Q, 2) m. heading: (Q,) rad.
    half_size: (Q, 2) half length and half width. row: (Q,) the annotation that each was made from.
    """

    owner: np.ndarray
    centre: np.ndarray
    heading: np.ndarray
    half_size: np.ndarray
    row: np.ndarray


ObstacleRule = Callable[[SceneRecord, np.ndarray], Obstacles]


def road_users(record: SceneRecord, keyframes: np.ndarray) -> Obstacles:
    """Every annotated vehicle.* and human.* of each future keyframe, in base_link: this suite's exact metric."""
    counted = _is_in_group(record.category, "vehicle") | _is_in_group(record.category, "human")
    return _at_future_keyframes(record, keyframes, counted, record.base_from_global)


def road_users_now(record: SceneRecord, keyframes: np.ndarray) -> Obstacles:
    """The same objects at each keyframe itself; owner is the sample's number alone."""
    counted = _is_in_group(record.category, "vehicle") | _is_in_group(record.category, "human")
    rows, which = record.rows_of(keyframes)
    rows, which = rows[counted[rows]], which[counted[rows]]
    return _placed_rows(record, record.base_from_global, keyframes, np.arange(len(keyframes)), which, rows)


def road_users_timed(
    record: SceneRecord, keyframes: np.ndarray, reference_stamps_ns: np.ndarray
) -> Obstacles:
    """The same objects 0.5 s, 1.0 s ... after each reference stamp, in base_link of the keyframe.

    An object annotated at both keyframes around an instant is interpolated between them; one that is annotated at one
    of them alone stands there while that keyframe is the nearer one. Beyond the last keyframe nothing is known.
    """
    counted = _is_in_group(record.category, "vehicle") | _is_in_group(record.category, "human")
    begins = np.ones(len(record.instance), dtype=bool)
    linked = np.flatnonzero(record.next_row >= 0)
    direct = record.keyframe_of_row[record.next_row[linked]] == record.keyframe_of_row[linked] + 1
    begins[record.next_row[linked[direct]]] = False
    parts = []
    for step in range(NUM_STEPS):
        instants = reference_stamps_ns + (step + 1) * STEP_NS
        after = np.searchsorted(record.stamps_ns, instants, side="left")
        inside = np.flatnonzero((after < record.keyframe_count) & (instants >= record.stamps_ns[0]))
        after = np.maximum(after[inside], 1) if record.keyframe_count > 1 else after[inside]
        before = np.maximum(after - 1, 0)
        span = np.maximum(record.stamps_ns[after] - record.stamps_ns[before], 1)
        fraction = (instants[inside] - record.stamps_ns[before]) / span
        owner_of = keyframes[inside], inside * NUM_STEPS + step
        # Rows of the earlier keyframe, moved on towards the same instance's row in the later one.
        rows, which = record.rows_of(before)
        partner = record.next_row[rows]
        continues = (partner >= 0) & (record.keyframe_of_row[np.maximum(partner, 0)] == after[which])
        keep = counted[rows] & (continues | (fraction[which] <= 0.5))
        weight = np.where(continues, fraction[which], 0.0)[keep, None]
        rows, which, partner = rows[keep], which[keep], np.where(continues, partner, rows)[keep]
        centre = (1 - weight) * record.centre[rows] + weight * record.centre[partner]
        forward = (1 - weight) * record.forward[rows] + weight * record.forward[partner]
        parts.append(
            _placed(record.base_from_global, *owner_of, which, centre, forward, record.half_size[rows], rows)
        )
        # Rows of the later keyframe whose instance the earlier one lacks.
        rows, which = record.rows_of(after)
        keep = counted[rows] & begins[rows] & (fraction[which] > 0.5)
        rows, which = rows[keep], which[keep]
        parts.append(_placed_rows(record, record.base_from_global, *owner_of, which, rows))
    return joined(parts)


def uniad_vehicles(record: SceneRecord, keyframes: np.ndarray) -> Obstacles:
    """Vehicles of the ten detection classes, bicycles and motorcycles among them, at each future keyframe, in LIDAR_TOP.

    No range, point or visibility filter: GenerateOccFlowLabels with only_vehicle=True, filter_invisible=False
    (UniAD projects/configs/stage2_e2e/base_e2e.py, datasets/pipelines/occflow_label.py).
    """
    return _at_future_keyframes(
        record, keyframes, _is_one_of(record, DETECTION_VEHICLES), record.lidar_from_global
    )


def bevplanner_vehicles(record: SceneRecord, keyframes: np.ndarray) -> Obstacles:
    """The vehicles of uniad_vehicles that have at least one LiDAR or radar point, in base_link.

    BEV-Planner mmdet3d/datasets/pipelines/loading.py (LoadFutBoxInfo), tools/create_data_bev_planner.py (get_gt).
    """
    points = np.maximum(record.lidar_points, 0) + np.maximum(record.radar_points, 0)
    unknown = (record.lidar_points < 0) & (record.radar_points < 0)
    counted = _is_one_of(record, DETECTION_VEHICLES) & ((points > 0) | unknown)
    return _at_future_keyframes(record, keyframes, counted, record.base_from_global)


def occwd_occupying(record: SceneRecord, keyframes: np.ndarray) -> Obstacles:
    """Every box but barriers, cones, animals, debris, pushables and bicycle racks, in LIDAR_TOP.

    OccWD4E2E (a fork of Drive-OccWorld) projects/mmdet3d_plugin/datasets/nuscenes_world_dataset_template.py.
    """
    counted = ~_is_one_of(record, NOT_OCCUPYING)
    return _at_future_keyframes(record, keyframes, counted, record.lidar_from_global)


def sparsedrive_everything(record: SceneRecord, keyframes: np.ndarray) -> Obstacles:
    """Every box of any class with at least one LiDAR point at its own keyframe, in LIDAR_TOP.

    SparseDrive projects/mmdet3d_plugin/datasets/nuscenes_3d_dataset.py (fut_boxes; barriers and cones included).
    """
    return _at_future_keyframes(record, keyframes, record.lidar_points != 0, record.lidar_from_global)


def vad_agents(record: SceneRecord, keyframes: np.ndarray) -> Obstacles:
    """Vehicles and pedestrians known now, followed along their annotations, in LIDAR_TOP.

    Known now: of a detection class, with a LiDAR point, and with its centre inside +-15 m across and +-30 m along at
    the present keyframe (VAD CustomObjectRangeFilter with the perception range of VAD_base_e2e.py). Objects that
    appear later never count. Step k is the k-th next annotation, even where a keyframe was skipped; the size is
    today's (tools/data_converter/vad_nuscenes_converter.py, VAD/planner/metric_stp3.py).
    """
    known = _is_one_of(record, DETECTION_VEHICLES | DETECTION_PEDESTRIANS) & (record.lidar_points != 0)
    rows, which = record.rows_of(keyframes)
    rows, which = rows[known[rows]], which[known[rows]]
    centre = _moved(record.lidar_from_global[keyframes[which]], record.centre[rows])
    near = (np.abs(centre[:, 0]) < VAD_RANGE_M[0]) & (np.abs(centre[:, 1]) < VAD_RANGE_M[1])
    rows, which = rows[near], which[near]
    today = rows
    parts = []
    for step in range(NUM_STEPS):
        following = record.next_row[rows]
        there = following >= 0
        rows, which, today = following[there], which[there], today[there]
        parts.append(
            _placed(
                record.lidar_from_global,
                keyframes,
                np.arange(len(keyframes)) * NUM_STEPS + step,
                which,
                record.centre[rows],
                record.forward[rows],
                record.half_size[today],
                rows,
            )
        )
    return joined(parts)


def stp3_agents(record: SceneRecord, keyframes: np.ndarray) -> Obstacles:
    """vehicle* and human* seen by now, at each future keyframe, in ITS OWN flat base_link.

    Seen by now: annotated with visibility other than 1 (0-40 %) at the present keyframe or one of the two before; in
    the future visibility no longer matters, and objects that appear later never count (ST-P3
    stp3/datas/NuscenesData.py, FILTER_INVISIBLE_VEHICLES). The frame is the future ego's own, at the rear axle and
    without roll and pitch; stp3's raster is warped to the present afterwards (raster_metrics.stp3_warp).
    """
    # ST-P3 asks for the substring, so every category that holds the word counts.
    counted = _contains(record.category, "vehicle") | _contains(record.category, "human")
    seen_at = np.zeros((record.keyframe_count, int(record.instance.max(initial=-1)) + 1), dtype=bool)
    visible = np.flatnonzero(counted & (record.visibility != 1))
    seen_at[record.keyframe_of_row[visible], record.instance[visible]] = True
    seen = seen_at.copy()
    seen[1:] |= seen_at[:-1]
    seen[2:] |= seen_at[:-2]
    parts = []
    for step in range(NUM_STEPS):
        inside = np.flatnonzero(keyframes + step + 1 < record.keyframe_count)
        future = keyframes[inside] + step + 1
        rows, which = record.rows_of(future)
        keep = counted[rows] & seen[keyframes[inside][which], record.instance[rows]]
        rows, which = rows[keep], which[keep]
        parts.append(
            _placed_rows(record, record.flat_base_from_global, future, inside * NUM_STEPS + step, which, rows)
        )
    return joined(parts)


def _at_future_keyframes(
    record: SceneRecord, keyframes: np.ndarray, counted: np.ndarray, target_from_global: np.ndarray
) -> Obstacles:
    parts = []
    for step in range(NUM_STEPS):
        inside = np.flatnonzero(keyframes + step + 1 < record.keyframe_count)
        rows, which = record.rows_of(keyframes[inside] + step + 1)
        keep = counted[rows]
        rows, which = rows[keep], which[keep]
        parts.append(
            _placed_rows(
                record, target_from_global, keyframes[inside], inside * NUM_STEPS + step, which, rows
            )
        )
    return joined(parts)


def _placed(
    target_from_global: np.ndarray,
    frames: np.ndarray,
    owners: np.ndarray,
    which: np.ndarray,
    centre: np.ndarray,
    forward: np.ndarray,
    half_size: np.ndarray,
    row: np.ndarray,
) -> Obstacles:
    """Move Q boxes into the frames (keyframe numbers) of their samples; which: (Q,) into frames and owners."""
    transform = target_from_global[frames[which]]
    direction = np.einsum("qij,qj->qi", transform[:, :2, :3], forward)
    return Obstacles(
        owner=owners[which],
        centre=_moved(transform, centre),
        heading=np.arctan2(direction[:, 1], direction[:, 0]),
        half_size=half_size,
        row=row,
    )


def _placed_rows(
    record: SceneRecord,
    target_from_global: np.ndarray,
    frames: np.ndarray,
    owners: np.ndarray,
    which: np.ndarray,
    rows: np.ndarray,
) -> Obstacles:
    """The boxes of annotations as they are."""
    return _placed(
        target_from_global,
        frames,
        owners,
        which,
        record.centre[rows],
        record.forward[rows],
        record.half_size[rows],
        rows,
    )


def _moved(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.einsum("qij,qj->qi", transform[:, :2, :3], points) + transform[:, :2, 3]


def joined(parts: list[Obstacles]) -> Obstacles:
    """Return several sets of obstacles as one, in order."""
    names = ("owner", "centre", "heading", "half_size", "row")
    return Obstacles(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _is_one_of(record: SceneRecord, names: frozenset[str]) -> np.ndarray:
    return np.isin(record.category, sorted(names))


def _is_in_group(category: np.ndarray, group: str) -> np.ndarray:
    return np.char.startswith(category, f"{group}.")


def _contains(category: np.ndarray, word: str) -> np.ndarray:
    return np.char.find(category, word) >= 0
