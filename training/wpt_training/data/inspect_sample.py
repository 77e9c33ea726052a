"""``wpt-train inspect``: draw one training sample to a PNG, as the reader makes it (no cache is needed)."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import cv2
import numpy as np

from wpt_policy.frame import CommandSource
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables

from wpt_training.configuration import CONFIGURATIONS, ExperimentConfig, configuration
from wpt_training.data.batch import SIGNAL_STATES
from wpt_training.data.sample_fields import INTERACTIVE, LABELLED, NATURAL
from wpt_training.data.sample_picture import draw_sample
from wpt_training.data.sample_reader import SampleReader
from wpt_training.data.side_tables import SideTables
from wpt_training.errors import TrainingError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="the data set's root")
    parser.add_argument("--version", required=True, help="e.g. v1.0-mini")
    parser.add_argument("--sample", required=True, metavar="TOKEN", help="sample token")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    parser.add_argument(
        "--config", choices=sorted(CONFIGURATIONS), default="compact", help="whose sizes to read at"
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="draw a sample whose image files are missing, too"
    )


def run(arguments: argparse.Namespace) -> int:
    config = configuration(arguments.config)
    reader, index = reader_of(
        arguments.data, arguments.version, arguments.sample, config, allow_missing=arguments.allow_missing
    )
    lines = describe(reader, index)
    picture = draw_sample(reader.sample(index), config, lines)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise TrainingError(f"the picture of sample {arguments.sample} cannot be encoded as PNG.")
    arguments.out.write_bytes(encoded.tobytes())
    print("\n".join([*lines, f"picture {arguments.out}"]))
    return 0


def reader_of(
    dataroot: str | Path, version: str, token: str, config: ExperimentConfig, *, allow_missing: bool = False
) -> tuple[SampleReader, int]:
    """Return the reader of the scene that holds a sample, and the sample's number in it; raises
    TrainingError.
    """
    try:
        tables = NuScenesTables.load(dataroot, version)
        row = next(iter(tables.rows_where("sample", "token", [token])), None)
        if row is None:
            raise TrainingError(f"{version} has no sample {token!r}; take a token from its sample.json.")
        scene = load_scene(tables, tables.row("scene", row["scene_token"])["name"])
    except DatasetError as error:
        raise TrainingError(str(error)) from None
    side = SideTables.load(tables.dataroot / version)
    reader = SampleReader(tables, scene, config.student, config.data, side, allow_missing=allow_missing)
    return reader, [keyframe.sample_token for keyframe in scene.keyframes].index(token)


def describe(reader: SampleReader, index: int) -> list[str]:
    """Return lines of text on a sample."""
    scene, row = reader.scene, reader.read(index)
    keyframe = scene.keyframes[index]
    speed, lateral, yaw_rate, acceleration = (float(value) for value in row["motion"])
    command = reader.policy.plan.commands[int(row["command"])].label
    flags = int(row["flags"])
    listed = [name for bit, name in ((NATURAL, "natural"), (INTERACTIVE, "interactive")) if flags & bit]
    history = (
        ", ".join("none" if number < 0 else f"keyframe {number}" for number in row["history"])
        or "none asked for"
    )
    signal = SIGNAL_STATES[int(row["signal"])]
    if signal != "none":
        middle = row["stop_line"].mean(axis=0)
        signal += f", stop line {math.hypot(*middle):.1f} m away"
    future = row["future"][row["future_valid"]]
    path = " ".join(f"({x:.1f},{y:.1f})" for x, y, _ in future) or "none"
    valid = row["box_valid"]
    return [
        f"{scene.name} ({scene.location}), keyframe {index} of {len(reader)}, sample {keyframe.sample_token}",
        f"command {command}, source {CommandSource(int(row['command_source'])).name.lower()}; signal "
        f"{signal}; "
        + ("labelled" if flags & LABELLED else "NOT labelled")
        + (f"; in lists {', '.join(listed)}" if listed else ""),
        f"motion {speed:.2f} m/s, lateral {lateral:.2f} m/s, yaw rate {yaw_rate:.3f} rad/s, acceleration "
        f"{acceleration:.2f} m/s2; "
        f"history {history}",
        f"true future (m) {path}",
        f"{int(valid[0].sum())} boxes now ({int((valid[0] & row['box_vulnerable']).sum())} vulnerable), "
        f"{int(valid.any(axis=0).sum())} over time; {int(row['camera_mask'].sum())} of "
        f"{len(row['camera_mask'])} images; "
        f"in sight {np.mean(row['visible']):.0%} of cells, drivable {np.mean(row['drivable']):.0%}",
    ]
