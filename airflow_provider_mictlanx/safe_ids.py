"""
Names that the placement service keeps unchanged.

This is apart from the client, because Airflow imports the functions for asset URIs on the event loop of the triggerer.
"""

from __future__ import annotations

import re

_SAFE_ID = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*")


def is_safe_id(name: str) -> bool:
    """Return whether the placement service keeps a name unchanged."""
    return _SAFE_ID.fullmatch(name) is not None
