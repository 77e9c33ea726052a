"""Frames, the planner's input, from a recorded scene."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wpt_policy.calibration import CameraCalibration
from wpt_policy.frame import CameraView, Command, CommandSource, Frame
from wpt_policy.image_input import ImageInput, ImageInputError

from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.ego import ego_state_at
from wpt_scenes.scene_types import CameraFrame, Scene
from wpt_scenes.truth import derived_command, keyframe_at

# nuScenes' cameras spread over 43 ms within a cycle and repeat after 83 ms or more: 43 < 60 < 73 keeps cycles
# apart.
MAX_SKEW_NS = 60_000_000


class FrameSource:
    """Makes Frames of one scene.

    image_input: how images are prepared; None leaves pixels out and calibrations at native size. cameras:
    which and in which order (default: all of the scene, in its order).
    """

    def __init__(self, scene: Scene, image_input: ImageInput | None, cameras: tuple[str, ...] | None = None):
        self.scene = scene
        self.image_input = image_input
        self.cameras = scene.camera_names if cameras is None else cameras
        unknown = [camera for camera in self.cameras if camera not in scene.images]
        if unknown:
            raise DatasetError(
                f"{scene.name} has no camera {', '.join(unknown)}, expected some of "
                f"{', '.join(scene.camera_names)}; "
                "choose a scene with the planner's cameras"
            )
        self._by_stamp = {
            camera: {frame.stamp_ns: frame for frame in scene.images[camera]} for camera in self.cameras
        }

    def keyframe_frame(
        self,
        index: int,
        command: Command | None = None,
        command_source: CommandSource = CommandSource.UNKNOWN,
    ) -> Frame:
        """Return the frame of keyframe ``index``; without a command the one derived from the true future."""
        keyframe = keyframe_at(self.scene, index)
        if command is None:
            command, command_source = derived_command(self.scene, index)
        images = {camera: keyframe.images[camera] for camera in self.cameras if camera in keyframe.images}
        return self._frame(images, command, command_source)

    def frame(
        self,
        stamps: Mapping[str, int],
        command: Command,
        command_source: CommandSource = CommandSource.UNKNOWN,
    ) -> Frame:
        """Return the frame of the images with exactly these stamps (ns) by camera; cameras may be absent.

        Raises DatasetError for an unknown camera, for a stamp at which the camera has no image, and for an
        image that is missing on disk or cannot be decoded.
        """
        images: dict[str, CameraFrame] = {}
        for camera in stamps:
            if camera not in self._by_stamp:
                raise DatasetError(
                    f"camera {camera} is not used here, expected some of {', '.join(self.cameras)}; drop it"
                )
        for camera in self.cameras:
            if camera not in stamps:
                continue
            found = self._by_stamp[camera].get(stamps[camera])
            if found is None:
                raise DatasetError(
                    f"{self.scene.name} has no image of {camera} at {stamps[camera]} ns, expected one of its "
                    f"{len(self._by_stamp[camera])} recorded stamps; take stamps from scene.images"
                )
            images[camera] = found
        return self._frame(images, command, command_source)

    def _frame(self, images: Mapping[str, CameraFrame], command: Command, source: CommandSource) -> Frame:
        if not images:
            raise DatasetError(
                f"no image of {self.scene.name} was asked for, expected at least one camera; name one"
            )
        reference = max(image.stamp_ns for image in images.values())
        return Frame(
            reference_stamp_ns=reference,
            views={camera: self._view(image) for camera, image in images.items()},
            ego=ego_state_at(self.scene.poses, reference),
            command=command,
            command_source=source,
        )

    def _view(self, image: CameraFrame) -> CameraView:
        if self.image_input is None:
            pixels, calibration = None, image.calibration
        else:
            pixels, calibration = self._prepared(image)
        return CameraView(
            calibration=calibration,
            stamp_ns=image.stamp_ns,
            pixels=pixels,
            odom_from_base=image.global_from_base,
        )

    def _prepared(self, image: CameraFrame) -> tuple[np.ndarray, CameraCalibration]:
        try:
            prepared = self.image_input.decode(read_image(image))
            calibration = self.image_input.calibration(image.calibration)
        except ImageInputError as error:
            raise DatasetError(f"{image.camera} image {image.path}: {error}") from None
        size = (image.calibration.width, image.calibration.height)
        if (prepared.source_width, prepared.source_height) != size:
            raise DatasetError(
                f"{image.camera} image {image.path} is {prepared.source_width}x{prepared.source_height} "
                "but its "
                f"sample_data says {size[0]}x{size[1]}; repair the file or the table"
            )
        return prepared.pixels, calibration


def camera_cycles(
    scene: Scene, cameras: tuple[str, ...] | None = None, max_skew_ns: int = MAX_SKEW_NS
) -> tuple[dict[str, int], ...]:
    """Return the complete camera cycles in time order: one stamp (ns) by camera, all within max_skew_ns.

    Every image is used at most once; an image without partners is left out. Each entry suits
    FrameSource.frame.
    """
    names = scene.camera_names if cameras is None else cameras
    queues = {camera: [frame.stamp_ns for frame in scene.images[camera]] for camera in names}
    at = dict.fromkeys(names, 0)
    cycles = []
    while names and all(at[camera] < len(queues[camera]) for camera in names):
        heads = {camera: queues[camera][at[camera]] for camera in names}
        oldest = min(heads, key=heads.__getitem__)
        if max(heads.values()) - heads[oldest] <= max_skew_ns:
            cycles.append(heads)
            at = {camera: index + 1 for camera, index in at.items()}
        else:
            at[oldest] += 1
    return tuple(cycles)


def read_image(image: CameraFrame) -> bytes:
    """Return the file's bytes; raises DatasetError when it is missing, unreadable or a Git LFS pointer."""
    try:
        data = image.path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"image of {image.camera} at {image.stamp_ns} ns cannot be read from {image.path} "
            f"({error.strerror or error}); fetch the data set's image files or choose another scene"
        ) from None
    if data.startswith(b"version https://git-lfs"):
        raise DatasetError(
            f"{image.path} is a Git LFS pointer, expected the JPEG itself; run `git lfs pull` in the data "
            "set's folder"
        )
    return data
