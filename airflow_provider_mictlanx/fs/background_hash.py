"""Hash data while it is written to a temporary file, so that an upload need not read the file once more to hash it."""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading

from airflow_provider_mictlanx.client.local_io.chunk_splitter import ChunkManifest, layout_with_short_tail

MAX_WAITING = 4
"""Maximum number of written pieces that wait to be hashed."""


class BackgroundHash:
    """
    The SHA-256 of data and of each of its chunks, computed in a thread.

    :param chunk_size: size of the chunks (bytes)
    """

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._abandoned = False
        self._size = 0
        self._total = hashlib.sha256()
        self._chunk = hashlib.sha256()
        self._checksums: list[str] = []
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._work, name="mictlanx-hash", daemon=True)
        self._thread.start()

    def update(self, data: bytes) -> None:
        """Add data; waits while too many pieces are not hashed yet."""
        self._waiting.put(data)

    def abandon(self) -> None:
        """End the thread soon, without waiting for it: a wait at the end of the process would never end."""
        self._abandoned = True
        with contextlib.suppress(queue.Full):  # then the thread is not waiting, and reads the flag
            self._waiting.put_nowait(None)

    def manifest(self, chunk_size: int) -> ChunkManifest | None:
        """Return size, SHA-256 and chunks of all data; None if it is to be stored in chunks of another size."""
        self._waiting.put(None)
        self._thread.join()
        if chunk_size != self._chunk_size:
            return None
        layout = layout_with_short_tail(self._size, chunk_size)
        checksums = [*self._checksums, self._chunk.hexdigest()]
        return ChunkManifest.from_layout(layout, checksums, self._total.hexdigest())

    def _work(self) -> None:
        while not self._abandoned and (data := self._waiting.get()) is not None:
            self._total.update(data)
            view = memoryview(data)
            while len(view):
                free = self._chunk_size - self._size % self._chunk_size
                part, view = view[:free], view[free:]
                self._chunk.update(part)
                self._size += len(part)
                if len(part) == free:
                    self._checksums.append(self._chunk.hexdigest())
                    self._chunk = hashlib.sha256()
