"""A trained teacher in one folder: world model, teacher and reward weights with the configuration that made them.

teacher.json holds everything but weights, strictly read; teacher.safetensors the weights. Never pickle. The student's
bundle is what ships; this folder is for evaluation, closed loop and explanations of the teacher itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wpt_policy.strict_json import BundleError, read_dataclass, read_object, written

from wpt_training.configuration import ExperimentConfig
from wpt_training.data.batch import Batch
from wpt_training.errors import TrainingError
from wpt_training.evaluation.predictions import Predictor
from wpt_training.reward.combination import choose
from wpt_training.reward.reward_model import RewardModel
from wpt_training.stages.step_rewards import KnownFrames
from wpt_training.stages.teacher_stage import build_reward
from wpt_training.stages.world_stage import load_world, make_world
from wpt_training.teacher.build_teacher import build_teacher
from wpt_training.teacher.candidates import Candidates
from wpt_training.teacher.compact_teacher import CompactTeacher
from wpt_training.teacher.reference_teacher import ReferenceTeacher, StepDecision
from wpt_training.trainer.checkpoint import fill_modules, load_tensors, load_weights, save_tensors
from wpt_training.world.world_model import OccupancyWorldModel, observe_batch

CONFIG_FILE = "teacher.json"
WEIGHTS_FILE = "teacher.safetensors"
FORMAT_VERSION = 1
CHOICES = ("reward", "imitation", "confidence")


@dataclass(frozen=True, kw_only=True)
class TeacherDescription:
    """choice: who picks the candidate: "reward" (Eq 14), "imitation" (its head alone) or "confidence" (the teacher itself,
    no reward model runs). ego_inputs: what the teacher reads of the ego. dataset, commit, seed: where it comes from.
    """

    format_version: int
    configuration: ExperimentConfig
    choice: str
    ego_inputs: tuple[str, ...]
    dataset: str
    commit: str
    seed: int
    weights_sha256: str

    def __post_init__(self) -> None:
        if self.format_version != FORMAT_VERSION:
            raise ValueError(
                f"format_version is {self.format_version}, expected {FORMAT_VERSION}; train the teacher again"
            )
        if self.choice not in CHOICES:
            raise ValueError(f"choice is {self.choice!r}, expected one of {', '.join(CHOICES)}")


class Decision(NamedTuple):
    """What a teacher does on B samples, and why.

    plan: [B, T, 2] metres in base_link. chosen: [B] int64. candidates: its K, with positions [B, K, T, 2] (of the reference
    kind: what was open at each step). frames: [B, 1 + T, C, X, Y]. scores: [B, K] by which the choice was made. terms: by
    name [B, K]: "imitation" (softmax over K) and the rules' heads (sigmoid); empty without a reward model.
    """

    plan: Tensor
    queries: Tensor
    chosen: Tensor
    candidates: Candidates
    frames: Tensor
    scores: Tensor
    terms: dict[str, Tensor]


class TeacherParts(nn.Module):
    """World model, teacher and reward model that decide together.

    choice: as in TeacherDescription, can be changed at any time; without a reward model it must be "confidence".
    """

    def __init__(
        self,
        config: ExperimentConfig,
        world: OccupancyWorldModel,
        teacher: CompactTeacher | ReferenceTeacher,
        reward: RewardModel | None,
        *,
        choice: str = "reward",
    ):
        super().__init__()
        if choice not in CHOICES or (reward is None and choice != "confidence"):
            raise TrainingError(
                f"choice is {choice!r} {'without' if reward is None else 'with'} a reward model, expected one of "
                f"{', '.join(CHOICES)}, and 'confidence' without one."
            )
        self.config, self.choice = config, choice
        self.world, self.teacher, self.reward = world, teacher, reward

    def decide(self, current: Tensor, command: Tensor, motion: Tensor | None = None) -> Decision:
        """Decide on F_0 [B, C, X, Y] and command [B]; motion [B, 4] as in Batch where the teacher reads it."""
        if isinstance(self.teacher, ReferenceTeacher):
            return self._decide_by_step(current, command, motion)
        candidates, frames = self.teacher.plan_candidates(self.world, current, command, motion)
        if self.choice == "confidence":
            scores, terms = candidates.confidence, {}
        else:
            scores, terms = self._rewards(frames, candidates.positions)
        chosen = choose(scores)
        return Decision(*candidates.chosen(chosen), chosen, candidates, frames, scores, terms)

    def _decide_by_step(self, current: Tensor, command: Tensor, motion: Tensor | None) -> Decision:
        """Scores and terms are those of the last step."""
        steps, known = self.teacher.steps, KnownFrames(self.teacher.steps)
        kept: dict[str, Tensor] = {}

        def best(decision: StepDecision) -> Tensor:
            if self.choice == "confidence":
                kept["scores"] = -decision.cost
                return choose(kept["scores"])
            scores, terms = self._rewards(known.at(decision), decision.trajectories(steps))
            kept.update(terms, scores=scores)
            return choose(scores)

        plan = self.teacher.roll(self.world, current, command, best, motion=motion)
        scores = kept.pop("scores")
        return Decision(
            plan.positions, plan.queries, plan.chosen[:, -1], plan.candidates, plan.frames, scores, kept
        )

    def _rewards(self, frames: Tensor, positions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        logits = self.reward(frames, positions)
        imitation, simulation = logits.probabilities()
        scores = logits.imitation if self.choice == "imitation" else logits.score(self.config.reward)
        return scores, {"imitation": imitation, **simulation}


def teacher_predictor(parts: TeacherParts) -> Predictor:
    """Return the predictor of a teacher, which is put into evaluation mode."""
    parts.eval()

    def plan(batch: Batch) -> Tensor:
        return parts.decide(observe_batch(parts.world, batch), batch.command, batch.motion).plan

    return plan


def new_parts(
    config: ExperimentConfig,
    *,
    choice: str | None = None,
    ego_inputs: tuple[str, ...] = (),
    anchors: Tensor | None = None,
) -> TeacherParts:
    """Return parts of a configuration with new weights (anchors zero unless given).

    choice: by the reward model where the configuration has one, else by confidence, unless given.
    """
    if anchors is None:
        anchors = torch.zeros(config.commands, config.teacher.candidates, config.steps, 2)
    teacher = build_teacher(config, anchors, ego_inputs=ego_inputs)
    reward = build_reward(config)
    choice = choice or ("confidence" if reward is None else "reward")
    return TeacherParts(config, make_world(config), teacher, reward, choice=choice)


def parts_of_runs(
    config: ExperimentConfig,
    world_run: Path,
    teacher_run: Path,
    *,
    choice: str | None = None,
    ego_inputs: tuple[str, ...] = (),
) -> TeacherParts:
    """Return the teacher of finished runs of the world and teacher stages; choice as in new_parts. Raises TrainingError."""
    parts = new_parts(config, choice=choice, ego_inputs=ego_inputs)
    parts.world = load_world(config, world_run)
    modules: dict[str, nn.Module] = {"teacher": parts.teacher}
    if parts.reward is not None:
        modules["reward"] = parts.reward
    load_weights(teacher_run, modules)
    return parts.eval().requires_grad_(False)


def save_teacher(
    folder: Path,
    parts: TeacherParts,
    *,
    dataset: str,
    commit: str = "",
    seed: int = 0,
) -> TeacherDescription:
    """Write a teacher's folder: the weights first, then teacher.json, which names their hash."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS_FILE, parts.state_dict(), {"kind": "teacher"})
    description = TeacherDescription(
        format_version=FORMAT_VERSION,
        configuration=parts.config,
        choice=parts.choice,
        ego_inputs=tuple(getattr(parts.teacher, "ego_inputs", ())),
        dataset=dataset,
        commit=commit,
        seed=seed,
        weights_sha256=hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest(),
    )
    waiting = folder / f".{CONFIG_FILE}.new"
    waiting.write_text(written(description), encoding="utf-8")
    waiting.replace(folder / CONFIG_FILE)
    return description


def load_teacher(folder: Path, *, choice: str | None = None) -> tuple[TeacherParts, TeacherDescription]:
    """Return a teacher in evaluation mode, and what it is.

    choice: another one than the folder's. Raises TrainingError naming what is missing, damaged or does not fit.
    """
    try:
        text = (folder / CONFIG_FILE).read_bytes()
        description = read_dataclass(TeacherDescription, read_object(text, CONFIG_FILE), "")
        data = (folder / WEIGHTS_FILE).read_bytes()
    except (OSError, BundleError, TrainingError) as error:
        raise TrainingError(
            f"{folder} holds no usable teacher ({error}): write it again with save_teacher."
        ) from None
    if hashlib.sha256(data).hexdigest() != description.weights_sha256:
        raise TrainingError(
            f"{folder / WEIGHTS_FILE} ({len(data)} bytes) is not the file that {CONFIG_FILE} names, expected sha256 "
            f"{description.weights_sha256[:16]}...; copy the folder again."
        )
    parts = new_parts(description.configuration, choice=description.choice, ego_inputs=description.ego_inputs)
    tensors, _ = load_tensors(folder / WEIGHTS_FILE)
    fill_modules(
        {"parts": parts}, {f"parts.{name}": tensor for name, tensor in tensors.items()}, folder / WEIGHTS_FILE
    )
    if choice is not None:
        description = replace(description, choice=choice)
        parts = TeacherParts(parts.config, parts.world, parts.teacher, parts.reward, choice=choice)
    return parts.eval().requires_grad_(False), description
