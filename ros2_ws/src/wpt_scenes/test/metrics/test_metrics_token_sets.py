"""Named sets of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from wpt_policy import se3
from wpt_scenes.metrics import NAMED_SETS, PredictionError, select_samples


@pytest.fixture(scope="module")
def samples(scenes):
    bend = [np.eye(4)]
    for _ in range(8):
        bend.append(bend[-1] @ se3.planar(4.0, 0.0, 0.1))
    return scenes.straight(keyframes=9, step_m=5.0) + scenes.along(bend, name="scene-0002")


def tokens(found) -> list[str]:
    return [sample.token for sample in found]


def test_named_sets(samples) -> None:
    assert tokens(select_samples(samples, "all")) == tokens(samples)
    assert len(select_samples(samples, "complete_future")) == 6
    assert tokens(select_samples(samples, "complete_future_and_past")) == ["scene-0001-2", "scene-0002-2"]
    turning = select_samples(samples, "turning")
    assert turning and all(sample.scene_name == "scene-0002" for sample in turning)
    assert len(turning) + len(select_samples(samples, "straight")) == len(samples)
    assert len(select_samples(samples, "scene-0002")) == 9
    assert set(NAMED_SETS) == {"all", "complete_future", "complete_future_and_past", "turning", "straight"}


def test_token_file(samples, tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text("# two of them\nscene-0002-3\n\nscene-0001-0\n")
    assert tokens(select_samples(samples, str(path))) == ["scene-0001-0", "scene-0002-3"]
    path.write_text("scene-0002-3\nnobody\n")
    with pytest.raises(PredictionError, match=r"1 tokens that the chosen scenes lack \(first: nobody\)"):
        select_samples(samples, str(path))
    path.write_text("scene-0002-3\nscene-0002-3\n")
    with pytest.raises(PredictionError, match="twice"):
        select_samples(samples, str(path))
    path.write_text("# nothing\n")
    with pytest.raises(PredictionError, match="empty"):
        select_samples(samples, str(path))
    with pytest.raises(PredictionError, match="no known set"):
        select_samples(samples, "turns")
