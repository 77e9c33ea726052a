"""Cameras that can be projected: camera_info, its agreement with the images, and the mount on the vehicle."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from wpt_policy.calibration import CalibrationError, CameraCalibration, CameraRig, rig_problems
from wpt_policy.image_input import ImageInputError

from wpt_replay.check_camera_info import CameraInfoProblem, StatedCamera, stated_camera
from wpt_replay.check_names import InputNames, camera_info_beside
from wpt_replay.check_observer import CAMERA_INFO, CameraInfoTrack, ImageTrack, Observer
from wpt_replay.check_planner import PlannerNeeds
from wpt_replay.check_qos import Offer
from wpt_replay.check_report import Finding, fail, ok, per_camera, warn
from wpt_replay.check_settings import PlannerSettings

# Until its camera_info has come a camera cannot be used: later than this is worth a line.
_LATE_NS = 1_000_000_000


def judge_calibration(
    names: InputNames,
    offers: Mapping[str, Offer],
    seen: Observer,
    needs: PlannerNeeds,
    settings: PlannerSettings,
    cameras: tuple[str, ...],
) -> list[Finding]:
    """Judge the given cameras (those that have images)."""
    infos: dict[str, Finding] = {}
    notes: dict[str, Finding] = {}
    stated: dict[str, StatedCamera] = {}
    for camera in cameras:
        topic = names.camera_infos[camera]
        track = seen.camera_infos.get(topic)
        images = seen.images[names.images[camera]]
        missing = _missing(camera, topic, track, names, offers, seen)
        if missing is not None:
            infos[camera] = missing
            continue
        assert track is not None
        try:
            stated[camera] = stated_camera(track.values, images_rectified=settings.images_rectified)
        except CameraInfoProblem as problem:
            infos[camera] = fail(camera, str(problem), problem.remedy)
            continue
        mismatch = _mismatch(camera, stated[camera], images, topic)
        if mismatch is not None:
            infos[camera] = mismatch
        note = _note(camera, stated[camera], track, images, names, settings)
        if note is not None:
            notes[camera] = note
    findings = [*per_camera(needs.cameras, infos), *per_camera(needs.cameras, notes)]
    good = [camera for camera in cameras if camera not in infos]
    if good:
        focal = ", ".join(f"{stated[camera].intrinsics[0, 0]:.0f}" for camera in good)
        findings.append(
            ok("camera_info", f"{len(good)} of {len(needs.cameras)} good, focal lengths {focal} pixels")
        )
    return [*findings, *_mounts(names, seen, needs, cameras, {camera: stated[camera] for camera in good})]


def _missing(
    camera: str,
    topic: str,
    track: CameraInfoTrack | None,
    names: InputNames,
    offers: Mapping[str, Offer],
    seen: Observer,
) -> Finding | None:
    """Return why there is no camera_info to judge, or None."""
    offer = offers.get(topic)
    if offer is not None and offer.type_name != CAMERA_INFO:
        return fail(
            camera, f"{topic} has type {offer.type_name}, expected {CAMERA_INFO}", "publish CameraInfo there"
        )
    if topic in seen.unreadable and (track is None or track.values is None):
        return fail(
            camera, f"camera_info on {topic} cannot be read: {seen.unreadable[topic]}", "fix its publisher"
        )
    if track is not None and track.values is not None:
        if track.values.header.frame_id:
            return None
        return fail(
            camera,
            "camera_info has an empty frame_id, expected the camera's optical frame",
            "set it in the camera's driver",
        )
    beside = camera_info_beside(names.images[camera], offers)
    if beside is not None and beside != topic:
        return fail(
            camera,
            f"there is no camera_info on {topic}, but one on {beside}",
            f"remap: -r {topic.strip('/')}:={beside}",
        )
    state = "is there and holds no message" if offer is not None else "is not there"
    return fail(
        camera,
        f"no camera_info: {_generic(topic, camera)} {state}, and without intrinsics no set is planned on",
        "record or publish sensor_msgs/CameraInfo beside the images (k, p, width, height; the image's"
        " frame_id); for nuScenes `wpt-bag convert` writes it",
    )


def _mismatch(camera: str, stated: StatedCamera, images: ImageTrack, topic: str) -> Finding | None:
    """Compare camera_info with the images that it belongs to."""
    frames = [frame.removeprefix("/") for frame in images.frame_ids if frame]
    strangers = [frame for frame in frames if frame != stated.frame_id]
    if strangers:
        return fail(
            camera,
            f"images have frame_id {strangers[0]!r} and camera_info {stated.frame_id!r}, expected the same"
            " optical frame",
            "set one frame_id in the camera's driver",
        )
    sizes = {(width, height) for _, width, height in images.kinds}
    wrong = sorted(sizes - {(stated.width, stated.height)})
    if wrong:
        width, height = wrong[0]
        return fail(
            camera,
            f"images are {width}x{height} pixels and camera_info is for {stated.width}x{stated.height},"
            " expected the same",
            "publish the camera_info of the resized image (width, height, k and p scaled)",
        )
    return None


def _note(
    camera: str,
    stated: StatedCamera,
    track: CameraInfoTrack,
    images: ImageTrack,
    names: InputNames,
    settings: PlannerSettings,
) -> Finding | None:
    topic = names.images[camera]
    if settings.images_rectified and stated.distorted and ("raw" in topic or "rect" not in topic):
        return warn(
            camera,
            f"D is not zero and the images' name does not say rectified ({_generic(topic, camera)}): if they"
            " are raw, the projection is wrong by the lens distortion",
            "set images_rectified to false, so that the planner rectifies them, or use the rectified topic",
        )
    if stated.notes:
        return warn(camera, stated.notes[0], "compare its frame_id with the mount in /tf_static")
    if track.changes:
        return warn(
            camera,
            f"camera_info changes {track.changes} times, expected one calibration; each change empties the"
            " memory",
            "check whether two publishers share its topic",
        )
    records = images.times.records_ns
    if len(records) and track.first_record_ns is not None and track.first_record_ns - records[0] > _LATE_NS:
        late = (track.first_record_ns - records[0]) / 1e9
        return warn(
            camera,
            f"camera_info first comes {late:.1f} s after the first image, and until then no set is"
            " planned on",
            "publish it with every image",
        )
    return None


def _mounts(
    names: InputNames,
    seen: Observer,
    needs: PlannerNeeds,
    cameras: tuple[str, ...],
    stated: Mapping[str, StatedCamera],
) -> list[Finding]:
    unknown: dict[str, str] = {}
    wrong: dict[str, Finding] = {}
    calibrations = []
    for camera in cameras:
        frames = seen.images[names.images[camera]].frame_ids
        frame = stated[camera].frame_id if camera in stated else frames.most_common(1)[0][0].removeprefix("/")
        if not frame:
            continue  # said where the images are judged
        mount = seen.frames.base_from(frame)
        if mount is None:
            unknown[camera] = frame
            continue
        try:
            calibrations.append(_calibration(camera, stated.get(camera), mount))
        except CalibrationError as error:
            wrong[camera] = fail(camera, str(error), "check its camera_info and its transform")
    findings = [*_without_mount(unknown, seen, needs), *per_camera(needs.cameras, wrong)]
    for sentence in seen.frames.problems:
        findings.append(warn("/tf_static", sentence, "check whether two publishers disagree, and remove one"))
    rig = CameraRig(calibrations)
    for sentence in rig_problems(rig):
        found, _, remedy = sentence.rpartition("; ")
        findings.append(fail("mounts", found or sentence, remedy if found else "check /tf_static"))
    findings += per_camera(needs.cameras, _too_small(rig, needs, stated))
    if rig and not any(finding.subject == "mounts" for finding in findings):
        yaws = ", ".join(f"{camera} {math.degrees(rig[camera].yaw()):.0f}" for camera in rig)
        findings.append(
            ok("mounts", f"{len(rig)} of {len(needs.cameras)} cameras, looking (degrees to the left): {yaws}")
        )
    return findings


def _without_mount(unknown: Mapping[str, str], seen: Observer, needs: PlannerNeeds) -> list[Finding]:
    """Return one line for cameras that lack the same; the remedy is that of the first. unknown: frame by
    camera.
    """
    reasons = {camera: seen.frames.why_unknown(frame) for camera, frame in unknown.items()}
    general = {camera: seen.frames.why_unknown(frame, "<its frame>")[0] for camera, frame in unknown.items()}
    findings: dict[str, Finding] = {}
    for camera, (found, remedy) in reasons.items():
        alike = [other for other in general if general[other] == general[camera]]
        if len(alike) > 1:
            found, remedy = general[camera], f"{reasons[alike[0]][1]} (and so for each camera)"
        findings[camera] = fail(camera, f"no mount: {found}", remedy)
    return per_camera(needs.cameras, findings)


def _too_small(rig: CameraRig, needs: PlannerNeeds, stated: Mapping[str, StatedCamera]) -> dict[str, Finding]:
    """Find cameras whose images do not fit the planner's input."""
    findings = {}
    if needs.image_input is None:
        return findings
    for camera in rig:
        if camera in stated:
            try:
                needs.image_input.calibration(rig[camera])
            except (ImageInputError, CalibrationError) as error:
                found, _, remedy = str(error).rpartition("; ")
                findings[camera] = fail(camera, found or str(error), remedy or "use another policy")
    return findings


def _calibration(camera: str, stated: StatedCamera | None, mount: np.ndarray) -> CameraCalibration:
    """Return the camera; where its camera_info is no good, one of any intrinsics, since the mount is
    judged alone.
    """
    if stated is None:
        intrinsics = np.array([[1000.0, 0, 500.0], [0, 1000.0, 500.0], [0, 0, 1]])
        return CameraCalibration(
            name=camera, width=1000, height=1000, intrinsics=intrinsics, base_from_camera=mount
        )
    return CameraCalibration(
        name=camera,
        width=stated.width,
        height=stated.height,
        intrinsics=stated.intrinsics,
        base_from_camera=mount,
    )


def _generic(topic: str, camera: str) -> str:
    """Name a topic so that the same finding of six cameras is one line."""
    return topic.replace(camera, "<camera>").replace(camera.upper(), "<CAMERA>")
