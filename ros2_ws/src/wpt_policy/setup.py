from __future__ import annotations

from setuptools import find_packages, setup

PACKAGE = "wpt_policy"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="ROS-free runtime of the WPT planner: camera geometry, image input, policy bundles, network, planners.",
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
        "opencv-python-headless>=4.6",
        "safetensors>=0.4.5",
        "torch>=2.13",
    ],
    extras_require={"test": ["pytest"]},
    zip_safe=True,
    entry_points={
        "console_scripts": [
            "wpt-policy = wpt_policy.policy_cli:main",
        ],
        "wpt.planners": [
            "constant_velocity = wpt_policy.baselines:ConstantVelocityPlanner",
            "stop = wpt_policy.baselines:StopPlanner",
        ],
    },
)
