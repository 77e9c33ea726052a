"""Scene logs: small, exact to half a unit, the same on every machine, and refused in one sentence when damaged."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wpt_policy.frame import Command
from wpt_sim.demo_scene import DEMO_LOG, demo_log
from wpt_sim.episode import make_episode
from wpt_sim.scene_log import ACTOR_UNITS, EGO_UNITS, STEP_S, SceneLog, SceneLogError, SceneLogRecorder
from wpt_sim.scene_log_file import from_bytes, read_log, to_bytes, write_log
from wpt_sim.world_state import Actor, ActorKind, EgoPose, Lights, SignalColour, WorldState

SPEC = demo_log().spec


def recorded(states: list[WorldState], command: Command = Command.LEFT) -> SceneLog:
    recorder = SceneLogRecorder(SPEC, driver="test", appearance_seed=5)
    for state in states:
        recorder.add(state, command)
    return recorder.finish()


def car(name: str, x: float, y: float, yaw: float, speed: float = 3.0, **other) -> Actor:
    return Actor(id=name, kind=ActorKind.CAR, x=x, y=y, yaw=yaw, speed=speed, length=4.5, width=1.8, height=1.5, **other)


def test_the_shipped_log_is_small_and_holds_ten_seconds() -> None:
    log = demo_log()
    assert DEMO_LOG.stat().st_size <= 40_000
    assert log.duration_s == pytest.approx(10.0) and len(log.actors) > 10 and not log.infractions
    assert log.road_map.name == SPEC.network
    assert {kind for kind in (actor.kind for actor in log.actors)} >= {ActorKind.CAR, ActorKind.PEDESTRIAN}


def test_bytes_come_back_as_the_same_log() -> None:
    log = demo_log()
    again = from_bytes(to_bytes(log))
    assert to_bytes(again) == to_bytes(log)
    for time_s in (0.0, 3.14159, 7.2, log.duration_s):
        assert again.state_at(time_s) == log.state_at(time_s)
        assert again.command_at(time_s) is log.command_at(time_s)


place = st.floats(-2000.0, 2000.0)


@st.composite
def drives(draw) -> list[WorldState]:
    """Anything goes: actors that come, go and come back, headings that jump, signals that are absent at times."""
    names = [f"a{i}" for i in range(draw(st.integers(0, 3)))]
    states = []
    for step in range(draw(st.integers(2, 6))):
        actors = tuple(
            car(
                name, draw(place), draw(place), draw(st.floats(-math.pi, math.pi)), draw(st.floats(0.0, 40.0)),
                lights=Lights(draw(st.integers(0, 7))), colour_seed=draw(st.just(7)),
            )
            for name in names if draw(st.booleans())
        )  # fmt: skip
        ego = EgoPose(
            x=draw(place), y=draw(place), yaw=draw(st.floats(-math.pi, math.pi)), speed=draw(st.floats(0.0, 40.0)),
            steer=draw(st.floats(-0.6, 0.6)), acceleration=draw(st.floats(-8.0, 3.0)),
        )  # fmt: skip
        signals = {("s", link): draw(st.sampled_from(list(SignalColour))) for link in range(draw(st.integers(0, 3)))}
        states.append(WorldState(time_s=step * STEP_S, ego=ego, actors=actors, signals=signals))
    return states


@settings(max_examples=40, deadline=None)
@given(drives())
def test_every_row_is_kept_to_half_a_unit(states: list[WorldState]) -> None:
    log = from_bytes(to_bytes(recorded(states)))
    for step, wanted in enumerate(states):
        found = log.state_at(step * STEP_S)
        assert sorted(actor.id for actor in found.actors) == sorted(actor.id for actor in wanted.actors)
        for actor in wanted.actors:
            mine = next(a for a in found.actors if a.id == actor.id)
            for name in ("x", "y", "speed"):
                assert abs(getattr(mine, name) - getattr(actor, name)) <= 0.5001 * ACTOR_UNITS[name]
            assert abs(math.remainder(mine.yaw - actor.yaw, math.tau)) <= 0.5001 * ACTOR_UNITS["yaw"]
            assert mine.lights == actor.lights and mine.kind is actor.kind and mine.colour_seed == 7
        for name, unit in EGO_UNITS.items():
            difference = getattr(found.ego, name) - getattr(wanted.ego, name)
            assert abs(math.remainder(difference, math.tau) if name == "yaw" else difference) <= 0.5001 * unit
        for key, colour in wanted.signals.items():
            assert found.signals[key] is colour


def test_between_rows_lies_a_straight_line_and_the_short_turn() -> None:
    states = [
        WorldState(
            time_s=step * STEP_S,
            ego=EgoPose(x=float(step), y=0.0, yaw=math.remainder(math.pi - 0.05 + 0.1 * step, math.tau), speed=10.0),
            actors=(car("a", 2.0 * step, 1.0, math.remainder(math.pi - 0.05 + 0.1 * step, math.tau)),),
        )
        for step in range(3)
    ]
    state = recorded(states).state_at(0.05)
    assert state.ego.x == pytest.approx(0.5) and abs(math.remainder(state.ego.yaw - math.pi, math.tau)) < 1e-4
    assert state.actors[0].x == pytest.approx(1.0)
    assert abs(math.remainder(state.actors[0].yaw - math.pi, math.tau)) < 2e-3


def test_an_actor_is_there_between_rows_that_both_have_it() -> None:
    ego = EgoPose(x=0.0, y=0.0, yaw=0.0, speed=0.0)
    present = [True, True, False, True]
    log = recorded(
        [
            WorldState(time_s=i * STEP_S, ego=ego, actors=(car("a", 1.0 * i, 0.0, 0.0),) if here else ())
            for i, here in enumerate(present)
        ]
    )
    there = [bool(log.state_at(t).actors) for t in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)]
    assert there == [True, True, True, False, False, False, True]


def test_twenty_hertz_states_are_thinned_and_a_gap_is_named() -> None:
    ego = EgoPose(x=0.0, y=0.0, yaw=0.0, speed=0.0)
    recorder = SceneLogRecorder(SPEC, driver="test", appearance_seed=0)
    for tick in range(5):
        recorder.add(WorldState(time_s=round(tick * 0.05, 6), ego=ego, actors=()), Command.STRAIGHT)
    assert len(recorder) == 3
    with pytest.raises(SceneLogError, match="log every step"):
        recorder.add(WorldState(time_s=0.4, ego=ego, actors=()), Command.STRAIGHT)
    with pytest.raises(SceneLogError, match="two states"):
        SceneLogRecorder(SPEC, driver="test", appearance_seed=0).finish()


def test_a_value_that_is_not_finite_is_refused() -> None:
    ego = EgoPose(x=math.nan, y=0.0, yaw=0.0, speed=0.0)
    with pytest.raises(SceneLogError, match="ego x is not finite"):
        recorded([WorldState(time_s=step * STEP_S, ego=ego, actors=()) for step in range(2)])


def test_a_part_is_what_the_whole_was_then() -> None:
    log = demo_log()
    part = from_bytes(to_bytes(log.cut(2.0, 5.0)))
    assert part.duration_s == pytest.approx(3.0) and part.begin_s == pytest.approx(log.begin_s + 2.0)
    mine, whole = part.state_at(1.23), log.state_at(3.23)
    assert math.isclose(mine.ego.x, whole.ego.x, abs_tol=1e-9) and math.isclose(mine.ego.yaw, whole.ego.yaw, abs_tol=1e-9)
    assert [actor.id for actor in mine.actors] == [actor.id for actor in whole.actors]
    assert mine.signals == whole.signals
    for begin, end in ((5.0, 2.0), (-1.0, 3.0), (0.0, 11.0)):
        with pytest.raises(SceneLogError, match="cannot be cut"):
            log.cut(begin, end)


@pytest.mark.parametrize("time_s", [-0.01, 10.2, math.nan])
def test_a_time_outside_is_refused(time_s: float) -> None:
    with pytest.raises(SceneLogError, match="ask for a time within it"):
        demo_log().state_at(time_s)


def assert_one_sentence(error: BaseException) -> None:
    text = str(error)
    assert "\n" not in text and text.endswith(".") and len(text) < 400


def test_cut_damaged_newer_and_foreign_files_are_named(tmp_path) -> None:
    data = DEMO_LOG.read_bytes()
    cases = {
        "is no scene log": [b"", b"PK\x03\x04" + data[4:], data[:10]],
        "has format 2": [data[:8] + (2).to_bytes(4, "little") + data[12:]],
        "cut or damaged": [data[:-1], data[:16], data[: len(data) // 2], data[:500] + b"\x00" + data[501:], data + b"x"],
    }
    for message, broken in cases.items():
        for content in broken:
            path = tmp_path / "broken.scenelog"
            path.write_bytes(content)
            with pytest.raises(SceneLogError, match=message) as raised:
                read_log(path)
            assert_one_sentence(raised.value)
    with pytest.raises(SceneLogError, match="cannot be read") as raised:
        read_log(tmp_path / "nowhere.scenelog")
    assert_one_sentence(raised.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_content_with_a_right_checksum_never_crashes(where: int, junk: bytes) -> None:
    """Whatever the bytes behind a matching checksum are, a log or one sentence comes out."""
    import struct
    import zlib

    content = bytearray(zlib.decompress(DEMO_LOG.read_bytes()[16:]))
    begin = where % len(content)
    content[begin : begin + len(junk)] = junk
    body = zlib.compress(bytes(content))
    try:
        log = from_bytes(struct.pack("<8sII", b"WPTSCENE", 1, zlib.crc32(body)) + body)
    except SceneLogError as error:
        assert_one_sentence(error)
    else:
        assert log.steps >= 2


def test_another_road_map_is_noticed() -> None:
    log = replace(demo_log(), road_map_hash="0" * 16)
    with pytest.raises(SceneLogError, match="was driven on") as raised:
        log.road_map  # noqa: B018
    assert_one_sentence(raised.value)


def test_a_log_is_written_and_read(tmp_path) -> None:
    log = demo_log()
    assert to_bytes(read_log(write_log(tmp_path / "folder" / "a.scenelog", log))) == to_bytes(log)


def test_a_log_renders_without_sumo() -> None:
    code = """
import sys
sys.modules["libsumo"] = sys.modules["traci"] = None  # any import of them fails
from wpt_sim.demo_scene import demo_log
from wpt_sim.renderer import Renderer
from wpt_sim.renderer.rigs import nuscenes_rig
log = demo_log()
image = Renderer(log.road_map, nuscenes_rig(192, 108), log.appearance).render_camera("cam_front", log.state_at(4.0))
assert image.rgb.std() > 20 and image.instance.max() > 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_same_seed_gives_the_same_log() -> None:
    pytest.importorskip("libsumo", reason="libsumo is not installed: pip install libsumo==1.28.0")
    from wpt_sim.drive_recording import record_drive

    def drive() -> SceneLog:
        return record_drive(make_episode("tuning", "natural", seed=3), longest_s=2.0).log

    first, second = drive(), drive()
    assert len(first.actors) > 0 and to_bytes(first) == to_bytes(second)
    rows = np.array([[state.ego.x, state.ego.y] for state in first.states()])
    assert np.linalg.norm(rows[-1] - rows[0]) > 1.0


def test_a_drive_that_begins_with_an_infraction_is_a_log_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen in test data: an actor stood at the ego's start, and the log's one state stopped the whole data set."""
    pytest.importorskip("libsumo")
    from wpt_sim import drive_recording
    from wpt_sim.route_result import Infraction, InfractionKind

    class AtOnce:
        finished = False

        def __init__(self, *_: object):
            self.infractions: list[Infraction] = []

        def update(self, state: object) -> None:
            if not self.infractions:
                kind = InfractionKind.COLLISION_VEHICLE
                self.infractions.append(Infraction(kind=kind, time_s=0.0, x=0.0, y=0.0, s=0.0))

    monkeypatch.setattr(drive_recording, "InfractionMonitor", AtOnce)
    drive = drive_recording.record_drive(make_episode("tuning", "natural", seed=3))
    assert not drive.clean and drive.log.steps == 2
