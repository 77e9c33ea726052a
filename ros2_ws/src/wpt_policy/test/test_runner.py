"""The runner: flags, refusals, memory, and the same plans as the network it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from wpt_policy import se3
from wpt_policy.bundle import PolicyBundle, network_of
from wpt_policy.frame import Command, Frame, ViewStatus
from wpt_policy.network.projection import ground_motion, image_from_base
from wpt_policy.plan import PlanFlag
from wpt_policy.planner import Planner, PlannerError
from wpt_policy.plausibility import PlausibilityLimits, plan_problem
from wpt_policy.runner import DeviceError, PolicyRunner
from wpt_policy.seeded_weights import seeded_tensors


@pytest.fixture(scope="module")
def shared_runner(seeded: PolicyBundle) -> PolicyRunner:
    return PolicyRunner(seeded, device="cpu")


@pytest.fixture
def runner(shared_runner: PolicyRunner) -> PolicyRunner:
    shared_runner.reset()
    return shared_runner


@pytest.fixture
def frame(make_frame: Callable[..., Frame], runner: PolicyRunner) -> Callable[..., Frame]:
    return partial(make_frame, image_input=runner.image_input)


def drive(stamp_s: float) -> np.ndarray:
    """Pose of an ego at 6 m/s on a gentle left curve."""
    return se3.extrapolate(
        se3.planar(100.0, 50.0, 1.0), np.array([6.0, 0, 0]), np.array([0, 0, 0.1]), stamp_s
    )


UNTRAINED = PlanFlag.UNTRAINED


def test_it_is_a_planner(runner: PolicyRunner) -> None:
    assert isinstance(runner, Planner)
    assert (
        runner.name == "wpt-seeded" and len(runner.cameras) == 6 and runner.untrained and not runner.needs_ego
    )
    assert "cam_front" not in runner.may_mask and "cam_back" in runner.may_mask
    assert "cpu" in runner.device_description and "float32" in runner.device_description


def test_plans_equal_the_training_network(
    runner: PolicyRunner, seeded: PolicyBundle, frame: Callable[..., Frame]
) -> None:
    """Two sets with memory through the runner, and by hand through the unfolded network."""
    frames = [frame(stamp, pose=drive(stamp)) for stamp in (0.0, 0.5)]
    plans = [runner.plan(each) for each in frames]
    network = network_of(seeded)
    views = [list(each.views.values()) for each in frames]
    with torch.no_grad():
        bevs = [
            network.encoder(
                torch.from_numpy(np.stack([view.pixels for view in each])[None]),
                torch.from_numpy(
                    np.stack(
                        [
                            image_from_base(view.calibration, view.odom_from_base, drive(stamp))
                            for view in each
                        ]
                    )
                ).float()[None],
                torch.ones(1, 6, dtype=torch.bool),
            )
            for each, stamp in zip(views, (0.0, 0.5), strict=True)
        ]
        motion = torch.from_numpy(ground_motion(drive(0.0), drive(0.5))).float()[None, None]
        command = torch.tensor([runner.commands.index(Command.STRAIGHT)])
        out = network.plan(
            bevs[1], bevs[0][:, None], motion, torch.tensor([[True]]), command, torch.zeros(1, 0)
        )
    np.testing.assert_allclose(plans[1].waypoints, out.positions[0].numpy(), atol=1e-5)
    assert plans[1].positions.shape == (7, 2) and plans[1].positions.dtype == np.float64
    assert plans[1].positions[0].tolist() == [0.0, 0.0]


def test_plans_are_plausible_and_steady(runner: PolicyRunner, frame: Callable[..., Frame]) -> None:
    for seed in range(3):
        runner.reset()
        for stamp in (0.0, 0.5, 1.0):
            plan = runner.plan(frame(stamp, pose=drive(stamp), seed=seed))
            assert plan_problem(plan, PlausibilityLimits(), ego_speed=6.0) is None
            steps = np.diff(plan.positions, axis=0)
            assert np.all(steps[:, 0] > 1.0) and np.all(steps[:, 0] < 4.0)


def test_the_same_frames_give_the_same_plans_to_the_bit(
    runner: PolicyRunner, frame: Callable[..., Frame]
) -> None:
    frames = [frame(stamp, pose=drive(stamp)) for stamp in (0.0, 0.5, 1.0)]
    first = [runner.plan(each).positions for each in frames]
    runner.reset()
    second = [runner.plan(each).positions for each in frames]
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(runner.plan(frames[-1]).positions, first[-1])  # once more, without a reset


def test_dropped_memory_and_exchanged_images_show(runner: PolicyRunner, frame: Callable[..., Frame]) -> None:
    frames = [frame(stamp, pose=drive(stamp)) for stamp in (0.0, 0.5)]
    runner.plan(frames[0])
    whole = runner.plan(frames[1]).positions
    runner.reset()
    assert np.abs(runner.plan(frames[1]).positions - whole).max() > 1e-2
    pixels = {name: view.pixels for name, view in frames[1].views.items()}
    pixels["cam_front_left"], pixels["cam_front_right"] = pixels["cam_front_right"], pixels["cam_front_left"]
    runner.reset()
    runner.plan(frames[0])
    assert np.abs(runner.plan(frame(0.5, pose=drive(0.5), pixels=pixels)).positions - whole).max() > 1e-2


def test_the_order_of_views_means_nothing(runner: PolicyRunner, frame: Callable[..., Frame]) -> None:
    original = frame(0.0)
    turned = replace(original, views=dict(reversed(original.views.items())))
    np.testing.assert_array_equal(runner.plan(original).positions, runner.plan(turned).positions)


def test_each_cameras_own_pose_matters(runner: PolicyRunner, frame: Callable[..., Frame]) -> None:
    original = frame(0.0)
    view = original.views["cam_front"]
    earlier = replace(view, stamp_ns=-40_000_000, odom_from_base=se3.planar(-2.0, 0.0, -0.1))
    moved = replace(original, views={**original.views, "cam_front": earlier})
    assert np.abs(runner.plan(moved).positions - runner.plan(original).positions).max() > 1e-3


def test_only_relative_poses_matter(runner: PolicyRunner, frame: Callable[..., Frame]) -> None:
    plans = []
    for origin in (np.eye(4), se3.planar(-700.0, 300.0, 2.5)):
        runner.reset()
        for stamp in (0.0, 0.5):
            original = frame(stamp, pose=drive(stamp))
            views = {
                name: replace(view, odom_from_base=origin @ view.odom_from_base)
                for name, view in original.views.items()
            }
            ego = replace(original.ego, odom_from_base=origin @ original.ego.odom_from_base)
            plans.append(runner.plan(replace(original, views=views, ego=ego)).positions)
    np.testing.assert_allclose(plans[1], plans[3], atol=1e-4)


def test_keyframes_alone_and_among_sweeps_give_the_same_plans(
    runner: PolicyRunner, frame: Callable[..., Frame]
) -> None:
    """2 Hz and 12 Hz: memories are made from their own set alone, and the nearest to 0.5 s ago is the same
    set.
    """
    stamps = [tick / 12.0 for tick in range(13)]
    frames = {stamp: frame(stamp, pose=drive(stamp), seed=tick % 2) for tick, stamp in enumerate(stamps)}
    slow = {stamp: runner.plan(frames[stamp]) for stamp in stamps[::6]}
    runner.reset()
    fast = {stamp: runner.plan(frames[stamp]) for stamp in stamps}
    for stamp, plan in slow.items():
        np.testing.assert_array_equal(plan.positions, fast[stamp].positions)
        assert plan.flags == fast[stamp].flags


def test_flags_and_warming_up(runner: PolicyRunner, frame: Callable[..., Frame]) -> None:
    def flags(stamp: float, **arguments) -> PlanFlag:
        return runner.plan(frame(stamp, pose=drive(stamp), **arguments)).flags & ~UNTRAINED

    assert runner.plan(frame(0.0)).flags == PlanFlag.WARMING_UP | UNTRAINED
    runner.reset()
    assert flags(0.0) == PlanFlag.WARMING_UP
    assert flags(0.25) == PlanFlag.WARMING_UP
    assert flags(0.5) == PlanFlag.NONE
    assert flags(1.0, status={"cam_back": ViewStatus.MASKED}) == PlanFlag.CAMERA_MASKED
    assert flags(1.1, status={"cam_back": ViewStatus.HELD}) == PlanFlag.CAMERA_HELD
    assert flags(1.2, ego=False) == PlanFlag.UNCOMPENSATED | PlanFlag.WARMING_UP
    assert flags(1.5) == PlanFlag.NONE
    assert flags(3.1) == PlanFlag.WARMING_UP  # a pause of 1.6 s
    assert flags(3.6) == PlanFlag.NONE
    runner.reset()
    assert flags(3.7) == PlanFlag.WARMING_UP
    extrapolated = frame(4.2, pose=drive(4.2))
    extrapolated = replace(extrapolated, ego=replace(extrapolated.ego, extrapolated=True))
    assert runner.plan(extrapolated).flags & ~UNTRAINED == PlanFlag.EGO_EXTRAPOLATED


def test_without_ego_motion_the_history_is_not_used(
    runner: PolicyRunner, frame: Callable[..., Frame]
) -> None:
    blind = frame(0.5, ego=False)
    alone = runner.plan(blind).positions
    runner.reset()
    runner.plan(frame(0.0, seed=1))
    np.testing.assert_array_equal(runner.plan(blind).positions, alone)
    after = runner.plan(frame(1.0))
    assert PlanFlag.WARMING_UP in after.flags  # the set without a pose is no memory


def test_a_view_without_its_own_pose_is_flagged(runner: PolicyRunner, frame: Callable[..., Frame]) -> None:
    original = frame(0.0)
    view = replace(original.views["cam_back"], odom_from_base=None)
    plan = runner.plan(replace(original, views={**original.views, "cam_back": view}))
    assert PlanFlag.UNCOMPENSATED in plan.flags
    np.testing.assert_allclose(
        plan.positions, runner.plan(original).positions, atol=1e-6
    )  # the ego stands here


def test_an_absent_camera_that_may_be_masked_counts_as_masked(
    runner: PolicyRunner, frame: Callable[..., Frame]
) -> None:
    masked = runner.plan(frame(0.0, status={"cam_back": ViewStatus.MASKED}))
    original = frame(0.0)
    absent = replace(
        original, views={name: view for name, view in original.views.items() if name != "cam_back"}
    )
    np.testing.assert_array_equal(runner.plan(absent).positions, masked.positions)
    assert PlanFlag.CAMERA_MASKED in runner.plan(absent).flags
    assert np.abs(runner.plan(original).positions - masked.positions).max() > 1e-3


def without(frame: Frame, *names: str) -> Frame:
    return replace(frame, views={name: view for name, view in frame.views.items() if name not in names})


def with_view(frame: Frame, name: str, **changes) -> Frame:
    return replace(frame, views={**frame.views, name: replace(frame.views[name], **changes)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: without(f, "cam_front"), "camera cam_front is missing"),
        (lambda f: with_view(f, "cam_front", status=ViewStatus.MASKED), "camera cam_front is masked"),
        (lambda f: with_view(f, "cam_back", pixels=None), "camera cam_back has no pixels"),
        (
            lambda f: with_view(f, "cam_back", pixels=np.zeros((64, 256, 3), np.uint8)),
            r"cam_back has shape \(64, 256, 3\)",
        ),
        (lambda f: with_view(f, "cam_back", pixels=np.zeros((128, 256, 3))), "cam_back .* float64"),
        (lambda f: with_view(f, "cam_back", odom_from_base=np.full((4, 4), np.nan)), "not finite"),
        (lambda f: replace(f, command=Command.UNKNOWN), "command unknown, expected one of left, right"),
        (lambda f: replace(f, views={**f.views, "cam_roof": f.views["cam_back"]}), "cam_roof"),
    ],
)
def test_bad_frames_are_refused_by_name_and_leave_the_memory(
    runner: PolicyRunner, frame: Callable[..., Frame], change: Callable[[Frame], Frame], words: str
) -> None:
    runner.plan(frame(0.0, pose=drive(0.0)))
    good = frame(0.5, pose=drive(0.5))
    with pytest.raises(PlannerError, match=words):
        runner.plan(change(good))
    after = runner.plan(good)
    assert PlanFlag.WARMING_UP not in after.flags
    runner.reset()
    runner.plan(frame(0.0, pose=drive(0.0)))
    np.testing.assert_array_equal(runner.plan(good).positions, after.positions)


def test_a_calibration_of_another_size_is_refused(
    runner: PolicyRunner, frame: Callable[..., Frame], rig
) -> None:
    with pytest.raises(
        PlannerError, match="calibration of cam_back is for 1600x900 pixels, expected 256x128"
    ):
        runner.plan(with_view(frame(0.0), "cam_back", calibration=rig["cam_back"]))


def test_all_cameras_masked_is_refused(seeded: PolicyBundle, frame: Callable[..., Frame]) -> None:
    loose = PolicyRunner(
        replace(seeded, config=replace(seeded.config, may_mask=seeded.config.cameras)), device="cpu"
    )
    with pytest.raises(PlannerError, match="all cameras of policy wpt-seeded are masked"):
        loose.plan(replace(frame(0.0), views={}))


def test_time_going_back_asks_for_a_reset(runner: PolicyRunner, frame: Callable[..., Frame]) -> None:
    runner.plan(frame(1.0))
    with pytest.raises(PlannerError, match="0.500 s older.*reset"):
        runner.plan(frame(0.5))
    runner.reset()
    runner.plan(frame(0.5))


def test_another_rig_is_refused_with_both_lists(runner: PolicyRunner) -> None:
    runner.check_rig(reversed(runner.cameras))
    with pytest.raises(PlannerError, match="cam_front, cam_front_right.*camera0, camera1"):
        runner.check_rig(["camera0", "camera1"])
    with pytest.raises(PlannerError, match="this rig has none"):
        runner.check_rig([])


def test_warm_up_leaves_the_memory_empty(runner: PolicyRunner, frame: Callable[..., Frame]) -> None:
    expected = runner.plan(frame(0.0)).positions
    runner.warm_up()
    assert runner.last_stage_ms == {}
    plan = runner.plan(frame(0.0))
    np.testing.assert_array_equal(plan.positions, expected)
    assert PlanFlag.WARMING_UP in plan.flags
    assert list(runner.last_stage_ms) == ["upload", "encode", "memory", "decode"]
    assert all(milliseconds > 0 for milliseconds in runner.last_stage_ms.values())


def test_a_policy_that_reads_the_ego_needs_it(seeded: PolicyBundle, frame: Callable[..., Frame]) -> None:
    config = replace(seeded.config, ego_inputs=("speed", "yaw_rate"))
    reading = PolicyRunner(
        PolicyBundle(config=config, tensors=seeded_tensors(config, 0), sha256=""), device="cpu"
    )
    assert reading.needs_ego
    with pytest.raises(PlannerError, match="reads speed, yaw_rate and no odometry"):
        reading.plan(frame(0.0, ego=False))
    slow = frame(0.0)
    fast = replace(slow, ego=replace(slow.ego, linear_velocity=np.array([15.0, 0, 0])))
    assert np.abs(reading.plan(slow).positions - reading.plan(fast).positions).max() > 1e-2


def test_a_policy_without_history_never_warms_up(seeded: PolicyBundle, frame: Callable[..., Frame]) -> None:
    config = replace(seeded.config, history=replace(seeded.config.history, entries=0))
    forgetful = PolicyRunner(
        PolicyBundle(config=config, tensors=seeded_tensors(config, 0), sha256=""), device="cpu"
    )
    assert forgetful.plan(frame(0.0)).flags == UNTRAINED


def test_bfloat16_plans_nearly_the_same(
    seeded: PolicyBundle, runner: PolicyRunner, frame: Callable[..., Frame]
) -> None:
    half = PolicyRunner(seeded, device="cpu", precision="bfloat16")
    for stamp in (0.0, 0.5):
        now = frame(stamp, pose=drive(stamp))
        difference = np.abs(half.plan(now).positions - runner.plan(now).positions).max()
        assert 0 < difference < 0.3
    assert "bfloat16" in half.device_description


@pytest.mark.parametrize(
    ("device", "precision", "words"),
    [
        ("cuda:99", "float32", "sees . CUDA devices"),
        ("gpu", "float32", "expected cpu, cuda, cuda:N or auto"),
        ("meta", "float32", "expected cpu, cuda, cuda:N or auto"),
        ("cpu", "float16", "float16 cannot run on the CPU"),
        ("cpu", "int8", "expected one of float32, bfloat16, float16"),
    ],
)
def test_devices_and_precisions_that_cannot_be_had(
    seeded: PolicyBundle, device: str, precision: str, words: str
) -> None:
    with pytest.raises(DeviceError, match=words):
        PolicyRunner(seeded, device=device, precision=precision)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_cuda_asked_for_and_not_there(seeded: PolicyBundle) -> None:
    with pytest.raises(DeviceError, match="device cuda was asked for .* sees . CUDA devices"):
        PolicyRunner(seeded, device="cuda")


def test_auto_says_what_it_chose(seeded: PolicyBundle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="wpt_policy.runner"):
        chosen = PolicyRunner(seeded, device="auto").device
    assert f"device auto: using {chosen}" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.3), ("float16", 0.1)])
def test_cuda_plans_as_the_cpu_does(
    seeded: PolicyBundle, runner: PolicyRunner, frame: Callable[..., Frame], precision: str, tolerance: float
) -> None:
    on_gpu = PolicyRunner(seeded, device="cuda", precision=precision)
    on_gpu.warm_up()
    for stamp in (0.0, 0.5, 1.0):
        now = frame(stamp, pose=drive(stamp))
        np.testing.assert_allclose(on_gpu.plan(now).positions, runner.plan(now).positions, atol=tolerance)
