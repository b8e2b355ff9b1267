"""
Log handlers of a client: the console, and a rotating file.

They are added to the package's logger. Clients with the same console or file share one handler, and the last client
removes it. A file contains the lines of all clients of the process; the application's own handlers get them too.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable
from logging.handlers import TimedRotatingFileHandler

from airflow_provider_mictlanx.client.errors import ValidationError
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.validation import check_int

log = get_logger("airflow_provider_mictlanx.client")
_FORMAT = "%(asctime)s %(levelname)s %(message)s"

_UNITS = ("S", "M", "H", "D", "MIDNIGHT", *(f"W{day}" for day in range(7)))

_lock = threading.Lock()
_handlers: dict[str, logging.Handler] = {}
"""Handlers by file path; the console has the key ""."""
_users: Counter[str] = Counter()
_warned: set[str] = set()
_level_before = logging.NOTSET


class ClientLogs:
    """
    The log handlers of one client.

    Clients with the same id share one file handler; the first client chooses its rotation.

    :param debug: log everything to the console (standard error)
    :param folder: folder of the file ``{client_id}.log``; None or empty for no file. A folder that can't be used causes
        one warning
    :param when: unit of ``interval``, as in ``logging.handlers.TimedRotatingFileHandler`` (``"m"`` = minutes)
    :param interval: number of these units after which the file is rotated
    """

    def __init__(
        self, client_id: str, debug: bool, folder: str | os.PathLike[str] | None, when: str, interval: int
    ) -> None:
        check_int("log_interval", interval)
        if when.upper() not in _UNITS:
            raise ValidationError(f"log_when must be one of s, m, h, d, midnight, w0 to w6, got {when!r}")
        self._keys: list[str] = []
        if debug:
            self._use("", logging.StreamHandler)
        if folder:
            path = os.path.abspath(os.path.join(folder, f"{_file_name(client_id)}.log"))
            self._use(path, lambda: _open(path, when.upper(), interval))

    def close(self) -> None:
        """Remove the handlers that no other client uses."""
        with _lock:
            keys, self._keys = self._keys, []
            for key in keys:
                _users[key] -= 1
                if _users[key] == 0:
                    handler = _handlers.pop(key)
                    log.removeHandler(handler)
                    handler.close()
                    if not _handlers:
                        log.setLevel(_level_before)

    def _use(self, key: str, make: Callable[[], logging.Handler | None]) -> None:
        global _level_before
        with _lock:
            if key not in _handlers:
                if (handler := make()) is None:
                    return
                handler.setFormatter(logging.Formatter(_FORMAT))
                if not _handlers:
                    _level_before = log.level
                    log.setLevel(logging.DEBUG)
                _handlers[key] = handler
                log.addHandler(handler)
            _users[key] += 1
            self._keys.append(key)


def _file_name(client_id: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in client_id).lstrip(".") or "client"


def _open(path: str, when: str, interval: int) -> logging.Handler | None:
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        return TimedRotatingFileHandler(path, when=when, interval=interval, encoding="utf-8")
    except (OSError, ValueError) as error:
        if folder not in _warned:
            _warned.add(folder)
            reason = getattr(error, "strerror", None) or error
            log.warning("Writing a log file to %s failed: %s; set log_output_path", folder, reason)
        return None
