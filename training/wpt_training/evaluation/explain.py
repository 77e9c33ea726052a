"""`wpt-train explain`: one sample through a teacher: candidates, reward terms, predicted occupancy, which term decided.

One picture (PNG) and one table (Markdown, beside it and on the console).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch
from torch import Tensor

from wpt_training.configuration import ExperimentConfig, RewardConfig
from wpt_training.data.batch import Batch
from wpt_training.errors import TrainingError
from wpt_training.evaluation.decision_picture import draw_decision
from wpt_training.evaluation.teacher_folder import Decision, TeacherParts, load_teacher
from wpt_training.reward.combination import FLOOR, GATES, GRADES, choose, combine
from wpt_training.world.world_model import observe_batch


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a candidate was chosen. All for one sample, K candidates.

    decision: of a batch of one. parts: the terms of Eq 14 by name, [K]; they add up to the score; empty without a reward
    model. runner_up: the second best candidate, -1 where there is none. decided_by: terms in which the chosen one leads the
    runner-up, largest lead first. changes: by rule (or "imitation"), which candidate would be chosen without it, where it
    is another one.
    """

    decision: Decision
    parts: dict[str, Tensor]
    runner_up: int
    decided_by: tuple[tuple[str, float], ...]
    changes: dict[str, int]


def explain(parts: TeacherParts, batch: Batch) -> Explanation:
    """Decide on a batch of one and take the decision apart."""
    if len(batch) != 1:
        raise TrainingError(f"{len(batch)} samples are given, expected one to explain.")
    parts.eval()
    with torch.inference_mode():
        decision = parts.decide(observe_batch(parts.world, batch), batch.command, batch.motion)
    reward = parts.config.reward
    terms = {name: values[0] for name, values in decision.terms.items()}
    scores, chosen = decision.scores[0], int(decision.chosen[0])
    others = scores.clone()
    others[chosen] = -torch.inf
    runner_up = int(others.argmax()) if len(others) > 1 else -1
    if not terms or parts.choice != "reward":
        return Explanation(decision=decision, parts={}, runner_up=runner_up, decided_by=(), changes={})
    shares = terms_of_score(terms, reward)
    leads = (
        [(name, float(values[chosen] - values[runner_up])) for name, values in shares.items()]
        if runner_up >= 0
        else []
    )
    decided = tuple(sorted((lead for lead in leads if lead[1] > 0), key=lambda lead: -lead[1]))
    return Explanation(
        decision=decision,
        parts=shares,
        runner_up=runner_up,
        decided_by=decided,
        changes=_without_each(terms, reward, chosen),
    )


def terms_of_score(terms: Mapping[str, Tensor], reward: RewardConfig) -> dict[str, Tensor]:
    """Return the summands of Eq 14 [K] by name; terms: "imitation" and the rules' probabilities [K]."""
    w0, w1, w2, w3 = reward.weights
    result = {"imitation": w0 * _log(terms["imitation"])}
    for rule in (rule for rule in GATES if rule in reward.rules):
        result[rule] = (w1 if rule == "NC" else w2) * _log(terms[rule])
    grades = [rule for rule in GRADES if rule in reward.rules]
    if grades:
        result[" + ".join(grades)] = w3 * _log(sum(GRADES[rule] * terms[rule] for rule in grades))
    return result


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=FLOOR).log()


def _without_each(terms: Mapping[str, Tensor], reward: RewardConfig, chosen: int) -> dict[str, int]:
    simulation = {name: values[None] for name, values in terms.items() if name != "imitation"}
    changes = {}
    for name in ("imitation", *reward.rules):
        rules = [rule for rule in reward.rules if rule != name]
        imitation = None if name == "imitation" else terms["imitation"][None]
        if imitation is None and not rules:
            continue
        other = int(choose(combine(imitation, simulation, rules, reward.weights))[0])
        if other != chosen:
            changes[name] = other
    return changes


def table(found: Explanation, batch: Batch) -> str:
    """Return the candidates, best first, as Markdown, and one sentence on what decided."""
    decision = found.decision
    chosen = int(decision.chosen[0])
    names = list(decision.terms)
    lines = [
        f"| candidate | score | {' | '.join([*names, *(f'{part} in score' for part in found.parts)])} | mean distance to truth [m] |",
        "|" + "---|" * (3 + len(names) + len(found.parts)),
    ]
    known = batch.future_valid[0]
    truth = batch.future[0, :, :2]
    for k in decision.scores[0].argsort(descending=True).tolist():
        distance = (decision.candidates.positions[0, k] - truth).norm(dim=-1)[known]
        cells = [f"{float(decision.terms[name][0, k]):.3f}" for name in names]
        cells += [f"{float(values[k]):+.2f}" for values in found.parts.values()]
        mark = " (chosen)" if k == chosen else " (second)" if k == found.runner_up else ""
        far = f"{float(distance.mean()):.2f}" if len(distance) else "-"
        lines.append(f"| {k}{mark} | {float(decision.scores[0, k]):.3f} | {' | '.join([*cells, far])} |")
    return "\n".join([*lines, "", sentence(found)]) + "\n"


def sentence(found: Explanation) -> str:
    """Return in one or two sentences which term decided."""
    chosen = int(found.decision.chosen[0])
    if not found.parts:
        return f"Candidate {chosen} was chosen by the teacher's own confidence or imitation alone; no rule had a say."
    if found.runner_up < 0 or not found.decided_by:
        return f"Candidate {chosen} was chosen; no other came close enough for a term to decide."
    leads = ", ".join(f"{name} ({lead:+.2f})" for name, lead in found.decided_by)
    text = (
        f"Candidate {chosen} leads candidate {found.runner_up} by {leads}: {found.decided_by[0][0]} decided."
    )
    if found.changes:
        others = ", ".join(f"without {name} candidate {k}" for name, k in found.changes.items())
        return f"{text} The choice would be another one {others}."
    return f"{text} No single term, left out, would change the choice."


def sample_batch(config: ExperimentConfig, dataroot: Path, version: str, token: str) -> Batch:
    """Return one sample of a data set as a batch. Raises TrainingError."""
    from wpt_training.data.cache_builder import build_cache

    with tempfile.TemporaryDirectory() as folder:
        cache = build_cache(dataroot, version, Path(folder) / "sample", config, tokens=[token])
        return cache.batch([cache.row_of(token)])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `wpt-train explain`."""
    parser.add_argument("--run", type=Path, required=True, dest="folder", help="teacher's folder")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--version", required=True, help="version folder in it")
    parser.add_argument("--sample", required=True, help="sample token")
    parser.add_argument("--out", type=Path, required=True, help="PNG; the table goes beside it as .md")
    parser.add_argument(
        "--choice", choices=("reward", "imitation", "confidence"), help="another choice than the folder's"
    )


def run(arguments: argparse.Namespace) -> int:
    parts, description = load_teacher(arguments.folder, choice=arguments.choice)
    batch = sample_batch(description.configuration, arguments.data, arguments.version, arguments.sample)
    found = explain(parts, batch)
    text = table(found, batch)
    picture = draw_decision(parts, batch, found.decision, sentence(found))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(arguments.out), picture[..., ::-1]):
        raise TrainingError(
            f"{arguments.out} cannot be written as a picture, expected a name that ends in .png."
        )
    arguments.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text, end="")
    return 0
