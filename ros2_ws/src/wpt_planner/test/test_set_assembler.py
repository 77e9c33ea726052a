"""Contract of SetAssembler: what a set is, when it is closed, and the one outcome that every image gets."""

from __future__ import annotations

import itertools
import threading
from collections import Counter

import pytest
from wpt_planner.set_assembler import (
    ClockJump,
    CloseReason,
    ImageOutcome,
    Outcome,
    SetAssembler,
    SetReady,
    UnknownCameraError,
)

MS = 1_000_000
START = 1_600_000_000_000_000_000

# nuScenes, measured: mean offsets to the LIDAR_TOP stamp -43, -35, -27, -20, -10, 0 ms.
NUSCENES = {
    "cam_front": 8,
    "cam_front_right": 16,
    "cam_back_right": 23,
    "cam_back": 33,
    "cam_back_left": 43,
    "cam_front_left": 0,
}
CAMERAS = tuple(NUSCENES)


class Feed:
    """Drives an assembler, collects its events and holds them against the contract."""

    def __init__(self, cameras=CAMERAS, **settings):
        self.assembler = SetAssembler(cameras, **{"max_skew_ns": 60 * MS, "timeout_ns": 100 * MS, **settings})
        self.events = []
        self.added = Counter()
        self.now = 0

    def add(self, camera, stamp, item=None, now=None):
        self.now = self.now if now is None else now
        self.added[camera, stamp, item] += 1
        return self._took(self.assembler.add(camera, stamp, item, self.now))

    def poll(self, now):
        self.now = now
        return self._took(self.assembler.poll(now))

    def reset(self, keep=None):
        self.events.append("reset")
        return self._took(self.assembler.reset(self.now, keep))

    def _took(self, events):
        self.events.extend(events)
        return events

    def cycle(self, number, *, period=83_333_333, without=(), offsets=NUSCENES, shift=0):
        """One cycle of the rig, each image arriving 5 ms after its stamp."""
        for camera, offset in sorted(offsets.items(), key=lambda entry: entry[1]):
            if camera not in without:
                stamp = START + number * period + offset * MS
                self.add(camera, stamp, number, stamp - START + 5 * MS + shift)

    @property
    def sets(self):
        return [event.camera_set for event in self.events if isinstance(event, SetReady)]

    def outcomes(self):
        return [event for event in self.events if isinstance(event, ImageOutcome)]

    def of(self, outcome):
        return [event for event in self.outcomes() if event.outcome is outcome]

    def check(self):
        """Every image has one outcome; sets are in order, share no image and keep the bound."""
        self.reset()
        assert Counter((event.camera, event.stamp_ns, event.item) for event in self.outcomes()) == self.added
        used = Counter()
        newest = None
        for event in self.events:
            if event == "reset" or isinstance(event, ClockJump):
                newest = None
            if isinstance(event, SetReady):
                one = event.camera_set
                stamps = [image.stamp_ns for image in one.images.values()]
                assert max(stamps) - min(stamps) == one.skew_ns <= self.assembler.max_skew_ns
                assert one.reference_stamp_ns == max(stamps)
                assert one.complete == (not one.missing) == (one.reason is CloseReason.COMPLETE)
                assert [c for c in self.assembler.cameras if c in one.images or c in one.missing] == list(
                    self.assembler.cameras
                )
                assert newest is None or min(stamps) > newest
                newest = one.reference_stamp_ns
                used.update((camera, image.stamp_ns, one.set_id) for camera, image in one.images.items())
        assert used == Counter((e.camera, e.stamp_ns, e.set_id) for e in self.of(Outcome.USED))
        assert [one.set_id for one in self.sets] == list(range(1, len(self.sets) + 1))


def test_a_complete_set_comes_with_its_last_image() -> None:
    feed = Feed()
    feed.cycle(0, without=("cam_back_left",))
    assert feed.events == []
    stamp = START + 43 * MS
    first, *outcomes = feed.add("cam_back_left", stamp, 0, 48 * MS)
    one = first.camera_set
    assert one.complete and one.missing == () and one.reason is CloseReason.COMPLETE
    assert tuple(one.images) == CAMERAS  # rig order, whatever the order of arrival
    assert (one.set_id, one.reference_stamp_ns, one.skew_ns) == (1, stamp, 43 * MS)
    assert (one.opened_ns, one.closed_ns) == (5 * MS, 48 * MS)
    assert one.images["cam_front"].arrival_ns == 13 * MS
    assert [event.outcome for event in outcomes] == [Outcome.USED] * 6
    assert "is in set 1" in outcomes[0].sentence
    assert feed.assembler.next_deadline_ns() is None
    assert feed.assembler.set_counts == (1, 0)
    feed.check()


@pytest.mark.parametrize("rate", [2, 10, 12, 30])
@pytest.mark.parametrize("spread", [0.0, 0.5, 0.75], ids=["simultaneous", "half", "most"])
def test_rates_and_staggers_in_any_order_between_cameras(rate: float, spread: float) -> None:
    # Spread over up to three quarters of the period: legal bounds lie above 0.75 and below 0.85 of it.
    period = round(1e9 / rate)
    offsets = {camera: round(spread * period * i / 5) for i, camera in enumerate(CAMERAS)}
    bound = round(period * (0.8 if spread else 0.5))
    for order in itertools.islice(itertools.permutations(CAMERAS), 0, 720, 119):
        feed = Feed(max_skew_ns=bound, timeout_ns=2 * period)
        for cycle in range(8):
            for camera in order:
                stamp = START + cycle * period + offsets[camera]
                feed.add(camera, stamp, cycle, cycle * period)
        assert len(feed.sets) == 8
        assert all(one.complete for one in feed.sets)
        assert all({image.item for image in one.images.values()} == {i} for i, one in enumerate(feed.sets))
        feed.check()


def test_skew_bound_is_included() -> None:
    for skew, complete in ((60, True), (60.000001, False)):
        feed = Feed(("a", "b"))
        feed.add("a", START, now=0)
        feed.add("b", START + round(skew * MS), now=0)
        assert bool(feed.sets) == complete
        feed.check()


def test_timed_out_set_names_what_is_missing_and_when_it_was_due() -> None:
    feed = Feed()
    feed.cycle(0, without=("cam_back", "cam_front_left"))
    deadline = feed.assembler.next_deadline_ns()
    assert deadline == 13 * MS + 100 * MS  # the first image, cam_front, arrived at 13 ms
    assert feed.poll(deadline - 1) == []
    feed.poll(deadline)
    (one,) = feed.sets
    assert one.missing == ("cam_back", "cam_front_left")
    assert not one.complete and one.reason is CloseReason.TIMEOUT
    assert len(one.images) == 4
    feed.check()


def test_late_image_says_how_late() -> None:
    feed = Feed()
    feed.cycle(0, without=("cam_back",))
    feed.poll(200 * MS)
    (event,) = feed.add("cam_back", START + 33 * MS, now=230 * MS)
    assert event.outcome is Outcome.LATE
    assert (event.set_id, event.late_ns) == (1, 30 * MS)
    assert "came 30.0 ms after set 1 was closed" in event.sentence
    feed.check()


def test_late_image_newer_than_all_of_its_set_opens_no_set_of_its_own() -> None:
    feed = Feed()
    feed.cycle(0, without=("cam_back_left",))
    feed.poll(200 * MS)
    feed.add("cam_back_left", START + 43 * MS, 0, 230 * MS)
    assert [(event.camera, event.set_id) for event in feed.of(Outcome.LATE)] == [("cam_back_left", 1)]
    feed.cycle(1, shift=200 * MS)
    assert [one.complete for one in feed.sets] == [False, True]
    feed.check()


def test_image_of_the_next_cycle_is_not_late_for_the_one_before_though_it_is_near() -> None:
    # Locked to a 20 Hz lidar: cam_front_left fires again 7 ms after cam_back_left.
    feed = Feed(timeout_ns=50 * MS)
    turns = [turn * 20 // 12 for turn in range(13)]
    assert turns[10:12] == [16, 18] and turns[12] == 20
    for turn in turns:
        feed.cycle(turn, period=50 * MS)
    feed.cycle(21, period=50 * MS, without=("cam_front_left",))
    feed.poll(feed.now + 20 * MS)
    assert feed.sets[-1].missing == ("cam_front_left",)
    assert feed.sets[-1].reason is CloseReason.TIMEOUT
    feed.cycle(22, period=50 * MS, shift=20 * MS)
    assert not feed.of(Outcome.LATE)
    assert feed.sets[-1].complete
    feed.check()


def test_late_image_is_told_which_of_several_sets_it_missed() -> None:
    feed = Feed()
    for cycle in range(4):
        feed.cycle(cycle, without=("cam_back",), shift=cycle * 200 * MS)
        feed.poll(feed.now + 100 * MS)
    assert len(feed.sets) == 4
    feed.add("cam_back", START + 83_333_333 + 33 * MS)
    assert feed.of(Outcome.LATE)[0].set_id == 2
    feed.check()


def test_incomplete_set_is_closed_as_soon_as_the_missing_camera_was_seen_past_it() -> None:
    feed = Feed(timeout_ns=1000 * MS)
    for cycle in range(6):
        feed.cycle(cycle)
    feed.cycle(6, without=("cam_front_left",))
    assert len(feed.sets) == 6
    feed.add("cam_front_left", START + 7 * 83_333_333, 7)
    assert len(feed.sets) == 7
    assert feed.sets[-1].missing == ("cam_front_left",)
    assert feed.sets[-1].reason is CloseReason.OVERTAKEN
    feed.check()


def test_overtaken_waits_for_every_missing_camera() -> None:
    feed = Feed(timeout_ns=1000 * MS)
    for cycle in range(6):
        feed.cycle(cycle)
    feed.cycle(6, without=("cam_front_left", "cam_back_right"))
    feed.add("cam_front_left", START + 7 * 83_333_333, 7)
    assert len(feed.sets) == 6  # cam_back_right may still come for cycle 6
    feed.add("cam_back_right", START + 6 * 83_333_333 + 23 * MS, 6)
    assert feed.sets[-1].missing == ("cam_front_left",)
    feed.check()


def test_newer_complete_set_closes_older_ones_before_itself() -> None:
    feed = Feed(timeout_ns=1000 * MS)
    feed.cycle(0, without=("cam_front",))  # no offset is known yet, so nothing is overtaken
    assert feed.sets == []
    feed.cycle(1)
    assert [(one.complete, one.reason) for one in feed.sets] == [
        (False, CloseReason.OVERTAKEN),
        (True, CloseReason.COMPLETE),
    ]
    feed.check()


def test_tail_and_head_of_two_cycles_are_not_put_together() -> None:
    # cam_back and cam_back_left of cycle 6 and the first two of cycle 7 span 58 ms, within the bound of 60.
    feed = Feed(timeout_ns=1000 * MS)
    for cycle in range(6):
        feed.cycle(cycle)
    feed.cycle(6, without=("cam_front_left", "cam_front", "cam_front_right", "cam_back_right"))
    feed.cycle(7, without=("cam_front_right", "cam_back_right", "cam_back", "cam_back_left"))
    feed.poll(10_000 * MS)
    assert [sorted(one.images) for one in feed.sets[6:]] == [
        ["cam_back", "cam_back_left"],
        ["cam_front", "cam_front_left"],
    ]
    feed.check()


def test_complete_cycle_is_not_robbed_by_the_incomplete_one_before() -> None:
    # From the first image on, before any offset is known: cam_front_left of cycle 1 fits both cycles.
    feed = Feed(timeout_ns=1000 * MS)
    feed.cycle(0, without=("cam_front_left", "cam_front", "cam_front_right"))
    feed.cycle(1)
    assert feed.sets[-1].complete
    assert {image.item for image in feed.sets[-1].images.values()} == {1}
    feed.check()


def test_duplicates_out_of_order_and_invalid_stamps() -> None:
    feed = Feed()
    for stamp in (START, START + 83 * MS, START + 166 * MS):
        feed.add("cam_front", stamp, "first")
    for stamp, outcome in (
        (START + 166 * MS, Outcome.DUPLICATE),
        (START + 83 * MS, Outcome.DUPLICATE),
        (START + 100 * MS, Outcome.OUT_OF_ORDER),
        (0, Outcome.INVALID),
        (-5, Outcome.INVALID),
    ):
        (event,) = feed.add("cam_front", stamp, "again")
        assert (event.outcome, event.item) == (outcome, "again")
        assert event.sentence
    feed.check()


def test_newer_image_within_a_set_supersedes_the_older() -> None:
    feed = Feed(("a", "b"))
    feed.add("a", START, "old")
    feed.add("a", START + 10 * MS, "new")
    feed.add("b", START + 20 * MS)
    (one,) = feed.sets
    assert one.images["a"].item == "new"
    assert [event.item for event in feed.of(Outcome.SUPERSEDED)] == ["old"]
    feed.check()


def test_memory_is_bounded_when_one_camera_floods() -> None:
    feed = Feed(capacity=8)
    for i in range(1000):
        feed.add("cam_front", START + i * MS, i, 0)
        assert feed.assembler.pending_images <= 8
    assert len(feed.of(Outcome.SUPERSEDED)) == 992
    feed.check()


def test_camera_with_a_clock_ahead_does_not_make_the_others_late() -> None:
    feed = Feed()
    others = {camera: offset for camera, offset in NUSCENES.items() if camera != "cam_front"}
    ahead = 2_000 * MS
    for cycle in range(60):
        stamp = START + cycle * 83_333_333 + ahead
        feed.add("cam_front", stamp, cycle, stamp - START - ahead)
        feed.cycle(cycle, offsets=others)
    assert not feed.of(Outcome.LATE)
    assert len(feed.sets) >= 58  # all but the last, which has not timed out
    assert all(one.missing == ("cam_front",) for one in feed.sets)
    assert {event.camera for event in feed.of(Outcome.SUPERSEDED)} == {"cam_front"}
    feed.check()


def test_the_last_living_camera_still_times_out() -> None:
    feed = Feed()
    for cycle in range(5):
        feed.cycle(cycle)
    for cycle in range(5, 10):
        feed.add("cam_front", START + cycle * 83_333_333 + 8 * MS, cycle, cycle * 84 * MS)
    feed.poll(2_000 * MS)
    assert [list(one.images) for one in feed.sets[5:]] == [["cam_front"]] * 5
    feed.check()


def test_restarted_camera_with_another_offset_is_taken_up_again() -> None:
    feed = Feed(max_skew_ns=60 * MS)
    moved = {**NUSCENES, "cam_front_left": 55}
    for cycle in range(20):
        feed.cycle(cycle)
    for cycle in range(20, 60):
        feed.cycle(cycle, offsets=moved)
    assert all(one.complete for one in feed.sets[-30:])
    feed.check()


def test_unknown_camera_and_bad_settings_are_refused() -> None:
    feed = Feed()
    with pytest.raises(UnknownCameraError, match="cam_rear"):
        feed.assembler.add("cam_rear", START, None, 0)
    for settings in (
        {"max_skew_ns": -1},
        {"timeout_ns": 0},
        {"capacity": 1},
        {"cameras": ()},
        {"cameras": ("a", "a")},
        {"backward_jump_ns": 0},
    ):
        with pytest.raises(ValueError):
            Feed(**settings)


def test_reset_gives_every_image_back_and_goes_on_counting() -> None:
    feed = Feed()
    feed.cycle(0)
    feed.cycle(1, without=("cam_back_left",))
    events = feed.reset()
    assert [event.outcome for event in events] == [Outcome.RESET] * 5
    assert feed.assembler.pending_images == 0
    assert feed.assembler.next_deadline_ns() is None
    feed.cycle(2)
    assert [one.set_id for one in feed.sets] == [1, 2]
    feed.check()


def test_reset_keeps_images_that_already_belong_to_the_new_time() -> None:
    feed = Feed()
    for cycle in range(200, 205):
        feed.cycle(cycle)
    feed.cycle(205, without=("cam_back",))
    feed.add("cam_front_left", START, 0)  # set aside: the first image after the bag's restart
    feed.reset(keep=START + 5 * MS)  # then /clock shows it
    assert Counter(event.item for event in feed.of(Outcome.RESET)) == {205: 5}
    feed.cycle(0, without=("cam_front_left",), shift=feed.now)
    assert feed.sets[-1].complete
    assert {image.item for image in feed.sets[-1].images.values()} == {0}
    feed.check()


def test_threads_lose_no_image() -> None:
    feed = Feed(timeout_ns=10**12, capacity=64)
    events = []
    barrier = threading.Barrier(len(CAMERAS))

    def publish(camera):
        barrier.wait()
        for cycle in range(50):
            stamp = START + cycle * 83_333_333 + NUSCENES[camera] * MS
            events.extend(feed.assembler.add(camera, stamp, cycle, 0))

    threads = [threading.Thread(target=publish, args=(camera,)) for camera in CAMERAS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sets = [event.camera_set for event in events if isinstance(event, SetReady)]
    assert len(sets) == 50 and all(one.complete for one in sets)
    assert Counter(e.outcome for e in events if isinstance(e, ImageOutcome)) == {Outcome.USED: 300}
