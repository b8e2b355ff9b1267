"""Memory of this process. The peak can be reset on Linux only; elsewhere it is that since the start."""

from __future__ import annotations

import resource
from pathlib import Path

STATUS = Path("/proc/self/status")


def reset_peak() -> None:
    """Reset the recorded peak."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def peak() -> int:
    """Return the peak memory of this process (bytes)."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident() -> int:
    """Return the resident memory of this process (bytes)."""
    return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(name: str) -> int:
    for line in STATUS.read_text().splitlines() if STATUS.exists() else ():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0
