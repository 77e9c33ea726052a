from __future__ import annotations

from setuptools import find_packages, setup

PACKAGE = "wpt_sim"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="A driving world for planners: traffic, scenarios, renderer, expert, data, closed loop.",
    maintainer="WPT maintainers",
    maintainer_email="maintainers@wpt.invalid",
    license="Apache-2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={f"{PACKAGE}.networks": ["*.net.xml.gz"], PACKAGE: ["logs/*"]},
    python_requires=">=3.11",
    # The smallest versions that the tests were run with.
    install_requires=[
        "numpy>=1.26",
        "opencv-python-headless>=4.6",
        "safetensors>=0.4.5",
        "torch>=2.13",
        "wpt_policy",
        "wpt_scenes",
    ],
    # Rendering and reading logs need no traffic engine.
    extras_require={"traffic": ["libsumo==1.28.0"], "test": ["pytest", "hypothesis"]},
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "wpt-sim = wpt_sim.cli:main",
        ],
    },
)
