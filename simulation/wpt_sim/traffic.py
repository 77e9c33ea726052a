"""The moving world: SUMO's traffic around an ego that is ours, stepped at 20 Hz.

    traffic = Traffic(spec)
    state = traffic.reset()
    while driving:
        state = traffic.step(ego_pose_after_0_05_s)
    traffic.close()

What SUMO does and does not do, as found with 1.28:

- `moveToXY` places the ego by its front bumper; SUMO maps it onto the nearest lane and its drivers
  follow it, stop behind it and yield to it as if it were theirs. Its speed is taken from the distance moved.
- A vehicle with speed mode 0 obeys `setSpeed` exactly, ignores signals, leaders and priorities and
  stays on its lanes: so every scripted vehicle is a SUMO vehicle whose speed a script commands, and
  others react to it. `changeLane` with lane change mode 0 and --lanechange.duration takes 2.5 s.
- Persons walk on sidewalks and crossings only: a pedestrian who steps onto the road elsewhere is ours alone
  (`place`), and the guard makes SUMO's drivers brake for it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from wpt_sim.body_motion import TowedBody
from wpt_sim.courtesy import Courtesy
from wpt_sim.episode import DT, EpisodeSpec
from wpt_sim.guard import Guard, Obstacle, yaw_from_sumo
from wpt_sim.network import network_path
from wpt_sim.parked import parked_along
from wpt_sim.surroundings import Surroundings, edge_graph, random_way
from wpt_sim.sumo_session import TrafficError, close_session, open_session
from wpt_sim.vehicles import EGO_LENGTH, EGO_WIDTH, PEDESTRIAN, VEHICLES, ego_centre
from wpt_sim.world_state import Actor, EgoPose, Lights, SignalColour, WorldState

__all__ = ["DT", "Traffic", "TrafficError"]

ACTOR_RANGE = 150.0  # metres around the ego within which actors are reported
GUARD_RANGE = 60.0
WALKER_AHEAD = 1.0  # seconds of a pedestrian's walk that drivers keep free
BRAKE_LIGHT = -0.6  # m/s2: stronger braking lights the lamps
PERSON_TURN = 0.2  # share of the way to SUMO's angle that a pedestrian turns per step
_COLOURS = {
    "r": SignalColour.RED,
    "u": SignalColour.YELLOW,
    "y": SignalColour.YELLOW,
    "g": SignalColour.GREEN,
    "o": SignalColour.OFF,
}
_BLINK_RIGHT, _BLINK_LEFT = 1, 2  # bits of SUMO's vehicle signals


def sumo_angle(yaw: float) -> float:
    """SUMO's angle (degrees clockwise from north) of a yaw (rad, anticlockwise from east)."""
    return (90.0 - math.degrees(yaw)) % 360.0


class Traffic:
    """All other road users of one episode. One Traffic may be open per process (libsumo is a singleton).

    Attributes for scripts: sumo (libsumo), road_map, route, spec, bodies (id -> TowedBody), speeds (id ->
    m/s), quiet_lanes (no vehicle is placed there).
    """

    def __init__(self, spec: EpisodeSpec):
        self.spec = spec
        self.road_map = spec.road_map
        self.route = spec.route
        self.sumo: ModuleType | None = None
        self.quiet_lanes: set[str] = set()

    def reset(self) -> WorldState:
        """Start the episode (again): the world at t = 0 with the ego at the route's start."""
        from wpt_sim.scenarios import SCENARIOS

        spec = self.spec
        self.sumo = open_session(self, network_path(spec.network), spec.seed)
        self._rng = np.random.default_rng([spec.seed, zlib.crc32(spec.name.encode())])
        self.bodies: dict[str, TowedBody] = {}
        self.speeds: dict[str, float] = {}
        self._kinds: dict[str, str] = {}
        self._half_widths: dict[str, float] = {}
        self._person_yaws: dict[str, float] = {}
        self._own: dict[str, Actor] = {}
        self._commanded: set[str] = set()
        self._standing: set[str] = set()
        self._pending: dict[str, tuple[float, float]] = {}
        self.quiet_lanes = set()
        self._time_s = 0.0
        self._define_types()
        self._guard = Guard(self.road_map, self.sumo)
        self._courtesy = Courtesy(self._guard.way, self.sumo)
        x, y, heading = self.route.at(0.0)
        ego = EgoPose(x=x, y=y, yaw=heading, speed=spec.start_speed)
        self._insert_ego(ego)
        self.script = SCENARIOS[spec.family][spec.scenario](spec)
        self._parked = tuple(parked_along(self.road_map, spec.parked, self._rng, self.route.points[::10]))
        self.script.prepare(self)
        self._surroundings = Surroundings(self, self._rng)
        self._surroundings.fill(ego_centre(ego))
        # Two steps insert everybody; the ego is held where it starts.
        for _ in range(2):
            self._move_ego(ego)
            for name in self._commanded:
                self.sumo.vehicle.setSpeed(name, self.sumo.vehicle.getSpeed(name))
            self.sumo.simulationStep()
        return self._read(ego)

    def step(self, ego: EgoPose) -> WorldState:
        """Advance by 0.05 s; `ego` is where the ego is at the end of this step. Returns the world at that
        time.
        """
        if self.sumo is None:
            raise TrafficError("the traffic is not running: call reset() before step().")
        self.script.before_step(self, ego, self._time_s)
        self._run_guard(ego)
        vehicles = sum(1 for name in self.bodies if name not in self._commanded)
        self._surroundings.before_step(ego_centre(ego), self._time_s, vehicles, len(self._person_yaws))
        self._move_ego(ego)
        self.sumo.simulationStep()
        self._time_s = round(self._time_s + DT, 6)
        return self._read(ego)

    def close(self) -> None:
        """End the simulation; reset() starts it again."""
        close_session(self)
        self.sumo = None

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # For scripts
    # -----------------------------------------------------------------------------------------------

    def add_vehicle(
        self,
        name: str,
        kind: str,
        lane: str,
        position: float,
        edges: Sequence[str],
        speed: float,
        scripted: bool = False,
    ) -> None:
        """A SUMO vehicle of VEHICLES[kind] with its front bumper `position` metres along `lane`, on a way of
        edges.

        scripted: its speed is commanded by the script alone (`command`), blind to signals and others.
        """
        sumo = self.sumo
        road = self.road_map.lanes[lane]
        sumo.route.add(f"way_{name}", list(edges))
        index = int(lane.rpartition("_")[2])
        sumo.vehicle.add(
            name,
            f"way_{name}",
            typeID=kind,
            depart="now",
            departLane=str(index),
            departPos=f"{position:.2f}",
            departSpeed=f"{min(speed, 0.98 * road.speed_limit):.2f}",
        )
        self._kinds[name] = kind
        self._half_widths[name] = VEHICLES[kind].width / 2
        if scripted:
            sumo.vehicle.setSpeedMode(name, 0)
            sumo.vehicle.setLaneChangeMode(name, 0)
            sumo.vehicle.setSpeed(name, speed)
            self._commanded.add(name)
            self._pending[name] = tuple(road.centre_line[0])

    def add_standing(self, name: str, kind: str, lane: str, position: float, edges: Sequence[str]) -> None:
        """A vehicle that stands in a lane for the whole episode, parked, without lights; others queue behind
        it.
        """
        self.add_vehicle(name, kind, lane, position, edges, 0.0, scripted=True)
        self._standing.add(name)

    def command(self, name: str, speed: float) -> None:
        """Speed (m/s) of a scripted vehicle in the coming step."""
        if name in self._commanded and name in self.bodies:
            self.sumo.vehicle.setSpeed(name, max(0.0, speed))

    def release(self, name: str) -> None:
        """Hand a scripted vehicle over to SUMO's own driver."""
        if name in self._commanded and name in self.bodies:
            self.sumo.vehicle.setSpeedMode(name, 31)
            self.sumo.vehicle.setLaneChangeMode(name, 1621)
            self.sumo.vehicle.setSpeed(name, -1)
            self._commanded.discard(name)

    def place(self, actor: Actor) -> None:
        """Put (or move) an actor of our own, unknown to SUMO; its drivers brake for it by the guard."""
        self._own[actor.id] = actor

    def scripted_positions(self) -> list[tuple[float, float]]:
        """Where scripted actors start: nobody else is placed there."""
        own = [(actor.x, actor.y) for actor in self._own.values()]
        return own + list(self._pending.values())

    # Inside
    # ----------------------------------------------------------------------------------------------------

    def _define_types(self) -> None:
        types = self.sumo.vehicletype
        for name, size in VEHICLES.items():
            types.copy("DEFAULT_VEHTYPE", name)
            types.setLength(name, size.length)
            types.setWidth(name, size.width)
            types.setHeight(name, size.height)
            types.setMaxSpeed(name, size.highest_speed)
            types.setAccel(name, size.acceleration)
            types.setDecel(name, size.braking)
            types.setEmergencyDecel(name, 8.0)
            types.setMinGap(name, 2.2)
            types.setTau(name, 1.2)
            types.setImperfection(name, 0.2)
        types.copy("DEFAULT_VEHTYPE", "ego")
        types.setLength("ego", EGO_LENGTH)
        types.setWidth("ego", EGO_WIDTH)
        types.copy("DEFAULT_PEDTYPE", "pedestrian")

    def _insert_ego(self, ego: EgoPose) -> None:
        """The ego's way goes on beyond the route: SUMO ignores a vehicle in a junction that its way does not
        cross.
        """
        lanes = self.road_map.lanes
        edges: list[str] = []
        for name in self.route.lanes:
            edge = lanes[name].edge
            if not edge.startswith(":") and (not edges or edges[-1] != edge):
                edges.append(edge)
        graph = edge_graph(self.road_map)
        edges += random_way(graph, edges[-1], np.random.default_rng(0), 4)[1:]
        self.sumo.route.add("way_ego", edges)
        self.sumo.vehicle.add(
            "ego", "way_ego", typeID="ego", depart="now", departLane="first", departPos="base"
        )
        self.sumo.vehicle.setSpeedMode("ego", 0)
        self.sumo.vehicle.setLaneChangeMode("ego", 0)
        self._move_ego(ego)

    def _move_ego(self, ego: EgoPose) -> None:
        x, y = ego_centre(ego)
        front_x = x + EGO_LENGTH / 2 * math.cos(ego.yaw)
        front_y = y + EGO_LENGTH / 2 * math.sin(ego.yaw)
        self.sumo.vehicle.moveToXY("ego", "", -1, front_x, front_y, sumo_angle(ego.yaw), 2)

    def _run_guard(self, ego: EgoPose) -> None:
        x, y = ego_centre(ego)
        obstacles = [Obstacle(x, y, ego.yaw, EGO_LENGTH / 2, EGO_WIDTH / 2, ego.speed)]
        for name in sorted(
            self._commanded & self.bodies.keys()
        ):  # scripted ones break rules that SUMO's drivers rely on
            obstacles.append(self._box(name))
        for a in self._own.values():  # walkers: the metre and a half ahead of them counts as theirs
            ahead = WALKER_AHEAD * a.speed
            obstacles.append(
                Obstacle(
                    a.x + ahead / 2 * math.cos(a.yaw),
                    a.y + ahead / 2 * math.sin(a.yaw),
                    a.yaw,
                    (a.length + ahead) / 2,
                    a.width / 2,
                    0.0,
                )
            )
        names = [
            name
            for name, body in self.bodies.items()
            if name not in self._commanded
            and any(abs(body.x - o.x) < GUARD_RANGE and abs(body.y - o.y) < GUARD_RANGE for o in obstacles)
        ]
        people = []
        for name, yaw in self._person_yaws.items():
            px, py = self.sumo.person.getPosition(name)
            if abs(px - x) < 8.0 and abs(py - y) < 8.0:
                people.append((name, px, py, yaw))
        self._guard.people_before_step(people, obstacles[0])
        self._guard.before_step(names, self._half_widths, obstacles)
        if ego.speed < 0.2 or self._courtesy.active:
            boxes = {
                name: self._box(name)
                for name, body in self.bodies.items()
                if abs(body.x - x) < GUARD_RANGE and abs(body.y - y) < GUARD_RANGE
            }
            close = [name for name in boxes if name not in self._commanded]
            self._courtesy.before_step(close, self._half_widths, obstacles[0], boxes)

    def _box(self, name: str) -> Obstacle:
        body, size = self.bodies[name], VEHICLES[self._kinds[name]]
        return Obstacle(body.x, body.y, body.yaw, size.length / 2, size.width / 2, self.speeds[name])

    def _read(self, ego: EgoPose) -> WorldState:
        vehicle, person = self.sumo.vehicle, self.sumo.person
        x0, y0 = ego_centre(ego)
        actors: list[Actor] = []
        present = [name for name in vehicle.getIDList() if name != "ego"]
        for name in sorted(present):
            front_x, front_y = vehicle.getPosition(name)
            speed = vehicle.getSpeed(name)
            size = VEHICLES[self._kinds[name]]
            body = self.bodies.get(name)
            if body is None:
                body = TowedBody(front_x, front_y, yaw_from_sumo(vehicle.getAngle(name)), size.length)
                self.bodies[name] = body
                self._pending.pop(name, None)
                acceleration = 0.0
            else:
                body.update(front_x, front_y, speed * DT)
                acceleration = (speed - self.speeds[name]) / DT
            self.speeds[name] = speed
            if abs(body.x - x0) > ACTOR_RANGE or abs(body.y - y0) > ACTOR_RANGE:
                continue
            parked = name in self._standing
            bits = 0 if parked else vehicle.getSignals(name)
            lights = Lights.NONE
            if parked:
                pass
            elif acceleration < BRAKE_LIGHT or speed < 0.1:
                lights |= Lights.BRAKE
            if bits & _BLINK_LEFT:
                lights |= Lights.LEFT
            if bits & _BLINK_RIGHT:
                lights |= Lights.RIGHT
            actors.append(
                Actor(
                    id=name,
                    kind=size.kind,
                    x=body.x,
                    y=body.y,
                    yaw=body.yaw,
                    speed=speed,
                    length=size.length,
                    width=size.width,
                    height=size.height,
                    acceleration=acceleration,
                    lights=lights,
                    parked=parked,
                    colour_seed=zlib.crc32(f"{self.spec.name}/{name}".encode()),
                )
            )
        for name in set(self.bodies) - set(present):
            del self.bodies[name], self.speeds[name]
            self._commanded.discard(name)
        people = person.getIDList()
        for name in sorted(people):
            x, y = person.getPosition(name)
            angle = yaw_from_sumo(person.getAngle(name))
            known = self._person_yaws.get(name, angle)
            yaw = math.remainder(
                known + PERSON_TURN * math.remainder(angle - known, 2 * math.pi), 2 * math.pi
            )
            self._person_yaws[name] = yaw
            if abs(x - x0) <= ACTOR_RANGE and abs(y - y0) <= ACTOR_RANGE:
                size = PEDESTRIAN
                actors.append(
                    Actor(
                        id=name,
                        kind=size.kind,
                        x=x,
                        y=y,
                        yaw=yaw,
                        speed=person.getSpeed(name),
                        length=size.length,
                        width=size.width,
                        height=size.height,
                        colour_seed=zlib.crc32(f"{self.spec.name}/{name}".encode()),
                    )
                )
        for name in set(self._person_yaws) - set(people):
            del self._person_yaws[name]
        signals = {}
        for signal in self.sumo.trafficlight.getIDList():
            for link, letter in enumerate(self.sumo.trafficlight.getRedYellowGreenState(signal)):
                signals[signal, link] = _COLOURS.get(letter.lower(), SignalColour.RED)
        actors += [*self._own.values(), *self._parked]
        return WorldState(time_s=self._time_s, ego=ego, actors=tuple(actors), signals=signals)
