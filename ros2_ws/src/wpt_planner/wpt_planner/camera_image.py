"""What a camera delivers to a set: a prepared image, or one sentence why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np


class ProblemKind(Enum):
    """Why a camera, or one of its images, cannot be used."""

    BAD_STAMP = "bad_stamp"
    BAD_FRAME = "bad_frame"  # empty frame_id, or image and camera_info disagree
    UNREADABLE = "unreadable"  # encoding, cut short, empty, no JPEG or PNG
    BAD_SIZE = "bad_size"
    NO_CAMERA_INFO = "no_camera_info"
    BAD_CAMERA_INFO = "bad_camera_info"
    NO_TRANSFORM = "no_transform"
    CALIBRATION_CHANGED = "calibration_changed"  # since the image was rectified
    DROPPED = "dropped"  # newer images of this camera came before it was decoded
    CANCELLED = "cancelled"  # nobody wants it any more
    TIMED_OUT = "timed_out"
    CLOSED = "closed"  # the decode pool was closed


class CameraProblem(Exception):
    """One camera cannot contribute; str() is one sentence that names it, what was expected and what to do."""

    def __init__(self, camera: str, kind: ProblemKind, sentence: str):
        super().__init__(sentence)
        self.camera = camera
        self.kind = kind
        self.sentence = sentence


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraImage:
    """One image, ready for a planner.

    pixels: (H, W, 3) uint8 RGB as the planner's ImageInput makes it; None when the planner reads no images.
    source_width, source_height: pixels of the image as it was published. frame_id: its camera's optical
    frame. decode_ms: decode, resize and rectification. waited_ms: from arrival at the pool to the start of
    decoding. rectified_by: revision of the camera_info that a raw image was rectified with; None for images
    that came rectified.
    """

    stamp_ns: int
    pixels: np.ndarray | None
    source_width: int
    source_height: int
    frame_id: str
    decode_ms: float = 0.0
    waited_ms: float = 0.0
    rectified_by: int | None = None
