"""Collects from a bag what overview.py draws: one planned set, its images, the truth around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from wpt_msgs.msg import SetReport, Trajectory, TrajectoryCandidates
from wpt_policy import se3
from wpt_policy.image_input import encoded_size
from wpt_replay import bag_topics
from wpt_replay.bag_frames import BagFrames
from wpt_replay.bag_reader import BagReader
from wpt_replay.compare import reported_sets
from wpt_replay.overview import CameraPicture, Overview, OverviewBox

TRUTH_STEPS = 6
TRUTH_STEP_NS = 500_000_000
# A keyframe's boxes are drawn on a set that is at most this far from it: half of the time between keyframes.
MAX_BOX_AGE_NS = 260_000_000


def most_telling_set(bag: Path, reports: Sequence[SetReport]) -> SetReport | None:
    """Return the planned set nearest to the middle keyframe with annotations (the middle set where there is none)."""
    planned = [report for report in reports if report.outcome == SetReport.PLANNED]
    if not planned:
        return None
    with BagReader(bag) as reader:
        stamps = [_ns(reader.decode(message).header.stamp) for message in _messages(reader, bag_topics.BOXES)]
    middle = _ns(planned[len(planned) // 2].header.stamp)
    target = min(stamps, key=lambda stamp: abs(stamp - middle)) if stamps else middle
    return min(planned, key=lambda report: abs(_ns(report.header.stamp) - target))


def overview_of_set(
    bag: Path,
    report: SetReport,
    trajectory: Trajectory,
    candidates: TrajectoryCandidates | None,
    *,
    title: str,
    lines: Sequence[str],
) -> Overview:
    """Gather images, calibrations, plan, recorded truth and boxes of one reported set from its bag."""
    one = reported_sets([report])[0]
    frames = BagFrames(bag, list(report.cameras), None)
    reference = frames.poses.at(one.reference_stamp_ns)
    images = _images(bag, one.stamps)
    pictures = {}
    for camera in report.cameras:
        calibration = frames.calibrations.get(camera)
        if calibration is None:
            continue
        at_stamp = frames.poses.at(one.stamps[camera]) if camera in one.stamps else None
        relative = np.eye(4)
        if reference is not None and at_stamp is not None:
            relative = se3.inverse(reference.odom_from_base) @ at_stamp.odom_from_base
        pictures[camera] = CameraPicture(
            pixels=images.get(camera), calibration=calibration, reference_from_camera_base=relative
        )
    return Overview(
        cameras=pictures,
        plan=_positions(trajectory.points),
        truth=_truth(frames, one.reference_stamp_ns),
        candidates=[_positions(candidate.points) for candidate in candidates.candidates]
        if candidates
        else [],
        boxes=_boxes(bag, one.reference_stamp_ns, reference.odom_from_base) if reference is not None else [],
        title=title,
        lines=lines,
    )


def _truth(frames: BagFrames, reference_ns: int) -> np.ndarray | None:
    """The driven path after the reference stamp, (N, 2) in base_link there, as far as the bag reaches."""
    reference = frames.poses.at(reference_ns)
    if reference is None:
        return None
    base_from_odom = se3.inverse(reference.odom_from_base)
    later = [frames.poses.at(reference_ns + step * TRUTH_STEP_NS) for step in range(TRUTH_STEPS + 1)]
    points = [(base_from_odom @ state.odom_from_base)[:2, 3] for state in later if state is not None]
    return np.array(points) if len(points) > 1 else None


def _boxes(bag: Path, reference_ns: int, map_from_base: np.ndarray) -> list[OverviewBox]:
    nearest, gap = None, MAX_BOX_AGE_NS + 1
    with BagReader(bag) as reader:
        for message in _messages(reader, bag_topics.BOXES):
            decoded = reader.decode(message)
            distance = abs(_ns(decoded.header.stamp) - reference_ns)
            if distance < gap:
                nearest, gap = decoded, distance
    if nearest is None:
        return []
    base_from_map = se3.inverse(map_from_base)
    boxes = []
    for one in nearest.objects:
        p, q = one.pose.position, one.pose.orientation
        boxes.append(
            OverviewBox(
                reference_from_box=base_from_map @ se3.transform([p.x, p.y, p.z], [q.w, q.x, q.y, q.z]),
                size_lwh=np.array([one.size.x, one.size.y, one.size.z]),
                category=one.category,
            )
        )
    return boxes


def _images(bag: Path, stamps: dict[str, int]) -> dict[str, np.ndarray]:
    """Decode the images of a set at full size, RGB."""
    topics = {bag_topics.image_topic(camera): camera for camera in stamps}
    found: dict[str, np.ndarray] = {}
    with BagReader(bag) as reader:
        for message in reader.messages(topics=[topic for topic in topics if topic in reader.topics]):
            camera = topics[message.topic]
            if camera in found:
                continue
            decoded = reader.decode(message)
            if _ns(decoded.header.stamp) == stamps[camera]:
                encoded = np.asarray(decoded.data, dtype=np.uint8)
                encoded_size(encoded)
                found[camera] = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
                if len(found) == len(stamps):
                    break
    return found


def _messages(reader: BagReader, topic: str):
    return reader.messages(topics=[topic]) if topic in reader.topics else iter(())


def _positions(points: Sequence[object]) -> np.ndarray:
    return np.array([[point.pose.position.x, point.pose.position.y] for point in points])


def _ns(stamp: object) -> int:
    return stamp.sec * 1_000_000_000 + stamp.nanosec
