"""The scene of ``make demo``: ten seconds of this world from a shipped scene log, rendered on the spot without SUMO.

``python -m wpt_sim.demo_scene`` drives the episode again and replaces the shipped log (this needs libsumo).
"""

from __future__ import annotations

from pathlib import Path

from wpt_scenes.writer import MapMask, write_tables

from wpt_sim.drivable_raster import drivable_raster
from wpt_sim.errors import SimulationError
from wpt_sim.image_size import require_wide
from wpt_sim.renderer.rigs import nuscenes_rig
from wpt_sim.sample_lists import write_commands
from wpt_sim.scene_export import export_scene
from wpt_sim.scene_log import SceneLog
from wpt_sim.scene_log_file import ENDING, read_log, write_log

DEMO_VERSION = "v1.0-wpt-sim-demo"
DEMO_SCENE = "wpt-sim-demo"
DEMO_LOG = Path(__file__).parent / "logs" / f"demo{ENDING}"

# What is shown, and how the shipped log was made.
DESCRIPTION = "Simulated: a left turn at a signalled crossing with traffic and pedestrians"
EPISODE = ("dev", "natural", "natural", 1)
WINDOW_S = (23.5, 33.5)
LIGHT = "day"


def demo_log() -> SceneLog:
    """Return the shipped log; raises SceneLogError where it is damaged."""
    return read_log(DEMO_LOG)


def write_demo_scene(folder: str | Path, *, image_size: tuple[int, int] = (1600, 900), sweeps: bool = True) -> Path:
    """Write the scene into ``folder`` (the data set's root, version DEMO_VERSION, scene DEMO_SCENE) and return the folder.

    The same arguments give the same files on the same OpenCV build. Raises SimulationError for a size that is not 16:9 or
    a version that exists.
    """
    root = Path(folder)
    if (root / DEMO_VERSION).exists():
        raise SimulationError(f"{root / DEMO_VERSION} exists already: remove it or choose another folder.")
    log = demo_log()
    rig = nuscenes_rig(*require_wide(image_size))
    scene = export_scene(log, root, DEMO_SCENE, rig, sweeps=sweeps, description=DESCRIPTION)
    mask = MapMask(name=log.road_map.name, mask=drivable_raster(log.road_map).mask, logs=(scene.writer.log.name,))
    write_tables(root, DEMO_VERSION, [scene.writer], [mask])
    write_commands(root / DEMO_VERSION, dict(zip(scene.tokens, scene.commands, strict=True)))
    return root


def record_demo_log() -> SceneLog:
    """Drive the episode anew and cut the window out; raises SimulationError when the expert did something wrong."""
    from wpt_sim.drive_recording import record_drive
    from wpt_sim.episode import make_episode

    drive = record_drive(make_episode(*EPISODE), light=LIGHT, noise=0.0)
    if not drive.clean:
        raise SimulationError(f"the demo's drive has an infraction ({drive.log.infractions[0]}): choose another episode.")
    return drive.log.cut(*WINDOW_S)


if __name__ == "__main__":
    print(f"{write_log(DEMO_LOG, record_demo_log())}  {DEMO_LOG.stat().st_size} bytes")
