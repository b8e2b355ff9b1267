"""The package's threads that a test started; those of other tests, which may still be on their way out, do not count."""

from __future__ import annotations

import threading

_LONG = 60
"""How long a thread is waited for that was told to end (seconds)."""


class NewThreads:
    """Threads of the package that began after this was made."""

    def __init__(self) -> None:
        self._before = set(threading.enumerate())

    def alive(self) -> list[threading.Thread]:
        """Return the threads that are alive."""
        return [
            thread
            for thread in threading.enumerate()
            if thread.name.startswith("mictlanx") and thread not in self._before
        ]

    def after_their_end(self) -> list[threading.Thread]:
        """Wait for their end, as long as a busy machine needs; return those that did not end."""
        for thread in self.alive():
            thread.join(_LONG)
        return self.alive()
