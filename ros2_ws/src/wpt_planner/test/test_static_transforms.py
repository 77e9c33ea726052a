from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from hypothesis import given, settings
from hypothesis import strategies as st
from tf2_msgs.msg import TFMessage
from wpt_planner.static_transforms import FindingKind, StaticTransforms
from wpt_policy import se3


def transform(parent: str, child: str, matrix: np.ndarray, stamp_ns: int = 0) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = (float(value) for value in matrix[:3, 3])
    q.w, q.x, q.y, q.z = (float(value) for value in se3.quaternion_from_rotation(matrix[:3, :3]))
    return message


def tf(*transforms: TransformStamped) -> TFMessage:
    return TFMessage(transforms=list(transforms))


def kinds(findings) -> list[FindingKind]:
    return [finding.kind for finding in findings]


angles = st.floats(-math.pi, math.pi, allow_nan=False)
lengths = st.floats(-20, 20, allow_nan=False)


@st.composite
def rigid(draw) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = se3.exp_rotation(np.array([draw(angles), draw(angles), draw(angles)]))
    matrix[:3, 3] = [draw(lengths), draw(lengths), draw(lengths)]
    return matrix


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_any_tree_gives_the_mount_of_every_frame_from_every_frame(data) -> None:
    """Poses in a world known to the test alone; edges point either way and come in any order."""
    count = data.draw(st.integers(2, 7))
    world_from = [data.draw(rigid()) for _ in range(count)]
    parents = [data.draw(st.integers(0, i - 1)) for i in range(1, count)]
    edges = [
        transform(f"f{parent}", f"f{child}", se3.inverse(world_from[parent]) @ world_from[child])
        for child, parent in enumerate(parents, start=1)
    ]
    base = data.draw(st.integers(0, count - 1))
    tree = StaticTransforms(f"f{base}")
    for edge in data.draw(st.permutations(edges)):
        assert tree.add(tf(edge)) == []
    for frame in range(count):
        expected = se3.inverse(world_from[base]) @ world_from[frame]
        np.testing.assert_allclose(tree.base_from(f"f{frame}"), expected, atol=1e-9)
    assert tree.frames == tuple(sorted(f"f{i}" for i in range(count)))


def test_base_link_may_be_a_child_itself() -> None:
    tree = StaticTransforms()
    tree.add(tf(transform("base_footprint", "base_link", se3.planar(0, 0, 0.5))))
    tree.add(tf(transform("base_footprint", "cam", se3.planar(1, 0, 0.5))))
    np.testing.assert_allclose(tree.base_from("cam")[:3, 3], [math.cos(0.5), -math.sin(0.5), 0], atol=1e-12)


def test_a_chain_is_unknown_until_its_last_link_arrives_and_then_known() -> None:
    tree = StaticTransforms()
    assert tree.base_from("cam") is None
    assert "no static transform has arrived" in tree.why_unknown("cam")
    tree.add(tf(transform("mount", "cam", se3.planar(1, 0, 0))))
    assert tree.base_from("cam") is None
    assert "no frame base_link" in tree.why_unknown("cam") and "cam, mount" in tree.why_unknown("cam")
    tree.add(tf(transform("base_link", "lidar", np.eye(4))))
    assert "joins cam to mount and base_link to base_link, but not the two" in tree.why_unknown("cam")
    assert "no frame radar" in tree.why_unknown("radar")
    revision = tree.revision
    tree.add(tf(transform("base_link", "mount", se3.planar(2, 0, 0))))
    assert tree.revision == revision + 1
    np.testing.assert_allclose(tree.base_from("cam")[:3, 3], [3, 0, 0])


def test_base_from_itself_is_the_identity_and_nobody_can_change_the_tree_through_a_result() -> None:
    tree = StaticTransforms()
    np.testing.assert_array_equal(tree.base_from("base_link"), np.eye(4))
    tree.add(tf(transform("base_link", "cam", se3.planar(1, 2, 0))))
    with pytest.raises(ValueError):
        tree.base_from("cam")[0, 3] = 9.0


def test_both_subscriptions_may_deliver_the_same_message() -> None:
    tree = StaticTransforms()
    message = tf(transform("base_link", "cam", se3.planar(1, 2, 0.3), stamp_ns=7))
    tree.add(message)
    revision = tree.revision
    assert tree.add(message) == []
    # The same mount stamped anew (a bag that starts over) is no change either.
    assert tree.add(tf(transform("base_link", "cam", se3.planar(1, 2, 0.3), stamp_ns=8))) == []
    assert tree.revision == revision


def test_a_changed_mount_is_named_and_holds_and_its_old_delivery_does_not_bring_it_back() -> None:
    tree = StaticTransforms()
    old = tf(transform("base_link", "cam", se3.planar(1, 0, 0), stamp_ns=1))
    new = tf(transform("base_link", "cam", se3.planar(1.5, 0, math.radians(10)), stamp_ns=2))
    tree.add(old)
    revision = tree.revision
    (finding,) = tree.add(new)
    assert finding.kind is FindingKind.CHANGED
    assert (
        "base_link to cam" in finding.sentence
        and "0.5 m" in finding.sentence
        and "10 degrees" in finding.sentence
    )
    assert tree.revision == revision + 1
    # The second subscription hands over both, late.
    assert tree.add(old) == [] and tree.add(new) == []
    np.testing.assert_allclose(tree.base_from("cam")[0, 3], 1.5)
    # Put back with a new stamp it is a real change again.
    assert kinds(tree.add(tf(transform("base_link", "cam", se3.planar(1, 0, 0), stamp_ns=3)))) == [
        FindingKind.CHANGED
    ]
    np.testing.assert_allclose(tree.base_from("cam")[0, 3], 1.0)


def test_a_second_parent_is_named_and_the_latest_holds() -> None:
    tree = StaticTransforms()
    tree.add(tf(transform("base_link", "cam", se3.planar(1, 0, 0))))
    (finding,) = tree.add(tf(transform("roof", "cam", se3.planar(5, 0, 0))))
    assert finding.kind is FindingKind.REPARENTED
    assert "base_link and roof" in finding.sentence
    assert tree.base_from("cam") is None
    tree.add(tf(transform("base_link", "roof", se3.planar(1, 0, 0))))
    np.testing.assert_allclose(tree.base_from("cam")[0, 3], 6.0)


def broken(parent: str = "base_link", child: str = "cam", **values: float) -> TransformStamped:
    message = transform(parent, child, np.eye(4))
    for name, value in values.items():
        part, axis = name.split("_")
        setattr(getattr(message.transform, part), axis, value)
    return message


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (broken(rotation_w=0.5), "length 0.5"),
        (broken(rotation_w=0.0), "length 0"),
        (broken(rotation_w=1.0, rotation_x=1.0), "length 1.41421"),
        (broken(rotation_y=math.nan), "four finite numbers"),
        (broken(translation_x=math.nan), "three finite numbers"),
        (broken(translation_z=math.inf), "three finite numbers"),
        (broken(parent=""), "empty frame name"),
        (broken(child=""), "empty frame name"),
        (broken(child="/"), "empty frame name"),
        (broken(parent="cam"), "to itself"),
        (broken(parent="/cam"), "to itself"),
    ],
)
def test_a_broken_transform_is_refused_by_name_and_the_others_of_the_message_are_taken(message, says) -> None:
    tree = StaticTransforms()
    findings = tree.add(tf(message, transform("base_link", "other", se3.planar(3, 0, 0))))
    refused = [finding for finding in findings if finding.kind is FindingKind.REFUSED]
    assert len(refused) == 1 and says in refused[0].sentence
    assert tree.base_from("cam") is None
    np.testing.assert_allclose(tree.base_from("other")[0, 3], 3.0)
    assert tree.revision == 1


def test_a_broken_transform_repeated_by_the_second_subscription_is_said_once() -> None:
    tree = StaticTransforms()
    for message in (broken(rotation_w=0.5), broken(translation_x=math.nan)):
        assert kinds(tree.add(tf(message))) == [FindingKind.REFUSED]
        assert tree.add(tf(message)) == []


def test_a_broken_repetition_does_not_replace_a_good_mount() -> None:
    tree = StaticTransforms()
    tree.add(tf(transform("base_link", "cam", se3.planar(1, 0, 0))))
    assert kinds(tree.add(tf(broken(translation_x=math.nan)))) == [FindingKind.REFUSED]
    np.testing.assert_allclose(tree.base_from("cam")[0, 3], 1.0)


def test_loops_are_refused() -> None:
    tree = StaticTransforms("a")
    tree.add(tf(transform("a", "b", se3.planar(1, 0, 0)), transform("b", "c", se3.planar(1, 0, 0))))
    (finding,) = tree.add(tf(transform("c", "a", se3.planar(1, 0, 0))))
    assert finding.kind is FindingKind.REFUSED and "loop" in finding.sentence
    assert all(name in finding.sentence for name in ("a", "b", "c"))
    np.testing.assert_allclose(tree.base_from("c")[0, 3], 2.0)


def test_leading_slashes_are_taken_off_and_noted_once() -> None:
    tree = StaticTransforms()
    message = tf(transform("/base_link", "/cam", se3.planar(1, 0, 0)))
    findings = tree.add(message)
    assert kinds(findings) == [FindingKind.NOTE, FindingKind.NOTE]
    assert "/cam" in findings[1].sentence
    assert tree.add(message) == []
    np.testing.assert_array_equal(tree.base_from("cam"), tree.base_from("/cam"))


def test_the_empty_frame_has_no_mount() -> None:
    assert StaticTransforms().base_from("") is None


def test_readers_and_writers_in_different_threads_see_whole_chains() -> None:
    tree = StaticTransforms()
    tree.add(
        tf(
            transform("base_link", "mount", se3.planar(1, 0, 0)),
            transform("mount", "cam", se3.planar(1, 0, 0)),
        )
    )
    wrong: list[float] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            mount = tree.base_from("cam")
            if mount is None or round(float(mount[0, 3]), 9) not in (2.0, 3.0):
                wrong.append(-1.0 if mount is None else float(mount[0, 3]))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(300):
        tree.add(tf(transform("base_link", "mount", se3.planar(1 + i % 2, 0, 0), stamp_ns=i)))
    stop.set()
    reader.join(timeout=10)
    assert not reader.is_alive() and wrong == []
