"""Stream the body of an answer as an async iterator that always releases its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Self

from airflow_provider_mictlanx.client.errors import RequestTimeoutError
from airflow_provider_mictlanx.client.transport.connections import Response


class DataStream(AsyncIterator[bytes]):
    """
    The data of a chunk as an async iterator and async context manager.

    ::

        async with (await router.get_streaming("bucket", "ball_0")).unwrap() as pieces:
            async for piece in pieces:
                ...

    The connection is released at the end of the data, at the first error, by ``aclose`` and at the end of the context.
    Otherwise, it is released at garbage collection.

    Iterating raises ``RequestTimeoutError`` at the request's timeout and ``NetworkError`` when the connection breaks.
    The data is not verified: a truncated answer may end without an error.
    """

    def __init__(
        self, connection: AsyncExitStack, response: Response, pieces: AsyncIterator[bytes], ends: float, too_late: str
    ) -> None:
        self._connection = connection
        self.content_type = response.headers.get("content-type", "application/octet-stream")
        """The content type that the service sent."""
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
                # timeout_at does not interrupt an anext that returns at once.
                if asyncio.get_running_loop().time() >= self._ends:
                    raise TimeoutError
                return await anext(self._pieces)
        except StopAsyncIteration:
            await self.aclose()
            raise
        except TimeoutError as error:
            await self.aclose()
            raise RequestTimeoutError(self._too_late) from error
        except BaseException as error:
            # The connection converts it to a MictlanXError.
            self._closed = True
            await self._connection.__aexit__(type(error), error, error.__traceback__)
            raise

    async def aclose(self) -> None:
        """Release the connection without reading the rest."""
        self._closed = True
        await self._connection.aclose()
