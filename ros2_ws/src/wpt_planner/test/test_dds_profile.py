"""The Fast DDS profile is one that Fast DDS reads, and its segment holds several bursts of six images."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from wpt_planner.shared_files import shared_file

NAMESPACE = "{http://www.eprosima.com}"
# Six JPEG images of 150 KB, the burst of one cycle.
BURST_BYTES = 6 * 150 * 1024

START_AND_END = """
import rclpy
rclpy.init()
node = rclpy.create_node("profile_probe")
node.destroy_node()
rclpy.shutdown()
"""


def test_the_shared_memory_holds_several_bursts() -> None:
    root = ElementTree.parse(shared_file("dds", "fastdds_profile.xml")).getroot()
    (size,) = [element for element in root.iter(f"{NAMESPACE}segment_size")]
    assert int(size.text) >= 8 * BURST_BYTES
    transports = {element.text for element in root.iter(f"{NAMESPACE}type")}
    assert transports == {"SHM", "UDPv4"}


@pytest.mark.node
def test_fast_dds_reads_it_without_complaint() -> None:
    profile = str(shared_file("dds", "fastdds_profile.xml"))
    environment = os.environ | dict.fromkeys(
        ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"), profile
    )
    ended = subprocess.run(
        [sys.executable, "-c", START_AND_END], env=environment, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0
    # A profile that cannot be read, or a segment that cannot be made, only prints a line and falls back.
    assert "XMLPARSER" not in ended.stderr + ended.stdout
    assert "Failed to create segment" not in ended.stderr + ended.stdout


@pytest.mark.node
def test_the_complaint_would_be_seen(tmp_path: os.PathLike[str]) -> None:
    broken = os.path.join(tmp_path, "broken.xml")
    with open(broken, "w", encoding="utf-8") as file:
        file.write("<dds><profiles><no_such_thing/></profiles>")
    environment = os.environ | dict.fromkeys(
        ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"), broken
    )
    ended = subprocess.run(
        [sys.executable, "-c", START_AND_END], env=environment, capture_output=True, text=True, timeout=60
    )
    assert "XMLPARSER" in ended.stderr + ended.stdout
