from __future__ import annotations

from setuptools import find_packages, setup

PACKAGE = "wpt_training"

setup(
    name=PACKAGE,
    version="0.1.0",
    description="World-to-Policy Transfer: world model, reward model, teacher, distilled student, evaluation, export.",
    maintainer="WPT maintainers",
    maintainer_email="maintainers@wpt.invalid",
    license="Apache-2.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    python_requires=">=3.11",
    install_requires=[
        "numpy>=1.26",
        "opencv-python-headless>=4.6",
        "safetensors>=0.4.5",
        "torch>=2.13",
        "wpt_policy",
        "wpt_scenes",
    ],
    extras_require={"test": ["pytest", "hypothesis"], "tensorboard": ["tensorboard"]},
    zip_safe=False,
    entry_points={
        "console_scripts": ["wpt-train = wpt_training.cli:main"],
        "wpt.planners": [
            "wpt_teacher = wpt_training.evaluation.teacher_planner:TeacherPlanner",
            "wpt_ego_mlp = wpt_training.evaluation.ego_mlp:EgoMlpPlanner",
        ],
    },
)
