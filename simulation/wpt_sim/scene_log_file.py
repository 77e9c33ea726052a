"""The bytes of a scene log: a header, then compressed JSON and columns of whole numbers.

    8 bytes  WPTSCENE        4 bytes  format version       4 bytes  CRC-32 of the rest
    then zlib: 4 bytes length of the JSON, the JSON, the columns (all numbers little-endian)

A column is stored as second differences, which are small for everything that moves smoothly; zigzag makes them
positive, and the four bytes of all numbers are stored plane by plane, so that the upper planes are zeros. The column
order: ego, then of all actors together rows, x, y, yaw, speed, lights. Nothing is executed in reading.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from wpt_sim.episode import EpisodeError, EpisodeSpec
from wpt_sim.scene_log import EGO_UNITS, ActorTrack, Disturbance, SceneLog, SceneLogError
from wpt_sim.world_state import ActorKind, Lights, SignalColour

FORMAT_VERSION = 1
ENDING = ".scenelog"
_MAGIC = b"WPTSCENE"
_HEADER = struct.Struct("<8sII")
_LARGEST = 64 * 2**20  # bytes after decompression; ten minutes of dense traffic are a twentieth of it
_ACTOR_COLUMNS = ("rows", "x", "y", "yaw", "speed", "lights")
_ALL_LAMPS = int(Lights.BRAKE | Lights.LEFT | Lights.RIGHT)
_LETTERS = {colour.value for colour in SignalColour}


def to_bytes(log: SceneLog) -> bytes:
    """Return the file's bytes; the same log gives the same bytes with the same zlib."""
    meta = {
        "spec": json.loads(log.spec.to_json()),
        "road_map_hash": log.road_map_hash,
        "appearance": [log.appearance_seed, log.light, log.noise],
        "begin_s": log.begin_s,
        "driver": log.driver,
        "steps": log.steps,
        "signals": {signal: _runs(letters) for signal, letters in log.signals.items()},
        "commands": _runs([int(command) for command in log.commands]),
        "disturbances": [asdict(disturbance) for disturbance in log.disturbances],
        "infractions": list(log.infractions),
        "actors": [
            [a.id, a.kind.value, a.length, a.width, a.height, a.colour_seed, int(a.parked), len(a.rows)]
            for a in log.actors
        ],
    }
    text = json.dumps(meta, separators=(",", ":"), sort_keys=True).encode()
    parts = [struct.pack("<I", len(text)), text]
    parts += [_packed([log.ego[name]]) for name in EGO_UNITS]
    parts += [_packed([getattr(actor, name) for actor in log.actors]) for name in _ACTOR_COLUMNS]
    body = zlib.compress(b"".join(parts), 9)
    return _HEADER.pack(_MAGIC, FORMAT_VERSION, zlib.crc32(body)) + body


def from_bytes(data: bytes, name: str = "the scene log") -> SceneLog:
    """Return the log. ``name`` begins the sentence of a SceneLogError: not a log, newer, cut, or damaged."""
    if len(data) < _HEADER.size or data[: len(_MAGIC)] != _MAGIC:
        raise SceneLogError(f"{name} is no scene log ({len(data)} bytes): give a file that wpt-sim wrote.")
    _, version, checksum = _HEADER.unpack_from(data)
    if version != FORMAT_VERSION:
        raise SceneLogError(
            f"{name} has format {version}, this version of wpt_sim reads {FORMAT_VERSION}: use the version that wrote it."
        )
    body = data[_HEADER.size :]
    if zlib.crc32(body) != checksum:
        raise SceneLogError(f"{name} is cut or damaged (its checksum does not match): copy or make it again.")
    try:
        return _read(body)
    except EpisodeError as error:
        raise SceneLogError(f"{name} holds an episode that cannot be used: {error}") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, struct.error, zlib.error) as error:
        raise SceneLogError(f"{name} contradicts itself ({error}): make it again.") from None


def write_log(path: str | Path, log: SceneLog) -> Path:
    """Write a log's file; its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_bytes(log))
    return path


def read_log(path: str | Path) -> SceneLog:
    """Read a log's file; raises SceneLogError."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise SceneLogError(f"scene log {path} cannot be read ({error.strerror or error}): check the path.") from None
    return from_bytes(data, f"scene log {path}")


def _read(body: bytes) -> SceneLog:
    inflater = zlib.decompressobj()
    content = inflater.decompress(body, _LARGEST)
    if not inflater.eof:
        raise ValueError("its content is cut or larger than any drive")
    (length,) = struct.unpack_from("<I", content)
    meta = json.loads(content[4 : 4 + length])
    place = 4 + length
    steps = int(meta["steps"])
    if steps < 2:
        raise ValueError(f"it has {steps} steps, expected two at least")
    ego = {}
    for column in EGO_UNITS:
        (ego[column],), place = _unpacked(content, place, [steps])
    counts = [int(row[7]) for row in meta["actors"]]
    if any(not 1 <= count <= steps for count in counts):
        raise ValueError("an actor has no rows or too many")
    columns = {}
    for column in _ACTOR_COLUMNS:
        columns[column], place = _unpacked(content, place, counts)
    if place != len(content):
        raise ValueError(f"{len(content) - place} bytes are left over")
    actors = []
    for index, (actor_id, kind, size_l, size_w, size_h, seed, parked, _) in enumerate(meta["actors"]):
        rows = columns["rows"][index]
        if rows[0] < 0 or rows[-1] >= steps or np.any(np.diff(rows) <= 0):
            raise ValueError(f"rows of actor {actor_id} do not increase within the log")
        actors.append(
            ActorTrack(
                id=str(actor_id),
                kind=ActorKind(kind),
                length=int(size_l),
                width=int(size_w),
                height=int(size_h),
                colour_seed=int(seed),
                parked=bool(parked),
                **{column: columns[column][index] for column in _ACTOR_COLUMNS},
            )
        )
    if any(np.any((actor.lights < 0) | (actor.lights > _ALL_LAMPS)) for actor in actors):
        raise ValueError("an actor has unknown lamps")
    signals = {signal: tuple(_expanded(runs, steps)) for signal, runs in meta["signals"].items()}
    if any(not set(letters) <= _LETTERS for texts in signals.values() for letters in set(texts)):
        raise ValueError("a signal has an unknown colour")
    seed, light, noise = meta["appearance"]
    return SceneLog(
        spec=EpisodeSpec.from_json(json.dumps(meta["spec"])),
        road_map_hash=str(meta["road_map_hash"]),
        appearance_seed=int(seed),
        light=light,
        noise=noise,
        begin_s=float(meta["begin_s"]),
        driver=str(meta["driver"]),
        steps=steps,
        ego=ego,
        actors=tuple(actors),
        signals=signals,
        commands=np.array(_expanded(meta["commands"], steps), dtype=np.int64),
        disturbances=tuple(Disturbance(**values) for values in meta["disturbances"]),
        infractions=tuple(str(text) for text in meta["infractions"]),
    )


def _runs(values) -> list[list]:
    """[[step, value], ...]: where a value begins to hold."""
    runs: list[list] = []
    for step, value in enumerate(values):
        if not runs or runs[-1][1] != value:
            runs.append([step, value])
    return runs


def _expanded(runs: list[list], steps: int) -> list:
    begins = [int(step) for step, _ in runs] + [steps]
    if begins[0] != 0 or any(b <= a for a, b in zip(begins, begins[1:], strict=False)):
        raise ValueError("a list of changes does not begin at 0 and increase")
    return [value for (_, value), a, b in zip(runs, begins, begins[1:], strict=False) for _ in range(b - a)]


def _packed(columns: list[np.ndarray]) -> bytes:
    differences = [np.diff(column, n=2, prepend=[0, 0]) for column in columns]
    flat = np.concatenate(differences) if differences else np.zeros(0, dtype=np.int64)
    zigzag = (flat << 1) ^ (flat >> 63)
    if len(zigzag) and int(zigzag.max()) >= 2**32:
        raise SceneLogError("a logged value is too large for 32 bits: the world is at most 100 km wide.")
    return zigzag.astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes()


def _unpacked(content: bytes, place: int, counts: list[int]) -> tuple[list[np.ndarray], int]:
    total = sum(counts)
    planes = np.frombuffer(content, dtype=np.uint8, count=4 * total, offset=place).reshape(4, total)
    zigzag = np.ascontiguousarray(planes.T).view("<u4").ravel().astype(np.int64)
    flat = (zigzag >> 1) ^ -(zigzag & 1)
    columns, begin = [], 0
    for count in counts:
        columns.append(np.cumsum(np.cumsum(flat[begin : begin + count])))
        begin += count
    return columns, place + 4 * total
