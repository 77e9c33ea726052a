"""Scores of a closed-loop run by the rules of CARLA's leaderboard and of Bench2Drive, from route results
alone.

Two rule sets: "b2d" (Bench2Drive, which uses the factors of Leaderboard 2.0 without the speed factor;
default) and "lb21" (Leaderboard 2.1). Written from a description of the rules, not from those projects'
scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wpt_sim.errors import SimulationError
from wpt_sim.route_result import ENDS_THE_ROUTE, InfractionKind, RouteResult, RouteStatus

RULES = ("b2d", "lb21")
# Multiplied once per event (Bench2Drive v0.0.4; the same numbers as Leaderboard 2.0).
B2D_FACTORS: Mapping[InfractionKind, float] = {
    InfractionKind.COLLISION_PEDESTRIAN: 0.50,
    InfractionKind.COLLISION_VEHICLE: 0.60,
    InfractionKind.COLLISION_STATIC: 0.65,
    InfractionKind.RED_LIGHT: 0.70,
    InfractionKind.STOP_SIGN: 0.80,
    InfractionKind.SCENARIO_TIMEOUT: 0.70,
    InfractionKind.EMERGENCY_VEHICLE: 0.70,
}
# Added up once per event; the penalty is 1 / (1 + sum) (Leaderboard 2.1).
LB21_COEFFICIENTS: Mapping[InfractionKind, float] = {
    InfractionKind.COLLISION_PEDESTRIAN: 1.00,
    InfractionKind.COLLISION_VEHICLE: 0.70,
    InfractionKind.COLLISION_STATIC: 0.60,
    InfractionKind.RED_LIGHT: 0.40,
    InfractionKind.STOP_SIGN: 0.25,
    InfractionKind.SCENARIO_TIMEOUT: 0.40,
    InfractionKind.EMERGENCY_VEHICLE: 0.40,
}
LB21_TOO_SLOW = 0.40
ABILITIES = ("merging", "overtaking", "emergency_brake", "give_way", "traffic_signs")
# A speed ratio beyond this (traffic nearly at standstill) says nothing and is dropped (Bench2Drive: 1000 %).
HIGHEST_SPEED_RATIO = 10.0


class ScoringError(SimulationError):
    """Unknown rules, or results that do not belong together."""


def penalty(
    counts: Mapping[InfractionKind, int],
    outside_share: float,
    rules: str = "b2d",
    speed_ratio: float | None = None,
) -> float:
    """Return the factor 0..1 on a route's completion.

    counts: events by kind. outside_share: 0..1 of the distance driven. speed_ratio: ego over traffic, None
    when unknown; only lb21 looks at it. Raises ScoringError.
    """
    _check_rules(rules)
    lanes = 1.0 - outside_share
    if rules == "b2d":
        product = lanes
        for kind, factor in B2D_FACTORS.items():
            product *= factor ** counts.get(kind, 0)
        return product
    total = sum(coefficient * counts.get(kind, 0) for kind, coefficient in LB21_COEFFICIENTS.items())
    if speed_ratio is not None:
        total += LB21_TOO_SLOW * max(0.0, 1.0 - speed_ratio)
    return lanes / (1.0 + total)


def route_penalty(result: RouteResult, rules: str = "b2d") -> float:
    """Return the penalty factor of one route."""
    counts = {kind: result.count(kind) for kind in InfractionKind}
    ratios = _usable(result.speed_ratios)
    return penalty(counts, result.outside_share, rules, sum(ratios) / len(ratios) if ratios else None)


def driving_score(result: RouteResult, rules: str = "b2d") -> float:
    """Return one route's driving score, 0..100."""
    return 100.0 * result.completion * route_penalty(result, rules)


def is_success(result: RouteResult) -> bool:
    """Bench2Drive: Completed or Perfect, without an infraction of any kind except driving too slowly.

    Speed is no infraction here at all (it is in `speed_ratios`), nor is a follower that ran into the ego.
    """
    return result.status is not RouteStatus.FAILED and not result.infractions


def route_efficiency(result: RouteResult) -> float | None:
    """Return the mean of 100 x ego speed / traffic speed over the checkpoints; may exceed 100; None without
    any.
    """
    ratios = _usable(result.speed_ratios)
    return 100.0 * sum(ratios) / len(ratios) if ratios else None


def shows_ability(result: RouteResult) -> bool:
    """Whether a route counts for its ability.

    A success does. In traffic signs a failed route still does when it got past its first junction without a
    red-light or stop event (Bench2Drive: what went wrong later says nothing about signs).
    """
    if is_success(result):
        return True
    if result.family != "traffic_signs" or not result.past_first_junction:
        return False
    return not (result.count(InfractionKind.RED_LIGHT) or result.count(InfractionKind.STOP_SIGN))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Scores of a run. driving_score 0..100; success_rate, abilities, comfort 0..100 (percent).

    routes: number asked for, missing ones included; driven: number that have a result. efficiency, comfort:
    over routes that have them, None where none has. abilities: by family in ABILITIES that was asked for;
    ability_mean is their mean. family_scores: driving score by family, success_by_family: percent.
    planner_failures: routes that ended by the planner's fault.
    """

    rules: str
    routes: int
    driven: int
    driving_score: float
    success_rate: float
    completion: float
    efficiency: float | None
    comfort_b2d: float | None
    comfort_si: float | None
    abilities: Mapping[str, float]
    ability_mean: float | None
    family_scores: Mapping[str, float]
    success_by_family: Mapping[str, float]
    rear_end_hits: int
    planner_failures: int


def summarise(
    results: Sequence[RouteResult], expected: Mapping[str, int] | None = None, rules: str = "b2d"
) -> Summary:
    """Score a run.

    expected: routes asked for by family; what is missing counts 0 (Bench2Drive always divides by its 220).
    None: as many as there are results. Raises ScoringError for more results than expected or one route twice.
    """
    _check_rules(rules)
    names = [result.name for result in results]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ScoringError(f"route {twice} has two results, expected one: score one run at a time.")
    driven = _count(result.family for result in results)
    asked = dict(driven if expected is None else expected)
    for family, number in driven.items():
        if number > asked.get(family, 0):
            raise ScoringError(
                f"{number} results of family {family} are there, but {asked.get(family, 0)} routes were "
                "asked for: give the routes that were driven."
            )
    total = sum(asked.values())

    def share(values: Iterable[float], of: int) -> float:
        return sum(values) / of if of else 0.0

    def family(name: str) -> list[RouteResult]:
        return [result for result in results if result.family == name]

    abilities = {
        name: 100.0 * share((shows_ability(result) for result in family(name)), asked[name])
        for name in ABILITIES
        if asked.get(name)
    }
    return Summary(
        rules=rules,
        routes=total,
        driven=len(results),
        driving_score=share((driving_score(result, rules) for result in results), total),
        success_rate=100.0 * share((is_success(result) for result in results), total),
        completion=100.0 * share((result.completion for result in results), total),
        efficiency=_mean(route_efficiency(result) for result in results),
        comfort_b2d=_percent(_mean(result.comfort_b2d for result in results)),
        comfort_si=_percent(_mean(result.comfort_si for result in results)),
        abilities=abilities,
        ability_mean=_mean(abilities.values()),
        family_scores={
            name: share((driving_score(result, rules) for result in family(name)), number)
            for name, number in asked.items()
            if number
        },
        success_by_family={
            name: 100.0 * share((is_success(result) for result in family(name)), number)
            for name, number in asked.items()
            if number
        },
        rear_end_hits=sum(len(result.rear_end_hits) for result in results),
        planner_failures=sum(result.count(InfractionKind.PLANNER_FAILURE) for result in results),
    )


def ended_by(result: RouteResult) -> InfractionKind | None:
    """Return what ended a route before its goal, None for one that was completed."""
    return next((entry.kind for entry in result.infractions if entry.kind in ENDS_THE_ROUTE), None)


def _check_rules(rules: str) -> None:
    if rules not in RULES:
        raise ScoringError(f"score rules {rules!r} are unknown: choose one of {', '.join(RULES)}.")


def _usable(ratios: Iterable[float]) -> list[float]:
    return [ratio for ratio in ratios if ratio <= HIGHEST_SPEED_RATIO]


def _count(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _percent(value: float | None) -> float | None:
    return None if value is None else 100.0 * value
