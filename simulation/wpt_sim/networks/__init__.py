"""Shipped SUMO networks (``<name>.net.xml.gz``) and the program that made them from a seed."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
