"""
The requests that routers and peers answer alike, and bytes that become a file. One method per request, as in the rooms above.

What differs between the two is said by them: what their refusals mean (the ``_explain`` methods).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import RootModel

from airflow_provider_mictlanx.client.concurrency import PIECE
from airflow_provider_mictlanx.client.errors import FileAlreadyExists, UpstreamProtocolError, ValidationError
from airflow_provider_mictlanx.client.local_io.atomic_file import OpenFolder, check_file_name, disk_errors
from airflow_provider_mictlanx.client.local_io.sinks import FileSink, VerifyingWriter
from airflow_provider_mictlanx.client.models import GetMetadataResponse, PeerInfo, PeersResponse, UpdateMetadataRequest
from airflow_provider_mictlanx.client.protocol.endpoint import Endpoint, StatusHandler, make_form, quote_id
from airflow_provider_mictlanx.client.protocol.stream import DataStream
from airflow_provider_mictlanx.client.result import returns_result, unwrap
from airflow_provider_mictlanx.client.transport.headers import NO_HEADERS
from airflow_provider_mictlanx.client.transport.limits import MAX_PEER_LIST
from airflow_provider_mictlanx.client.transport.tls import Verify
from airflow_provider_mictlanx.client.validation import parse_size
from airflow_provider_mictlanx.client.versions import FILTERS_TAG

DEFAULT_FOLDER = "/mictlanx/data"
"""The folder that the official client writes to."""

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class CommonRequests(Endpoint):
    """What routers and peers answer alike."""

    status_handlers: ClassVar[Mapping[str, StatusHandler]] = {}
    """What an error status means, by kind of request: ``metadata``, ``data``, ``checksum`` or ``space``."""

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
        form, body = make_form("data", filename, content_type, bytes(data))
        await self._send(
            "POST",
            f"/buckets/data/{quote_id(task_id, 'task_id')}",
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
        action = self._action("disabling chunk", bucket_id, key)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}/disable"
        await self._send("POST", path, action, timeout, headers, verify)
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
            f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata/{quote_id(key, 'key')}",
            self._action("updating chunk", bucket_id, key),
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
            f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata/{quote_id(key, 'key')}",
            self._action("metadata of chunk", bucket_id, key),
            timeout,
            headers,
            verify,
            status_handler=self.status_handlers.get("metadata"),
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
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        action = self._action("data of chunk", bucket_id, key)
        return await self._open(path, action, timeout, headers, verify, status_handler=self.status_handlers.get("data"))

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
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        file_target = _FileTarget(sink_folder_path, filename or key, extension, chunk_size, replace)
        known = unwrap(await self.get_metadata(bucket_id, key, timeout, headers, verify)).metadata
        action = self._action("data of chunk", bucket_id, key)
        if (filters := known.tags.get(FILTERS_TAG, "")) not in ("", "[]"):
            raise UpstreamProtocolError(
                f"{action}: it was written by a newer client that changed its bytes ({filters}); this client can't undo that",
                transient=False,
                permanent=True,
            )
        how = (timeout, headers, verify)
        return await self._download_to(
            path, action, file_target, known.size, known.checksum, how, self.status_handlers.get("data")
        )

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
        file_target = _FileTarget(sink_folder_path, filename or checksum, extension, chunk_size, replace)
        action = f"data with SHA-256 {checksum} at {self._label}"
        how = (timeout, headers, verify)
        path = f"/buckets/checksum/{checksum.lower()}"
        return await self._download_to(
            path, action, file_target, None, checksum.lower(), how, self.status_handlers.get("checksum")
        )

    async def _download_to(
        self,
        path: str,
        action: str,
        file_target: _FileTarget,
        size: int | None,
        checksum: str,
        how: tuple[float, Mapping[str, str], Verify],
        status_handler: StatusHandler | None,
    ) -> str:
        """Read bytes into a file, and let it appear once they are right; a file that is there already has to be the same."""
        timeout, headers, verify = how
        sent = {"Chunk-Size": str(file_target.piece), **headers}
        with contextlib.ExitStack() as making:
            making.enter_context(disk_errors(f"writing the {action} to {file_target.folder}"))
            folder = making.enter_context(OpenFolder(file_target.folder, "sink_folder_path"))
            target = folder.path / file_target.name
            if await self._threads.run(folder.kind_of, file_target.name):
                if await folder.has_content(file_target.name, size, checksum, self._threads):
                    return str(target)
                if not file_target.replace:
                    raise FileAlreadyExists(
                        f"{target} exists with other content, and is left as it is; replace=True replaces it"
                    )
            file = making.enter_context(folder.make(file_target.name))
            file.truncate(0)
            writer = VerifyingWriter(FileSink(file), self._threads, batch_size=min(file_target.piece, PIECE))
            if size != 0:  # a chunk without bytes has no data to ask for
                await self._read(
                    path, writer.write, action, timeout, sent, verify, max_size=size, status_handler=status_handler
                )
            await writer.finish(self._label, size, checksum)
            return str(await self._threads.run(file.publish, file_target.replace))

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
        action = f"peers of {self._label}"
        return await self._json(
            PeersResponse,
            "GET",
            "/peers",
            action,
            timeout,
            headers,
            verify,
            status_handler=self.status_handlers.get("space"),
            max_size=MAX_PEER_LIST,
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


class _FileTarget:
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
