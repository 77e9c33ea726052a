"""Scenario families, named as Bench2Drive's abilities, and natural traffic without a script.

A scenario is a class with two parts: `draw(road_map, rng)` chooses a place and numbers (a dict of
EpisodeSpec fields, or None where this network does not fit), and an instance, made with (spec), whose hooks
steer its actors during the drive.
"""

from __future__ import annotations

from wpt_sim.scenarios.emergency_brake import CrossingPedestrian, CutIn, HardBrakingLeader, RedLightRunner
from wpt_sim.scenarios.give_way import PriorityRoad, Roundabout, UnprotectedLeft
from wpt_sim.scenarios.merging import LaneChange, OnRamp, SideRoadRight
from wpt_sim.scenarios.natural import Natural
from wpt_sim.scenarios.overtaking import ParkedVehicle, ParkedVehicleTwoLanes, SlowVehicle
from wpt_sim.scenarios.script import Scenario
from wpt_sim.scenarios.traffic_signs import RedLight, SignalChange, StopSign

SCENARIOS: dict[str, dict[str, type[Scenario]]] = {
    "merging": {"on_ramp": OnRamp, "lane_change": LaneChange, "side_road_right": SideRoadRight},
    "overtaking": {
        "parked_vehicle": ParkedVehicle,
        "parked_vehicle_two_lanes": ParkedVehicleTwoLanes,
        "slow_vehicle": SlowVehicle,
    },
    "emergency_brake": {
        "hard_braking_leader": HardBrakingLeader,
        "cut_in": CutIn,
        "crossing_pedestrian": CrossingPedestrian,
        "red_light_runner": RedLightRunner,
    },
    "give_way": {
        "unprotected_left": UnprotectedLeft,
        "priority_road": PriorityRoad,
        "roundabout": Roundabout,
    },
    "traffic_signs": {"red_light": RedLight, "signal_change": SignalChange, "stop_sign": StopSign},
    "natural": {"natural": Natural},
}
