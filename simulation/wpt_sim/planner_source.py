"""Any wpt_policy Planner as a plan source: renders its cameras and hands it frames as the vehicle's node
would.
"""

from __future__ import annotations

import math

import numpy as np

from wpt_policy import se3
from wpt_policy.calibration import CameraRig
from wpt_policy.frame import CameraView, Command, CommandSource, EgoState, Frame
from wpt_policy.plan import Plan
from wpt_policy.planner import Planner

from wpt_sim.appearance import Appearance
from wpt_sim.command import route_command
from wpt_sim.episode import EpisodeSpec
from wpt_sim.errors import SimulationError
from wpt_sim.renderer.rigs import nuscenes_rig
from wpt_sim.vehicles import EGO_WHEELBASE
from wpt_sim.world_state import EgoPose, WorldState

# Stamps start at one second: 0 means "no stamp" to many programs.
FIRST_STAMP_NS = 1_000_000_000
# What a planner with fewer commands is told instead: following the lane is going straight on for it.
SIMPLER_COMMAND = {
    Command.LANE_FOLLOW: Command.STRAIGHT,
    Command.CHANGE_LANE_LEFT: Command.LEFT,
    Command.CHANGE_LANE_RIGHT: Command.RIGHT,
}


class PlannerSource:
    """Plans of a Planner in the driving world.

    rig: cameras by name (native size); None takes the nuScenes-like rig. Images are rendered directly as the
    planner's image input would prepare them; a planner without image_input gets views without pixels. All six
    images are taken at the plan's instant, ego motion is exact, the command is that of the route. Raises
    SimulationError for a planner whose cameras the rig lacks.
    """

    def __init__(self, planner: Planner, *, rig: CameraRig | None = None):
        self.planner = planner
        self.name = planner.name
        rig = nuscenes_rig() if rig is None else rig
        missing = [name for name in planner.cameras if name not in rig]
        if missing:
            raise SimulationError(
                f"planner {planner.name} needs the cameras {', '.join(missing)}, but the rig has "
                f"{', '.join(rig.names)}: use a planner for this rig."
            )
        if planner.image_input is not None:
            names = planner.cameras or rig.names
            rig = CameraRig([planner.image_input.calibration(rig[name]) for name in names])
        self._rig = rig
        self._renderer = None
        self._spec: EpisodeSpec | None = None
        self._s = 0.0

    def reset(self, spec: EpisodeSpec) -> None:
        self._spec = spec
        self._s = 0.0
        self.planner.reset()
        self._renderer = None
        if self.planner.image_input is not None:
            from wpt_sim.renderer import Renderer

            self._renderer = Renderer(spec.road_map, self._rig, Appearance(spec.seed))

    def watch(self, state: WorldState) -> None:
        self._s, _ = self._spec.route.project(state.ego.x, state.ego.y, near=self._s)

    def plan(self, state: WorldState) -> Plan:
        return self.planner.plan(self.frame(state))

    def frame(self, state: WorldState) -> Frame:
        """Return what the planner sees of this state."""
        pose = se3.planar(state.ego.x, state.ego.y, state.ego.yaw)
        stamp_ns = FIRST_STAMP_NS + round(state.time_s * 1e9)
        images = self._renderer.render(state).images if self._renderer is not None else {}
        views = {
            name: CameraView(
                calibration=camera, stamp_ns=stamp_ns, pixels=images.get(name), odom_from_base=pose
            )
            for name, camera in self._rig.items()
        }
        command = route_command(self._spec.road_map, self._spec.route, self._s)
        return Frame(
            reference_stamp_ns=stamp_ns,
            views=views,
            ego=ego_state(state.ego, stamp_ns),
            command=understood(command, self.planner.commands),
            command_source=CommandSource.ROUTE,
        )


def ego_state(ego: EgoPose, stamp_ns: int) -> EgoState:
    """Exact ego motion in the map frame; base_link is the rear axle, so it has no sideways speed."""
    yaw_rate = ego.speed * math.tan(ego.steer) / EGO_WHEELBASE
    return EgoState(
        stamp_ns=stamp_ns,
        odom_from_base=se3.planar(ego.x, ego.y, ego.yaw),
        linear_velocity=np.array([ego.speed, 0.0, 0.0]),
        angular_velocity=np.array([0.0, 0.0, yaw_rate]),
    )


def understood(command: Command, known: tuple[Command, ...]) -> Command:
    """Return the command, or for a planner that was made for fewer the nearest one it knows (else the planner
    refuses).
    """
    if not known or command in known:
        return command
    simpler = SIMPLER_COMMAND.get(command, command)
    return simpler if simpler in known else command
