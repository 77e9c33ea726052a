"""Reading and checking tables: everything that can be wrong with them is named by table, row and field."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from wpt_scenes import indexed_table
from wpt_scenes.dataset_error import DatasetError
from wpt_scenes.schema import TABLE_NAMES
from wpt_scenes.tables import NuScenesTables

SMALL_VERSION = "v1.0-small"
Edit = Callable[..., Path]


def load(root: Path) -> NuScenesTables:
    return NuScenesTables.load(root, SMALL_VERSION)


def problems(root: Path) -> tuple[str, ...]:
    with pytest.raises(DatasetError) as caught:
        load(root)
    for sentence in caught.value.problems:
        assert "\n" not in sentence
    return caught.value.problems


def only_problem(root: Path) -> str:
    found = problems(root)
    assert len(found) == 1, found
    return found[0]


def set_field(number: int, field: str, value: object) -> Callable[[list[dict]], None]:
    def change(rows: list[dict]) -> None:
        rows[number][field] = value

    return change


def test_tables_hold_what_was_written(small_root: Path) -> None:
    tables = load(small_root)
    assert tables.scene_names() == ("scene-0", "scene-1")
    assert tables.findings == ()
    assert tables.count("sample") == 8
    assert tables.count("sample_data") == 2 * (4 + 2 * 5)
    for name in TABLE_NAMES:
        rows = json.loads((small_root / SMALL_VERSION / f"{name}.json").read_text())
        assert tables.rows(name) == rows
        for row in rows:
            assert tables.row(name, row["token"]) == row


def test_rows_are_found_by_reference_in_table_order(small_root: Path) -> None:
    tables = load(small_root)
    samples = tables.rows("sample")
    wanted = {samples[5]["token"], samples[2]["token"]}
    rows = tables.rows_where("sample_annotation", "sample_token", wanted)
    assert rows == [row for row in tables.rows("sample_annotation") if row["sample_token"] in wanted]
    assert tables.rows_where("sample_annotation", "sample_token", []) == []
    assert set(tables.rows_by_token("sample", wanted)) == wanted
    with pytest.raises(DatasetError, match="sample has no row with token 'nothing'"):
        tables.rows_by_token("sample", ["nothing"])
    with pytest.raises(DatasetError, match="log has no row with token 'nothing'"):
        tables.row("log", "nothing")


def test_blocks_smaller_than_rows_give_the_same_tables(
    small_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load(small_root)
    monkeypatch.setattr(indexed_table, "_BLOCK_BYTES", 7)
    pieces = load(small_root)
    for name in TABLE_NAMES:
        assert pieces.rows(name) == whole.rows(name)


@pytest.mark.parametrize("block_bytes", [11, 1 << 18])
@pytest.mark.parametrize("indent", [None, 0, 4])
def test_any_layout_of_json_and_any_script_is_read(
    edited: Edit, indent: int | None, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexed_table, "_BLOCK_BYTES", block_bytes)
    description = 'Straße, 直線, {"brackets"} [and] \\ quotes'
    root = edited("scene", set_field(0, "description", description))
    for path in (root / SMALL_VERSION).iterdir():
        rows = json.loads(path.read_text())
        path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8")
    tables = load(root)
    assert tables.rows("scene")[0]["description"] == description
    assert tables.rows("scene")[1]["name"] == "scene-1"


def test_tables_can_be_pickled(small_root: Path) -> None:
    copy = pickle.loads(pickle.dumps(load(small_root)))
    assert copy.rows("sample") == load(small_root).rows("sample")


def test_findings_name_what_is_allowed_but_odd(edited: Edit) -> None:
    edited("category", set_field(0, "name", "vehicle.hovercraft"))
    edited("map", lambda rows: rows[0].update(log_tokens=[]))
    sweeps = json.loads((edited("log", lambda rows: None) / SMALL_VERSION / "sample_data.json").read_text())
    at = next(i for i, row in enumerate(sweeps) if not row["is_key_frame"])
    first_sample = sweeps[0]["sample_token"]
    tables = load(edited("sample_data", set_field(at, "sample_token", first_sample)))
    assert len(tables.findings) == 3
    assert "vehicle.hovercraft" in tables.findings[0]
    assert "no map names the log drive" in tables.findings[1]
    assert f"sample_data row {at}" in tables.findings[2] and "next keyframe" in tables.findings[2]


# What is wrong with files


def test_missing_folder_names_the_versions_that_exist(small_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder v1.0-mini, expected one of v1.0-small"):
        NuScenesTables.load(small_root, "v1.0-mini")
    with pytest.raises(DatasetError, match="no folder v1.0-mini, which is no folder itself"):
        NuScenesTables.load(tmp_path / "absent", "v1.0-mini")


def test_missing_tables_are_all_named(edited: Edit) -> None:
    root = edited("log", lambda rows: None)
    for name in ("map", "visibility"):
        (root / SMALL_VERSION / f"{name}.json").unlink()
    assert "lacks visibility.json, map.json, expected all 13 tables" in only_problem(root)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"token": "a"}', "does not begin with"),
        (b'[{"token": "a"', "expected a JSON list"),
        (b'[{"token": "a", "name": tru}]', "Expecting value"),
        (b'[{"token": "a", "name": "b"}', "ends before its closing"),
        (b"[1, 2]", "something that is no row"),
        (b'[{"token": "\xff\xfe"}]', "no UTF-8 text"),
        (b"", "ends before its closing"),
    ],
)
def test_a_broken_file_is_named(edited: Edit, content: bytes, why: str) -> None:
    root = edited("log", lambda rows: None)
    (root / SMALL_VERSION / "attribute.json").write_bytes(content)
    found = problems(root)[0]
    assert "table attribute" in found and "near byte" in found and why in found


def test_a_git_lfs_pointer_is_named(edited: Edit) -> None:
    root = edited("log", lambda rows: None)
    (root / SMALL_VERSION / "sample_data.json").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    )
    assert "sample_data.json is a Git LFS pointer" in only_problem(root)


# What is wrong with one value

VALUES = [
    ("sample_data", "timestamp", 1700000000.25, "seems to be seconds", "multiply by 1e+06"),
    ("sample_data", "timestamp", 1700000000, "seems to be seconds", "multiply by 1e+06"),
    ("sample_data", "timestamp", 1700000000000, "seems to be milliseconds", "multiply by 1000"),
    ("sample_data", "timestamp", 1700000000000000000, "seems to be nanoseconds", "multiply by 0.001"),
    ("sample", "timestamp", 1700000000000000.0, "whole microseconds", "correct the row"),
    ("sample", "timestamp", 10**30, "whole microseconds", "correct the row"),
    ("ego_pose", "timestamp", "1700000000000000", "whole microseconds", "correct the row"),
    ("sample", "prev", None, "is null", 'write ""'),
    ("sample_data", "next", None, "is null", 'write ""'),
    ("sample_annotation", "next", None, "is null", 'write ""'),
    ("sample", "scene_token", None, "is null", "expected a token"),
    ("scene", "log_token", "", 'is ""', "expected a token"),
    ("ego_pose", "rotation", [2.0, 0.0, 0.0, 0.0], "of length 2", "w, x, y, z"),
    ("ego_pose", "rotation", [0, 0, 0, 0], "of length 0", "w, x, y, z"),
    ("ego_pose", "rotation", [1.0, 0.0, 0.0], "[1.0, 0.0, 0.0]", "w, x, y, z"),
    ("calibrated_sensor", "translation", [1.0, float("nan"), 0.0], "NaN", "three finite numbers"),
    ("calibrated_sensor", "translation", None, "null", "three finite numbers"),
    ("calibrated_sensor", "camera_intrinsic", [[1.0, 0.0], [0.0, 1.0]], "[[1.0, 0.0], [0.0, 1.0]]", "3x3"),
    ("calibrated_sensor", "camera_intrinsic", [], "is empty", "3x3"),
    ("sample_annotation", "size", [1.0, 0.0, 2.0], "[1.0, 0.0, 2.0]", "three positive"),
    ("sample_annotation", "num_lidar_pts", -1, "is -1", "at least 0"),
    ("sample_annotation", "attribute_tokens", "abc", '"abc"', "a list of tokens"),
    ("sample_data", "is_key_frame", 1, "is 1", "true or false"),
    ("sample_data", "filename", None, "is null", "expected text"),
    ("sensor", "token", "", 'is ""', "expected a token"),
]


@pytest.mark.parametrize(("table", "field", "value", "what", "expected"), VALUES)
def test_a_wrong_value_is_named(
    edited: Edit, table: str, field: str, value: object, what: str, expected: str
) -> None:
    row = json.loads((edited(table, lambda rows: None) / SMALL_VERSION / f"{table}.json").read_text())[0]
    found = problems(edited(table, set_field(0, field, value)))[0]
    label = "row 0" if field == "token" else f"row 0 (token {row['token']})"
    assert found.startswith(f"{table} {label}: {field} "), found
    assert what in found and expected in found


def test_wrong_rows_are_counted(edited: Edit) -> None:
    def to_seconds(rows: list[dict]) -> None:
        for row in rows:
            row["timestamp"] /= 1e6

    assert only_problem(edited("sample", to_seconds)).endswith("(8 such rows)")


def test_a_missing_required_field_is_named_and_an_optional_one_is_not(edited: Edit) -> None:
    edited("sample_annotation", lambda rows: [row.pop("visibility_token") for row in rows] and None)
    edited("sample_data", lambda rows: [(row.pop("prev"), row.pop("next")) for row in rows] and None)
    root = edited("scene", lambda rows: rows[1].pop("nbr_samples") and None)
    assert load(root).scene_names() == ("scene-0", "scene-1")
    found = only_problem(edited("sample", lambda rows: rows[3].pop("timestamp") and None))
    assert "sample row 3" in found and "lacks the field timestamp" in found


# What is wrong between rows


def test_duplicate_tokens_are_named(edited: Edit) -> None:
    def repeat(rows: list[dict]) -> None:
        rows.append(dict(rows[0]))

    found = problems(edited("ego_pose", repeat))[0]
    assert "ego_pose rows 0 and 28 have the same token" in found


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("calibrated_sensor", "sensor_token"),
        ("scene", "log_token"),
        ("scene", "last_sample_token"),
        ("sample", "scene_token"),
        ("sample", "next"),
        ("sample_data", "sample_token"),
        ("sample_data", "ego_pose_token"),
        ("sample_data", "calibrated_sensor_token"),
        ("instance", "category_token"),
        ("instance", "first_annotation_token"),
        ("sample_annotation", "instance_token"),
        ("sample_annotation", "visibility_token"),
    ],
)
def test_dangling_tokens_are_named(edited: Edit, table: str, field: str) -> None:
    found = only_problem(edited(table, set_field(1, field, "nowhere")))
    assert f"{table} row 1" in found and f"{field} is nowhere" in found and "add that row" in found


def test_dangling_tokens_in_lists_are_named(edited: Edit) -> None:
    found = only_problem(
        edited("sample_annotation", lambda rows: rows[0]["attribute_tokens"].append("nowhere"))
    )
    assert "sample_annotation row 0" in found and "attribute_tokens is nowhere" in found


def test_a_map_may_name_logs_that_were_cut_out(edited: Edit) -> None:
    tables = load(edited("map", lambda rows: rows[0]["log_tokens"].append("nowhere")))
    (finding,) = tables.findings
    assert "map row 0" in finding and "the log nowhere, which this set does not have" in finding


def test_a_broken_chain_is_named(edited: Edit) -> None:
    def skip_one(rows: list[dict]) -> None:
        rows[0]["next"] = rows[2]["token"]

    found = problems(edited("sample", skip_one))
    assert any("sample row 0" in s and "expected a row whose prev is this row" in s for s in found)


def test_a_chain_that_goes_back_in_time_is_named(edited: Edit) -> None:
    def swap(rows: list[dict]) -> None:
        rows[1]["timestamp"], rows[2]["timestamp"] = rows[2]["timestamp"], rows[1]["timestamp"]

    assert any("expected a row that is later" in s for s in problems(edited("sample", swap)))


def test_a_chain_into_another_scene_is_named(edited: Edit) -> None:
    def join(rows: list[dict]) -> None:
        rows[3]["next"], rows[4]["prev"] = rows[4]["token"], rows[3]["token"]

    assert any("expected a row of the same scene" in s for s in problems(edited("sample", join)))


def test_a_cut_chain_is_named(edited: Edit) -> None:
    def cut(rows: list[dict]) -> None:
        rows[1]["next"] = rows[2]["prev"] = ""

    assert any("(scene-0): its 4 samples form 2 chains" in s for s in problems(edited("sample", cut)))


def test_wrong_counts_and_ends_are_named(edited: Edit) -> None:
    samples = json.loads((edited("log", lambda rows: None) / SMALL_VERSION / "sample.json").read_text())
    edited("scene", set_field(0, "nbr_samples", 39))
    edited("scene", set_field(1, "first_sample_token", samples[5]["token"]))
    found = problems(edited("instance", set_field(0, "nbr_annotations", 2)))
    assert any("nbr_samples is 39 but 4 samples name this scene" in s for s in found)
    assert any("first_sample_token" in s and "which has a prev" in s for s in found)
    assert any("nbr_annotations is 2 but 4 annotations name it" in s for s in found)


def test_repeated_scene_names_are_named(edited: Edit) -> None:
    found = only_problem(edited("scene", set_field(1, "name", "scene-0")))
    assert "scene row 1 (scene-0) has the name of row 0" in found


def test_two_recordings_of_a_sensor_in_one_keyframe_are_named(edited: Edit) -> None:
    def make_key(rows: list[dict]) -> None:
        next(row for row in rows if not row["is_key_frame"])["is_key_frame"] = True

    assert "both the keyframe recording of CAM_FRONT" in only_problem(edited("sample_data", make_key))


def test_all_problems_are_collected_in_one_error(edited: Edit) -> None:
    edited("sample", set_field(0, "timestamp", 5))
    found = problems(edited("ego_pose", set_field(0, "rotation", [1, 1, 1, 1])))
    assert len(found) == 2
