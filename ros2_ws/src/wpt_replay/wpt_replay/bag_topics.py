"""Topics of the bags that this suite writes: names, types, quality of service."""

from __future__ import annotations

from dataclasses import dataclass

from rosbags.interfaces import Qos

from wpt_replay.bag_writer import reliable

MAP_FRAME = "map"
BASE_FRAME = "base_link"


@dataclass(frozen=True, kw_only=True)
class WrittenTopic:
    name: str
    type_name: str
    qos: Qos


def image_topic(camera: str) -> str:
    return f"/sensing/{camera}/image_rect/compressed"


def camera_info_topic(camera: str) -> str:
    return f"/sensing/{camera}/camera_info"


TF_STATIC = "/tf_static"
TF = "/tf"
ODOMETRY = "/localization/kinematic_state"
COMMAND = "/planning/command"
KEYFRAME = "/nuscenes/keyframe"
BOXES = "/ground_truth/boxes"
MARKERS = "/ground_truth/markers"
TRUE_TRAJECTORY = "/ground_truth/trajectory"
TRUE_PATH = "/ground_truth/path"


def written_topics(cameras: tuple[str, ...]) -> list[WrittenTopic]:
    """Return every topic of a converted scene, cameras in the given order.

    Image depth 10 holds a cycle of six twice; /tf and odometry come at the rate of all sensors together
    (about 100 to 200 Hz with sweeps), so a reader that sleeps 0.5 s still finds all of them at depth 100.
    """
    topics = []
    for camera in cameras:
        topics.append((image_topic(camera), "sensor_msgs/msg/CompressedImage", reliable(10)))
        topics.append((camera_info_topic(camera), "sensor_msgs/msg/CameraInfo", reliable(10)))
    topics += [
        (TF_STATIC, "tf2_msgs/msg/TFMessage", reliable(1, transient_local=True)),
        (TF, "tf2_msgs/msg/TFMessage", reliable(100)),
        (ODOMETRY, "nav_msgs/msg/Odometry", reliable(100)),
        (COMMAND, "wpt_msgs/msg/DrivingCommand", reliable(10)),
        (KEYFRAME, "wpt_msgs/msg/Keyframe", reliable(10)),
        (BOXES, "wpt_msgs/msg/Object3DArray", reliable(10)),
        (MARKERS, "visualization_msgs/msg/MarkerArray", reliable(10)),
        (TRUE_TRAJECTORY, "wpt_msgs/msg/Trajectory", reliable(10)),
        (TRUE_PATH, "nav_msgs/msg/Path", reliable(10)),
    ]
    return [WrittenTopic(name=name, type_name=type_name, qos=qos) for name, type_name, qos in topics]
