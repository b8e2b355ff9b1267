"""
Where a client logs to besides the application's own logging: the console, a rotating file. Standard library only.

Both are handlers of the package's logger, shared by the clients that ask for the same, and taken away with the last of them.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path

from airflow_provider_mictlanx.client.errors import ValidationError

log = logging.getLogger("airflow_provider_mictlanx.client")
_FORMAT = "%(asctime)s %(levelname)s %(message)s"

_lock = threading.Lock()
_handlers: dict[tuple[str, ...], logging.Handler] = {}
_users: Counter[tuple[str, ...]] = Counter()


class ClientLogs:
    """
    The handlers that one client asked for.

    :param debug: log everything to the console (standard error)
    :param folder: of the file ``{client_id}.log``; None or empty for no file. One that can't be used is warned of, once
    :param when: the unit of the rotation interval, as ``logging.handlers.TimedRotatingFileHandler`` has it (``"m"`` = minutes)
    :param interval: after how many of these the file is rotated
    """

    def __init__(self, client_id: str, debug: bool, folder: str | None, when: str, interval: int) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise ValidationError(f"log_interval is a whole number from 1 on, not {interval!r}")
        if not isinstance(when, str) or when.upper() not in (
            "S",
            "M",
            "H",
            "D",
            "MIDNIGHT",
            *(f"W{d}" for d in range(7)),
        ):
            raise ValidationError(f"log_when is one of s, m, h, d, midnight, w0 to w6, not {when!r}")
        self._keys: list[tuple[str, ...]] = []
        if debug:
            self._use(("console",))
        if folder:
            name = "".join(c if c.isalnum() or c in "-_." else "_" for c in client_id).lstrip(".") or "client"
            self._use(("file", os.path.join(folder, f"{name}.log"), when.upper(), str(interval)))

    def close(self) -> None:
        """Take the handlers away that no other client uses."""
        with _lock:
            keys, self._keys = self._keys, []
            for key in keys:
                _users[key] -= 1
                if _users[key] == 0:
                    handler = _handlers.pop(key)
                    log.removeHandler(handler)
                    handler.close()
            if not _handlers:
                log.setLevel(logging.NOTSET)

    def _use(self, key: tuple[str, ...]) -> None:
        with _lock:
            if key not in _handlers:
                handler = _make(key)
                if handler is None:
                    return
                handler.setFormatter(logging.Formatter(_FORMAT))
                _handlers[key] = handler
                log.addHandler(handler)
                log.setLevel(logging.DEBUG)
            _users[key] += 1
            self._keys.append(key)


_warned: set[str] = set()


def _make(key: tuple[str, ...]) -> logging.Handler | None:
    if key[0] == "console":
        return logging.StreamHandler()
    _, path, when, interval = key
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return TimedRotatingFileHandler(path, when=when, interval=int(interval), delay=False, encoding="utf-8")
    except OSError as error:
        folder = str(Path(path).parent)
        if folder not in _warned:
            _warned.add(folder)
            log.warning("No log file in %s: %s", folder, error.strerror or error)
        return None
