"""The bytes of an answer as they come, as an async iterator that always releases its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Self

from airflow_provider_mictlanx.client.errors import RequestTimeoutError
from airflow_provider_mictlanx.client.transport.connections import Response


class DataStream(AsyncIterator[bytes]):
    """
    The data of a chunk, piece by piece.

    It is an async iterator, and an async context manager::

        async with (await router.get_streaming("bucket", "ball_0")).unwrap() as pieces:
            async for piece in pieces:
                ...

    The connection is let go of at the end of the bytes, at the first error, by ``aclose``, and when the context ends.
    One that is only dropped is let go of when Python's garbage collection comes to it.

    Iterating raises what goes wrong after the answer has begun: ``RequestTimeoutError`` when the request's time is
    over, ``NetworkError`` when the connection breaks. Nothing is verified: an answer that was cut short may end as if
    it were whole.
    """

    def __init__(
        self, connection: AsyncExitStack, response: Response, pieces: AsyncIterator[bytes], ends: float, too_late: str
    ) -> None:
        self._connection = connection
        self.content_type = response.headers.get("content-type", "application/octet-stream")
        """The type of the bytes, as the service states it."""
        self._pieces = pieces
        self._ends = ends
        self._too_late = too_late
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._closed:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout_at(self._ends):
                if asyncio.get_running_loop().time() >= self._ends:  # a piece that is there already is not waited for
                    raise TimeoutError
                return await anext(self._pieces)
        except StopAsyncIteration:
            await self.aclose()
            raise
        except TimeoutError as error:
            await self.aclose()
            raise RequestTimeoutError(self._too_late) from error
        except BaseException as error:
            # Thrown into the connection, which knows it by its MictlanXError.
            self._closed = True
            await self._connection.__aexit__(type(error), error, error.__traceback__)
            raise

    async def aclose(self) -> None:
        """Let go of the connection; what has not been read is not read any more."""
        self._closed = True
        await self._connection.aclose()
