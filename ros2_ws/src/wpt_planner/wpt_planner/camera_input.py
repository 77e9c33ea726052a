"""One camera of the rig: its camera_info, its mount, its images on their way to the planner.

Raw bytes are copied nowhere on this side of the middleware: a PendingImage keeps the message itself until it
is decoded, numpy looks into the message's own buffer, and what remains is the prepared image (0.5 MB at
704x256 in place of 4.3 MB at 1600x900 raw). When the planner reads no images, nothing is decoded; sizes and
completeness are checked.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from wpt_planner.camera_image import CameraImage, CameraProblem, ProblemKind
from wpt_planner.conversions import stamp_to_ns
from wpt_planner.decode_pool import DecodePool, PendingImage
from wpt_planner.image_conversion import ImageConversionError, ImageConverter, check_image, choose_converter
from wpt_planner.rectification import Rectifier
from wpt_planner.static_transforms import StaticTransforms
from wpt_policy.calibration import CalibrationError, CameraCalibration, camera_problem
from wpt_policy.camera_model import (
    CameraInfoError,
    CameraInfoValues,
    CameraModel,
    camera_info_values,
    camera_model,
)
from wpt_policy.image_input import ImageInput, ImageInputError, encoded_size

__all__ = [
    "CameraEvent",
    "CameraImage",
    "CameraInput",
    "CameraProblem",
    "EventKind",
    "PendingImage",
    "ProblemKind",
]

_MAX_EVENTS = 32
# Below this a rectified image only lacks a rim that the crop mostly cuts; above it the user should know.
_NOTED_UNCOVERED = 0.01
# Pixel formats that compressed_image_transport names before the codec and that hold no colour.
_COLOURLESS = ("mono", "8uc1", "16uc1", "32fc1")


class EventKind(Enum):
    """What happened to a camera; each is worth a line on the log."""

    CALIBRATED = "calibrated"
    CALIBRATION_CHANGED = "calibration_changed"  # what was learnt with the old one (the memory) is void
    IMAGE_SIZE_CHANGED = "image_size_changed"
    WARNING = "warning"


@dataclass(frozen=True)
class CameraEvent:
    """One sentence about one camera."""

    kind: EventKind
    camera: str
    sentence: str


class CameraInput:
    """Images of one camera in, prepared images and their calibration out.

    The receiving thread calls on_camera_info, on_transforms and on_image; any thread may call the rest.
    """

    def __init__(
        self,
        name: str,
        image_input: ImageInput | None,
        *,
        images_rectified: bool,
        transforms: StaticTransforms,
        pool: DecodePool,
        converter: ImageConverter | None = None,
    ):
        """name: of the camera in the rig. image_input: the planner's, None when it reads no images.

        images_rectified: which rule of camera_model holds. converter: for sensor_msgs/Image,
        choose_converter() if None.
        """
        self.name = name
        self.failed_images = 0
        self._image_input = image_input
        self._images_rectified = images_rectified
        self._transforms = transforms
        self._pool = pool
        self._converter = converter if converter is not None else choose_converter()
        self._lock = threading.RLock()
        self._events: deque[CameraEvent] = deque(maxlen=_MAX_EVENTS)
        self._values: CameraInfoValues | None = None
        self._revision = 0
        self._model: CameraModel | None = None
        self._model_problem: CameraProblem | None = None
        self._rectifier: Rectifier | None = None
        self._mount: np.ndarray | None = None  # of the latest good calibration
        self._calibration: CameraCalibration | None = None
        self._problem: CameraProblem | None = self._say(
            ProblemKind.NO_CAMERA_INFO,
            "has no camera_info yet, expected it beside its images; start its publisher",
        )
        self._no_camera_info = self._problem
        self._image_problem: CameraProblem | None = None
        self._image_size: tuple[int, int] | None = None
        self._warnings: dict[str, None] = {}

    # --- what arrives ---------------------------------------------------------------------------------------

    def on_camera_info(self, message: CameraInfo) -> None:
        """Take a CameraInfo: the first one and any with new values are judged, repetitions cost nothing."""
        values = camera_info_values(message)
        with self._lock:
            if self._values is not None:
                changes = self._values.changes_to(values)
                if not changes:
                    return
                self._event(
                    EventKind.CALIBRATION_CHANGED,
                    f"camera_info of camera {self.name} changed ({', '.join(changes)}), expected it never to "
                    "change; the latest holds: check whether two publishers share its topic",
                )
            self._values = values
            self._revision += 1
            self._judge_camera_info(values)
            self._refresh()

    def on_transforms(self) -> None:
        """Look the mount up again; call it when StaticTransforms.revision has changed."""
        with self._lock:
            if self._values is None:
                return
            mount = self._transforms.base_from(self._values.frame_id)
            if self._calibration is None or mount is None or not np.array_equal(mount, self._mount):
                self._refresh()

    def on_image(self, message: Image | CompressedImage, arrival_ns: int) -> PendingImage:
        """Take an image and submit its decoding; never blocks.

        arrival_ns: steady time of arrival. Raises CameraProblem (BAD_STAMP) for an image without a usable
        stamp, which can belong to no set. Whatever else makes it useless at sight gives a PendingImage with
        its problem set.
        """
        stamp_ns = stamp_to_ns(message.header.stamp)
        if stamp_ns <= 0 or message.header.stamp.nanosec >= 1_000_000_000:
            self.failed_images += 1
            raise self._say(
                ProblemKind.BAD_STAMP,
                f"sent an image with stamp {message.header.stamp.sec}.{message.header.stamp.nanosec:09d}, "
                "expected its time of exposure; let the driver stamp its images",
            )
        frame_id = message.header.frame_id.removeprefix("/")
        try:
            width, height = self._judge_image(message, frame_id)
        except CameraProblem as problem:
            return self._failed(stamp_ns, arrival_ns, problem)
        with self._lock:
            self._note_size(width, height)
            mismatch = self._mismatch(frame_id, width, height)
            self._image_problem = mismatch
            rectifier, revision = self._rectifier, self._revision
            needs_rectifier = not self._images_rectified and self._image_input is not None
            if needs_rectifier and (self._model is None or mismatch is not None):
                problem = self._model_problem or mismatch or self._no_camera_info
                return self._failed(stamp_ns, arrival_ns, problem)
        if self._image_input is None:
            return PendingImage(self.name, stamp_ns, arrival_ns).finish(
                CameraImage(
                    stamp_ns=stamp_ns,
                    pixels=None,
                    source_width=width,
                    source_height=height,
                    frame_id=frame_id,
                )
            )

        def work(waited_ms: float) -> CameraImage:
            return self._decode(message, stamp_ns, frame_id, rectifier, revision, waited_ms)

        return self._pool.submit(self.name, stamp_ns, arrival_ns, work)

    # --- what is known --------------------------------------------------------------------------------------

    def calibration(self, image: CameraImage | None = None) -> CameraCalibration:
        """Return the calibration of the prepared pixels (of the published image when the planner reads none).

        image: also check that it is of the size and frame that camera_info states and was rectified by it.
        Raises CameraProblem.
        """
        with self._lock:
            if self._problem is not None:
                raise _again(self._problem)
            assert self._calibration is not None
            if image is not None:
                mismatch = self._mismatch(image.frame_id, image.source_width, image.source_height)
                if mismatch is not None:
                    raise mismatch
                if image.rectified_by is not None and image.rectified_by != self._revision:
                    raise self._say(
                        ProblemKind.CALIBRATION_CHANGED,
                        "has a new camera_info since this image was rectified; the next image uses it",
                    )
            return self._calibration

    def problem(self) -> CameraProblem | None:
        """What keeps this camera from being used now: its calibration's problem, else its latest image's."""
        with self._lock:
            return self._problem or self._image_problem

    def warnings(self) -> tuple[str, ...]:
        """Sentences about what looks wrong and is used all the same."""
        with self._lock:
            return tuple(self._warnings)

    def take_events(self) -> list[CameraEvent]:
        """Return what happened since the last call, oldest first (at most the latest 32)."""
        with self._lock:
            events = list(self._events)
            self._events.clear()
            return events

    # --- camera_info and mount ------------------------------------------------------------------------------

    def _judge_camera_info(self, values: CameraInfoValues) -> None:
        """Set model and rectifier, or the model's problem."""
        self._model, self._rectifier, self._model_problem = None, None, None
        if not values.frame_id:
            self._model_problem = self._say(
                ProblemKind.BAD_FRAME,
                "has a camera_info with an empty frame_id, expected its optical frame; fix its publisher",
            )
            return
        try:
            model = camera_model(values, images_rectified=self._images_rectified)
            # The mount is not known here; what is judged is the matrix.
            camera = self._raw_calibration(model, np.eye(4))
            if self._image_input is not None:
                self._image_input.calibration(camera)
                if model.lens is not None:
                    self._rectifier = Rectifier(camera, model.lens, self._image_input)
        except (CameraInfoError, ImageInputError) as error:
            self._model_problem = self._say(ProblemKind.BAD_CAMERA_INFO, f"is refused: {error}")
        except CalibrationError as error:
            self._model_problem = CameraProblem(
                self.name, ProblemKind.BAD_CAMERA_INFO, f"{error}; check camera_info of camera {self.name}"
            )
        else:
            self._model = model

    def _refresh(self) -> None:
        """Derive calibration, warnings and problem from camera_info and transforms."""
        assert self._values is not None
        was_calibrated = self._calibration is not None
        self._calibration = None
        if self._model is None:
            self._problem = self._model_problem
            return
        frame = self._values.frame_id
        mount = self._transforms.base_from(frame)
        if mount is None:
            self._problem = self._say(
                ProblemKind.NO_TRANSFORM, f"has no mount: {self._transforms.why_unknown(frame)}"
            )
            return
        try:
            camera = self._raw_calibration(self._model, mount)
            self._calibration = camera if self._image_input is None else self._image_input.calibration(camera)
        except CalibrationError as error:
            self._problem = CameraProblem(
                self.name,
                ProblemKind.BAD_CAMERA_INFO,
                f"{error}; check camera_info and mount of camera {self.name}",
            )
            return
        self._problem = None
        old_mount, self._mount = self._mount, mount
        if old_mount is not None and not np.array_equal(old_mount, mount):
            self._event(
                EventKind.CALIBRATION_CHANGED,
                f"mount of camera {self.name} changed (static transform {self._transforms.base_frame} from "
                f"{frame}), expected it never to change; the latest holds",
            )
        elif not was_calibrated:
            k = camera.intrinsics
            position = mount[:3, 3]
            self._event(
                EventKind.CALIBRATED,
                f"camera {self.name} is calibrated: {camera.width}x{camera.height} pixels, focal length "
                f"{k[0, 0]:.0f}, frame {frame} at ({position[0]:.2f}, {position[1]:.2f}, {position[2]:.2f}) "
                f"m, looking {np.degrees(camera.yaw()):.0f} degrees to the left",
            )
        self._warn(camera)

    def _raw_calibration(self, model: CameraModel, mount: np.ndarray) -> CameraCalibration:
        return CameraCalibration(
            name=self.name,
            width=model.width,
            height=model.height,
            intrinsics=model.intrinsics,
            base_from_camera=mount,
        )

    def _warn(self, camera: CameraCalibration) -> None:
        assert self._model is not None
        sentences = [f"camera {self.name}: {note}" for note in self._model.notes]
        if (finding := camera_problem(camera)) is not None:
            sentences.append(finding)
        if self._rectifier is not None and self._rectifier.uncovered > _NOTED_UNCOVERED:
            sentences.append(
                f"camera {self.name}: {100 * self._rectifier.uncovered:.0f} % of its rectified image lies "
                "outside the raw one and stays black; a rectified topic with another P can avoid that"
            )
        for sentence in sentences:
            if sentence not in self._warnings:
                self._event(EventKind.WARNING, sentence)
        self._warnings = dict.fromkeys(sentences)

    # --- images ---------------------------------------------------------------------------------------------

    def _judge_image(self, message: Image | CompressedImage, frame_id: str) -> tuple[int, int]:
        """Return width and height as published, from the message's header fields; raises CameraProblem."""
        if not frame_id:
            raise self._say(
                ProblemKind.BAD_FRAME,
                "sent an image with an empty frame_id, expected its optical frame; set it in the camera's "
                "driver",
            )
        try:
            if isinstance(message, CompressedImage):
                pixel_format = message.format.lower()
                if "compresseddepth" in pixel_format or pixel_format.startswith(_COLOURLESS):
                    raise ImageConversionError(
                        f"compressed image has format {message.format!r}, expected a colour JPEG or PNG; "
                        "subscribe to the colour image"
                    )
                return encoded_size(np.frombuffer(message.data, dtype=np.uint8))
            check_image(message)
            return message.width, message.height
        except (ImageConversionError, ImageInputError) as error:
            raise self._say(ProblemKind.UNREADABLE, f"sent an image that is refused: {error}") from None

    def _decode(
        self,
        message: Image | CompressedImage,
        stamp_ns: int,
        frame_id: str,
        rectifier: Rectifier | None,
        revision: int,
        waited_ms: float,
    ) -> CameraImage:
        """Runs in a pool thread."""
        started = time.monotonic()
        source = rectifier if rectifier is not None else self._image_input
        assert source is not None
        try:
            if isinstance(message, CompressedImage):
                prepared = source.decode(message.data)
            else:
                prepared = source.prepare(*self._converter.convert(message))
        except (ImageConversionError, ImageInputError) as error:
            problem = self._say(ProblemKind.UNREADABLE, f"sent an image that is refused: {error}")
            with self._lock:
                self._image_problem = problem
                self.failed_images += 1
            raise problem from None
        return CameraImage(
            stamp_ns=stamp_ns,
            pixels=prepared.pixels,
            source_width=prepared.source_width,
            source_height=prepared.source_height,
            frame_id=frame_id,
            decode_ms=1e3 * (time.monotonic() - started),
            waited_ms=waited_ms,
            rectified_by=None if self._images_rectified else revision,
        )

    def _note_size(self, width: int, height: int) -> None:
        if self._image_size is not None and self._image_size != (width, height):
            self._event(
                EventKind.IMAGE_SIZE_CHANGED,
                f"images of camera {self.name} changed from {self._image_size[0]}x{self._image_size[1]} to "
                f"{width}x{height} pixels in mid-stream, expected one size; camera_info must change with "
                "them",
            )
        self._image_size = (width, height)

    def _mismatch(self, frame_id: str, width: int, height: int) -> CameraProblem | None:
        """Compare an image with camera_info, where that is known and good."""
        if self._model is None or self._values is None:
            return None
        if frame_id != self._values.frame_id:
            return self._say(
                ProblemKind.BAD_FRAME,
                f"sends images with frame_id {frame_id!r} and camera_info with {self._values.frame_id!r}, "
                "expected the same optical frame in both; fix the driver",
            )
        if (width, height) != (self._model.width, self._model.height):
            return self._say(
                ProblemKind.BAD_SIZE,
                f"sends images of {width}x{height} pixels while its camera_info is for "
                f"{self._model.width}x{self._model.height}, expected the same; publish the camera_info of "
                "the resized image",
            )
        return None

    def _failed(self, stamp_ns: int, arrival_ns: int, problem: CameraProblem) -> PendingImage:
        with self._lock:
            self.failed_images += 1
            self._image_problem = problem
        return PendingImage(self.name, stamp_ns, arrival_ns).finish(problem)

    # --- sentences ------------------------------------------------------------------------------------------

    def _say(self, kind: ProblemKind, rest: str) -> CameraProblem:
        return CameraProblem(self.name, kind, f"camera {self.name} {rest}")

    def _event(self, kind: EventKind, sentence: str) -> None:
        self._events.append(CameraEvent(kind, self.name, sentence))


def _again(problem: CameraProblem) -> CameraProblem:
    """Return a copy to raise: one exception object raised from two threads mixes their tracebacks."""
    return CameraProblem(problem.camera, problem.kind, problem.sentence)
