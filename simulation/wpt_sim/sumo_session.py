"""The one SUMO simulation of this process.

libsumo keeps its simulation in global state: a second `start` would replace the first without a word. So
this module lends it to one owner at a time. It is imported lazily: everything else of the world works
without libsumo.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from wpt_sim.episode import DT

# --collision.action none: contacts are judged by us. --time-to-teleport -1: nobody vanishes from a queue.
# --lanechange.duration: without it a lane change is a jump sideways. --insertion-checks none: a vehicle
# starts where and
# when it is told to (its place was checked by us), or SUMO holds it back for seconds before a junction.
# Checks of routes and schemas cost start-up time only.
OPTIONS = (
    "--step-length", str(DT), "--collision.action", "none", "--time-to-teleport", "-1",
    "--lanechange.duration", "2.5", "--no-step-log", "true", "--no-warnings", "true", "--xml-validation",
    "never",
    "--xml-validation.net", "never", "--duration-log.disable", "true", "--default.speeddev", "0",
    "--step-method.ballistic", "true", "--insertion-checks", "none",
)  # fmt: skip
_owner: object | None = None


class TrafficError(RuntimeError):
    """The traffic cannot run: libsumo is missing, or another simulation of this process is open."""


def import_libsumo() -> ModuleType:
    """Raises TrafficError where it is not installed."""
    try:
        import libsumo
    except ImportError as error:
        raise TrafficError(
            f"libsumo cannot be imported ({error}): install libsumo==1.28.0 to run traffic; rendering and "
            "reading logs need none."
        ) from error
    return libsumo


def open_session(owner: object, network: Path, seed: int) -> ModuleType:
    """Start SUMO for `owner`; returns libsumo. Raises TrafficError while another owner holds it."""
    global _owner
    libsumo = import_libsumo()
    if _owner is not None and _owner is not owner:
        raise TrafficError(
            "another Traffic of this process is open (libsumo runs one simulation per process): "
            "close() it first or use another process."
        )
    if _owner is owner:
        libsumo.close()
        _owner = None
    libsumo.start(["sumo", "-n", str(network), "--seed", str(seed % 2**31), *OPTIONS])
    _owner = owner
    return libsumo


def close_session(owner: object) -> None:
    """End the simulation of `owner`; does nothing where it holds none."""
    global _owner
    if _owner is owner:
        import_libsumo().close()
        _owner = None
