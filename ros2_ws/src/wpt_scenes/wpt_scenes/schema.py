"""The 13 tables of the nuScenes format: which fields this suite needs, and what each must hold.

Source: the nuScenes schema (docs/schema_nuscenes.md of nuscenes-devkit). A field is optional here when
neither this suite nor the devkit's loading, traversal and box functions read it; an optional field that is
present is checked too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a field's value must be."""

    KEY = "a token (non-empty text), unique in its table"
    REFERENCE = "a token of another table"
    LINK = "a token of the same table, or the empty string at a chain's end"
    REFERENCES = "a list of tokens of another table"
    OPTIONAL_REFERENCE = "a token of another table, or the empty string"
    STAMP = "integer microseconds since 1970"
    TEXT = "text"
    FLAG = "true or false"
    COUNT = "a whole number of at least 0"
    POSITION = "three finite numbers"
    SIZE = "three positive numbers"
    ROTATION = "a unit quaternion (w, x, y, z)"
    INTRINSICS = "a 3x3 list of numbers, or [] for a sensor that is no camera"


@dataclass(frozen=True)
class Field:
    """name; kind; table: the one that a reference points to; required."""

    name: str
    kind: Kind
    table: str = ""
    required: bool = True


def _key() -> Field:
    return Field("token", Kind.KEY)


SCHEMA: dict[str, tuple[Field, ...]] = {
    "category": (_key(), Field("name", Kind.TEXT)),
    "attribute": (_key(), Field("name", Kind.TEXT)),
    "visibility": (_key(), Field("level", Kind.TEXT, required=False)),
    "sensor": (_key(), Field("channel", Kind.TEXT), Field("modality", Kind.TEXT)),
    "calibrated_sensor": (
        _key(),
        Field("sensor_token", Kind.REFERENCE, "sensor"),
        Field("translation", Kind.POSITION),
        Field("rotation", Kind.ROTATION),
        Field("camera_intrinsic", Kind.INTRINSICS),
    ),
    "log": (
        _key(),
        Field("location", Kind.TEXT),
        Field("vehicle", Kind.TEXT, required=False),
        Field("logfile", Kind.TEXT, required=False),
        Field("date_captured", Kind.TEXT, required=False),
    ),
    "map": (
        _key(),
        Field("log_tokens", Kind.REFERENCES, "log"),
        Field("filename", Kind.TEXT),
        Field("category", Kind.TEXT, required=False),
    ),
    "scene": (
        _key(),
        Field("name", Kind.TEXT),
        Field("log_token", Kind.REFERENCE, "log"),
        Field("first_sample_token", Kind.REFERENCE, "sample"),
        Field("last_sample_token", Kind.REFERENCE, "sample"),
        Field("description", Kind.TEXT, required=False),
        Field("nbr_samples", Kind.COUNT, required=False),
    ),
    "sample": (
        _key(),
        Field("timestamp", Kind.STAMP),
        Field("prev", Kind.LINK, "sample"),
        Field("next", Kind.LINK, "sample"),
        Field("scene_token", Kind.REFERENCE, "scene"),
    ),
    "ego_pose": (
        _key(),
        Field("translation", Kind.POSITION),
        Field("rotation", Kind.ROTATION),
        Field("timestamp", Kind.STAMP, required=False),
    ),
    "sample_data": (
        _key(),
        Field("sample_token", Kind.REFERENCE, "sample"),
        Field("ego_pose_token", Kind.REFERENCE, "ego_pose"),
        Field("calibrated_sensor_token", Kind.REFERENCE, "calibrated_sensor"),
        Field("timestamp", Kind.STAMP),
        Field("is_key_frame", Kind.FLAG),
        Field("filename", Kind.TEXT),
        Field("width", Kind.COUNT, required=False),
        Field("height", Kind.COUNT, required=False),
        Field("prev", Kind.LINK, "sample_data", required=False),
        Field("next", Kind.LINK, "sample_data", required=False),
    ),
    "instance": (
        _key(),
        Field("category_token", Kind.REFERENCE, "category"),
        Field("nbr_annotations", Kind.COUNT, required=False),
        Field("first_annotation_token", Kind.OPTIONAL_REFERENCE, "sample_annotation", required=False),
        Field("last_annotation_token", Kind.OPTIONAL_REFERENCE, "sample_annotation", required=False),
    ),
    "sample_annotation": (
        _key(),
        Field("sample_token", Kind.REFERENCE, "sample"),
        Field("instance_token", Kind.REFERENCE, "instance"),
        Field("translation", Kind.POSITION),
        Field("size", Kind.SIZE),
        Field("rotation", Kind.ROTATION),
        Field("prev", Kind.LINK, "sample_annotation"),
        Field("next", Kind.LINK, "sample_annotation"),
        Field("visibility_token", Kind.OPTIONAL_REFERENCE, "visibility", required=False),
        Field("attribute_tokens", Kind.REFERENCES, "attribute", required=False),
        Field("num_lidar_pts", Kind.COUNT, required=False),
        Field("num_radar_pts", Kind.COUNT, required=False),
    ),
}

TABLE_NAMES = tuple(SCHEMA)

# The devkit's channel order around the car; cameras of other names follow by name.
CAMERA_ORDER = (
    "cam_front",
    "cam_front_right",
    "cam_back_right",
    "cam_back",
    "cam_back_left",
    "cam_front_left",
)
LIDAR_CHANNEL = "LIDAR_TOP"

# The 23 general categories of nuScenes (docs/instructions_nuscenes.md of nuscenes-devkit) plus the ego's own.
KNOWN_CATEGORIES = frozenset(
    {
        "animal",
        "human.pedestrian.adult",
        "human.pedestrian.child",
        "human.pedestrian.construction_worker",
        "human.pedestrian.personal_mobility",
        "human.pedestrian.police_officer",
        "human.pedestrian.stroller",
        "human.pedestrian.wheelchair",
        "movable_object.barrier",
        "movable_object.debris",
        "movable_object.pushable_pullable",
        "movable_object.trafficcone",
        "static_object.bicycle_rack",
        "vehicle.bicycle",
        "vehicle.bus.bendy",
        "vehicle.bus.rigid",
        "vehicle.car",
        "vehicle.construction",
        "vehicle.ego",
        "vehicle.emergency.ambulance",
        "vehicle.emergency.police",
        "vehicle.motorcycle",
        "vehicle.trailer",
        "vehicle.truck",
    }
)
# The panoptic and lidarseg tables of nuScenes add these; annotations never use them.
KNOWN_CATEGORY_PREFIXES = ("flat.", "static.", "noise")
