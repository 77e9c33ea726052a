"""What `wpt-bag info` says about a bag."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wpt_replay.bag_cli import main
from wpt_replay.bag_info import as_dict, as_text, measure_stagger, summarize
from wpt_replay.bag_reader import BagReader
from wpt_replay.bag_writer import BagWriter, reliable
from wpt_scenes.scene_types import Scene

MS = 1_000_000


@given(
    st.integers(30, 600),
    st.lists(st.integers(0, 300), min_size=1, max_size=7, unique=True),
    st.integers(0, 5),
    st.integers(0, 2**32 - 1),
)
def test_stagger_is_found_wherever_the_recording_starts_and_with_losses(
    pause_ms: int, offsets: list[int], first: int, seed: int
) -> None:
    """Offsets are met as long as the pause after the last camera is the longest one of the cycle."""
    chance = random.Random(seed)
    ordered = sorted(offset - min(offsets) for offset in offsets)
    gaps = [b - a for a, b in zip(ordered, ordered[1:], strict=False)]
    period = ordered[-1] + max([pause_ms, *(gap + 5 for gap in gaps)])
    stamps: dict[str, list[int]] = {f"cam_{i}": [] for i in range(len(ordered))}
    for tick in range(40):
        for i, offset in enumerate(ordered):
            jitter = chance.uniform(-0.5, 0.5)
            if tick * len(ordered) + i >= first and chance.random() > 0.05:
                stamps[f"cam_{i}"].append(round((1000 + tick * period + offset + jitter) * MS))
    stagger = measure_stagger(stamps)
    assert stagger.period_ns == pytest.approx(period * MS, abs=2 * MS)
    for i, offset in enumerate(ordered):
        assert stagger.offset_ns[f"cam_{i}"] == pytest.approx(offset * MS, abs=1.5 * MS)
    assert stagger.spread_ns == pytest.approx(ordered[-1] * MS, abs=2 * MS)
    assert stagger.largest_gap_ns == pytest.approx(max(gaps, default=0) * MS, abs=2 * MS)


def test_one_image_of_each_camera_has_no_period() -> None:
    stagger = measure_stagger({"a": [1000 * MS], "b": [1043 * MS]})
    assert (
        stagger.period_ns is None and stagger.spread_ns == 43 * MS and stagger.highest_skew_bound_ns is None
    )


def test_a_converted_scene(factory_bag: Path, factory_scene: Scene) -> None:
    with BagReader(factory_bag) as bag:
        summary = summarize(bag)
    assert len(summary.cameras) == 6 and summary.findings == ()
    assert 42 * MS < summary.stagger.spread_ns < 44 * MS and 82 * MS < summary.stagger.period_ns < 86 * MS
    assert summary.stagger.spread_ns < 60 * MS < summary.stagger.highest_skew_bound_ns
    words = as_text(summary)
    for expected in (
        "scene-0001",
        "latched: reliable transient_local",
        "Hz, 0 missing",
        "keeps cycles apart",
        "Apache-2.0",
    ):
        assert expected in words, expected
    assert json.loads(json.dumps(as_dict(summary)))["topics"]["/tf_static"]["latched"] is True


def test_lost_images_and_missing_topics_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        kind = "sensor_msgs/msg/CompressedImage"
        for topic in ("/cam_a/image", "/cam_b/image"):
            writer.add_topic(topic, kind, reliable(10))
        writer.add_topic("/tf_static", "tf2_msgs/msg/TFMessage", reliable(1))
        image, header, time = (
            writer.type(n) for n in (kind, "std_msgs/msg/Header", "builtin_interfaces/msg/Time")
        )
        for tick in range(20):
            for topic, offset in (("/cam_a/image", 0), ("/cam_b/image", 50)):
                if topic == "/cam_b/image" and tick in (4, 5, 11):
                    continue
                stamp = (1000 + 100 * tick + offset) * MS
                filled = image(
                    header=header(stamp=time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id="x"),
                    format="jpeg",
                    data=np.zeros(3, dtype=np.uint8),
                )
                writer.write(topic, stamp, filled)
    assert main(["info", str(tmp_path / "bag")]) == 0
    words = capsys.readouterr().out
    assert "/cam_b/image: 3 images are missing by its stamps, beside 17 that are there" in words
    assert "/cam_a/image: there is no camera_info topic for it" in words
    assert "/tf_static was recorded volatile" in words
    assert "no skew bound keeps cycles apart" in words
    assert main(["info", "--json", str(tmp_path / "bag")]) == 0
    assert json.loads(capsys.readouterr().out)["topics"]["/cam_b/image"]["missing"] == 3
