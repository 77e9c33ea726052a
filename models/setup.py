from __future__ import annotations

from pathlib import Path

from setuptools import setup

PACKAGE = "wpt_models"


def bundles() -> list[tuple[str, list[str]]]:
    """Every folder with a policy.json, with all its files, as data_files wants them (relative to this file)."""
    found = []
    for description in sorted(Path().glob("*/policy.json")):
        files = sorted(str(path) for path in description.parent.iterdir() if path.is_file())
        found.append((f"share/{PACKAGE}/{description.parent.name}", files))
    return found


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Policy bundles of the WPT planner, one folder each; data only.",
    maintainer="WPT maintainers",
    maintainer_email="maintainers@wpt.invalid",
    license="Apache-2.0",
    packages=[],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *bundles(),
    ],
    zip_safe=True,
)
