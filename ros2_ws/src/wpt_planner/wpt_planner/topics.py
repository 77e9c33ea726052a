"""The topics of the planner: relative names, types, quality of service. The table of the README says the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry, Path
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray
from wpt_msgs.msg import DrivingCommand, SetReport, Trajectory, TrajectoryCandidates


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A topic by its relative name; best_effort matches reliable publishers too, transient_local asks for history."""

    name: str
    type: Any
    depth: int
    best_effort: bool = False
    transient_local: bool = False
    deadline_s: float = 0.0

    def qos(self) -> QoSProfile:
        """The profile; a deadline of 0 is none."""
        profile = QoSProfile(
            depth=self.depth,
            reliability=ReliabilityPolicy.BEST_EFFORT if self.best_effort else ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL
            if self.transient_local
            else DurabilityPolicy.VOLATILE,
        )
        if self.deadline_s > 0:
            profile.deadline = Duration(nanoseconds=round(self.deadline_s * 1e9))
        return profile


def image_topic(camera: str, transport: str) -> Topic:
    """A camera's images; transport: compressed or raw. Depth 5: at 1, images were overwritten before they were taken."""
    name = f"sensing/{camera}/image_rect"
    if transport == "compressed":
        return Topic(name=f"{name}/compressed", type=CompressedImage, depth=5, best_effort=True)
    return Topic(name=name, type=Image, depth=5, best_effort=True)


def camera_info_topic(camera: str) -> Topic:
    return Topic(name=f"sensing/{camera}/camera_info", type=CameraInfo, depth=5, best_effort=True)


def overlay_topic(camera: str) -> Topic:
    """A camera's image with the plan drawn in. The name ends as image_transport wants it, for RViz takes any
    other name for raw images and shows nothing.
    """
    return Topic(name=f"~/overlay/{camera}/compressed", type=CompressedImage, depth=1, best_effort=True)


def trajectory_topic(deadline_s: float) -> Topic:
    return Topic(name="~/trajectory", type=Trajectory, depth=1, deadline_s=deadline_s)


# Two subscriptions: recorded /tf_static is often played back volatile, which a transient local reader never matches.
TF_STATIC = (
    Topic(name="/tf_static", type=TFMessage, depth=100, transient_local=True),
    Topic(name="/tf_static", type=TFMessage, depth=100),
)
ODOMETRY = Topic(name="localization/kinematic_state", type=Odometry, depth=50, best_effort=True)
COMMAND = Topic(name="planning/command", type=DrivingCommand, depth=1, best_effort=True)
CANDIDATES = Topic(name="~/candidates", type=TrajectoryCandidates, depth=1)
PATH = Topic(name="~/path", type=Path, depth=1)
MARKERS = Topic(name="~/markers", type=MarkerArray, depth=1)
SET_REPORT = Topic(name="~/set_report", type=SetReport, depth=50)
DIAGNOSTICS = Topic(name="/diagnostics", type=DiagnosticArray, depth=10)

# What a user may override by parameter, for example
# qos_overrides./localization/kinematic_state.subscription.reliability:=reliable
OVERRIDABLE = QoSOverridingOptions(
    (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
)
