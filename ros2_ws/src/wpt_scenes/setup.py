from __future__ import annotations

from setuptools import find_packages, setup

PACKAGE = "wpt_scenes"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="ROS-free access to scenes in the nuScenes format: tables, samples, truth, open-loop metrics.",
    maintainer="WPT maintainers",
    maintainer_email="maintainers@wpt.invalid",
    license="Apache-2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    python_requires=">=3.11",
    # The smallest versions that the tests were run with. ROS packages come by package.xml.
    install_requires=[
        "numpy>=1.26",
        "wpt_policy",
    ],
    extras_require={"test": ["pytest"], "devkit": ["nuscenes-devkit==1.2.0"]},
    zip_safe=True,
)
