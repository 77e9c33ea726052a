"""Tokens as 64-bit keys, so that millions of them can be compared with numpy.

Keys depend on the token alone, not on the process. Two tokens share a key with a chance of about 2e-7 in a
table of 2.6 million rows (n^2 / 2^65); whoever looks a row up by key compares the token itself afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NO_TOKEN = np.int64(0)  # the key of the empty string

_WORD = 8


def keys_of(tokens: Sequence[str]) -> np.ndarray:
    """Return (N,) int64 keys of N tokens (any text)."""
    if len(tokens) == 0:
        return np.zeros(0, dtype=np.int64)
    try:
        fixed = np.array(tokens, dtype=np.bytes_)
    except UnicodeEncodeError:
        fixed = np.array([token.encode() for token in tokens], dtype=np.bytes_)
    words = -(-max(fixed.itemsize, 1) // _WORD)
    columns = fixed.astype(f"S{words * _WORD}").view(np.uint64).reshape(len(tokens), words)
    mixed = np.zeros(len(tokens), dtype=np.uint64)
    for i in range(words):
        # A word of zeros is padding and must not count: its width depends on the longest token at hand.
        place = np.uint64((0x9E3779B97F4A7C15 * (i + 1)) & 0xFFFFFFFFFFFFFFFF)
        mixed += np.where(columns[:, i] == 0, np.uint64(0), _mix(columns[:, i] ^ place))
    return np.where(mixed == 0, np.uint64(0), _mix(mixed)).view(np.int64)


def key_of(token: str) -> np.int64:
    """Return the key of one token."""
    return keys_of([token])[0]


def _mix(value: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: every input bit reaches every output bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
