"""Bytes for tests to store, cut into chunks, and their hash."""

from __future__ import annotations

import hashlib
import random


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes that repeat nowhere near a chunk's border, so that chunks that change places are seen."""
    return random.Random(seed).randbytes(size)


def cut(data: bytes, *sizes: int) -> list[bytes]:
    """Cut bytes into pieces of these sizes; what is left over is the last one."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]] if at < len(data) or not pieces else pieces
