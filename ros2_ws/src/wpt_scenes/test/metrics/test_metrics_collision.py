"""Every collision variant beside one box whose cells are drawn by hand.

LIDAR_TOP is 1 m ahead of base_link here. Cells of the 0.5 m grids: an object from a to b metres is drawn into cells
round(2 a + 100) to round(2 b + 100), both ends filled; the standing ego covers cells 97 to 104 ahead and 98 to 101
aside, whose first cell begins at -50 m.
"""

from __future__ import annotations

import numpy as np
import pytest
from wpt_policy import se3
from wpt_scenes.metrics import EgoFootprint, Jitter, evaluate_predictions
from wpt_scenes.truth import NUM_STEPS

NO_JITTER = Jitter(draws=0)
KEYFRAMES = 9
ALL_FOUR_RASTERS = ("collision_uniad", "collision_vad", "collision_stp3", "collision_occwd")


def stop_entry(scenes, boxes, *, jitter: Jitter = NO_JITTER, footprint: EgoFootprint | None = None) -> dict:
    """Collisions of an ego that stands still and plans to, at keyframe 2 of 9 (the one that every variant judges)."""
    samples = scenes.straight(keyframes=KEYFRAMES, step_m=0.0, boxes=boxes)
    report = evaluate_predictions(samples[2:3], [], jitter=jitter, footprint=footprint)
    return report["planners"]["stop"]["collision"]


def hit(entry: dict, name: str) -> bool:
    hits = entry[name]["box_with_truth_hits"]["hits_per_step"]
    assert len(set(hits)) == 1  # a box that never moves
    return hits[0] == 1


# Where the near edge of a box straight ahead begins to count, in metres ahead of LIDAR_TOP (base_link for ST-P3 too).
@pytest.mark.parametrize(
    ("name", "free_from_m", "hits_until_m", "lever_m"),
    [
        # Ego front 1.485793 + 2.042 = 3.527793 m ahead of base_link.
        ("collision_exact", 3.5279, 3.5277, 0.0),
        # Cell 104 is the last: round(2 a + 100) <= 104 up to a = 2.25 (half to even), 2.26 gives 105.
        ("collision_uniad", 2.26, 2.25, 1.0),
        ("collision_occwd", 2.26, 2.25, 1.0),
        # Rows run backwards: round(100 - 2 a) >= 96 up to 2.25 (95.5 rounds to 96).
        ("collision_vad", 2.26, 2.25, 1.0),
        # As UniAD, but the objects are drawn around base_link while the path stays LIDAR_TOP's.
        ("collision_stp3", 2.26, 2.25, 0.0),
        # Exact: front 0.5 + 2.042 = 2.542 m ahead of LIDAR_TOP.
        ("collision_sparsedrive", 2.543, 2.541, 1.0),
        # Cells 494 to 534 of 0.1 m from -49.95 m, cut: cell 535 begins at 3.55 m ahead of base_link.
        ("collision_bevplanner", 3.551, 3.549, 0.0),
    ],
)
def test_box_ahead(scenes, box_at, name, free_from_m, hits_until_m, lever_m) -> None:
    for edge, expected in ((free_from_m, False), (hits_until_m, True)):
        box = box_at(x=edge + lever_m + 1.0, y=0.0)
        assert hit(stop_entry(scenes, scenes.everywhere(box, KEYFRAMES)), name) is expected, edge


@pytest.mark.parametrize(
    ("name", "free_from_m", "hits_until_m"),
    [
        ("collision_exact", 0.926, 0.924),
        # UniAD: columns to the right. Right: round(2 a + 100) <= 101 up to 0.7; left: >= 98 up to 1.25 (97.5 to 98).
        ("collision_uniad", 1.26, 1.25),
        ("collision_occwd", 1.26, 1.25),
        ("collision_vad", 1.26, 1.25),
        # ST-P3's columns run to the left.
        ("collision_stp3", 0.76, 0.74),
        ("collision_sparsedrive", 0.926, 0.924),
        # Columns 491 to 508 of 0.1 m; the cell cut from a is 508 below 0.95 m.
        ("collision_bevplanner", 0.951, 0.949),
    ],
)
def test_box_to_the_left(scenes, box_at, name, free_from_m, hits_until_m) -> None:
    for edge, expected in ((free_from_m, False), (hits_until_m, True)):
        box = box_at(x=1.5, y=edge + 1.0)
        assert hit(stop_entry(scenes, scenes.everywhere(box, KEYFRAMES)), name) is expected, edge


@pytest.mark.parametrize("name", ["collision_uniad", "collision_vad", "collision_occwd"])
def test_box_to_the_right_counts_half_a_metre_later(scenes, box_at, name) -> None:
    for edge, expected in ((0.76, False), (0.74, True)):
        box = box_at(x=1.5, y=-edge - 1.0)
        assert hit(stop_entry(scenes, scenes.everywhere(box, KEYFRAMES)), name) is expected, edge


def test_object_centre_point(scenes, box_at) -> None:
    """The point test of UniAD, ST-P3 and OccWD4E2E reads the cell of the path point: (0 + 49.75) / 0.5 = 99.5, cut 99."""
    # Drawn cells of a box from -0.3 to 1.7 m ahead of LIDAR_TOP: 99 (round 99.4) to 103.
    entry = stop_entry(scenes, scenes.everywhere(box_at(x=1.7, y=0.0), KEYFRAMES))
    assert entry["collision_uniad"]["truth"]["hits_per_step"] == [1] * 6
    # Truth stands there too, so that nothing is left to count.
    assert entry["collision_uniad"]["centre"]["hits_per_step"] == [0] * 6
    # With truth elsewhere the point counts: the ego drives on, the plan stops, a box stands where the plan does.
    samples = scenes.straight(
        keyframes=KEYFRAMES, step_m=10.0, boxes=scenes.everywhere(box_at(x=21.7, y=0.0), KEYFRAMES)
    )
    entry = evaluate_predictions(samples[2:3], [], jitter=NO_JITTER)["planners"]["stop"]["collision"]
    assert entry["collision_uniad"]["centre"]["hits_per_step"] == [1] * 6
    assert entry["collision_occwd"]["centre"]["hits_per_step"] == [1] * 6
    assert (
        entry["collision_bevplanner"]["centre"]["hits_per_step"] == [0] * 6
    )  # base_link is 0.7 m behind the box
    assert entry["collision_vad"]["centre"]["hits_per_step"] == [0] * 6  # 25 m away from what it reads
    assert entry["collision_exact"]["centre"] is None


def test_vad_reads_its_centre_point_25_m_away(scenes, box_at) -> None:
    # Cell (49, 49): rows 99.5 - 2 * 24.875, so 25 m ahead of LIDAR_TOP and 25 m to the left; VAD's range ends at 15 m
    # aside, hence a box that is 22 m wide.
    samples = scenes.straight(
        keyframes=KEYFRAMES,
        step_m=10.0,
        boxes=scenes.everywhere(box_at(x=20.0 + 26.0, y=14.5, width=22.0), KEYFRAMES),
    )
    entry = evaluate_predictions(samples[2:3], [], jitter=NO_JITTER)["planners"]["stop"]["collision"]
    assert entry["collision_vad"]["centre"]["hits_per_step"] == [1] * 6
    assert entry["collision_uniad"]["centre"]["hits_per_step"] == [0] * 6


@pytest.mark.parametrize(
    ("category", "counted_by"),
    [
        ("vehicle.car", {"exact", "uniad", "vad", "stp3", "occwd", "sparsedrive", "bevplanner"}),
        ("vehicle.bicycle", {"exact", "uniad", "vad", "stp3", "occwd", "sparsedrive", "bevplanner"}),
        ("vehicle.emergency.police", {"exact", "stp3", "occwd", "sparsedrive"}),
        ("human.pedestrian.adult", {"exact", "vad", "stp3", "occwd", "sparsedrive"}),
        ("human.pedestrian.stroller", {"exact", "stp3", "occwd", "sparsedrive"}),
        ("movable_object.barrier", {"sparsedrive"}),
        ("animal", {"sparsedrive"}),
    ],
)
def test_classes(scenes, box_at, category, counted_by) -> None:
    entry = stop_entry(scenes, scenes.everywhere(box_at(x=2.0, y=0.0, category=category), KEYFRAMES))
    assert {name.removeprefix("collision_") for name in entry if hit(entry, name)} == counted_by


def test_objects_without_lidar_points(scenes, box_at) -> None:
    unseen = box_at(x=2.0, y=0.0, lidar_points=0, radar_points=1)
    entry = stop_entry(scenes, scenes.everywhere(unseen, KEYFRAMES))
    assert {name for name in entry if not hit(entry, name)} == {
        "collision_vad", "collision_sparsedrive", "collision_at_fault",  # the ego stands
    }  # fmt: skip
    neither = box_at(x=2.0, y=0.0, lidar_points=0, radar_points=0)
    entry = stop_entry(scenes, scenes.everywhere(neither, KEYFRAMES))
    assert not hit(entry, "collision_bevplanner")
    unknown = box_at(x=2.0, y=0.0, lidar_points=None, radar_points=None)
    entry = stop_entry(scenes, scenes.everywhere(unknown, KEYFRAMES))
    assert all(hit(entry, name) for name in entry if name != "collision_at_fault")


def test_vad_and_stp3_count_only_what_is_known_by_now(scenes, box_at) -> None:
    """A box that is annotated from keyframe 4 on: unknown at keyframe 2."""
    late = {keyframe: [box_at(x=2.0, y=0.0)] for keyframe in range(4, KEYFRAMES)}
    entry = stop_entry(scenes, late)
    hits = {name: entry[name]["box_with_truth_hits"]["hits_per_step"] for name in entry}
    assert hits["collision_vad"] == [0] * 6
    assert hits["collision_stp3"] == [0] * 6
    for name in ("collision_exact", "collision_uniad", "collision_occwd", "collision_sparsedrive"):
        assert hits[name] == [0, 1, 1, 1, 1, 1]


def test_stp3_remembers_what_was_visible_one_second_ago(scenes, box_at) -> None:
    for seen_at, expected in ((0, True), (1, True), (2, True), (3, False)):
        boxes = {
            keyframe: [box_at(x=2.0, y=0.0, visibility=4 if keyframe == seen_at else 1)]
            for keyframe in range(KEYFRAMES)
        }
        assert hit(stop_entry(scenes, boxes), "collision_stp3") is expected, seen_at


def test_vad_forgets_objects_beyond_its_range_now(scenes, box_at) -> None:
    # At keyframe 2 the box is 31 m ahead of LIDAR_TOP; later it is where the plan stands.
    boxes = {keyframe: [box_at(x=32.0 if keyframe <= 2 else 2.0, y=0.0)] for keyframe in range(KEYFRAMES)}
    entry = stop_entry(scenes, boxes)
    assert not hit(entry, "collision_vad")
    assert hit(entry, "collision_uniad")


def test_vad_follows_annotations_not_keyframes(scenes, box_at) -> None:
    """Keyframe 4 lacks the box: VAD's step 2 is the annotation of keyframe 5 and its step 6 there is none."""
    boxes = {keyframe: [box_at(x=2.0, y=0.0)] for keyframe in range(KEYFRAMES) if keyframe != 4}
    entry = stop_entry(scenes, boxes)
    assert entry["collision_vad"]["box_with_truth_hits"]["hits_per_step"] == [1, 1, 1, 1, 1, 0]
    assert entry["collision_uniad"]["box_with_truth_hits"]["hits_per_step"] == [1, 0, 1, 1, 1, 1]


def test_heading_turns_the_exact_footprint_and_no_raster_of_the_first_three(scenes, box_at) -> None:
    """The plan turns left onto y: at (0, 6) the car points along y, 2 x 4 m instead of 4 x 2."""
    # A box 1.9 to 2.9 m to the right of the path: inside a footprint that points along x, outside one along y.
    corner = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0], [0.0, 5.0], [0.0, 6.0]])
    box = box_at(x=2.4, y=7.0, length=1.0, width=0.5)
    samples = scenes.straight(keyframes=KEYFRAMES, step_m=0.0, boxes=scenes.everywhere(box, KEYFRAMES))
    report = evaluate_predictions(samples[2:3], [scenes.predictions(samples[2:3], corner)], jitter=NO_JITTER)
    entry = report["planners"]["planner"]["collision"]
    assert entry["collision_exact"]["box"]["hits_per_step"][5] == 0
    assert entry["collision_sparsedrive"]["box"]["hits_per_step"][5] == 0
    assert entry["collision_bevplanner"]["box"]["hits_per_step"][5] == 0
    # LIDAR_TOP of the turned car stands at (0, 7), in its first frame (x right, y forward) at (-7, -1): cells 97 - 2 to
    # 104 - 2 ahead and 98 - 14 to 101 - 14 aside. The box there is 0.9 to 1.9 ahead (102 to 104), -7.25 to -6.75 aside (86).
    assert entry["collision_uniad"]["box"]["hits_per_step"][5] == 1


def test_truth_hits_are_left_out_and_printed(scenes, box_at) -> None:
    """Both plan and truth stand in the box at steps 1 to 6: published rates are 0, truth's own 1."""
    entry = stop_entry(scenes, scenes.everywhere(box_at(x=2.0, y=0.0), KEYFRAMES))
    for name, variant in entry.items():
        assert variant["box"]["hits_per_step"] == [0] * 6
        assert variant["box"]["at_step"]["avg"] == 0.0
        assert variant["truth"]["hits_per_step"] == [1] * 6
        if name == "collision_at_fault":  # who stands is not to blame
            assert variant["box_with_truth_hits"]["per_step"] == [0.0] * 6
            continue
        assert variant["box_with_truth_hits"]["per_step"] == [1.0] * 6


def test_rates_and_averagings_of_a_hand_counted_scene(scenes, box_at) -> None:
    """The ego drives 10 m a step and the plan stops; a box enters the plan's place at keyframe 6 and stays.

    Sample i (at 10 i) stops at 10 i. The box stands at 20 + 2 m from keyframe 6 on: only sample 2 stops there, at
    steps 4, 5, 6 (keyframes 6, 7, 8). Truth of sample 2 is 40 m further by then.
    """
    boxes = {keyframe: [box_at(x=22.0, y=0.0)] for keyframe in range(6, KEYFRAMES)}
    samples = scenes.straight(keyframes=KEYFRAMES, step_m=10.0, boxes=boxes)
    entry = evaluate_predictions(samples, [], jitter=NO_JITTER)["planners"]["stop"]["collision"]
    exact = entry["collision_exact"]
    assert exact["counted_per_step"] == [8, 7, 6, 5, 4, 3]
    assert exact["box"]["hits_per_step"] == [0, 0, 0, 1, 1, 1]
    assert exact["box"]["per_step"] == pytest.approx([0, 0, 0, 1 / 5, 1 / 4, 1 / 3])
    assert exact["box"]["at_step"] == pytest.approx({"1s": 0, "2s": 1 / 5, "3s": 1 / 3, "avg": 8 / 45})
    uniad = entry["collision_uniad"]
    assert uniad["samples"] == 9
    assert uniad["box"]["at_step"] == pytest.approx({"1s": 0, "2s": 1 / 9, "3s": 1 / 9, "avg": 2 / 27})
    bevplanner = entry["collision_bevplanner"]
    assert bevplanner["samples"] == 3
    assert bevplanner["box"]["any_until"] == pytest.approx({"1s": 0, "2s": 1 / 3, "3s": 1 / 3, "avg": 2 / 9})
    occwd = entry["collision_occwd"]
    assert occwd["samples"] == 2
    assert occwd["box"]["per_step"] == pytest.approx([0, 0, 0, 1 / 2, 1 / 2, 1 / 2])
    sparsedrive = entry["collision_sparsedrive"]
    assert sparsedrive["box"]["over_time"] == pytest.approx(
        {"1s": 0, "2s": 1 / 12, "3s": 3 / 18, "avg": (1 / 12 + 1 / 6) / 3}
    )


def test_stp3_draws_future_objects_around_the_future_ego_and_warps_them_back(scenes, box_at) -> None:
    """A bend: the future ego stands elsewhere and turned, the box does not move, the plan stops beside it."""
    for turn in (-0.3, 0.0, 0.3):
        arc = se3.planar(2.0 * np.cos(turn / 2), 2.0 * np.sin(turn / 2), turn)
        poses = [np.eye(4)]
        for _ in range(KEYFRAMES - 1):
            poses.append(poses[-1] @ arc)
        # In base_link of keyframe 2, well inside the ego's cells (97..104 around base_link).
        place = poses[2] @ se3.planar(1.0, 0.0, 0.0)
        box = box_at(x=float(place[0, 3]), y=float(place[1, 3]), length=2.0, width=1.0)
        samples = scenes.along(poses, boxes=scenes.everywhere(box, KEYFRAMES))
        entry = evaluate_predictions(samples[2:3], [], jitter=NO_JITTER)["planners"]["stop"]["collision"]
        assert entry["collision_stp3"]["box_with_truth_hits"]["hits_per_step"] == [1] * 6, turn


def test_stp3_warps_a_sidestep_to_the_wrong_side(scenes, box_at) -> None:
    """An ego that slides 2 m to the left each step without turning: the box comes back 4 m a step to the right."""
    poses = [se3.planar(0.0, 2.0 * keyframe, 0.0) for keyframe in range(KEYFRAMES)]
    box = box_at(x=1.0, y=4.0, length=2.0, width=1.0)
    samples = scenes.along(poses, boxes=scenes.everywhere(box, KEYFRAMES))
    entry = evaluate_predictions(samples[2:3], [], jitter=NO_JITTER)["planners"]["stop"]["collision"]
    assert entry["collision_uniad"]["box_with_truth_hits"]["hits_per_step"] == [1] * 6
    assert entry["collision_stp3"]["box_with_truth_hits"]["hits_per_step"] == [0] * 6


def test_far_beyond_the_grid_the_ego_is_moved_to_its_border(scenes, box_at) -> None:
    """Cells are clipped into the grid: a plan that ends 200 m ahead meets what stands at the grid's border."""
    box = box_at(x=1.0 + 49.9, y=0.0)  # cells 198 to 202 of 199 ahead of LIDAR_TOP
    samples = scenes.straight(keyframes=KEYFRAMES, step_m=0.0, boxes=scenes.everywhere(box, KEYFRAMES))
    far = np.stack([np.linspace(40, 200, NUM_STEPS), np.zeros(NUM_STEPS)], axis=-1)
    report = evaluate_predictions(samples[2:3], [scenes.predictions(samples[2:3], far)], jitter=NO_JITTER)
    entry = report["planners"]["planner"]["collision"]
    assert entry["collision_uniad"]["box"]["hits_per_step"][-1] == 1
    assert entry["collision_exact"]["box"]["hits_per_step"][-1] == 0


def test_jitter_shows_a_rate_that_hangs_by_a_centimetre(scenes, box_at) -> None:
    """A box whose edge lies exactly at the footprint: half of the draws hit."""
    box = box_at(x=1.485793 + 2.042 + 1.0, y=0.0)
    boxes = {keyframe: [box] for keyframe in range(3, KEYFRAMES)}
    samples = scenes.straight(keyframes=KEYFRAMES, step_m=10.0, boxes=boxes)[:1]
    entry = evaluate_predictions(samples, [], jitter=Jitter(draws=200))["planners"]["stop"]["collision"]
    spread = entry["collision_exact"]["jitter"]["3s"]
    assert 0.3 < spread["mean"] < 0.7
    assert spread["spread"] == pytest.approx(np.sqrt(spread["mean"] * (1 - spread["mean"])))
    assert (spread["min"], spread["max"]) == (0.0, 1.0)
    again = evaluate_predictions(samples, [], jitter=Jitter(draws=200))["planners"]["stop"]["collision"]
    assert again["collision_exact"]["jitter"] == entry["collision_exact"]["jitter"]
    still = evaluate_predictions(samples, [], jitter=Jitter(draws=3, sigma_m=0.0))["planners"]["stop"][
        "collision"
    ]
    for variant in still.values():
        if variant["samples"]:
            assert variant["jitter"]["avg"]["spread"] == 0.0
        else:
            assert variant["jitter"]["avg"] is None


def test_jitter_of_a_sample_does_not_depend_on_its_company() -> None:
    jitter = Jitter(draws=4, seed=7)
    alone, together = jitter.noise(["b"]), jitter.noise(["a", "b"])
    assert np.array_equal(alone[0], together[1])
    assert not np.array_equal(together[0], together[1])
    assert jitter.noise([]).shape == (0, 4, NUM_STEPS, 2)


def test_overlapping_objects_do_not_cancel(scenes, box_at) -> None:
    pair = [box_at(x=2.0, y=0.0), box_at(x=2.0, y=0.0, instance="two")]
    entry = stop_entry(scenes, {keyframe: pair for keyframe in range(KEYFRAMES)})
    assert all(hit(entry, name) for name in ALL_FOUR_RASTERS)


def test_another_footprint_moves_our_own_test_alone(scenes, box_at) -> None:
    boxes = scenes.everywhere(box_at(x=5.5, y=0.0), KEYFRAMES)
    long = EgoFootprint(length_m=6.0, width_m=2.0, centre_ahead_m=2.0)
    assert hit(stop_entry(scenes, boxes, footprint=long), "collision_exact")
    assert not hit(stop_entry(scenes, boxes), "collision_exact")
