"""Every stage on a small network: it overfits eight samples, trains what it should and nothing else, and resumes exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from wpt_training.configuration import DistillationConfig, ExperimentConfig, Schedule
from wpt_training.data.batch import Batch
from wpt_training.data.synthetic_batch import make_batch, small_config
from wpt_training.errors import TrainingError
from wpt_training.stages.frozen_features import FrozenFeatures, PresentFeatures, SetViews, build_frozen_features
from wpt_training.stages.perception_stage import PerceptionStage, load_perception
from wpt_training.stages.student_stage import StudentStage, load_training_student
from wpt_training.stages.teacher_queries import TeacherQueries
from wpt_training.stages.teacher_stage import TeacherStage, TrainedTeacher, load_teacher
from wpt_training.stages.world_stage import WorldStage, load_world, make_world, start_from
from wpt_training.trainer.stage import Stage, freeze, named_parameters
from wpt_training.trainer.trainer import train
from wpt_training.world.world_model import observe_batch


CONFIG = small_config()
ROWS = torch.arange(8)
SCHEDULE = Schedule(samples=64, batch=4, learning_rate=2e-3)


class Samples:
    """Eight made-up samples as a source of batches."""

    signature = "made up"

    def __init__(self, count: int = 8):
        self.whole = make_batch(CONFIG, count, seed=1)

    def batch(self, rows: Tensor) -> Batch:
        return self.whole[torch.as_tensor(rows)]


@pytest.fixture(scope="module")
def samples() -> Samples:
    return Samples()


def overfit(stage: Stage, batch: Batch, steps: int, rate: float = 3e-3, share: float = 0.0) -> list[dict[str, float]]:
    """Minimise the stage's losses on one batch; returns the losses of each step."""
    optimizer = torch.optim.AdamW(stage.parameter_groups(SCHEDULE), lr=rate, weight_decay=0.0)
    stage.train_mode()
    seen = []
    for step in range(steps):
        torch.manual_seed(step)
        losses = stage.losses(batch, share)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        seen.append({name: float(loss.detach()) for name, loss in losses.items()})
    return seen


# What is added to all candidates alike, a softmax over them does not see: the gradient is 0 but for rounding.
SHARED_BY_CANDIDATES = ("teacher.confidence.2.bias", "reward.imitation_head.2.bias")


def check_gradients(stage: Stage, batch: Batch, share: float, unused: tuple[str, ...] = ()) -> None:
    """Every trained parameter gets a gradient that is finite and not all zero; frozen modules get none and stay in eval."""
    stage.train_mode()
    torch.manual_seed(0)
    stage.losses(batch, share)["total"].backward()
    for name, parameter in named_parameters(stage.modules()):
        if name.startswith(unused):
            continue
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
        assert float(parameter.grad.abs().sum()) > 0 or name in SHARED_BY_CANDIDATES, name
    for name, module in stage.frozen_modules().items():
        assert not any(part.training for part in module.modules()), name
        assert all(parameter.grad is None for parameter in module.parameters()), name


def check_resume(make: Callable[[int], Stage], samples: Samples, folder: Path) -> None:
    """A run stopped after each step ends with the bits of one that was not."""
    schedule = dataclasses.replace(SCHEDULE, samples=16)
    arguments = {"schedule": schedule, "config": CONFIG, "rows": ROWS, "seed": 1}
    whole = train(make(0), samples, folder=folder / "whole", **arguments)
    done = None
    while done is None or not done.finished:
        done = train(make(0), samples, folder=folder / "parts", max_minutes=0, **arguments)
    expected, found = load_file(whole.weights), load_file(done.weights)
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), name


def test_perception_overfits_trains_everything_and_resumes(samples: Samples, tmp_path: Path) -> None:
    check_gradients(PerceptionStage(CONFIG, seed=0), samples.whole, 0.0)
    losses = overfit(PerceptionStage(CONFIG, seed=0), samples.whole, 60)
    assert losses[-1]["total"] < 0.6 * losses[0]["total"]
    assert losses[-1]["signal"] < 0.3
    check_resume(lambda seed: PerceptionStage(CONFIG, seed=seed), samples, tmp_path)
    loaded = load_perception(CONFIG, tmp_path / "whole")
    saved = load_file(tmp_path / "whole" / "weights.safetensors")
    for name, tensor in loaded.encoder.state_dict().items():
        assert torch.equal(tensor, saved[f"encoder.{name}"]), name


JOINT = CONFIG.with_(world=dataclasses.replace(CONFIG.world, joint=True))


def test_world_overfits_trains_everything_and_resumes(samples: Samples, tmp_path: Path) -> None:
    check_gradients(WorldStage(JOINT, seed=0), samples.whole, 0.0)
    losses = overfit(WorldStage(JOINT, seed=0), samples.whole, 60, rate=8e-3)
    assert losses[-1]["total"] < 0.7 * losses[0]["total"]
    check_resume(lambda seed: WorldStage(JOINT, seed=seed), samples, tmp_path)
    world = load_world(JOINT, tmp_path / "whole")
    assert not world.training and not any(parameter.requires_grad for parameter in world.parameters())


def test_roll_out_alone_learns_on_features_that_stay(samples: Samples, tmp_path: Path) -> None:
    start = PerceptionStage(CONFIG, seed=2, world=True)
    stage = WorldStage(CONFIG, seed=0, start=start)
    kept = {name: value.clone() for name, value in start.encoder.state_dict().items()}
    check_gradients(stage, samples.whole, 0.0)
    trained = {name.split(".")[1] for name, _ in named_parameters(stage.modules())}
    assert trained == {"decoder", "occupancy_head"}
    assert not stage.world.encoder.training and not stage.world.fusion.training and stage.world.decoder.training
    losses = overfit(stage, samples.whole, 40, rate=8e-3)
    assert losses[-1]["total"] < 0.8 * losses[0]["total"]
    assert all(torch.equal(kept[name], value) for name, value in stage.world.encoder.state_dict().items())
    assert torch.equal(start.heads.occupancy.mix.weight, WorldStage(CONFIG, seed=1, start=start).world.occupancy_head.mix.weight)

    features = build_frozen_features(PresentFeatures(freeze(make_world_of(start))), samples, ROWS, tmp_path / "f", progress=False)
    check_resume(lambda seed: WorldStage(CONFIG, seed=seed, start=start, features=features), samples, tmp_path)
    world = load_world(CONFIG, tmp_path / "whole")
    assert FrozenFeatures.open(tmp_path / "f", PresentFeatures(world), samples).signature == features.signature
    with pytest.raises(TrainingError, match="no cached features"):
        WorldStage(JOINT, seed=0, start=start, features=features)


def make_world_of(start: PerceptionStage):
    world = make_world(CONFIG)
    start_from(world, start)
    return world


def test_first_weights_follow_the_seed_alone() -> None:
    torch.manual_seed(5)
    first, state = WorldStage(CONFIG, seed=1), torch.get_rng_state()
    torch.rand(3)
    same, other = WorldStage(CONFIG, seed=1), WorldStage(CONFIG, seed=2)
    torch.manual_seed(5)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = list(zip(first.world.parameters(), same.world.parameters(), other.world.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs) and not all(torch.equal(a, c) for a, _, c in pairs)


def test_frozen_features_are_those_of_the_world_model_and_building_goes_on(samples: Samples, tmp_path: Path) -> None:
    torch.manual_seed(0)
    world = freeze(make_world(CONFIG))
    rows = torch.tensor([6, 1, 3, 0, 7])

    class Breaks(Samples):
        def batch(self, rows: Tensor) -> Batch:
            if 0 in rows.tolist():
                raise OSError("disk gone")
            return super().batch(rows)

    with pytest.raises(OSError, match="disk gone"):
        build_frozen_features(PresentFeatures(world), Breaks(), rows, tmp_path, batch=2, progress=False)
    with pytest.raises(TrainingError, match="no finished features"):
        FrozenFeatures.open(tmp_path, PresentFeatures(world), samples)
    build_frozen_features(PresentFeatures(world), samples, rows, tmp_path, batch=2, progress=False)
    features = FrozenFeatures.open(tmp_path, PresentFeatures(world), samples)
    with torch.no_grad():
        expected = observe_batch(world, samples.batch(torch.tensor([3, 6])))
    found = features.of(torch.tensor([3, 6]))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(TrainingError, match="row 2 has no features"):
        features.of(torch.tensor([1, 2]))
    with pytest.raises(TrainingError, match="row 50 has no features"):
        features.of(torch.tensor([1, 50]))
    next(world.parameters()).data.add_(1.0)
    with pytest.raises(TrainingError, match="weights and data"):
        FrozenFeatures.open(tmp_path, PresentFeatures(world), samples)
    with pytest.raises(TrainingError, match="another network"):
        build_frozen_features(PresentFeatures(world), samples, rows, tmp_path, progress=False)


def anchors_of(config: ExperimentConfig) -> Tensor:
    """K straight anchors of all speeds, alike for every command."""
    speeds = torch.linspace(0.0, 12.0, config.teacher.candidates)
    times = config.student.plan.dt_s * torch.arange(1, config.steps + 1)
    path = torch.stack([speeds[:, None] * times, torch.zeros(len(speeds), config.steps)], dim=-1)
    return path.expand(config.commands, *path.shape).clone()


REFERENCE = CONFIG.with_(name="small-reference", teacher=dataclasses.replace(CONFIG.teacher, kind="reference"))
PLAIN = CONFIG.with_(
    teacher=dataclasses.replace(CONFIG.teacher, select_by="nearest"),
    losses=dataclasses.replace(CONFIG.losses, imitation_reward=0.0, simulation_reward=0.0),
)
SHUFFLED = CONFIG.with_(reward=dataclasses.replace(CONFIG.reward, shuffled_targets=True))
FULL = DistillationConfig(policy=1.0, world_reward=1.0)


def teacher_stage(config: ExperimentConfig = CONFIG, seed: int = 0, **options: object) -> TeacherStage:
    torch.manual_seed(7)
    anchors = anchors_of(config) if config.teacher.kind == "compact" else None
    return TeacherStage(config, make_world(config), anchors, seed=seed, **options)


def student_stage(
    distillation: DistillationConfig, config: ExperimentConfig = CONFIG, seed: int = 0, **options: object
) -> StudentStage:
    stage = teacher_stage(config)
    trained = TrainedTeacher(teacher=stage.teacher, reward=stage.reward)
    perception = PerceptionStage(config, seed=3)
    return StudentStage(config, distillation, perception, seed=seed, world=stage.world, teacher=trained, **options)


@pytest.mark.parametrize("config", [CONFIG, PLAIN, SHUFFLED, REFERENCE], ids=["full", "plain", "shuffled", "reference"])
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_teacher_trains_everything_and_nothing_else(samples: Samples, config: ExperimentConfig, share: float) -> None:
    stage = teacher_stage(config, agreement=0.9)
    assert ("reward" in stage.modules()) == (config is not PLAIN)
    check_gradients(stage, samples.whole, share)


@pytest.mark.parametrize("config", [CONFIG, REFERENCE], ids=["compact", "reference"])
def test_the_reward_model_does_not_move_what_it_judges(samples: Samples, config: ExperimentConfig) -> None:
    stage = teacher_stage(config)
    stage.train_mode()
    losses = stage.losses(samples.whole, 0.0)
    (losses["simulation_reward"] + losses["imitation_reward"]).backward()
    assert all(p.grad is None or float(p.grad.abs().sum()) == 0 for p in stage.teacher.parameters())
    assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in stage.reward.parameters())


@pytest.mark.parametrize("config", [CONFIG, REFERENCE], ids=["compact", "reference"])
def test_teacher_overfits(samples: Samples, config: ExperimentConfig) -> None:
    steps, batch = (60, samples.whole) if config is CONFIG else (20, samples.whole[:4])
    losses = overfit(teacher_stage(config), batch, steps)
    assert losses[-1]["total"] < 0.7 * losses[0]["total"]
    assert losses[-1]["simulation_reward"] < losses[0]["simulation_reward"]


def test_teacher_resumes_and_loads(samples: Samples, tmp_path: Path) -> None:
    check_resume(lambda seed: teacher_stage(seed=0), samples, tmp_path)
    loaded = load_teacher(CONFIG, tmp_path / "whole")
    assert torch.equal(loaded.teacher.anchors, anchors_of(CONFIG))
    assert not any(p.requires_grad for module in (loaded.teacher, loaded.reward) for p in module.parameters())


def test_rules_read_the_world_models_occupancy_only_late_and_only_where_it_agrees(samples: Samples) -> None:
    for agreement, late in ((0.9, True), (0.7, False), (None, False), (float("nan"), False)):
        rules = teacher_stage(agreement=agreement).rules
        frames = torch.zeros(8, 1 + CONFIG.steps, *observe_shape())
        truth = rules.inputs(samples.whole, frames, 0.0).occupied
        assert torch.equal(truth, rules.inputs(samples.whole, frames, 0.49).occupied)
        assert torch.equal(truth, rules.inputs(samples.whole, frames, 0.51).occupied) != late


def observe_shape() -> tuple[int, int, int]:
    network = CONFIG.world.network
    return (network.architecture.bev_encoder.channels, *network.bev.shape)


def test_features_from_the_cache_give_the_same_losses(samples: Samples, tmp_path: Path) -> None:
    torch.manual_seed(7)
    features = build_frozen_features(PresentFeatures(freeze(make_world(CONFIG))), samples, ROWS, tmp_path, progress=False)
    results = []
    for option in (None, features):
        stage = teacher_stage(features=option)
        stage.train_mode()
        torch.manual_seed(0)
        results.append(stage.losses(samples.whole, 0.0))
    for name, loss in results[0].items():
        torch.testing.assert_close(loss, results[1][name], rtol=2e-2, atol=2e-2, msg=name)


STUDENTS = {
    "baseline": DistillationConfig(),
    "policy": DistillationConfig(policy=1.0),
    "full": FULL,
    "smoothed": dataclasses.replace(FULL, smoothing=0.15),
    "rules": DistillationConfig(rule_losses=1.0),
    "imitation": dataclasses.replace(FULL, logits="imitation"),
    "frozen": dataclasses.replace(FULL, reward_model="frozen"),
    "coupled": dataclasses.replace(FULL, reward_model="coupled"),
    "best": dataclasses.replace(FULL, logits="best_per_head"),
    "random": dataclasses.replace(FULL, teacher_choice="random"),
    "oracle": dataclasses.replace(FULL, teacher_choice="oracle"),
    "confidence": dataclasses.replace(FULL, teacher_choice="confidence"),
    "by-imitation": dataclasses.replace(FULL, teacher_choice="imitation"),
}


@pytest.mark.parametrize("row", STUDENTS)
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_student_trains_what_it_should_and_nothing_else(samples: Samples, row: str, share: float) -> None:
    stage = student_stage(STUDENTS[row], agreement=0.9)
    learns = row not in ("baseline", "policy", "rules", "frozen")
    assert ("reward" in stage.modules()) == learns
    taught = set() if row in ("baseline", "rules") else {"world", "teacher"} if learns else {"world", "teacher", "reward"}
    assert set(stage.frozen_modules()) == {"encoder"} | taught
    check_gradients(stage, samples.whole, share)


END_TO_END = CONFIG.with_(student_joint=True)


def test_an_encoder_that_learns_with_the_plan_reads_images_alone(samples: Samples, tmp_path: Path) -> None:
    stage = student_stage(STUDENTS["baseline"], END_TO_END)
    assert stage.frozen_modules() == {} and any(name.startswith("student.student.encoder") for name, _ in named_parameters(stage.modules()))
    check_gradients(stage, samples.whole, 0.0)
    views = build_frozen_features(SetViews(stage.student.student.encoder), samples, ROWS, tmp_path, progress=False)
    with pytest.raises(TrainingError, match="no cached views"):
        student_stage(STUDENTS["baseline"], END_TO_END, views=views)


def test_cached_views_stand_for_the_images_of_present_and_history(tmp_path: Path) -> None:
    source = Samples()
    earlier = torch.tensor([3, 1, 5, 1, 7, 5, 0, 7])
    for field in (source.whole.images, source.whole.image_from_base, source.whole.camera_mask):
        field[:, 1] = field[earlier, 0]
    source.whole = dataclasses.replace(source.whole, history_row=earlier[:, None])
    make = lambda **options: student_stage(STUDENTS["baseline"], seed=0, **options)  # noqa: E731
    stage = make()
    views = build_frozen_features(SetViews(stage.student.student.encoder), source, ROWS, tmp_path / "v", progress=False)
    results = []
    told = make(views=views)
    for trial in (stage, told):
        trial.train_mode()
        torch.manual_seed(0)
        results.append(trial.losses(source.whole, 0.0))
        assert not trial.student.student.encoder.training
    for name, loss in results[0].items():
        torch.testing.assert_close(loss, results[1][name], rtol=2e-2, atol=2e-2, msg=name)
    kept = {name: value.clone() for name, value in told.student.student.encoder.state_dict().items()}
    overfit(told, source.whole, 5)
    assert all(torch.equal(kept[name], value) for name, value in told.student.student.encoder.state_dict().items())
    check_resume(lambda seed: make(views=views), source, tmp_path)


def test_kept_queries_stand_for_the_teacher(samples: Samples, tmp_path: Path) -> None:
    asked = student_stage(STUDENTS["policy"])
    teacher = TrainedTeacher(teacher=asked.teacher, reward=asked.reward)
    observer = TeacherQueries(CONFIG, asked.world, teacher)
    kept = build_frozen_features(observer, samples, ROWS, tmp_path / "q", progress=False)
    told = student_stage(STUDENTS["policy"], queries=kept)
    for share in (0.0, 0.9):
        results = []
        for stage in (asked, told):
            stage.train_mode()
            torch.manual_seed(0)
            results.append(stage.losses(samples.whole, share))
        for name, loss in results[0].items():
            torch.testing.assert_close(results[1][name], loss, rtol=2e-2, atol=2e-2, msg=name)
    assert not torch.equal(kept.of(ROWS)[:, 0], kept.of(ROWS)[:, 1])
    check_gradients(told, samples.whole, 0.9)
    with pytest.raises(TrainingError, match="kept queries are for policy distillation"):
        student_stage(STUDENTS["random"], queries=kept)

    quarter = dataclasses.replace(FULL, reward_share=0.25)
    some, all_ = student_stage(quarter, queries=kept), student_stage(FULL, queries=kept)
    check_gradients(some, samples.whole, 0.9)
    output = some.student(samples.whole)
    part, few = some._asked_about(output, samples.whole)
    assert len(few) == 2 and torch.equal(part.plan.positions, output.plan.positions[:2]) and len(all_._asked_about(output, samples.whole)[1]) == 8
    with pytest.raises(TrainingError, match="compact teacher"):
        TeacherQueries(REFERENCE, asked.world, TrainedTeacher(teacher=asked.teacher, reward=None))


@pytest.mark.parametrize("row", ["full", "smoothed"])
@pytest.mark.parametrize("share", [0.0, 0.9])
def test_student_of_the_reference_teacher(samples: Samples, share: float, row: str) -> None:
    check_gradients(student_stage(STUDENTS[row], REFERENCE), samples.whole, share)


@pytest.mark.parametrize("changes", [{"logits": "best_per_head"}, {"reward_model": "coupled"}])
def test_the_authors_variants_are_not_smoothed(changes: dict[str, str]) -> None:
    with pytest.raises(TrainingError, match="smoothing"):
        dataclasses.replace(STUDENTS["smoothed"], **changes)


def test_eq_16_leaves_the_reward_model_alone_unless_coupled(samples: Samples) -> None:
    silent = dataclasses.replace(CONFIG.losses, imitation_reward=0.0, simulation_reward=0.0)
    for model, reached in (("own_losses", False), ("coupled", True)):
        distillation = dataclasses.replace(FULL, reward_model=model)
        stage = student_stage(distillation, CONFIG.with_(losses=silent))
        stage.train_mode()
        stage.losses(samples.whole, 0.9)["total"].backward()
        moved = any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in stage.reward.parameters())
        assert moved == reached, model


@pytest.mark.parametrize("row", ["baseline", "full", "smoothed"])
def test_student_overfits_and_resumes(samples: Samples, row: str, tmp_path: Path) -> None:
    losses = overfit(student_stage(STUDENTS[row]), samples.whole, 60)
    assert losses[-1]["displacement"] < 0.5 * losses[0]["displacement"]
    check_resume(lambda seed: student_stage(STUDENTS[row], seed=0), samples, tmp_path)
    load_training_student(CONFIG, STUDENTS[row], tmp_path / "whole")


def test_student_without_what_it_needs_is_refused() -> None:
    perception = PerceptionStage(CONFIG, seed=0)
    with pytest.raises(TrainingError, match="needs a world model and a teacher"):
        StudentStage(CONFIG, FULL, perception, seed=0)
    with pytest.raises(TrainingError, match="has no reward model"):
        student_stage(FULL, PLAIN)


def test_all_rows_share_the_start(samples: Samples) -> None:
    baseline, full = student_stage(STUDENTS["baseline"], seed=1), student_stage(FULL, seed=1)
    theirs = full.student.student.state_dict()
    for name, tensor in baseline.student.student.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
