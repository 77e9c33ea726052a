"""Does the reward rank a teacher's candidates as they turn out? Spearman's rank correlation, state by state.

Two outcomes of a candidate:

log-replayed  the exact rules on what truly happened around the recorded drive; the others do not react. It is Eq 14's
              content with true targets, without the imitation term: NC DAC (5 TTC + 5 EP + 2 Comf) / 12 (as NAVSIM's score).
branched      the world goes on from that very state with the candidate driven in it (`wpt-sim branch`): progress as a share
              of the driver's own, 0 where it ends in a contact by fault, outside its lanes or past a red light.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wpt_scenes.scene import load_scene
from wpt_scenes.tables import NuScenesTables

from wpt_training.configuration import RULES
from wpt_training.data.occupancy_truth import occupancy_grid
from wpt_training.data.sample_cache import SampleCache
from wpt_training.errors import TrainingError
from wpt_training.evaluation.head_quality import spearman
from wpt_training.experiments.candidate_reports import require_whole_trajectories
from wpt_training.experiments.closed_loop import wpt_sim
from wpt_training.experiments.job_run import report_batches
from wpt_training.experiments.open_loop import trained_teacher
from wpt_training.reward.combination import GRADES, choose, combine
from wpt_training.reward.rules import rule_inputs, score_rules
from wpt_training.world.world_model import observe_batch

if TYPE_CHECKING:
    from wpt_training.experiments.job_run import Place

SPLIT = "dev"
STATES = 500
STATES_FILE, BRANCH_FILE, BRANCHED_FILE = "states.npz", "states.json", "branched.json"
# The world must be where the recording was (m): else the state is another one.
SAME_PLACE_M = 0.1
# Progress below which the driver's own counts as none and every candidate's as enough (reward.progress).
LEAST_PROGRESS_M = 5.0
DRAWS = 2_000


def outcome_of_rules(rules: Mapping[str, Tensor]) -> Tensor:
    """Return [B, K] in [0, 1] from true rule values [B, K]; needs all of the paper's rules."""
    grades = sum(weight * rules[rule].float() for rule, weight in GRADES.items())
    return rules["NC"].float() * rules["DAC"].float() * grades / sum(GRADES.values())


def branched_outcome(result: Mapping[str, Any]) -> np.ndarray:
    """Return (K,) outcomes in [0, 1] of one state of `wpt-sim branch`, NaN where a branch failed."""
    driver = result["expert"]
    if driver is None:
        return np.full(len(result["plans"]), np.nan)
    own = driver["progress_m"]
    values = []
    for plan in result["plans"]:
        if plan is None:
            values.append(np.nan)
        elif plan["collision"] or plan["outside"] or plan["rules"]:
            values.append(0.0)
        else:
            values.append(1.0 if own < LEAST_PROGRESS_M else float(np.clip(plan["progress_m"] / own, 0.0, 1.0)))
    return np.array(values)


@torch.no_grad()
def log_replayed_ranks(place: Place, row: str, seed: int) -> dict[str, Any]:
    """Decode and score candidates at STATES states of dev, write them (states.npz), and return the log-replayed ranks.

    Raises TrainingError for a teacher without a reward model, or of the reference kind.
    """
    require_whole_trajectories(place, row)
    parts = trained_teacher(place, row, seed).to(place.device).eval()
    if parts.reward is None:
        raise TrainingError(f"{row} has no reward model, so nothing ranks its candidates: name another teacher.")
    config, cache = parts.config, place.cache(SPLIT)
    reward, grid = config.reward, occupancy_grid(config.student, config.data)
    complete = cache.labelled & cache.field("future_valid").astype(bool).all(axis=1)
    rows = torch.from_numpy(complete.nonzero()[0])
    kept: dict[str, list[np.ndarray]] = {}
    for batch in report_batches(place, cache, f"states of {row}", most=STATES, rows=rows):
        decision = parts.decide(observe_batch(parts.world, batch), batch.command, batch.motion)
        found = decision.candidates
        truth = score_rules(rule_inputs(batch, grid), found.positions, RULES, progress=reward.progress)
        simulated = {rule: value for rule, value in decision.terms.items() if rule != "imitation"}
        values = {
            "row": batch.row,
            "positions": found.positions,
            "reward": decision.scores,
            "confidence": found.confidence,
            "imitation": decision.terms["imitation"],
            "outcome": outcome_of_rules(truth),
            **{f"head {rule}": value for rule, value in simulated.items()},
        }
        if simulated:
            values["reward without imitation"] = combine(None, simulated, reward.rules, reward.weights)
        for name, value in values.items():
            kept.setdefault(name, []).append(value.cpu().numpy())
    arrays = {name: np.concatenate(parts_) for name, parts_ in kept.items()}
    np.savez_compressed(place.folder("outcomes", row, seed) / STATES_FILE, **arrays)
    return {"split": SPLIT, "states": len(arrays["row"]), "ranks": ranks_of(arrays, arrays["outcome"], cache)}


def branched_ranks(place: Place, row: str, seed: int) -> dict[str, Any] | None:
    """Drive every candidate of the states from the states on, and return the branched ranks; None where the time was over.

    Outcomes that are there for these very states are kept. Raises TrainingError where the data set says nothing of its
    episodes, `wpt-sim branch` fails, or for a reference teacher.
    """
    require_whole_trajectories(place, row)
    with np.load(place.folder("outcomes", row, seed) / STATES_FILE, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    folder, cache = place.folder("branches", row, seed), place.cache(SPLIT)
    states, results = folder / BRANCH_FILE, folder / BRANCHED_FILE
    states.write_text(
        json.dumps(branch_states(place, cache, arrays["row"], arrays["positions"])) + "\n", encoding="utf-8"
    )
    # It leaves out what the results hold of these states, and drives all again where they are of others.
    command = [wpt_sim(), "branch", "--states", str(states), "--out", str(results)]
    limit = None if place.minutes is None else 60.0 * place.minutes
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return None
    by_token = _outcomes_of(states, results)
    if by_token is None:
        raise TrainingError(f"wpt-sim branch failed for {row} with code {done.returncode}: its output is above.")
    outcome = np.full(arrays["outcome"].shape, np.nan)
    elsewhere = 0
    for index, number in enumerate(arrays["row"].tolist()):
        result = by_token.get(cache.tokens[number])
        # Written so that NaN is elsewhere too.
        if result is None or not (result["off_by_m"] is None or result["off_by_m"] <= SAME_PLACE_M):
            elsewhere += 1
        else:
            outcome[index] = branched_outcome(result)
    usable = np.isfinite(outcome).all(axis=1)
    if not usable.any():
        raise TrainingError(f"none of {len(usable)} states of {row} could be driven on: look at {results}.")
    chosen = {name: values[usable] for name, values in arrays.items()}
    chosen["log-replayed outcome"] = chosen.pop("outcome")
    expert = [by_token[cache.tokens[number]]["expert"] for number in chosen["row"].tolist()]
    broken = sum(entry["collision"] or entry["outside"] or entry["rules"] for entry in expert)
    return {
        "split": SPLIT,
        "states": int(usable.sum()),
        "states_left_out": int((~usable).sum()),
        "states_elsewhere": elsewhere,
        "driver_infractions": int(broken),
        "ranks": ranks_of(chosen, outcome[usable], cache),
    }


def _outcomes_of(states: Path, results: Path) -> dict[str, Any] | None:
    """Return results by token; None where there are none of this file of states."""
    if not results.exists():
        return None
    document = json.loads(results.read_text(encoding="utf-8"))
    sha256 = hashlib.sha256(states.read_bytes()).hexdigest()
    return document["states"] if document.get("states_sha256") == sha256 else None


def branch_states(place: Place, cache: SampleCache, rows: np.ndarray, positions: np.ndarray) -> dict[str, Any]:
    """Return the file that `wpt-sim branch` reads, for rows (N,) of a cache and candidates (N, K, T, 2).

    Raises TrainingError for data without scenes.json, as `wpt-sim dataset` writes beside the tables.
    """
    version = place.versions[SPLIT]
    path = place.data / version / "scenes.json"
    try:
        scenes = json.loads(path.read_text(encoding="utf-8"))["scenes"]
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"{path} cannot be read ({error}), so no episode is known to branch from: give data of wpt-sim dataset."
        ) from None
    tables = NuScenesTables.load(place.data, version)
    poses = {name: load_scene(tables, name).poses for name in {str(cache.scene_of[number]) for number in rows}}
    stamps = cache.field("reference_ns", rows)
    states = []
    for number, stamp, plans in zip(rows.tolist(), stamps.tolist(), positions, strict=True):
        token, name = cache.tokens[number], str(cache.scene_of[number])
        scene = scenes[name]
        place_of_ego = poses[name].at(stamp)[:2, 3] - np.asarray(scene["global_minus_map"])
        states.append(
            {
                "id": token,
                "episode": scene["episode"],
                "time_s": (stamp / 1_000 - scene["epoch_us"]) / 1e6,
                "ego": place_of_ego.tolist(),
                "plans": np.round(plans.astype(float), 4).tolist(),
            }
        )
    return {"format": 1, "states": states}


def ranks_of(arrays: Mapping[str, np.ndarray], outcome: np.ndarray, cache: SampleCache) -> dict[str, Any]:
    """Return for every score (N, K) among the arrays how it ranks outcomes (N, K): the mean over states of Spearman's
    correlation with its 95 % interval (bootstrap over scenes), and the mean outcome of the candidate that it puts first.

    States whose candidates all turn out alike, or are all scored alike, have no correlation and are counted apart.
    """
    scenes = cache.scene_of[arrays["row"]]
    truth = torch.from_numpy(outcome)
    alike = np.ptp(outcome, axis=1) < 1e-9
    found: dict[str, Any] = {}
    for name, scores in arrays.items():
        if name in ("row", "positions", "outcome"):
            continue
        values = torch.from_numpy(scores)
        each = [spearman(values[i], truth[i]) for i in range(len(truth))]
        known = np.array([value is not None for value in each])
        entry: dict[str, Any] = {
            "states": int(known.sum()),
            "first": float(truth.gather(1, choose(values).unsqueeze(1)).mean()),
        }
        if known.any():
            entry |= _mean_over_scenes(np.array([value for value in each if value is not None]), scenes[known])
        found[name] = entry
    return {
        "by": found,
        "states_all_alike": int(alike.sum()),
        "scenes": len(set(scenes.tolist())),
        "mean_outcome": float(outcome.mean()),
        "best_outcome": float(outcome.max(axis=1).mean()),
    }


def _mean_over_scenes(values: np.ndarray, scenes: np.ndarray) -> dict[str, float]:
    """Mean with percentiles of means over scenes drawn with replacement."""
    _, number = np.unique(scenes, return_inverse=True)
    sums, counts = np.bincount(number, weights=values), np.bincount(number)
    drawn = np.random.default_rng(0).integers(len(counts), size=(DRAWS, len(counts)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return {"spearman": float(values.mean()), "low": float(low), "high": float(high)}
