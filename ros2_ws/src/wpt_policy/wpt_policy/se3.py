"""Rigid transforms as 4x4 float64 matrices named ``target_from_source``; quaternions are (w, x, y, z)."""

from __future__ import annotations

import math

import numpy as np

# A recorded unit quaternion in float32 is unit to about 1e-7; 1e-3 still accepts hand-rounded calibration files and
# refuses a quaternion in the wrong order with a wrong norm, or a zero one.
QUATERNION_NORM_TOLERANCE = 1e-3


class TransformError(ValueError):
    """A rotation, translation or matrix that is no rigid transform."""


def rotation_from_quaternion(quaternion_wxyz: np.ndarray | list[float]) -> np.ndarray:
    """Return the (3, 3) rotation of a unit quaternion (w, x, y, z).

    Raises TransformError when it is not finite or not of unit length (tolerance 1e-3).
    """
    q = np.asarray(quaternion_wxyz, dtype=np.float64)
    if q.shape != (4,) or not np.all(np.isfinite(q)):
        raise TransformError(f"quaternion {q.tolist()} is not four finite numbers (w, x, y, z)")
    norm = float(np.linalg.norm(q))
    if abs(norm - 1.0) > QUATERNION_NORM_TOLERANCE:
        raise TransformError(f"quaternion {q.tolist()} has length {norm:.6g}, expected 1 (order w, x, y, z)")
    w, x, y, z = q / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_rotation(rotation: np.ndarray) -> np.ndarray:
    """Return the unit quaternion (w, x, y, z), w >= 0, of a (3, 3) rotation."""
    m = np.asarray(rotation, dtype=np.float64)
    # Four candidate squared components; the largest is divided by, so that nothing near zero ever is.
    squared = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    largest = int(np.argmax(squared))
    s = 2.0 * math.sqrt(squared[largest])
    if largest == 0:
        q = [s / 4, (m[2, 1] - m[1, 2]) / s, (m[0, 2] - m[2, 0]) / s, (m[1, 0] - m[0, 1]) / s]
    elif largest == 1:
        q = [(m[2, 1] - m[1, 2]) / s, s / 4, (m[0, 1] + m[1, 0]) / s, (m[0, 2] + m[2, 0]) / s]
    elif largest == 2:
        q = [(m[0, 2] - m[2, 0]) / s, (m[0, 1] + m[1, 0]) / s, s / 4, (m[1, 2] + m[2, 1]) / s]
    else:
        q = [(m[1, 0] - m[0, 1]) / s, (m[0, 2] + m[2, 0]) / s, (m[1, 2] + m[2, 1]) / s, s / 4]
    quaternion = np.array(q)
    quaternion /= np.linalg.norm(quaternion)
    return -quaternion if quaternion[0] < 0 else quaternion


def transform(translation: np.ndarray | list[float], quaternion_wxyz: np.ndarray | list[float]) -> np.ndarray:
    """Return the (4, 4) transform of a translation (metres) and a unit quaternion; raises TransformError."""
    t = np.asarray(translation, dtype=np.float64)
    if t.shape != (3,) or not np.all(np.isfinite(t)):
        raise TransformError(f"translation {t.tolist()} is not three finite numbers")
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_from_quaternion(quaternion_wxyz)
    matrix[:3, 3] = t
    return matrix


def inverse(target_from_source: np.ndarray) -> np.ndarray:
    """Return source_from_target of a (4, 4) rigid transform, or of a batch (..., 4, 4)."""
    m = np.asarray(target_from_source, dtype=np.float64)
    rotation_t = np.swapaxes(m[..., :3, :3], -1, -2)
    result = np.zeros_like(m)
    result[..., :3, :3] = rotation_t
    result[..., :3, 3] = -(rotation_t @ m[..., :3, 3:])[..., 0]
    result[..., 3, 3] = 1.0
    return result


def apply(target_from_source: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Move (N, 3) points from source to target."""
    m = np.asarray(target_from_source, dtype=np.float64)
    return np.asarray(points, dtype=np.float64) @ m[:3, :3].T + m[:3, 3]


def planar(x: float, y: float, yaw: float) -> np.ndarray:
    """Return the (4, 4) transform of a pose on the ground: metres and radians."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, -s, 0.0, x], [s, c, 0.0, y], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def yaw_of(target_from_source: np.ndarray) -> float:
    """Return the heading (rad) of source's x axis in target's x-y plane."""
    return math.atan2(target_from_source[1, 0], target_from_source[0, 0])


def interpolate(first: np.ndarray, second: np.ndarray, fraction: float) -> np.ndarray:
    """Return the pose between two (4, 4) poses: straight line in position, constant-rate shortest turn in rotation.

    ``fraction`` 0 gives ``first`` and 1 gives ``second`` to the last bit; the turn takes the short way over +-180 degrees.
    """
    if fraction == 0.0:
        return np.array(first, dtype=np.float64)
    if fraction == 1.0:
        return np.array(second, dtype=np.float64)
    result = np.eye(4)
    relative = first[:3, :3].T @ second[:3, :3]
    result[:3, :3] = first[:3, :3] @ exp_rotation(fraction * log_rotation(relative))
    result[:3, 3] = (1.0 - fraction) * first[:3, 3] + fraction * second[:3, 3]
    return result


def log_rotation(rotation: np.ndarray) -> np.ndarray:
    """Return the rotation vector (3,) (axis times angle, rad) of a (3, 3) rotation."""
    q = quaternion_from_rotation(rotation)
    sine = float(np.linalg.norm(q[1:]))
    if sine < 1e-12:
        return 2.0 * q[1:]
    return q[1:] * (2.0 * math.atan2(sine, q[0]) / sine)


def exp_rotation(vector: np.ndarray) -> np.ndarray:
    """Return the (3, 3) rotation of a rotation vector (3,) (axis times angle, rad)."""
    angle = float(np.linalg.norm(vector))
    half = 0.5 * angle
    scale = 0.5 if angle < 1e-12 else math.sin(half) / angle
    return rotation_from_quaternion(
        np.array([math.cos(half), *(scale * np.asarray(vector, dtype=np.float64))])
    )


def extrapolate(
    pose: np.ndarray, linear_velocity: np.ndarray, angular_velocity: np.ndarray, seconds: float
) -> np.ndarray:
    """Move a (4, 4) pose for ``seconds`` at a constant twist given in its own (moving) frame, m/s and rad/s.

    The exact SE(3) exponential: a car at constant speed and yaw rate stays on its circle.
    """
    v = np.asarray(linear_velocity, dtype=np.float64) * seconds
    w = np.asarray(angular_velocity, dtype=np.float64) * seconds
    angle = float(np.linalg.norm(w))
    skew = np.array([[0.0, -w[2], w[1]], [w[2], 0.0, -w[0]], [-w[1], w[0], 0.0]])
    if angle < 1e-6:  # second-order series: the closed form divides by angle^3
        left_jacobian = np.eye(3) + 0.5 * skew
    else:
        left_jacobian = (
            np.eye(3)
            + (1 - math.cos(angle)) / angle**2 * skew
            + (angle - math.sin(angle)) / angle**3 * (skew @ skew)
        )
    step = np.eye(4)
    step[:3, :3] = exp_rotation(w)
    step[:3, 3] = left_jacobian @ v
    return np.asarray(pose, dtype=np.float64) @ step


def require_rigid(matrix: np.ndarray, name: str) -> np.ndarray:
    """Return ``matrix`` as float64 (4, 4), or raise TransformError naming it when it is no rigid transform."""
    m = np.asarray(matrix, dtype=np.float64)
    if m.shape != (4, 4) or not np.all(np.isfinite(m)):
        raise TransformError(f"{name} is not a finite 4x4 matrix")
    rotation = m[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-4 or np.linalg.det(rotation) < 0:
        raise TransformError(
            f"{name} has no proper rotation (orthonormal, right-handed) in its upper left 3x3"
        )
    if np.abs(m[3] - [0, 0, 0, 1]).max() > 1e-9:
        raise TransformError(f"{name} has last row {m[3].tolist()}, expected 0 0 0 1")
    return m
