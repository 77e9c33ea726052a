"""The whole chain on a few made-up keyframes: every job of a table, then the tables."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from wpt_scenes.factory import FACTORY_VERSION, write_factory_scene

from wpt_training.configuration import RULES, Schedule
from wpt_training.data.synthetic_batch import small_config
from wpt_training.errors import TrainingError
from wpt_training.evaluation.predictions import load_plans
from wpt_training.experiments.closed_loop import planner_of
from wpt_training.experiments.job_run import JOBS, Place, run_job
from wpt_training.experiments.jobs import REPORTS, facts_of, is_done, job_folder, jobs_of, mark_done
from wpt_training.experiments.open_loop import load_scores
from wpt_training.experiments.results import write_results

SHORT = Schedule(samples=8, batch=4)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Tier A with one seed, run to its end without the closed loop."""
    root = tmp_path_factory.mktemp("chain")
    write_factory_scene(root / "data", keyframes=16, sweeps=False, image_size=(128, 72))
    config = small_config().with_(
        perception_stage=SHORT, world_stage=SHORT, teacher_stage=SHORT, student_stage=SHORT
    )
    place = Place(
        config=config,
        runs=root / "runs" / "small",
        data=root / "data",
        versions=dict.fromkeys(("train", "dev", "test"), FACTORY_VERSION),
    )
    for job in jobs_of("A", config, seeds=[1], drive=False):
        assert run_job(place, job.name), job.name
    return place


def test_every_job_is_done_and_says_what_it_cost(chain: Place) -> None:
    for job in jobs_of("A", chain.config, seeds=[1], drive=False):
        facts = facts_of(chain.runs, job.name)
        assert facts["job"] == job.name and facts["seconds"] >= 0.0
    for split in ("train", "dev", "test"):
        found = facts_of(chain.runs, f"candidates-{split}:teacher@1")["candidates"]
        assert {"all", "rank", "head_auroc"} <= set(found)
        assert 0.0 < found["rank"]["rank_oracle_m"] < found["rank"]["rank_random_m"]
    assert facts_of(chain.runs, "world-report")["report"]["samples"] > 0


def test_heads_are_judged_on_candidates_and_on_the_plans_of_both_students(chain: Place) -> None:
    facts = facts_of(chain.runs, "heads:teacher@1")
    assert set(facts["heads"]) == {"candidates", "baseline", "full"}
    on_candidates, on_plans = facts["heads"]["candidates"], facts["heads"]["full"]
    assert set(on_candidates) == {*RULES, "imitation"} and set(on_plans) == set(RULES)
    assert on_plans["NC"]["count"] == facts["samples"]
    assert on_candidates["NC"]["count"] == facts["samples"] * chain.config.teacher.candidates
    assert sum(entry["count"] for entry in on_plans["EP"]["bins"]) == facts["samples"]
    assert 0.0 <= on_plans["NC"]["base_rate"] <= 1.0


def test_slopes_say_where_eq_16_pushes_the_plans_of_the_baseline(chain: Place) -> None:
    facts = facts_of(chain.runs, "slopes:teacher@1")
    assert facts["student"] == "baseline" and set(facts["slopes"]) == {"as printed", "smoothed"}
    for by_target in facts["slopes"].values():
        assert set(by_target) == {"truth", "teacher"}
        for found in by_target.values():
            assert set(found) == {"gradient_norm", "cosine", "distance_m", *RULES}
            assert found["gradient_norm"] >= 0.0 and -1.0 <= found["cosine"] <= 1.0
            assert abs(found["distance_m"]) <= facts["moved_m"] + 1e-6 and all(abs(found[rule]) <= 1.0 for rule in RULES)


def test_outcomes_keep_their_states_and_rank_them(chain: Place) -> None:
    facts = facts_of(chain.runs, "outcomes:teacher@1")
    with np.load(job_folder(chain.runs, "outcomes:teacher@1") / "states.npz") as file:
        assert file["reward"].shape == file["outcome"].shape == (facts["states"], chain.config.teacher.candidates)
        assert 0.0 <= file["outcome"].min() and file["outcome"].max() <= 1.0
    assert {"reward", "imitation", "confidence", "head NC"} <= set(facts["ranks"]["by"])
    # The factory's scenes have no episodes to branch from.
    with pytest.raises(TrainingError, match="scenes.json"):
        run_job(chain, "branches:teacher@1")


def of_one_displacement_a_step(chain: Place) -> Place:
    teacher = dataclasses.replace(chain.config.teacher, kind="reference")
    return dataclasses.replace(chain, config=chain.config.with_(teacher=teacher))


def test_a_teacher_without_whole_trajectories_has_no_reports(chain: Place) -> None:
    place = of_one_displacement_a_step(chain)
    for kind in REPORTS:
        with pytest.raises(TrainingError, match="no whole trajectories") as caught:
            JOBS[kind](place, "teacher", 1)
        assert "\n" not in str(caught.value)


def test_only_the_first_process_of_several_reports(chain: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    for kind in REPORTS:
        assert run_job(chain, f"{kind}:teacher@9")
        assert not job_folder(chain.runs, f"{kind}:teacher@9").exists()


def test_every_row_has_a_plan_for_every_judged_sample(chain: Place) -> None:
    expert = load_plans(job_folder(chain.runs, "evaluate:expert") / "plans.npz")
    for name in ("stop", "constant_velocity", "ego-mlp", "truth-bev", "truth-bev-motion", "baseline@1", "policy@1", "full@1", "teacher@1"):
        plans = load_plans(job_folder(chain.runs, f"evaluate:{name}") / "plans.npz")
        assert plans.keys() == expert.keys()
    by_oracle = load_plans(job_folder(chain.runs, "evaluate:teacher@1") / "plans-by-oracle.npz")
    assert by_oracle.keys() == expert.keys()


def test_the_tables_hold_what_was_run_and_mark_what_was_not(chain: Place, tmp_path: Path) -> None:
    table = write_results(chain, "AB", tmp_path, "wpt-train paper --config small", variants=True)
    text = table.read_text()
    assert "wpt-train paper --config small" in text
    assert "| 1 of 3 |" in text and "| 0 of 3 | not run" in text
    results = json.loads(table.with_suffix(".json").read_text())
    assert results["rows"]["expert"]["l2"] == pytest.approx(0.0, abs=1e-6)
    assert results["rows"]["full"]["seeds"] == [1] and results["rows"]["teacher-plain"]["seeds"] == []
    assert results["rows"]["full"]["driven_seeds"] == []
    assert results["variants"]["full"]["planners"].keys() >= {"full"}
    assert "no claim (1 of 3 seeds" in text and "branched: not run." in text
    reports = results["teacher_reports"]
    assert set(reports) == {"1"} and set(reports["1"]["candidates"]) == {"train", "dev", "test"}
    assert reports["1"]["heads"]["heads"] and "| smoothed | teacher |" in text and reports["1"]["branches"] is None
    variants = reports["1"]["variants"]
    assert variants["teacher"]["rank"]["rank_chosen_m"] > 0.0 and variants["teacher-plain"] is None
    assert "| teacher | 1 | " in text and "| teacher without TTC | not run |" in text
    assert results["rows"]["truth-bev"]["seeds"] == [0]
    assert table.with_suffix(".png").stat().st_size > 1000
    scores = load_scores(job_folder(chain.runs, "evaluate:full@1") / "scores.npz")
    known = np.isfinite(scores.distance)
    assert results["rows"]["full"]["l2_per_step"][0] == pytest.approx(scores.distance[known[:, 0], 0].mean())


def test_runs_from_before_the_reports_still_make_tables(chain: Place, tmp_path: Path) -> None:
    old = dataclasses.replace(chain, runs=tmp_path / "old" / "small")
    shutil.copytree(chain.runs, old.runs)
    (old.runs.parent / "samples").symlink_to(chain.runs.parent / "samples")
    figures = facts_of(old.runs, "candidates-dev:teacher@1")["candidates"]
    for kind in ("candidates-train", "candidates-dev", "candidates-test", "heads", "slopes", "outcomes", "truth-bev"):
        shutil.rmtree(old.runs / kind)
    for row in ("truth-bev", "truth-bev-motion"):
        shutil.rmtree(job_folder(old.runs, f"evaluate:{row}"))
    # The teacher's own facts held what dev told of its candidates.
    facts = facts_of(old.runs, "teacher:teacher@1")
    mark_done(old.runs, "teacher:teacher@1", {**facts, "candidates": figures})
    text = write_results(old, "A", tmp_path / "out", "wpt-train paper", variants=False).read_text()
    assert "| | wanted | dev, all |" in text and "Not run: train, test." in text
    assert "log-replayed: not run." in text and "plans of students: not run." in text
    assert "at a student's plans: not run." in text
    assert "| imitation from the true bird's-eye view (visible part) | - | 0 of 1 | not run" in text


def test_trained_rows_become_planners(chain: Place) -> None:
    bundle = Path(planner_of(chain, "full", 1))
    assert (bundle / "policy.json").exists() and (bundle / "README.md").exists()
    kind, _, folder = planner_of(chain, "teacher", 1).partition(":")
    assert kind == "wpt_teacher" and (Path(folder) / "teacher.json").exists()
    assert planner_of(chain, "expert", 0) == "expert_plan"
    with pytest.raises(TrainingError, match="nobody"):
        planner_of(chain, "nobody", 1)


def test_a_longer_baseline_gets_the_time_of_the_chain(chain: Place) -> None:
    assert run_job(chain, "student:baseline-long@1")
    chain_seconds = sum(
        facts_of(chain.runs, name)["seconds"]
        for name in ("world-perception", "frozen", "world", "teacher:teacher@1", "student:full@1")
    )
    pace = facts_of(chain.runs, "student:baseline@1")["seconds"] / SHORT.samples
    seen = facts_of(chain.runs, "student:baseline-long@1")["samples_seen"]
    assert seen == pytest.approx(chain_seconds / pace, abs=SHORT.batch)


def test_runs_of_another_configuration_are_not_mixed_in(chain: Place) -> None:
    other = dataclasses.replace(
        chain, config=chain.config.with_(student_stage=Schedule(samples=16, batch=4))
    )
    with pytest.raises(TrainingError, match="another configuration"):
        run_job(other, "student:full@2")
    assert not is_done(chain.runs, "student:full@2")


def test_an_unknown_job_is_named(chain: Place) -> None:
    with pytest.raises(TrainingError, match="'bake:full@1'"):
        run_job(chain, "bake:full@1")
