"""Seeded random weights for tests and parity: plausible plans that depend on everything the network reads.

Drawn with NumPy's PCG64 in the order of the tensors' names and scaled by fixed rules, so that the same seed
gives the same file to the last bit on every machine (torch's own normal numbers differ between instruction
sets).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wpt_policy.bundle import PolicyBundle, save_bundle
from wpt_policy.network.student import Student
from wpt_policy.policy_config import PolicyConfig, Provenance
from wpt_policy.policy_presets import compact

SEEDED_NAME = "wpt-seeded"
# 5.2 m/s: within 6 m/s (plausibility.max_start_jump) of every ego speed from standstill to 10 m/s.
STEP_M = 2.6
# Of the last layers, so that displacements stray by about 0.25 m and plans stay plausible.
HEAD_SCALE = 0.2
# Random attention is nearly uniform and averages all differences away; sharper queries keep plans sensitive.
ATTENTION_SCALE = 5.0
EMBEDDING_SCALE = 0.5


MODEL_CARD = """# wpt-seeded: SEEDED RANDOM WEIGHTS, NOT A TRAINED POLICY

**Never drive with this bundle, in no vehicle and in no simulation that anyone draws a conclusion from.**
It has learned nothing. Its plans go roughly straight ahead at 5 m/s whatever the images show.

What it is for: tests, timing, and the comparison of node and offline plans. The network is the compact
student at full size, and the plans, though meaningless, depend on everything that it reads: on every image,
every calibration and ego pose, the remembered bird's-eye view and the command. Two ways of running it that
agree to 0.1 mm read the same input.

| | |
| --- | --- |
| network | compact student: six 256x128 images, 80x48 cells of 1 m, one history entry, six steps of 0.5 s |
| weights | random numbers of seed {seed} (NumPy PCG64), fixed scales, step bias of 2.6 m |
| training data | none |
| metrics | none, they would mean nothing |
| cameras that may be masked | all but cam_front, for tests of masking; nothing was trained to lose them |
| in outputs | every plan carries the flag UNTRAINED |
| made by | `wpt-policy seed --out models/wpt-seeded --seed {seed}` (the same bytes on every machine) |
| licence | Apache-2.0, as the repository |
"""


def seeded_config(seed: int, name: str = SEEDED_NAME) -> PolicyConfig:
    """The compact student with untrained provenance. Every camera but the front one may be masked."""
    config = compact(name)
    return replace(
        config,
        may_mask=tuple(camera for camera in config.cameras if camera != "cam_front"),
        provenance=Provenance(trained=False, dataset="", commit="", seed=seed, metrics={}),
    )


def seeded_tensors(config: PolicyConfig, seed: int) -> dict[str, Tensor]:
    """Return every weight of the network of ``config`` as seeded random numbers."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Student(config).state_dict().items()}
    random = np.random.Generator(np.random.PCG64(seed))
    tensors = {}
    for name in sorted(shapes):
        if name.endswith("num_batches_tracked"):
            continue
        tensors[name] = torch.from_numpy(_values(name, shapes[name], random).astype(np.float32))
    return tensors


def _values(name: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if name == "plan_decoder.head.2.bias":
        return np.array([STEP_M, 0.0])
    if name.endswith("running_mean") or name.endswith("bias"):
        return 0.1 * random.standard_normal(shape)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):  # norms
        return 1.0 + 0.1 * random.uniform(-1.0, 1.0, shape)
    if "embedding" in name or name.endswith("queries"):
        return EMBEDDING_SCALE * random.standard_normal(shape)
    fan_in = math.prod(shape[1:])
    scale = math.sqrt(1.0 / fan_in)
    if name in ("plan_decoder.head.2.weight", "plan_decoder.correction_head.2.weight"):
        scale *= HEAD_SCALE
    if name.endswith("query.weight") or name.endswith("in_proj_weight"):
        scale *= ATTENTION_SCALE
    return scale * random.standard_normal(shape)


def write_seeded_bundle(folder: Path, seed: int = 0) -> PolicyBundle:
    """Write the seeded bundle into ``folder``."""
    config = seeded_config(seed)
    return save_bundle(folder, config, seeded_tensors(config, seed), MODEL_CARD.format(seed=seed))
