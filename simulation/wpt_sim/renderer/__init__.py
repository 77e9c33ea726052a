"""Six-camera images of the driving world, with instance masks: NumPy and OpenCV alone."""

from __future__ import annotations

from wpt_sim.renderer.renderer import RenderedImage, RenderedSet, Renderer

__all__ = ["RenderedImage", "RenderedSet", "Renderer"]
