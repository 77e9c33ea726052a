"""Loading one scene of a nuScenes-format data set as typed, posed, stamped values (see scene_types)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CalibrationError, CameraCalibration

from wpt_scenes.annotations import box_velocity, boxes_of
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.ego import ego_state_at
from wpt_scenes.pose_track import PoseTrack
from wpt_scenes.scene_types import Box3D, BoxInBase, CameraFrame, Keyframe, Scene
from wpt_scenes.schema import CAMERA_ORDER, LIDAR_CHANNEL
from wpt_scenes.tables import NuScenesTables

__all__ = ["Box3D", "BoxInBase", "CameraFrame", "Keyframe", "Scene", "box_velocity", "load_scene"]

# How far beyond the recorded poses a keyframe's own pose may be continued by the last twist (scenes of
# cameras alone: the sample's stamp may lie after the last exposure). The same bound as for odometry on the
# vehicle.
MAX_EXTRAPOLATION_NS = 100_000_000

# Poses of two sensors at the very same stamp that differ by more than this are reported.
_SAME_POSE_M = 0.01


def load_scene(tables: NuScenesTables, name: str) -> Scene:
    """Return the scene called ``name``.

    Missing image files are no error here (see Scene.missing_images). Raises DatasetError when there is no
    such scene, or when its recordings cannot be used: none at all, a camera without image size, a calibration
    that cannot be right, two images of a camera at one stamp, a keyframe whose pose nothing tells.
    """
    row = _scene_row(tables, name)
    samples = _sample_chain(tables, row)
    recordings = tables.rows_where("sample_data", "sample_token", [sample["token"] for sample in samples])
    if not recordings:
        raise DatasetError(f"{name} has no sample_data at all, expected recordings; choose another scene")
    recorded = _Recordings(tables, name, recordings)
    names, images = _images(recorded)
    keyframes = _keyframes(tables, name, samples, recorded, names, images)
    log = tables.row("log", row["log_token"])
    return Scene(
        name=name,
        token=row["token"],
        location=log["location"],
        vehicle=log.get("vehicle", ""),
        description=row.get("description", ""),
        dataset_version=tables.version,
        dataroot=tables.dataroot,
        log_token=row["log_token"],
        keyframes=keyframes,
        camera_names=names,
        images=images,
        ego_poses=recorded.ego_poses,
        findings=tuple(recorded.findings + _keyframe_findings(keyframes, names)),
    )


def _scene_row(tables: NuScenesTables, name: str) -> dict:
    rows = tables.rows("scene")
    for row in rows:
        if row["name"] == name:
            return row
    known = [row["name"] for row in rows]
    listed = ", ".join(known[:8]) + (f", ... ({len(known)} scenes)" if len(known) > 8 else "")
    raise DatasetError(
        f"{tables.version} has no scene {name!r}, expected one of {listed}; choose one of these"
    )


def _sample_chain(tables: NuScenesTables, scene_row: dict) -> list[dict]:
    rows = tables.rows_where("sample", "scene_token", [scene_row["token"]])
    by_token = {row["token"]: row for row in rows}
    samples, token = [], scene_row["first_sample_token"]
    while token:
        samples.append(by_token[token])
        token = samples[-1]["next"]
    return samples


class _Recordings:
    """The sample_data rows of a scene with their poses, sensors, calibrations, and findings on them."""

    def __init__(self, tables: NuScenesTables, scene_name: str, rows: Sequence[dict]):
        self.scene_name = scene_name
        self.dataroot = tables.dataroot
        self.rows = rows
        self.findings: list[str] = []
        self._calibrated = tables.rows_by_token("calibrated_sensor", _tokens(rows, "calibrated_sensor_token"))
        self._sensors = tables.rows_by_token("sensor", _tokens(self._calibrated.values(), "sensor_token"))
        self._calibrations: dict[tuple[str, int, int], CameraCalibration] = {}
        pose_rows = tables.rows_by_token("ego_pose", _tokens(rows, "ego_pose_token"))
        self._poses = {
            token: _read_only(se3.transform(row["translation"], row["rotation"]))
            for token, row in pose_rows.items()
        }
        self.ego_poses = self._unique_poses()
        self.track = PoseTrack([stamp for stamp, _ in self.ego_poses], [pose for _, pose in self.ego_poses])
        late = [
            row
            for row in rows
            if pose_rows[row["ego_pose_token"]].get("timestamp", row["timestamp"]) != row["timestamp"]
        ]
        if late:
            self.findings.append(
                f"{len(late)} recordings of {scene_name} have an ego_pose of another stamp (first: "
                "sample_data "
                f"{late[0]['token']}); the pose is taken as that of the recording"
            )

    def channel(self, row: dict) -> str:
        return self._sensor(row)["channel"]

    def is_camera(self, row: dict) -> bool:
        return self._sensor(row)["modality"] == "camera"

    def pose(self, row: dict) -> np.ndarray:
        return self._poses[row["ego_pose_token"]]

    def mount(self, row: dict) -> np.ndarray:
        calibrated = self._calibrated[row["calibrated_sensor_token"]]
        return _read_only(se3.transform(calibrated["translation"], calibrated["rotation"]))

    def calibration(self, row: dict) -> CameraCalibration:
        token = row["calibrated_sensor_token"]
        width, height = row.get("width", 0), row.get("height", 0)
        if width <= 0 or height <= 0:
            raise DatasetError(
                f"sample_data {row['token']} of {self.channel(row)} gives the image size {width}x{height}, "
                "expected "
                "the pixels of its file; fill in width and height"
            )
        key = (token, width, height)
        if key not in self._calibrations:
            try:
                self._calibrations[key] = CameraCalibration(
                    name=self.channel(row).lower(),
                    width=width,
                    height=height,
                    intrinsics=np.array(self._calibrated[token]["camera_intrinsic"], dtype=np.float64),
                    base_from_camera=self.mount(row),
                )
            except CalibrationError as error:
                raise DatasetError(f"calibrated_sensor {token}: {error}; correct the row") from None
        return self._calibrations[key]

    def _sensor(self, row: dict) -> dict:
        return self._sensors[self._calibrated[row["calibrated_sensor_token"]]["sensor_token"]]

    def _unique_poses(self) -> tuple[tuple[int, np.ndarray], ...]:
        """One pose a stamp; where recordings share a stamp, that of LIDAR_TOP, else of the first row."""
        unique: dict[int, np.ndarray] = {}
        contradictions: list[int] = []
        for row in sorted(self.rows, key=lambda row: self.channel(row) != LIDAR_CHANNEL):
            pose = unique.setdefault(stamp_ns(row), self.pose(row))
            if np.linalg.norm(pose[:3, 3] - self.pose(row)[:3, 3]) > _SAME_POSE_M:
                contradictions.append(stamp_ns(row))
        if contradictions:
            self.findings.append(
                f"{self.scene_name} has different ego poses at the same stamp (first: {contradictions[0]} "
                "ns, "
                f"{len(contradictions)} in all); the one of LIDAR_TOP is used, else the first"
            )
        return tuple(sorted(unique.items(), key=lambda item: item[0]))


def stamp_ns(row: Mapping) -> int:
    """Return a row's stamp in nanoseconds: its microseconds times 1000, in integers."""
    return row["timestamp"] * 1000


def _tokens(rows: Iterable[Mapping], field: str) -> set[str]:
    return {row[field] for row in rows}


def _read_only(matrix: np.ndarray) -> np.ndarray:
    matrix.flags.writeable = False
    return matrix


def _images(recorded: _Recordings) -> tuple[tuple[str, ...], dict[str, tuple[CameraFrame, ...]]]:
    """Return the cameras in rig order, and all their images by stamp."""
    found: dict[str, list[CameraFrame]] = {}
    for row in recorded.rows:
        if not recorded.is_camera(row):
            continue
        camera = recorded.channel(row).lower()
        path = recorded.dataroot / row["filename"]
        found.setdefault(camera, []).append(
            CameraFrame(
                camera=camera,
                stamp_ns=stamp_ns(row),
                path=path,
                exists=path.is_file(),
                is_key_frame=row["is_key_frame"],
                global_from_base=recorded.pose(row),
                calibration=recorded.calibration(row),
                sample_token=row["sample_token"],
                token=row["token"],
            )
        )
    for camera, frames in found.items():
        frames.sort(key=lambda frame: frame.stamp_ns)
        for first, second in zip(frames, frames[1:], strict=False):
            if first.stamp_ns == second.stamp_ns:
                raise DatasetError(
                    f"{recorded.scene_name} has two images of {camera} at {first.stamp_ns} ns (sample_data "
                    f"{first.token} and {second.token}), expected one; remove one"
                )
    known = [camera for camera in CAMERA_ORDER if camera in found]
    names = (*known, *sorted(set(found) - set(known)))
    return names, {camera: tuple(found[camera]) for camera in names}


def _keyframes(
    tables: NuScenesTables,
    scene_name: str,
    samples: Sequence[dict],
    recorded: _Recordings,
    names: tuple[str, ...],
    images: Mapping[str, tuple[CameraFrame, ...]],
) -> tuple[Keyframe, ...]:
    lidar = {
        row["sample_token"]: row
        for row in recorded.rows
        if row["is_key_frame"] and recorded.channel(row) == LIDAR_CHANNEL
    }
    views: dict[str, dict[str, CameraFrame]] = {sample["token"]: {} for sample in samples}
    for camera in names:
        for frame in images[camera]:
            if frame.is_key_frame:
                views[frame.sample_token][camera] = frame
    off = [
        s["token"]
        for s in samples
        if s["token"] in lidar and lidar[s["token"]]["timestamp"] != s["timestamp"]
    ]
    if off:
        recorded.findings.append(
            f"{len(off)} samples of {scene_name} have another stamp than their LIDAR_TOP (first: {off[0]}); "
            "the keyframe takes that of LIDAR_TOP"
        )
    boxes = boxes_of(tables, samples)
    keyframes = []
    for index, sample in enumerate(samples):
        token = sample["token"]
        if token in lidar:
            stamp, pose, mount = (
                stamp_ns(lidar[token]),
                recorded.pose(lidar[token]),
                recorded.mount(lidar[token]),
            )
        else:
            stamp, mount = stamp_ns(sample), None
            pose = _pose_without_lidar(recorded.track, stamp, f"keyframe {index} of {scene_name}")
        keyframes.append(
            Keyframe(
                index=index,
                sample_token=token,
                stamp_ns=stamp,
                global_from_base=pose,
                base_from_lidar=mount,
                boxes=boxes[token],
                images=views[token],
            )
        )
    return tuple(keyframes)


def _pose_without_lidar(track: PoseTrack, stamp: int, what: str) -> np.ndarray:
    """The ego pose at a sample's own stamp: interpolated, or up to 100 ms beyond the track by its twist."""
    if track.covers(stamp):
        return _read_only(track.at(stamp))
    nearest = track.first_stamp_ns if stamp < track.first_stamp_ns else track.last_stamp_ns
    state = ego_state_at(track, nearest)
    if abs(stamp - nearest) > MAX_EXTRAPOLATION_NS or state is None:
        raise DatasetError(
            f"{what} has no LIDAR_TOP, and the recorded ego poses end {abs(stamp - nearest) / 1e6:.1f} ms "
            "from its stamp "
            f"{stamp} ns, expected poses around it; add ego poses or correct sample.timestamp"
        )
    seconds = (stamp - nearest) / 1e9
    return _read_only(
        se3.extrapolate(state.odom_from_base, state.linear_velocity, state.angular_velocity, seconds)
    )


def _keyframe_findings(keyframes: Sequence[Keyframe], names: tuple[str, ...]) -> list[str]:
    findings = []
    without_lidar = [keyframe for keyframe in keyframes if keyframe.base_from_lidar is None]
    if without_lidar:
        findings.append(
            f"{len(without_lidar)} of {len(keyframes)} keyframes have no LIDAR_TOP; their stamp is the "
            "sample's and "
            "their pose is interpolated"
        )
    for camera in names:
        blind = [keyframe.index for keyframe in keyframes if camera not in keyframe.images]
        if blind:
            findings.append(
                f"{camera} has no image in {len(blind)} of {len(keyframes)} keyframes (first: {blind[0]})"
            )
    return findings
