"""ROS messages of a recorded scene, as the objects that bags are written from (no rclpy)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from rosbags.typesys.store import Typestore
from wpt_policy import se3
from wpt_policy.calibration import CameraCalibration
from wpt_policy.frame import Command, CommandSource, EgoState
from wpt_policy.plan import curvatures, headings_and_speeds
from wpt_scenes.scene_types import Box3D, Keyframe, Scene

from wpt_replay.bag_topics import BASE_FRAME, MAP_FRAME

# nuScenes keyframes are at most 0.6 s apart: a box stays until the next keyframe renews or drops it.
MARKER_LIFETIME_NS = 700_000_000
MARKER_COLORS = (
    ("vehicle", (1.0, 0.6, 0.0)),
    ("human", (0.1, 0.4, 1.0)),
    ("animal", (0.1, 0.4, 1.0)),
    ("movable_object", (0.6, 0.6, 0.6)),
    ("static_object", (0.6, 0.6, 0.6)),
)
OTHER_COLOR = (1.0, 0.2, 0.8)


class SceneMessages:
    """Makes the messages of one scene. Stamps are nanoseconds, poses (4, 4) ``target_from_source``."""

    def __init__(self, types: Typestore, scene: Scene) -> None:
        self._types = types.types
        self._scene = scene
        self._marker_ids: dict[str, int] = {}

    def image(self, camera: str, stamp_ns: int, data: bytes, image_format: str) -> Any:
        """sensor_msgs/CompressedImage with the file's own bytes; the optical frame has the camera's name."""
        return self._new(
            "sensor_msgs/msg/CompressedImage",
            header=self._header(stamp_ns, camera),
            format=image_format,
            data=np.frombuffer(data, dtype=np.uint8),
        )

    def camera_info(self, calibration: CameraCalibration, stamp_ns: int) -> Any:
        """sensor_msgs/CameraInfo of a rectified image: five zeros of plumb_bob, r identity, p = [K|0]."""
        projection = np.zeros((3, 4))
        projection[:, :3] = calibration.intrinsics
        return self._new(
            "sensor_msgs/msg/CameraInfo",
            header=self._header(stamp_ns, calibration.name),
            height=calibration.height,
            width=calibration.width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=calibration.intrinsics.flatten(),
            r=np.eye(3).flatten(),
            p=projection.flatten(),
            binning_x=0,
            binning_y=0,
            roi=self._new(
                "sensor_msgs/msg/RegionOfInterest",
                x_offset=0,
                y_offset=0,
                height=0,
                width=0,
                do_rectify=False,
            ),
        )

    def mounts(self, stamp_ns: int) -> Any:
        """tf2_msgs/TFMessage: base_link to every camera, and to lidar_top where the scene has it."""
        mounts = {name: camera.base_from_camera for name, camera in self._scene.rig.items()}
        base_from_lidar = self._scene.keyframes[0].base_from_lidar
        if base_from_lidar is not None:
            mounts["lidar_top"] = base_from_lidar
        return self._new(
            "tf2_msgs/msg/TFMessage",
            transforms=[self._transform(stamp_ns, BASE_FRAME, child, pose) for child, pose in mounts.items()],
        )

    def ego_transform(self, stamp_ns: int, global_from_base: np.ndarray) -> Any:
        """tf2_msgs/TFMessage: map to base_link."""
        transform = self._transform(stamp_ns, MAP_FRAME, BASE_FRAME, global_from_base)
        return self._new("tf2_msgs/msg/TFMessage", transforms=[transform])

    def odometry(self, state: EgoState) -> Any:
        """nav_msgs/Odometry: pose of base_link in map, twist in base_link; covariances are unknown (zero)."""
        return self._new(
            "nav_msgs/msg/Odometry",
            header=self._header(state.stamp_ns, MAP_FRAME),
            child_frame_id=BASE_FRAME,
            pose=self._new(
                "geometry_msgs/msg/PoseWithCovariance",
                pose=self._pose(state.odom_from_base),
                covariance=np.zeros(36),
            ),
            twist=self._new(
                "geometry_msgs/msg/TwistWithCovariance",
                twist=self._new(
                    "geometry_msgs/msg/Twist",
                    linear=self._vector(state.linear_velocity),
                    angular=self._vector(state.angular_velocity),
                ),
                covariance=np.zeros(36),
            ),
        )

    def command(self, stamp_ns: int, command: Command, source: CommandSource) -> Any:
        return self._new(
            "wpt_msgs/msg/DrivingCommand",
            header=self._header(stamp_ns, BASE_FRAME),
            command=int(command),
            source=int(source),
        )

    def keyframe(self, keyframe: Keyframe) -> Any:
        return self._new(
            "wpt_msgs/msg/Keyframe",
            header=self._header(keyframe.stamp_ns, BASE_FRAME),
            dataset_version=self._scene.dataset_version,
            scene_name=self._scene.name,
            scene_token=self._scene.token,
            sample_token=keyframe.sample_token,
            index=keyframe.index,
            location=self._scene.location,
        )

    def boxes(self, keyframe: Keyframe) -> Any:
        """wpt_msgs/Object3DArray in map."""
        return self._new(
            "wpt_msgs/msg/Object3DArray",
            header=self._header(keyframe.stamp_ns, MAP_FRAME),
            objects=[
                self._new(
                    "wpt_msgs/msg/Object3D",
                    token=box.token,
                    instance_token=box.instance_token,
                    category=box.category,
                    pose=self._pose(box.global_from_box),
                    size=self._vector(box.size_lwh),
                    velocity=self._vector(box.velocity),
                    visibility=box.visibility or 0,
                    num_lidar_pts=-1 if box.num_lidar_pts is None else box.num_lidar_pts,
                    num_radar_pts=-1 if box.num_radar_pts is None else box.num_radar_pts,
                )
                for box in keyframe.boxes
            ],
        )

    def markers(self, keyframe: Keyframe) -> Any:
        """visualization_msgs/MarkerArray in map: one box an object, with one id through the scene."""
        return self._new(
            "visualization_msgs/msg/MarkerArray",
            markers=[self._marker(keyframe, box) for box in keyframe.boxes],
        )

    def trajectory(
        self, keyframe: Keyframe, state: EgoState | None, positions: np.ndarray, step_ns: int
    ) -> Any:
        """wpt_msgs/Trajectory: the true future, (T, 2) positions in base_link at the keyframe, step_ns apart.

        The ego itself is put in front as the point at 0; fewer than six positions where the scene ends.
        """
        points = np.vstack([np.zeros((1, 2)), positions])
        headings, speeds = headings_and_speeds(
            points, step_ns / 1e9, state.speed if state is not None else None
        )
        bends = curvatures(points)
        return self._new(
            "wpt_msgs/msg/Trajectory",
            header=self._header(keyframe.stamp_ns, BASE_FRAME),
            set_id=0,
            planner="ground_truth",
            weights_sha256="",
            command=self.command(0, Command.UNKNOWN, CommandSource.UNKNOWN),
            flags=0,
            cameras_degraded=[],
            age=self._duration(0),
            points=[
                self._new(
                    "wpt_msgs/msg/TrajectoryPoint",
                    time_from_start=self._duration(i * step_ns),
                    pose=self._pose(se3.planar(x, y, headings[i])),
                    longitudinal_velocity=float(speeds[i]),
                    curvature=float(bends[i]),
                )
                for i, (x, y) in enumerate(points)
            ],
        )

    def path(self, keyframe: Keyframe, poses: Iterable[tuple[int, np.ndarray]]) -> Any:
        """nav_msgs/Path in map: stamped poses of base_link, from the keyframe on."""
        return self._new(
            "nav_msgs/msg/Path",
            header=self._header(keyframe.stamp_ns, MAP_FRAME),
            poses=[
                self._new(
                    "geometry_msgs/msg/PoseStamped",
                    header=self._header(stamp_ns, MAP_FRAME),
                    pose=self._pose(pose),
                )
                for stamp_ns, pose in poses
            ],
        )

    def _marker(self, keyframe: Keyframe, box: Box3D) -> Any:
        group = box.category.partition(".")[0]
        red, green, blue = dict(MARKER_COLORS).get(group, OTHER_COLOR)
        return self._new(
            "visualization_msgs/msg/Marker",
            header=self._header(keyframe.stamp_ns, MAP_FRAME),
            ns=f"ground_truth/{group or 'object'}",
            id=self._marker_ids.setdefault(box.instance_token, len(self._marker_ids)),
            type=1,  # CUBE
            action=0,  # ADD
            pose=self._pose(box.global_from_box),
            scale=self._vector(box.size_lwh),
            color=self._new("std_msgs/msg/ColorRGBA", r=red, g=green, b=blue, a=0.5),
            lifetime=self._duration(MARKER_LIFETIME_NS),
            frame_locked=False,
            points=[],
            colors=[],
            texture_resource="",
            texture=self.image("", 0, b"", ""),
            uv_coordinates=[],
            text=box.category,
            mesh_resource="",
            mesh_file=self._new(
                "visualization_msgs/msg/MeshFile", filename="", data=np.zeros(0, dtype=np.uint8)
            ),
            mesh_use_embedded_materials=False,
        )

    def _new(self, type_name: str, **fields: Any) -> Any:
        return self._types[type_name](**fields)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        return self._new("std_msgs/msg/Header", stamp=self._time(stamp_ns), frame_id=frame_id)

    def _time(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(int(stamp_ns), 1_000_000_000)
        return self._new("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)

    def _duration(self, nanoseconds: int) -> Any:
        seconds, rest = divmod(int(nanoseconds), 1_000_000_000)
        return self._new("builtin_interfaces/msg/Duration", sec=seconds, nanosec=rest)

    def _vector(self, values: np.ndarray) -> Any:
        x, y, z = (float(value) for value in values)
        return self._new("geometry_msgs/msg/Vector3", x=x, y=y, z=z)

    def _pose(self, target_from_source: np.ndarray) -> Any:
        x, y, z = (float(value) for value in target_from_source[:3, 3])
        return self._new(
            "geometry_msgs/msg/Pose",
            position=self._new("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=self._quaternion(target_from_source),
        )

    def _transform(self, stamp_ns: int, parent: str, child: str, parent_from_child: np.ndarray) -> Any:
        return self._new(
            "geometry_msgs/msg/TransformStamped",
            header=self._header(stamp_ns, parent),
            child_frame_id=child,
            transform=self._new(
                "geometry_msgs/msg/Transform",
                translation=self._vector(parent_from_child[:3, 3]),
                rotation=self._quaternion(parent_from_child),
            ),
        )

    def _quaternion(self, target_from_source: np.ndarray) -> Any:
        w, x, y, z = (float(value) for value in se3.quaternion_from_rotation(target_from_source[:3, :3]))
        return self._new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
