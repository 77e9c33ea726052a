"""The registry of metrics: every number in a report carries one of these names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from wpt_scenes.metrics.aggregation import Averaging, Counting
from wpt_scenes.truth import WaypointFrame


class Group(Enum):
    L2 = "l2"
    COLLISION = "collision"
    OFF_ROAD = "off_road"
    CONSISTENCY = "consistency"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One metric.

    name: its key in reports. title: column heading. frame: whose waypoints are compared. averaging: how its source
    condenses the six steps (a report holds the others too). counting: which samples count. formula, source: one line
    each; docs/metrics.md says more. index_only: defined for index-based waypoints alone.
    """

    name: str
    group: Group
    title: str
    frame: WaypointFrame
    averaging: Averaging
    counting: Counting
    formula: str
    source: str
    index_only: bool = True


EGO, LIDAR = WaypointFrame.EGO, WaypointFrame.LIDAR

_ALL = (
    Variant(
        name="l2_ego",
        group=Group.L2,
        title="ours, ego",
        frame=EGO,
        averaging=Averaging.AT_STEP,
        counting=Counting.KNOWN_STEPS,
        formula="mean over the samples that have step k of |p_k - p*_k|, base_link origins in base_link",
        source="this suite",
        index_only=False,
    ),
    Variant(
        name="l2_lidar",
        group=Group.L2,
        title="ours, lidar",
        frame=LIDAR,
        averaging=Averaging.AT_STEP,
        counting=Counting.KNOWN_STEPS,
        formula="as l2_ego for LIDAR_TOP origins in LIDAR_TOP",
        source="this suite",
    ),
    Variant(
        name="l2_uniad",
        group=Group.L2,
        title="UniAD",
        frame=LIDAR,
        averaging=Averaging.AT_STEP,
        counting=Counting.ZERO_FILLED,
        formula="sum over all samples of m_k |p_k - p*_k| divided by all samples, m_k = 0 for a missing step",
        source="OpenDriveLab/UniAD projects/mmdet3d_plugin/uniad/dense_heads/planning_head_plugin/planning_metrics.py",
    ),
    Variant(
        name="l2_vad",
        group=Group.L2,
        title="VAD",
        frame=LIDAR,
        averaging=Averaging.OVER_TIME,
        counting=Counting.COMPLETE,
        formula="mean of |p_k - p*_k| over samples with six future keyframes and over the steps up to 1, 2, 3 s",
        source="hustvl/VAD projects/mmdet3d_plugin/VAD/VAD.py, datasets/nuscenes_vad_dataset.py",
    ),
    Variant(
        name="l2_stp3",
        group=Group.L2,
        title="ST-P3",
        frame=LIDAR,
        averaging=Averaging.OVER_TIME,
        counting=Counting.COMPLETE_WITH_PAST,
        formula="as l2_vad, over samples that also have two past keyframes",
        source="OpenDriveLab/ST-P3 evaluate.py, stp3/metrics.py, stp3/datas/NuscenesData.py",
    ),
    Variant(
        name="l2_bevplanner",
        group=Group.L2,
        title="BEV-Planner",
        frame=EGO,
        averaging=Averaging.OVER_TIME,
        counting=Counting.COMPLETE,
        formula="as l2_vad for base_link origins in base_link",
        source="NVlabs/BEV-Planner mmdet3d/models/fbbev/planner_head/naive_planner.py, metric_stp3.py",
    ),
    Variant(
        name="l2_occwd",
        group=Group.L2,
        title="OccWD4E2E",
        frame=LIDAR,
        averaging=Averaging.AT_STEP,
        counting=Counting.FIVE_WITH_PAST_ZERO_FILLED,
        formula="as l2_uniad, over samples with two past and at least five future keyframes",
        source="jiangxb98/OccWD4E2E projects/mmdet3d_plugin/bevformer/utils/planning_metrics.py",
    ),
    Variant(
        name="collision_exact",
        group=Group.COLLISION,
        title="ours, exact",
        frame=EGO,
        averaging=Averaging.AT_STEP,
        counting=Counting.KNOWN_STEPS,
        formula="share of known steps at which the turned footprint meets a box of a vehicle.* or human.* of that step",
        source="this suite",
        index_only=False,
    ),
    Variant(
        name="collision_at_fault",
        group=Group.COLLISION,
        title="ours, at fault",
        frame=EGO,
        averaging=Averaging.OVER_TIME,
        counting=Counting.KNOWN_STEPS,
        formula="as collision_exact, without contacts that are no fault of a plan: a standing ego is hit, or its rear is "
        "by who comes from behind while it does not reverse; the first contact with an actor decides for all later ones",
        source="this suite; collision types after nuPlan's and NAVSIM's at-fault collisions, without their lane rule",
        index_only=False,
    ),
    Variant(
        name="collision_uniad",
        group=Group.COLLISION,
        title="UniAD raster",
        frame=LIDAR,
        averaging=Averaging.AT_STEP,
        counting=Counting.ZERO_FILLED,
        formula="share of all samples whose 32 cells meet a cell of a vehicle at step k and truth's do not",
        source="OpenDriveLab/UniAD .../planning_metrics.py, datasets/pipelines/occflow_label.py",
    ),
    Variant(
        name="collision_vad",
        group=Group.COLLISION,
        title="VAD raster",
        frame=LIDAR,
        averaging=Averaging.OVER_TIME,
        counting=Counting.COMPLETE,
        formula="share of complete samples whose 32 cells meet a vehicle or pedestrian known now within 15 x 30 m",
        source="hustvl/VAD projects/mmdet3d_plugin/VAD/planner/metric_stp3.py",
    ),
    Variant(
        name="collision_stp3",
        group=Group.COLLISION,
        title="ST-P3 raster",
        frame=LIDAR,
        averaging=Averaging.OVER_TIME,
        counting=Counting.COMPLETE_WITH_PAST,
        formula="share of samples whose 32 cells meet a vehicle or human seen by now, drawn in base_link and warped",
        source="OpenDriveLab/ST-P3 evaluate.py, stp3/metrics.py, stp3/datas/NuscenesData.py, stp3/utils/geometry.py",
    ),
    Variant(
        name="collision_sparsedrive",
        group=Group.COLLISION,
        title="SparseDrive exact",
        frame=LIDAR,
        averaging=Averaging.OVER_TIME,
        counting=Counting.COMPLETE,
        formula="share of complete samples whose turned rectangle meets any box that has a LiDAR point",
        source="swc-17/SparseDrive projects/mmdet3d_plugin/datasets/evaluation/planning/planning_eval.py",
    ),
    Variant(
        name="collision_bevplanner",
        group=Group.COLLISION,
        title="BEV-Planner raster",
        frame=EGO,
        averaging=Averaging.ANY_UNTIL,
        counting=Counting.COMPLETE,
        formula="share of complete samples with any hit up to 1, 2, 3 s of the turned footprint in a 0.1 m grid",
        source="NVlabs/BEV-Planner mmdet3d/models/fbbev/planner_head/metric_stp3.py, naive_planner.py",
    ),
    Variant(
        name="collision_occwd",
        group=Group.COLLISION,
        title="OccWD4E2E raster",
        frame=LIDAR,
        averaging=Averaging.AT_STEP,
        counting=Counting.FIVE_WITH_PAST_ZERO_FILLED,
        formula="as collision_uniad for all boxes but barriers, cones, animals, debris, pushables and bicycle racks",
        source="jiangxb98/OccWD4E2E .../nuscenes_world_dataset_template.py, bevformer/utils/planning_metrics.py",
    ),
    Variant(
        name="off_road",
        group=Group.OFF_ROAD,
        title="off road",
        frame=EGO,
        averaging=Averaging.AT_STEP,
        counting=Counting.KNOWN_STEPS,
        formula="share of known steps at which one of nine footprint points lies outside the drivable area",
        source="this suite; the mask is nuScenes' semantic_prior",
        index_only=False,
    ),
    Variant(
        name="consistency_overlap",
        group=Group.CONSISTENCY,
        title="overlap",
        frame=EGO,
        averaging=Averaging.OVER_TIME,
        counting=Counting.KNOWN_STEPS,
        formula="mean distance of the places that successive plans of a scene give to the same instant",
        source="this suite",
        index_only=False,
    ),
    Variant(
        name="consistency_tpc_code",
        group=Group.CONSISTENCY,
        title="TPC as coded",
        frame=LIDAR,
        averaging=Averaging.OVER_TIME,
        counting=Counting.COMPLETE,
        formula="mean distance of point k of successive complete samples, each in its own frame, across scene borders",
        source="adept-thu/MomAD open_loop/projects/mmdet3d_plugin/datasets/evaluation/planning/planning_eval_roboAD.py",
    ),
)

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _ALL}


def variants_of(group: Group) -> tuple[Variant, ...]:
    """Return the group's variants in the order of the tables."""
    return tuple(variant for variant in _ALL if variant.group is group)
