"""What publishers offer against what the planner subscribes with, for players of bags and for live
publishers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rosbags.interfaces import Qos, QosDurability, QosReliability

from wpt_replay.check_report import Finding, fail, ok, warn

# As wpt_planner/topics.py subscribes: sensor topics best effort and volatile, which every publisher matches;
# /tf_static twice, reliable, once transient local and once volatile.
DEFAULT_DEPTH = 10
REPEATED_S = 10.0  # /tf_static that comes at least so often reaches a volatile subscription soon enough


class OfferedQos(NamedTuple):
    """reliability: reliable, best_effort; durability: volatile, transient_local. publisher: node name,
    empty in bags.
    """

    reliability: str
    durability: str
    publisher: str = ""

    @property
    def latched(self) -> bool:
        return self.durability == "transient_local"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A topic that a bag holds or a vehicle publishes. count: messages in the bag, None live."""

    name: str
    type_name: str
    count: int | None
    qos: tuple[OfferedQos, ...]

    @property
    def is_empty(self) -> bool:
        return self.count == 0


def offered_by_bag(profiles: Iterable[Qos]) -> tuple[OfferedQos, ...]:
    """Return the recorded profiles in words; policies that a bag leaves open are the defaults: reliable,
    volatile.
    """
    return tuple(
        OfferedQos(
            "best_effort" if profile.reliability is QosReliability.BEST_EFFORT else "reliable",
            "transient_local" if profile.durability is QosDurability.TRANSIENT_LOCAL else "volatile",
        )
        for profile in profiles
    )


def replayed_by_rosbag2(offered: tuple[OfferedQos, ...]) -> OfferedQos:
    """Return what `ros2 bag play` offers: the recorded profile where all agree, else the default.

    Rosbag2QoS::adapt_offer_to_recorded_offers (ros2/rosbag2, rosbag2_storage/src/rosbag2_storage/qos.cpp).
    """
    kinds = {profile[:2] for profile in offered}
    return offered[0] if len(kinds) == 1 else OfferedQos("reliable", "volatile")


def judge_subscriptions(
    offers: Iterable[Offer], overrides: Mapping[str, str], *, live: bool
) -> list[Finding]:
    """Compare input topics (not /tf_static) with the planner's subscriptions.

    Those are best effort and volatile, so only an override by the user's parameters can be incompatible.
    """
    findings = []
    for offer in offers:
        requested = OfferedQos(
            overrides.get(f"qos_overrides.{offer.name}.subscription.reliability", "best_effort"),
            overrides.get(f"qos_overrides.{offer.name}.subscription.durability", "volatile"),
        )
        for profile in dict.fromkeys(offer.qos if live else (replayed_by_rosbag2(offer.qos),)):
            policy = _incompatible(profile, requested)
            if policy is None:
                continue
            who = f"{profile.publisher} offers" if profile.publisher else "it is offered"
            findings.append(
                fail(
                    offer.name,
                    f"incompatible QoS, {policy}: {who} {getattr(profile, policy)} and qos_overrides ask for "
                    f"{getattr(requested, policy)}, so nothing would arrive",
                    f"remove qos_overrides.{offer.name}.subscription.{policy} from the planner's parameters",
                )
            )
    return findings


def judge_static_transforms(
    offer: Offer | None, *, first_s: float | None, interval_s: float | None, live: bool
) -> list[Finding]:
    """Judge how /tf_static reaches the planner.

    first_s: seconds from the first image to the first /tf_static message, None without one. interval_s: mean
    interval of its messages, None below two. The planner has two subscriptions, both reliable: a latched one,
    which a volatile publisher never matches, and a volatile one, which gets what is sent while it listens.
    """
    if offer is None or offer.is_empty or (first_s is None and not live):
        return []  # the frames are judged elsewhere, with a remedy for each camera
    profiles = offer.qos if live else (replayed_by_rosbag2(offer.qos),)
    best_effort = [profile for profile in profiles if profile.reliability == "best_effort"]
    if best_effort:
        who = (
            ", ".join(profile.publisher for profile in best_effort if profile.publisher)
            or "the recorded publisher"
        )
        return [
            fail(
                "/tf_static",
                f"incompatible QoS, reliability: {who} offers best_effort and the planner asks for reliable",
                "publish it reliable and transient_local, as tf2's StaticTransformBroadcaster does"
                + ("" if live else f"; for this bag: {_overrides_remedy()}"),
            )
        ]
    if all(profile.latched for profile in profiles):
        findings = [ok("/tf_static", "is offered transient_local: a planner that starts late still gets it")]
    else:
        findings = [_volatile(profiles, interval_s, first_s, live)]
    if not live and first_s is not None and first_s > 1.0:
        findings.append(
            warn(
                "/tf_static",
                f"first comes {first_s:.1f} s after the first image, and until then no set is planned on",
                "start the recording after the vehicle's own nodes, or play with `wpt-replay play`, which"
                " sends it ahead",
            )
        )
    return findings


def _volatile(
    profiles: tuple[OfferedQos, ...], interval_s: float | None, first_s: float | None, live: bool
) -> Finding:
    who = ", ".join(p.publisher for p in profiles if not p.latched and p.publisher)
    is_mixed = any(
        profile.latched for profile in profiles
    )  # then the interval is not that of the volatile one
    if not is_mixed and interval_s is not None and interval_s <= REPEATED_S:
        return ok(
            "/tf_static", f"is volatile and repeated every {interval_s:.1f} s: plans begin after the next one"
        )
    if live and first_s is None:
        return fail(
            "/tf_static",
            f"is offered volatile by {who} and was not sent while we listened: a planner that starts now"
            " never gets it",
            "publish it with durability transient_local (tf2's StaticTransformBroadcaster does), or start the"
            " planner before that node",
        )
    if live:
        return warn(
            "/tf_static",
            f"is offered volatile by {who}: only a planner that listens when it is sent gets it",
            "publish it with durability transient_local, as tf2's StaticTransformBroadcaster does",
        )
    return warn(
        "/tf_static",
        "was recorded volatile: the planner's latched subscription never matches it, its volatile one gets it"
        " only if it listens already, and `ros2 bag play` sends it once at the start, mostly before it has"
        " found its subscribers (ros2/rosbag2#1049)",
        f"play with `wpt-replay play`, which waits for the planner first, or {_overrides_remedy()}, or record"
        " it again transient_local",
    )


def _overrides_remedy() -> str:
    return (
        "`ros2 bag play --qos-profile-overrides-path FILE` with `/tf_static: {history: keep_last, depth: 100,"
        " reliability: reliable, durability: transient_local}` in FILE"
    )


def _incompatible(offered: OfferedQos, requested: OfferedQos) -> str | None:
    """Return the policy by which DDS keeps the two apart, or None."""
    if requested.reliability == "reliable" and offered.reliability == "best_effort":
        return "reliability"
    if requested.durability == "transient_local" and not offered.latched:
        return "durability"
    return None
