from __future__ import annotations

from pathlib import Path

from setuptools import setup

PACKAGE = "wpt_bringup"


def shared_files() -> list[tuple[str, list[str]]]:
    """Launch files lie beside this file, other data in its folders; relative, as data_files wants them."""
    found = [(f"share/{PACKAGE}/launch", sorted(str(path) for path in Path().glob("*.launch.py")))]
    for folder in ("config", "rviz"):
        found.append(
            (f"share/{PACKAGE}/{folder}", sorted(str(p) for p in Path(folder).glob("*") if p.is_file()))
        )
    return [(target, files) for target, files in found if files]


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Launch files for the whole system: replay, planner, evaluation and RViz; data only.",
    maintainer="WPT maintainers",
    maintainer_email="maintainers@wpt.invalid",
    license="Apache-2.0",
    packages=[],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *shared_files(),
    ],
    zip_safe=True,
)
