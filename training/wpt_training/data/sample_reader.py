"""One keyframe of a nuScenes-format scene as a training sample: what the cameras saw, and the truth around
it.

Everything refers to base_link at the sample's reference stamp, its newest image stamp, at the pose recorded
or interpolated there, as on the vehicle; the keyframe's own (LiDAR) stamp and pose are not used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from wpt_policy import se3
from wpt_policy.frame import CameraView, Command, CommandSource
from wpt_policy.image_input import ImageInput
from wpt_policy.network.projection import ground_motion, image_from_base
from wpt_policy.policy_config import PolicyConfig
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.drivable_area import DrivableArea
from wpt_scenes.frames import FrameSource
from wpt_scenes.scene_types import Keyframe, Scene
from wpt_scenes.tables import NuScenesTables
from wpt_scenes.truth import derived_command

from wpt_training.configuration import DataConfig
from wpt_training.data.actor_tracks import ActorTracks
from wpt_training.data.batch import SIGNAL_STATES, Batch
from wpt_training.data.ego_path import RouteAhead, history_of, motion_of, past_motion, true_future
from wpt_training.data.line_of_sight import line_of_sight
from wpt_training.data.occupancy_truth import cell_centres, draw_occupancy, occupancy_grid
from wpt_training.data.sample_fields import INTERACTIVE, LABELLED, NATURAL, empty_row, row_fields
from wpt_training.data.side_tables import SideTables
from wpt_training.errors import TrainingError


@dataclass(frozen=True, kw_only=True, eq=False)
class _Actors:
    """All actors at the present and the future steps. boxes (F, A, 5), velocity (F, A, 2), valid (F, A),
    vulnerable (A,).
    """

    boxes: np.ndarray
    velocity: np.ndarray
    valid: np.ndarray
    vulnerable: np.ndarray


class SampleReader:
    """Reads the samples of one scene.

    allow_missing: an image that is missing leaves its camera_mask False (and is counted in missing_images)
    instead of being a TrainingError. Raises TrainingError when the scene's map or cameras are missing, or
    when the scene is without a route, though the data set has routes.
    """

    def __init__(
        self,
        tables: NuScenesTables,
        scene: Scene,
        policy: PolicyConfig,
        data: DataConfig,
        side: SideTables,
        *,
        allow_missing: bool = False,
    ):
        self.scene, self.policy, self.data, self.side = scene, policy, data, side
        self.allow_missing = allow_missing
        self.missing_images = 0
        self.fields = row_fields(policy, data)
        self.grid = occupancy_grid(policy, data)
        lost = [name for name in policy.cameras if name not in scene.images]
        if lost and not allow_missing:
            raise TrainingError(
                f"{scene.name} has no camera {', '.join(lost)}, which policy {policy.name} reads; "
                "choose another scene or configuration."
            )
        try:
            cameras = tuple(name for name in policy.cameras if name not in lost)
            self._frames = FrameSource(scene, ImageInput(policy.image_input), cameras)
            self._drivable = DrivableArea.load(tables, scene)
        except DatasetError as error:
            raise TrainingError(str(error)) from None
        self._lanes = side.lane_directions(scene.location)
        self._actors = ActorTracks(scene)
        self.references_ns = tuple(self._reference(keyframe) for keyframe in scene.keyframes)
        self._poses = [scene.poses.at(stamp) for stamp in self.references_ns]
        self._route = None
        if side.routes:
            if scene.name not in side.routes:
                raise TrainingError(f"routes.json lacks the route of {scene.name}; write the data set again.")
            self._route = RouteAhead(side.routes[scene.name], self._poses)
        self._centres = cell_centres(self.grid).reshape(-1, 2)
        self._step_ns = round(policy.plan.dt_s * 1e9)

    def __len__(self) -> int:
        return len(self.scene.keyframes)

    def read(self, index: int) -> dict[str, np.ndarray]:
        """Return one row (sample_fields.row_fields) of keyframe ``index``; history holds keyframe numbers of
        the scene.

        Raises TrainingError naming the sample.
        """
        keyframe, reference, pose = self.scene.keyframes[index], self.references_ns[index], self._poses[index]
        base_from_global = se3.inverse(pose)
        row = empty_row(self.policy, self.data)
        self._read_images(row, keyframe, pose)
        self._read_ego(row, index)
        actors = self._actors_around(row, reference, base_from_global)
        self._keep_nearest(row, actors)
        row["occupancy"] = draw_occupancy(
            actors.boxes, actors.velocity, actors.valid, actors.vulnerable, self.grid
        )
        image = self.policy.image_input
        row["visible"] = line_of_sight(
            row["image_from_base"],
            row["camera_mask"],
            (image.width, image.height),
            actors.boxes[0, actors.valid[0] & ~actors.vulnerable],
            self.grid,
        )
        self._read_map(row, index, base_from_global)
        command, source = self._command(index)
        row["command"][...], row["command_source"][...] = self.policy.plan.commands.index(command), source
        row["reference_ns"][...] = reference
        row["flags"][...] = self._flags(keyframe.sample_token, row)
        return row

    def sample(self, index: int) -> Batch:
        """Return keyframe ``index`` as a batch of one, its history's images read as well; its row number is
        ``index``.
        """
        rows = [self.read(index)]
        for earlier in rows[0]["history"]:
            rows.append(self.read(int(earlier)) if earlier >= 0 else empty_row(self.policy, self.data))
        values = {name: values for name, values in rows[0].items() if name in Batch.__dataclass_fields__}
        for name in ("images", "image_from_base", "camera_mask"):
            values[name] = np.stack([row[name] for row in rows])
        values["history_valid"] = rows[0]["history"] >= 0
        values["history_row"] = np.where(values["history_valid"], rows[0]["history"], index).astype(np.int64)
        values["lane_direction"] = values["lane_direction"].astype(np.float32)
        values["row"] = np.int64(index)
        return Batch(**{name: torch.from_numpy(np.asarray(entry)[None]) for name, entry in values.items()})

    def _reference(self, keyframe: Keyframe) -> int:
        """The newest stamp of the policy's cameras (files or not); of a keyframe without images its own
        stamp.
        """
        stamps = [image.stamp_ns for name, image in keyframe.images.items() if name in self.policy.cameras]
        reference = max(stamps, default=keyframe.stamp_ns)
        if not self.scene.poses.covers(reference):
            raise TrainingError(
                f"sample {keyframe.sample_token} of {self.scene.name} has no ego pose at {reference} ns, "
                "expected recorded "
                "poses around its images; choose another scene."
            )
        return reference

    def _read_images(self, row: dict[str, np.ndarray], keyframe: Keyframe, pose: np.ndarray) -> None:
        for number, name in enumerate(self.policy.cameras):
            view = self._view(keyframe, name)
            if view is not None:
                row["images"][number] = view.pixels
                row["image_from_base"][number] = image_from_base(view.calibration, view.odom_from_base, pose)
                row["camera_mask"][number] = True

    def _view(self, keyframe: Keyframe, name: str) -> CameraView | None:
        image = keyframe.images.get(name)
        if image is not None and (image.exists or not self.allow_missing):
            try:
                frame = self._frames.frame({name: image.stamp_ns}, Command.UNKNOWN)
            except DatasetError as error:
                raise TrainingError(f"sample {keyframe.sample_token} of {self.scene.name}: {error}") from None
            return frame.views[name]
        if not self.allow_missing:
            raise TrainingError(
                f"sample {keyframe.sample_token} of {self.scene.name} has no image of {name}; choose "
                "another scene."
            )
        self.missing_images += 1
        return None

    def _read_ego(self, row: dict[str, np.ndarray], index: int) -> None:
        track, reference = self.scene.poses, self.references_ns[index]
        earlier = past_motion(track, self.references_ns[index - 1]) if index > 0 else None
        row["motion"][:] = motion_of(past_motion(track, reference), earlier)
        future, valid = true_future(track, reference, self.policy.plan.steps, self._step_ns)
        row["future"][:], row["future_valid"][:] = future, valid
        row["history"][:] = history_of(self.references_ns, index, self.policy.history)
        for entry, number in enumerate(row["history"]):
            row["earlier_from_present"][entry] = (
                ground_motion(self._poses[number], self._poses[index]) if number >= 0 else np.eye(2, 3)
            )

    def _actors_around(
        self, row: dict[str, np.ndarray], reference: int, base_from_global: np.ndarray
    ) -> _Actors:
        frames, count = 1 + self.policy.plan.steps, len(self._actors)
        boxes, velocity = np.zeros((frames, count, 5)), np.zeros((frames, count, 2))
        valid = np.zeros((frames, count), dtype=bool)
        for step in range(frames):
            if step == 0 or row["future_valid"][step - 1]:
                actors = self._actors.at(reference + step * self._step_ns, base_from_global)
                boxes[step, actors.number] = actors.boxes
                velocity[step, actors.number] = actors.velocity
                valid[step, actors.number] = True
        return _Actors(boxes=boxes, velocity=velocity, valid=valid, vulnerable=self._actors.vulnerable)

    def _keep_nearest(self, row: dict[str, np.ndarray], actors: _Actors) -> None:
        """Fill the box fields with the actors that come nearest to the ego's true path, nearest first."""
        path = np.concatenate([np.zeros((1, 2)), row["future"][row["future_valid"], :2]])
        apart = np.linalg.norm(actors.boxes[:, :, None, :2] - path, axis=-1).min(axis=-1)
        apart = np.where(actors.valid, apart, math.inf).min(axis=0, initial=math.inf)
        order = np.argsort(apart, kind="stable")
        kept = order[np.isfinite(apart[order])][: self.data.largest_boxes]
        row["boxes"][:, : len(kept)] = actors.boxes[:, kept]
        row["box_velocity"][:, : len(kept)] = actors.velocity[:, kept]
        row["box_valid"][:, : len(kept)] = actors.valid[:, kept]
        row["box_vulnerable"][: len(kept)] = actors.vulnerable[kept]

    def _read_map(self, row: dict[str, np.ndarray], index: int, base_from_global: np.ndarray) -> None:
        pose, token = self._poses[index], self.scene.keyframes[index].sample_token
        places = se3.apply(pose, np.column_stack([self._centres, np.zeros(len(self._centres))]))[:, :2]
        row["drivable"] = self._drivable.contains(places).reshape(self.grid.shape)
        row["lane_direction"][...] = np.nan
        if self._lanes is not None:
            headings = self._lanes.at(places) - se3.yaw_of(pose)
            row["lane_direction"][...] = ((headings + math.pi) % (2 * math.pi) - math.pi).reshape(
                self.grid.shape
            )
        row["route"][...] = np.nan
        if self._route is not None:
            row["route"][...] = self._route.ahead(index, base_from_global, self.data.route_points)
        row["stop_line"][...] = np.nan
        row["signal"][...] = SIGNAL_STATES.index("none")
        signal = self.side.signals.get(token)
        if signal is not None:
            row["signal"][...] = signal.state
            row["stop_line"][...] = signal.stop_line @ base_from_global[:2, :2].T + base_from_global[:2, 3]

    def _command(self, index: int) -> tuple[Command, CommandSource]:
        token = self.scene.keyframes[index].sample_token
        if self.side.commands is None:
            command, source = derived_command(self.scene, index)
            if command is Command.UNKNOWN:  # the scene's last keyframe; it has no label either
                command = Command.STRAIGHT
        elif token in self.side.commands:
            command, source = self.side.commands[token], self.side.command_source
        else:
            raise TrainingError(
                f"command.json has no command for sample {token} of {self.scene.name}; write the data set "
                "again."
            )
        if command not in self.policy.plan.commands:
            raise TrainingError(
                f"sample {token} of {self.scene.name} has the command {command.label}, which policy "
                f"{self.policy.name} does "
                f"not know (it knows {', '.join(c.label for c in self.policy.plan.commands)}); use another "
                "configuration."
            )
        return command, source

    def _flags(self, token: str, row: dict[str, np.ndarray]) -> int:
        labelled = (
            row["future_valid"].any()
            and np.isfinite(row["motion"]).all()
            and token not in self.side.unlabelled
        )
        return (
            LABELLED * bool(labelled)
            + NATURAL * (token in self.side.natural)
            + INTERACTIVE * (token in self.side.interactive)
        )
