"""policy.json is read strictly: whatever is missing, unknown, of the wrong type or contradicting is named."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_policy.frame import Command
from wpt_policy.policy_config import BundleError, from_json, to_json
from wpt_policy.policy_presets import compact, reference

CONFIG = compact("tried", may_mask=("cam_back",), ego_inputs=("speed",))
DOCUMENT: dict[str, Any] = json.loads(to_json(CONFIG))


def paths(value: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every field of the document, objects and their inner fields alike."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield (*prefix, name)
            yield from paths(item, (*prefix, name))


PATHS = list(paths(DOCUMENT))


def changed(path: tuple[str, ...], value: Any) -> str:
    document = copy.deepcopy(DOCUMENT)
    owner = document
    for name in path[:-1]:
        owner = owner[name]
    owner[path[-1]] = value
    return json.dumps(document)


def read_error(text: str) -> BundleError:
    with pytest.raises(BundleError) as caught:
        from_json(text)
    assert str(caught.value) == f"{caught.value.field}: {caught.value.problem}"
    assert "expected" in caught.value.problem
    return caught.value


def test_round_trip() -> None:
    for config in (
        CONFIG,
        reference("big", layers_of_resnet=101),
        compact("no-mask", bev_channels=48, width=24),
    ):
        assert from_json(to_json(config)) == config


def test_the_text_is_for_people_too() -> None:
    text = to_json(CONFIG)
    assert '"stage_widths": [16, 32, 64],' in text
    assert max(len(line) for line in text.splitlines()) < 130


def test_every_field_of_the_contract_is_there() -> None:
    assert set(DOCUMENT) == {
        "format_version", "name", "architecture", "cameras", "may_mask", "image_input", "normalisation",
        "bev", "plan", "history", "ego_inputs", "output_frame", "provenance", "weights_sha256",
    }  # fmt: skip
    assert set(DOCUMENT["image_input"]) == {"width", "height", "crop", "decode", "resize"}
    assert set(DOCUMENT["bev"]) == {"x_range_m", "y_range_m", "cell_m", "heights_m"}
    assert set(DOCUMENT["plan"]) == {"steps", "dt_s", "commands"}
    assert set(DOCUMENT["history"]) == {"entries", "interval_s", "tolerance_s", "largest_gap_s"}
    assert set(DOCUMENT["provenance"]) == {"trained", "dataset", "commit", "seed", "metrics"}


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_every_missing_field_is_named(path: tuple[str, ...]) -> None:
    document = copy.deepcopy(DOCUMENT)
    owner = document
    for name in path[:-1]:
        owner = owner[name]
    del owner[path[-1]]
    error = read_error(json.dumps(document))
    assert error.field == ".".join(path) and "missing" in error.problem


@pytest.mark.parametrize("path", [(), *[path for path in PATHS if isinstance(DOCUMENT.get(path[0]), dict)]])
def test_unknown_fields_are_named(path: tuple[str, ...]) -> None:
    document = copy.deepcopy(DOCUMENT)
    owner = document
    for name in path:
        owner = owner[name]
    if not isinstance(owner, dict) or path == ("provenance", "metrics"):
        return
    owner["surprise"] = 1
    error = read_error(json.dumps(document))
    assert error.field == ".".join((*path, "surprise")) and "unknown" in error.problem


@given(st.sampled_from(PATHS), st.sampled_from([None, "text", 1.5, True, [], {}, [None], -1]))
def test_wrong_values_give_a_named_error_or_nothing(path: tuple[str, ...], value: Any) -> None:
    """Some of these values are right for some fields; no value ever raises anything but BundleError."""
    try:
        from_json(changed(path, value))
    except BundleError as error:
        assert error.field and "expected" in error.problem


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        # wrong types
        ("plan.steps", 6.0, "plan.steps"),
        ("plan.steps", True, "plan.steps"),
        ("plan.dt_s", "0.5", "plan.dt_s"),
        ("provenance.trained", 0, "provenance.trained"),
        ("name", 5, "name"),
        ("cameras", "cam_front", "cameras"),
        ("cameras", ["cam_front", 3], "cameras[1]"),
        ("normalisation.mean", [1.0, 2.0], "normalisation.mean"),
        ("bev", [1], "bev"),
        ("provenance.metrics", {"l2": "good"}, "provenance.metrics.l2"),
        # values out of bounds
        ("format_version", 0, "format_version"),
        ("format_version", 1, "format_version"),
        ("format_version", 2, "format_version"),
        ("format_version", 4, "format_version"),
        ("name", "../escape", "name"),
        ("name", "", "name"),
        ("plan.steps", 0, "plan.steps"),
        ("plan.steps", -6, "plan.steps"),
        ("plan.dt_s", 0.0, "plan.dt_s"),
        ("plan.commands", [], "plan.commands"),
        ("plan.commands", ["straight", "straight"], "plan.commands"),
        ("plan.commands", ["unknown"], "plan.commands"),
        ("plan.commands", ["reverse"], "plan.commands[0]"),
        ("cameras", [], "cameras"),
        ("cameras", ["cam_front"] * 2, "cameras"),
        ("normalisation.std", [58.0, 0.0, 57.0], "normalisation.std"),
        ("output_frame", "lidar_top", "output_frame"),
        ("weights_sha256", "abc", "weights_sha256"),
        ("weights_sha256", "A" * 64, "weights_sha256"),
        ("image_input.crop", "middle", "image_input"),
        ("image_input.width", 8, "image_input"),
        ("ego_inputs", ["steering"], "ego_inputs"),
        ("ego_inputs", ["speed", "speed"], "ego_inputs"),
        ("history.entries", -1, "history.entries"),
        ("bev.cell_m", 0.0, "bev.cell_m"),
        ("bev.heights_m", [], "bev.heights_m"),
        ("bev.heights_m", [1.0, 0.0], "bev.heights_m"),
        ("architecture.network", "teacher", "architecture.network"),
        ("architecture.backbone.block", "dense", "architecture.backbone.block"),
        ("architecture.backbone.stem_kernel", 5, "architecture.backbone.stem_kernel"),
        ("architecture.backbone.stage_strides", [2, 2, 3], "architecture.backbone.stage_strides"),
        ("architecture.bev_encoder.blocks", -1, "architecture.bev_encoder.blocks"),
        ("architecture.fusion.blocks", -1, "architecture.fusion.blocks"),
        # contradictions between fields
        ("may_mask", ["cam_roof"], "may_mask"),
        ("may_mask", ["cam_back", "cam_back"], "may_mask"),
        ("bev.cell_m", 0.7, "bev.x_range_m"),
        ("bev.y_range_m", [24.0, -24.0], "bev.y_range_m"),
        ("history.tolerance_s", 0.25, "history.tolerance_s"),
        ("history.largest_gap_s", 0.6, "history.largest_gap_s"),
        ("architecture.neck.stride", 32, "architecture.neck.stride"),
        ("architecture.backbone.stage_depths", [2, 2], "architecture.backbone.stage_depths"),
        ("architecture.bev_encoder.heads", 5, "architecture.bev_encoder.heads"),
        ("architecture.plan_decoder.heads", 7, "architecture.plan_decoder.heads"),
        ("architecture.bev_encoder.cameras_per_point", 7, "architecture.bev_encoder.cameras_per_point"),
        ("image_input.height", 16, "image_input"),
        ("provenance.trained", True, "provenance.dataset"),
    ],
)
def test_wrong_and_contradicting_values_are_named(path: str, value: Any, field: str) -> None:
    assert read_error(changed(tuple(path.split(".")), value)).field == field


def test_a_newer_format_says_so_before_anything_else() -> None:
    error = read_error(json.dumps({"format_version": 99, "sensors": []}))
    assert error.field == "format_version" and "newer" in error.problem


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"name": "a", "name": "b"}', b"\xff\xfe"])
def test_what_is_no_policy_json_at_all(text: str | bytes) -> None:
    assert read_error(text).field in ("policy.json", "name", "format_version")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_must_be_finite(number: str) -> None:
    assert read_error(to_json(CONFIG).replace('"cell_m": 1.0', f'"cell_m": {number}')).field == "bev.cell_m"


def test_commands_are_read_by_label() -> None:
    assert from_json(changed(("plan", "commands"), ["straight", "left"])).plan.commands == (
        Command.STRAIGHT,
        Command.LEFT,
    )
