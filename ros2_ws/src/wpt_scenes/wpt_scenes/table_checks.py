"""Checks across rows and tables: tokens unique and resolved, chains whole, counts true."""

from __future__ import annotations

from collections.abc import Mapping, Sized

import numpy as np

from wpt_scenes.indexed_table import IndexedTable
from wpt_scenes.schema import KNOWN_CATEGORIES, KNOWN_CATEGORY_PREFIXES, SCHEMA, Kind
from wpt_scenes.token_keys import NO_TOKEN

Tables = Mapping[str, IndexedTable]

# A sensor's keyframe recording may come after the sample's own stamp, and its last sweep before that with it.
_SWEEP_TOLERANCE_US = 100_000


def structure_problems(tables: Tables) -> list[str]:
    """Return one sentence for each kind of thing that is wrong across rows; all 13 tables must be given."""
    problems = [sentence for name in SCHEMA for sentence in _repeated_tokens(tables[name])]
    problems += _dangling_tokens(tables)
    if (
        problems
    ):  # Chains and counts are read through tokens: with broken ones they would only repeat the above.
        return problems
    owners = _owners(tables)
    for name in ("sample", "sample_data", "sample_annotation"):
        problems += _broken_links(tables[name], owners[name])
    if not problems:
        problems += _scene_problems(tables) + _instance_problems(tables)
    return problems + _keyframe_problems(tables) + _camera_problems(tables)


def oddities(tables: Tables) -> list[str]:
    """Return sentences on what is allowed and yet worth knowing."""
    return (
        _unknown_categories(tables)
        + _logs_of_other_sets(tables)
        + _logs_without_map(tables)
        + _misplaced_sweeps(tables)
    )


def _repeated_tokens(table: IndexedTable) -> list[str]:
    keys = table.columns["token"]
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero((keys[order][1:] == keys[order][:-1]) & (keys[order][1:] != NO_TOKEN))
    repeated = []
    for at in again:
        first, second = table.rows_at(order[at : at + 2])
        if first["token"] == second["token"]:
            repeated.append((int(order[at]), int(order[at + 1]), first["token"]))
        if len(repeated) == 1:
            break
    if not repeated:
        return []
    first, second, token = repeated[0]
    more = f" ({len(again)} such pairs)" if len(again) > 1 else ""
    return [
        f"{table.name} rows {first} and {second} have the same token {token}, expected unique tokens; "
        f"remove or rename one{more}"
    ]


def _dangling_tokens(tables: Tables) -> list[str]:
    problems = []
    for name, fields in SCHEMA.items():
        table = tables[name]
        for field in fields:
            if (name, field.name) == ("map", "log_tokens"):
                continue  # Cut-out sets keep the whole list; see _logs_of_other_sets.
            if field.kind is Kind.REFERENCES:
                keys, rows = table.lists[field.name]
            elif field.table:
                keys, rows = table.columns[field.name], np.arange(len(table))
            else:
                continue
            dangling = np.flatnonzero((tables[field.table].positions(keys) < 0) & (keys != NO_TOKEN))
            if dangling.size == 0:
                continue
            row = table.rows_at([rows[dangling[0]]])[0]
            value = row[field.name]
            if field.kind is Kind.REFERENCES:
                value = next(token for token in value if tables[field.table].number_of(token) is None)
            problems.append(
                f"{name} row {rows[dangling[0]]} (token {row['token']}): {field.name} is {value}, expected "
                "the token "
                f"of a row in {field.table}; add that row or correct the token{_such_rows(dangling)}"
            )
    return problems


def _owners(tables: Tables) -> dict[str, tuple[np.ndarray, np.ndarray, str]]:
    """For each chained table: what all members of a chain share, their stamps, and how to name the former."""
    sample, data, annotation = tables["sample"], tables["sample_data"], tables["sample_annotation"]
    sensor_of = tables["calibrated_sensor"].columns["sensor_token"]
    calibration = tables["calibrated_sensor"].positions(data.columns["calibrated_sensor_token"])
    stamp_of = sample.columns["timestamp"]
    return {
        "sample": (sample.columns["scene_token"], stamp_of, "scene"),
        "sample_data": (_taken(sensor_of, calibration), data.columns["timestamp"], "sensor"),
        "sample_annotation": (
            annotation.columns["instance_token"],
            _taken(stamp_of, sample.positions(annotation.columns["sample_token"])),
            "instance",
        ),
    }


def _broken_links(table: IndexedTable, owner: tuple[np.ndarray, np.ndarray, str]) -> list[str]:
    """Check that next and prev answer each other, stay with one owner, and go forward in time."""
    shared, stamps, what = owner
    keys = table.columns["token"]
    problems = []
    for there, back in (("next", "prev"), ("prev", "next")):
        linked = np.flatnonzero(table.columns[there] != NO_TOKEN)
        target = table.positions(table.columns[there][linked])
        sign = 1 if there == "next" else -1
        for bad, expected in (
            (table.columns[back][target] != keys[linked], f"whose {back} is this row"),
            (shared[target] != shared[linked], f"of the same {what}"),
            (
                (stamps[target] - stamps[linked]) * sign <= 0,
                "that is later" if sign > 0 else "that is earlier",
            ),
        ):
            wrong = linked[bad]
            if wrong.size:
                row = table.rows_at([wrong[0]])[0]
                problems.append(
                    f"{table.name} row {wrong[0]} (token {row['token']}): {there} is {row[there]}, "
                    "expected a row "
                    f"{expected}; repair the chain{_such_rows(wrong)}"
                )
                break
    return problems


def _scene_problems(tables: Tables) -> list[str]:
    """Check that each scene's samples form one chain from its first to its last, as many as it says."""
    scene, sample = tables["scene"], tables["sample"]
    problems = []
    names: dict[str, int] = {}
    of_scene = scene.positions(sample.columns["scene_token"])
    counts = np.bincount(of_scene, minlength=len(scene))
    heads = np.bincount(of_scene[sample.columns["prev"] == NO_TOKEN], minlength=len(scene))
    for number, row in enumerate(scene.rows_at(range(len(scene)))):
        label = f"scene row {number} ({row['name']})"
        if row["name"] in names:
            problems.append(
                f"{label} has the name of row {names[row['name']]}, expected unique names; rename one"
            )
        names.setdefault(row["name"], number)
        first, last = sample.number_of(row["first_sample_token"]), sample.number_of(row["last_sample_token"])
        for field, at, end in (("first_sample_token", first, "prev"), ("last_sample_token", last, "next")):
            if of_scene[at] != number:
                problems.append(f"{label}: {field} is a sample of another scene; correct the token")
            elif sample.columns[end][at] != NO_TOKEN:
                problems.append(
                    f"{label}: {field} is {row[field]}, which has a {end}, expected the end of the chain; "
                    "correct it"
                )
        if counts[number] and heads[number] != 1:
            problems.append(
                f"{label}: its {counts[number]} samples form {heads[number]} chains, expected one; "
                "repair prev and next of its samples"
            )
        said = row.get("nbr_samples")
        if said is not None and said != counts[number]:
            problems.append(
                f"{label}: nbr_samples is {said} but {counts[number]} samples name this scene; "
                "correct the number or add the missing samples"
            )
    return problems


def _instance_problems(tables: Tables) -> list[str]:
    instance, annotation = tables["instance"], tables["sample_annotation"]
    of_instance = instance.positions(annotation.columns["instance_token"])
    counts = np.bincount(of_instance, minlength=len(instance))
    problems = []
    said = instance.columns["nbr_annotations"]
    wrong = np.flatnonzero((said >= 0) & (said != counts))
    if wrong.size:
        row = instance.rows_at([wrong[0]])[0]
        problems.append(
            f"instance row {wrong[0]} (token {row['token']}): nbr_annotations is {row['nbr_annotations']} "
            "but "
            f"{counts[wrong[0]]} annotations name it; correct the number{_such_rows(wrong)}"
        )
    for field, end in (("first_annotation_token", "prev"), ("last_annotation_token", "next")):
        given = np.flatnonzero(instance.columns[field] != NO_TOKEN)
        at = annotation.positions(instance.columns[field][given])
        wrong = given[(of_instance[at] != given) | (annotation.columns[end][at] != NO_TOKEN)]
        if wrong.size:
            row = instance.rows_at([wrong[0]])[0]
            problems.append(
                f"instance row {wrong[0]} (token {row['token']}): {field} is {row[field]}, expected its "
                "own annotation "
                f"without {end}; correct the token{_such_rows(wrong)}"
            )
    return problems


def _keyframe_problems(tables: Tables) -> list[str]:
    """Check that no sensor has two recordings in one keyframe."""
    data = tables["sample_data"]
    key_rows = np.flatnonzero(data.columns["is_key_frame"])
    sample = tables["sample"].positions(data.columns["sample_token"][key_rows])
    calibration = tables["calibrated_sensor"].positions(data.columns["calibrated_sensor_token"][key_rows])
    sensor_keys = _taken(tables["calibrated_sensor"].columns["sensor_token"], calibration)
    sensor = tables["sensor"].positions(sensor_keys)
    pairs = sample * max(len(tables["sensor"]), 1) + sensor
    order = np.argsort(pairs, kind="stable")
    again = np.flatnonzero(pairs[order][1:] == pairs[order][:-1])
    if again.size == 0:
        return []
    first, second = (int(key_rows[order[again[0] + i]]) for i in (0, 1))
    channel = tables["sensor"].rows_at([sensor[order[again[0]]]])[0]["channel"]
    return [
        f"sample_data rows {first} and {second} are both the keyframe recording of {channel} in one "
        "sample, expected "
        f"one; set is_key_frame false in the sweep{_such_rows(again)}"
    ]


def _camera_problems(tables: Tables) -> list[str]:
    """Check that cameras have intrinsics."""
    sensors = tables["sensor"].rows_at(range(len(tables["sensor"])))
    of_sensor = tables["sensor"].positions(tables["calibrated_sensor"].columns["sensor_token"])
    problems = []
    for number, row in enumerate(tables["calibrated_sensor"].rows_at(range(len(of_sensor)))):
        sensor = sensors[of_sensor[number]]
        if sensor["modality"] == "camera" and not row["camera_intrinsic"]:
            problems.append(
                f"calibrated_sensor row {number} (token {row['token']}): camera_intrinsic of "
                f"{sensor['channel']} is "
                "empty, expected a 3x3 matrix; fill it in"
            )
    return [f"{problems[0]}{_such_rows(problems)}"] if problems else []


def _unknown_categories(tables: Tables) -> list[str]:
    names = [row["name"] for row in tables["category"].rows_at(range(len(tables["category"])))]
    unknown = [n for n in names if n not in KNOWN_CATEGORIES and not n.startswith(KNOWN_CATEGORY_PREFIXES)]
    if not unknown:
        return []
    return [
        f"category has names outside the nuScenes list: {', '.join(sorted(unknown))}; metrics that choose "
        "objects by "
        "category leave them out"
    ]


def _logs_of_other_sets(tables: Tables) -> list[str]:
    keys, rows = tables["map"].lists["log_tokens"]
    absent = np.flatnonzero(tables["log"].positions(keys) < 0)
    if absent.size == 0:
        return []
    row = tables["map"].rows_at([rows[absent[0]]])[0]
    token = next(token for token in row["log_tokens"] if tables["log"].number_of(token) is None)
    return [
        f"map row {rows[absent[0]]} (token {row['token']}) names the log {token}, which this set does not "
        "have"
        f"{_such_rows(absent)}"
    ]


def _logs_without_map(tables: Tables) -> list[str]:
    mapped, _ = tables["map"].lists["log_tokens"]
    without = np.flatnonzero(~np.isin(tables["log"].columns["token"], mapped))
    if without.size == 0:
        return []
    names = [row.get("logfile", row["token"]) for row in tables["log"].rows_at(without[:3])]
    return [
        f"no map names the log {', '.join(names)}{_such_rows(without)}: its drivable area is unknown, and "
        "nuscenes-devkit refuses the set"
    ]


def _misplaced_sweeps(tables: Tables) -> list[str]:
    """A sweep belongs to the NEXT keyframe: the devkit interpolates its boxes from that and its prev."""
    data, sample = tables["sample_data"], tables["sample"]
    sweeps = np.flatnonzero(~data.columns["is_key_frame"])
    owner = sample.positions(data.columns["sample_token"][sweeps])
    late = (
        data.columns["timestamp"][sweeps] > _taken(sample.columns["timestamp"], owner) + _SWEEP_TOLERANCE_US
    )
    late &= _taken(sample.columns["next"], owner) != NO_TOKEN
    wrong = sweeps[late]
    if wrong.size == 0:
        return []
    row = data.rows_at([wrong[0]])[0]
    return [
        f"sample_data row {wrong[0]} (token {row['token']}) is a sweep that is later than its sample, "
        "while nuScenes "
        f"gives a sweep to the next keyframe: boxes interpolated for it are off{_such_rows(wrong)}"
    ]


def _taken(column: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return column[rows]; an empty table has nothing to take from."""
    return column[rows] if len(column) else np.zeros(len(rows), dtype=np.int64)


def _such_rows(rows: Sized) -> str:
    return f" ({len(rows)} such rows)" if len(rows) > 1 else ""
