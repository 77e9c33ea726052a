"""Where the rules of the road make the expert stop: signals, stop signs, zones not to stand in."""

from __future__ import annotations

import numpy as np

from wpt_sim.expert_junctions import EGO_FRONT, RouteJunction, route_crossings, route_junctions
from wpt_sim.expert_path import Path, SideStep
from wpt_sim.observation import Observation
from wpt_sim.road_map import Priority, RoadMap
from wpt_sim.route import Route
from wpt_sim.vehicles import EGO_REAR_OVERHANG
from wpt_sim.world_state import SignalColour

BEFORE_LINE = 1.0  # metres between the front bumper and the line
YELLOW_TIME = 2.6  # seconds of yellow in which the whole car must be over the line; signals show it for 3 s
FIRM_BRAKING = 4.0  # m/s2: a yellow that needs more is driven through
ENTRY_SPEED = 4.5  # m/s
BEFORE_CROSSING = 1.2  # metres: walkers do not pass a bumper that is nearer
ASIDE = 0.45  # metres beside the route from which a stepping aside must be carried through
HALTED = 0.08  # m/s
AT_LINE = 3.8  # metres before the line within which a halt counts
BEHIND_LINE = EGO_REAR_OVERHANG + 1.2  # metres of base_link past the line until the tail is over it
# Metres between line and conflict: with less, one waits before the line and not behind it.
SMALLEST_ROOM = 5.0


class Rules:
    """Keeps what must be remembered of one drive: which yellow is driven through, at which stop line it has
    halted.
    """

    def __init__(self, road_map: RoadMap, route: Route):
        self.junctions = route_junctions(road_map, route)
        self._crossings = route_crossings(road_map, route)
        self._yellow: dict[int, bool] = {}
        self._halted: set[int] = set()

    def ahead(self, s: float, reach: float = 60.0) -> list[RouteJunction]:
        """Junctions whose way the ego is on or comes to within `reach` metres."""
        return [j for j in self.junctions if j.end_s + EGO_REAR_OVERHANG + 3.0 > s and j.line_s < s + reach]

    def walls(self, observation: Observation) -> list[float]:
        """Route metres of base_link not to be passed now."""
        s, speed = observation.s, observation.ego.speed
        found = []
        for number, junction in enumerate(self.junctions):
            line = junction.line_s - EGO_FRONT
            if line + 0.6 < s or line > s + 60.0:
                if line + 0.6 < s:
                    self._yellow.pop(number, None)
                continue
            if junction.must_stop and number not in self._halted:
                if speed < HALTED and line - s < AT_LINE:
                    self._halted.add(number)
                else:
                    found.append(line - BEFORE_LINE)
            if junction.connection.signal is not None and self._stops_for_signal(
                number, junction, observation
            ):
                found.append(line - BEFORE_LINE)
        return [max(wall, s) if wall > s - 2.0 else wall for wall in found]

    def _stops_for_signal(self, number: int, junction: RouteJunction, observation: Observation) -> bool:
        colour = observation.signals.get((junction.connection.signal, junction.connection.link))
        if colour is SignalColour.YELLOW:
            if number not in self._yellow:
                rest = max(junction.line_s - EGO_FRONT - observation.s, 0.0)
                speed = observation.ego.speed
                passes = (rest + EGO_FRONT + BEHIND_LINE) / max(speed, 0.1) < YELLOW_TIME
                stops = speed**2 / (2 * max(rest - 0.3, 0.1)) < FIRM_BRAKING
                self._yellow[number] = passes or not stops
            return not self._yellow[number]
        if colour is SignalColour.RED:
            return True
        self._yellow.pop(number, None)
        return False

    def kept_clear(self, path: Path, contact: np.ndarray, s: float, speed: float) -> list[float]:
        """Route metres before (or in) junctions not to be passed now: somebody stands on the way through.

        contact: (T, N) of the path's space and time. One who waits in a junction cannot go while the ego
        stands in its way, and the other way round: seen as both waiting for a minute.
        """
        stays = contact[::4].all(0)
        stations = path.start + np.arange(len(path.x))
        found = []
        for junction in self.junctions:
            if junction.conflict_s is None:
                continue
            wall = self._zone_begin(junction) - 0.4
            inside = (stations > junction.line_s - EGO_FRONT) & (
                stations < junction.end_s + EGO_REAR_OVERHANG
            )
            if (stays & inside)[1:].any() and not stays[0]:
                # Beyond the zone's begin already: no nearer than now, so that the other may find a way out.
                found.append(max(wall, s + speed**2 / (2 * FIRM_BRAKING)))
        return found

    def slow_entries(self, s: float) -> list[tuple[float, float]]:
        """(route metres, m/s) before junctions at which the ego yields by sign, to look and to stop."""
        return [
            (self._zone_begin(junction) - 2.0, ENTRY_SPEED)
            for junction in self.junctions
            if junction.connection.priority is Priority.YIELD
            and junction.conflict_s is not None
            and s < self._zone_begin(junction) - 1.0
        ]

    def _zone_begin(self, junction: RouteJunction) -> float:
        """Route metres of base_link from which the front is among the ways that cross."""
        begin = junction.conflict_s[0] - EGO_FRONT
        held = junction.connection.priority in (Priority.SIGNAL, Priority.STOP)
        if held and begin < junction.line_s + BEHIND_LINE + SMALLEST_ROOM:
            return junction.line_s - EGO_FRONT + 0.2
        return begin

    def no_standing(self, path: Path, step: SideStep | None) -> np.ndarray:
        """(N,) bool per path sample: base_link should not halt there."""
        stations = path.start + np.arange(len(path.x))
        # Who waits half beside its lane stands head to head with who comes: neither can go then.
        zone = np.abs(step.at(stations)) > ASIDE if step is not None else np.zeros(len(stations), dtype=bool)
        for junction in self.junctions:
            line_from, line_to = junction.line_s - EGO_FRONT + 0.2, junction.line_s + BEHIND_LINE
            if junction.connection.priority in (Priority.SIGNAL, Priority.STOP):
                zone |= (stations > line_from) & (stations < line_to)
            if junction.conflict_s is not None:
                begin, last = self._zone_begin(junction), junction.conflict_s[1]
                zone |= (stations > begin) & (stations < last + EGO_REAR_OVERHANG)
        for _, first, last in self._crossings:
            begin = first - EGO_FRONT - BEFORE_CROSSING
            for junction in self.junctions:
                if begin < junction.line_s - EGO_FRONT < first:  # at a stop line one may always wait
                    begin = junction.line_s - EGO_FRONT - BEFORE_LINE + 0.4
            zone |= (stations > begin) & (stations < last + EGO_REAR_OVERHANG + 0.3)
        return zone
