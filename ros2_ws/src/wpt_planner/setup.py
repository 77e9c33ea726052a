from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "wpt_planner"

# Folders installed to share/ as they are; one that is absent or empty installs nothing.
SHARED_FOLDERS = ("launch", "config", "rviz", "dds")


def shared_files() -> list[tuple[str, list[str]]]:
    """Each shared folder with its files, as data_files wants them (relative to this file)."""
    found = []
    for folder in SHARED_FOLDERS:
        files = sorted(str(path) for path in Path(folder).glob("*") if path.is_file())
        if files:
            found.append((f"share/{PACKAGE}/{folder}", files))
    return found


setup(
    name=PACKAGE,
    version="0.1.0",
    description="The lifecycle node that turns six camera topics into a planned trajectory.",
    maintainer="WPT maintainers",
    maintainer_email="maintainers@wpt.invalid",
    license="Apache-2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *shared_files(),
    ],
    python_requires=">=3.11",
    # The smallest versions that the tests were run with. ROS packages come by package.xml.
    install_requires=[
        "numpy>=1.26",
        "opencv-python-headless>=4.6",
        "PyYAML>=6.0",
        "wpt_policy",
    ],
    extras_require={"test": ["pytest"]},
    zip_safe=True,
    entry_points={
        "console_scripts": [
            "planner_node = wpt_planner.planner_process:main",
        ],
    },
)
