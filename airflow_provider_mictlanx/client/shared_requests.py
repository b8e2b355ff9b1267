"""
The requests that routers and peers answer alike, and bytes that become a file. One method per request, as in the rooms above.

What differs between the two is said by them: what their refusals mean (the ``_explain`` methods).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import RootModel

from airflow_provider_mictlanx.client.chunks import parse_size
from airflow_provider_mictlanx.client.endpoint import Endpoint, Explain, multipart, quoted
from airflow_provider_mictlanx.client.errors import (
    FileAlreadyExists,
    MictlanXError,
    UpstreamProtocolError,
    ValidationError,
)
from airflow_provider_mictlanx.client.files import OpenFolder, check_file_name, disk_errors
from airflow_provider_mictlanx.client.gathering import Gathering
from airflow_provider_mictlanx.client.models import GetMetadataResponse, PeerInfo, PeersResponse, UpdateMetadataRequest
from airflow_provider_mictlanx.client.result import returns_result, value_of
from airflow_provider_mictlanx.client.sinks import FileSink
from airflow_provider_mictlanx.client.streams import DataStream
from airflow_provider_mictlanx.client.threads import PIECE
from airflow_provider_mictlanx.client.transport import LONGEST_LIST_OF_PEERS, NO_HEADERS, Verify
from airflow_provider_mictlanx.client.versions import FILTERS_TAG

DEFAULT_FOLDER = "/mictlanx/data"
"""The folder that the official client writes to."""

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class SharedRequests(Endpoint):
    """What routers and peers answer alike."""

    # -- what refusals mean ----------------------------------------------------------------------------------------

    def _explain_metadata(self, status: int, detail: Any, what: str) -> MictlanXError | None:
        return None

    def _explain_data(self, status: int, detail: Any, what: str) -> MictlanXError | None:
        return None

    def _explain_checksum(self, status: int, detail: Any, what: str) -> MictlanXError | None:
        return None

    def _explain_space(self, status: int, detail: Any, what: str) -> MictlanXError | None:
        return None

    # -- writing ---------------------------------------------------------------------------------------------------

    @returns_result
    async def put_data(
        self,
        task_id: str,
        data: bytes | bytearray | memoryview,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
        *,
        filename: str = "data",
        content_type: str = "application/octet-stream",
    ) -> bool:
        """
        Send the data of an announced chunk as the multipart field ``data``; gives True.

        The answer is a status without a body: it says that the data came, and nothing of whether any peer stored it.
        ``put_chunked`` tells.

        :param task_id: of the announcement; it is spent by this request, whatever comes of it
        :param data: the bytes of the chunk
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param filename: of the multipart field
        :param content_type: of the multipart field
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ValidationError(f"the data is bytes, not a {type(data).__name__}")
        form, body = multipart("data", filename, content_type, bytes(data))
        await self._send(
            "POST",
            f"/buckets/data/{quoted(task_id, 'task_id')}",
            f"sending the data of task {task_id} to {self._label}",
            timeout,
            headers,
            verify,
            content=body,
            content_type=form,
        )
        return True

    @returns_result
    async def disable(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> bool:
        """
        Mark a chunk as disabled (``is_disabled`` in its metadata); gives True.

        ``NotFoundError``: nobody who was asked knows the chunk.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        what = self._what("disabling chunk", bucket_id, key)
        path = f"/buckets/{quoted(bucket_id, 'bucket_id')}/{quoted(key, 'key')}/disable"
        await self._send("POST", path, what, timeout, headers, verify)
        return True

    @returns_result
    async def update_metadata(
        self,
        bucket_id: str,
        key: str,
        metadata: UpdateMetadataRequest,
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> bool:
        """
        Change the metadata of a chunk, at every replica where a router is asked; gives True.

        ``NotFoundError``: nobody who was asked knows the chunk. ``ValidationError``: nothing is to be changed.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param metadata: what is to be changed; tags are replaced as a whole
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        if not metadata.model_dump(exclude_none=True):
            raise ValidationError(f"updating chunk {bucket_id}/{key}: nothing is to be changed")
        await self._send(
            "PUT",
            f"/buckets/{quoted(bucket_id, 'bucket_id')}/metadata/{quoted(key, 'key')}",
            self._what("updating chunk", bucket_id, key),
            timeout,
            headers,
            verify,
            content=metadata.model_dump_json(exclude_none=True).encode(),
            content_type="application/json",
        )
        return True

    # -- reading ---------------------------------------------------------------------------------------------------

    @returns_result
    async def get_metadata(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 300,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> GetMetadataResponse:
        """
        Get the metadata of one chunk.

        ``NotFoundError``: of a router, the placement service knows no replica; of a peer, it has none itself.
        ``UnavailableError``: a replica is placed, but the peer that the router asked just now did not tell.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        return await self._json(
            GetMetadataResponse,
            "GET",
            f"/buckets/{quoted(bucket_id, 'bucket_id')}/metadata/{quoted(key, 'key')}",
            self._what("metadata of chunk", bucket_id, key),
            timeout,
            headers,
            verify,
            explain=self._explain_metadata,
        )

    @returns_result
    async def get_streaming(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 300,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> DataStream:
        """
        Ask for the data of a chunk; gives a ``DataStream``: an async iterator and context manager of pieces, as they come.

        ``GetChunkError``: the peer that the router asked just now does not have it; ``NotFoundError``: of a peer, it has none
        itself. Nothing is verified; ``get_to_file``, and ``AsyncClient``, do that.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param timeout: until the last byte has come (seconds)
        :param headers: further headers, as ``Force-Get: 1`` (past the router's cache), ``Peer-Id`` (of this peer and no other)
            and ``Chunk-Size`` (of the pieces that the service sends)
        :param verify: how TLS is checked
        """
        path = f"/buckets/{quoted(bucket_id, 'bucket_id')}/{quoted(key, 'key')}"
        what = self._what("data of chunk", bucket_id, key)
        return await self._open(path, what, timeout, headers, verify, explain=self._explain_data)

    @returns_result
    async def get_to_file(
        self,
        bucket_id: str,
        key: str,
        chunk_size: str | int = "1MB",
        sink_folder_path: str | os.PathLike[str] = DEFAULT_FOLDER,
        timeout: float = 300,
        filename: str = "",
        headers: Mapping[str, str] = NO_HEADERS,
        extension: str = "",
        verify: Verify = False,
        *,
        replace: bool = False,
    ) -> str:
        """
        Download one chunk to a file that appears whole or not at all; gives its path.

        The chunk's metadata is asked for first, and the bytes have to have its size and its SHA-256: ``IntegrityError`` where
        they don't, as when the router's cache is old (``Force-Get: 1`` goes past it) or replicas differ. Each is one request,
        made once; ``AsyncClient.get_to_file`` reads a whole ball, and looks for a right copy.

        The errors of ``get_metadata`` and ``get_streaming``; ``FileAlreadyExists``: a file with other content is there (one
        with the same content is as good as downloaded); ``UpstreamProtocolError``: a newer client changed the bytes before it
        stored them; ``ValidationError``: the folder or the name can't be used, or another argument is wrong.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param chunk_size: how much is asked for, and written, at a time: ``"1MB"`` or a number of bytes
        :param sink_folder_path: the folder; made if missing
        :param timeout: for each of the two requests (seconds)
        :param filename: of the file; the chunk's key where it is empty
        :param headers: further headers
        :param extension: appended to the name, with or without its dot
        :param verify: how TLS is checked
        :param replace: whether another file of that name is replaced
        """
        path = f"/buckets/{quoted(bucket_id, 'bucket_id')}/{quoted(key, 'key')}"
        landing = _Landing(sink_folder_path, filename or key, extension, chunk_size, replace)
        known = value_of(await self.get_metadata(bucket_id, key, timeout, headers, verify)).metadata
        what = self._what("data of chunk", bucket_id, key)
        if (filters := known.tags.get(FILTERS_TAG, "")) not in ("", "[]"):
            raise UpstreamProtocolError(
                f"{what}: it was written by a newer client that changed its bytes ({filters}); this client can't undo that",
                transient=False,
                permanent=True,
            )
        how = (timeout, headers, verify)
        return await self._land(path, what, landing, known.size, known.checksum, how, self._explain_data)

    @returns_result
    async def get_by_checksum_to_file(
        self,
        checksum: str,
        chunk_size: str | int = "1MB",
        sink_folder_path: str | os.PathLike[str] = DEFAULT_FOLDER,
        timeout: float = 300,
        filename: str = "",
        headers: Mapping[str, str] = NO_HEADERS,
        extension: str = "",
        verify: Verify = False,
        *,
        replace: bool = False,
    ) -> str:
        """
        Download the bytes with a certain SHA-256 to a file that appears whole or not at all; gives its path.

        ``IntegrityError``: what came has another SHA-256; ``NotFoundError``: there are no such bytes, or the service does not
        answer by content (the present routers don't; older ones do); ``FileAlreadyExists``: a file with other content is there
        (one with this content is as good as downloaded, and nothing is asked); ``ValidationError``: the folder or the name
        can't be used, or another argument is wrong.

        :param checksum: SHA-256, in hex
        :param chunk_size: how much is asked for, and written, at a time: ``"1MB"`` or a number of bytes
        :param sink_folder_path: the folder; made if missing
        :param timeout: for the request (seconds)
        :param filename: of the file; the checksum where it is empty
        :param headers: further headers
        :param extension: appended to the name, with or without its dot
        :param verify: how TLS is checked
        :param replace: whether another file of that name is replaced
        """
        if not isinstance(checksum, str) or not _SHA256.fullmatch(checksum):
            raise ValidationError(f"checksum is a SHA-256 in hex (64 digits), not {checksum!r}")
        landing = _Landing(sink_folder_path, filename or checksum, extension, chunk_size, replace)
        what = f"data with SHA-256 {checksum} at {self._label}"
        how = (timeout, headers, verify)
        path = f"/buckets/checksum/{checksum.lower()}"
        return await self._land(path, what, landing, None, checksum.lower(), how, self._explain_checksum)

    async def _land(
        self,
        path: str,
        what: str,
        landing: _Landing,
        size: int | None,
        checksum: str,
        how: tuple[float, Mapping[str, str], Verify],
        explain: Explain,
    ) -> str:
        """Read bytes into a file, and let it appear once they are right; a file that is there already has to be the same."""
        timeout, headers, verify = how
        sent = {"Chunk-Size": str(landing.piece), **headers}
        with contextlib.ExitStack() as making:
            making.enter_context(disk_errors(f"writing the {what} to {landing.folder}"))
            folder = making.enter_context(OpenFolder(landing.folder, "sink_folder_path"))
            target = folder.path / landing.name
            if await self._threads.run(folder.kind_of, landing.name):
                if await folder.has_content(landing.name, size, checksum, self._threads):
                    return str(target)
                if not landing.replace:
                    raise FileAlreadyExists(
                        f"{target} exists with other content, and is left as it is; replace=True replaces it"
                    )
            file = making.enter_context(folder.make(landing.name))
            file.cut(0)
            gathering = Gathering(FileSink(file), self._threads, gathered=min(landing.piece, PIECE))
            if size != 0:  # a chunk without bytes has no data to ask for
                await self._read(path, gathering.take, what, timeout, sent, verify, longest=size, explain=explain)
            await gathering.compare(self._label, size, checksum)
            return str(await self._threads.run(file.appear, landing.replace))

    # -- the storage space -----------------------------------------------------------------------------------------

    @returns_result
    async def get_peers(
        self, timeout: float = 120, headers: Mapping[str, str] = NO_HEADERS, verify: Verify = False
    ) -> PeersResponse:
        """
        Get the peers that are known here: those that answer and those that don't.

        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        what = f"peers of {self._label}"
        return await self._json(
            PeersResponse,
            "GET",
            "/peers",
            what,
            timeout,
            headers,
            verify,
            explain=self._explain_space,
            longest=LONGEST_LIST_OF_PEERS,
        )

    @returns_result
    async def add_peers(
        self,
        peers: Sequence[PeerInfo],
        timeout: float = 120,
        headers: Mapping[str, str] = NO_HEADERS,
        verify: Verify = False,
    ) -> bool:
        """
        Add storage peers; gives True. One that is known already stays as it is.

        ``ValidationError``: there are none, or one was refused.

        :param peers: their ids and addresses, at least one
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        if isinstance(peers, str) or not peers or not all(isinstance(peer, PeerInfo) for peer in peers):
            raise ValidationError("peers is a list of PeerInfo, at least one")
        await self._send(
            "POST",
            "/peers",
            f"adding peers {', '.join(peer.peer_id for peer in peers)} at {self._label}",
            timeout,
            headers,
            verify,
            content=RootModel[list[PeerInfo]](list(peers)).model_dump_json().encode(),
            content_type="application/json",
        )
        return True


class _Landing:
    """Where bytes are to become a file; ``ValidationError`` where an argument is wrong."""

    def __init__(
        self, folder: str | os.PathLike[str], stem: str, extension: str, chunk_size: str | int, replace: bool
    ) -> None:
        self.folder = folder
        self.piece = parse_size(chunk_size)
        self.replace = replace
        if not isinstance(extension, str):
            raise ValidationError(f"extension is a text, not {extension!r}")
        suffix = extension.lstrip(".")
        self.name = check_file_name(f"{stem}.{suffix}" if suffix else stem, "sink_folder_path")
