"""A small scene in the nuScenes format, made on the spot: for tests and for a demonstration without data."""

from __future__ import annotations

from wpt_scenes.factory.recording import FACTORY_SCENE, FACTORY_VERSION, write_factory_scene

__all__ = ["FACTORY_SCENE", "FACTORY_VERSION", "write_factory_scene"]
