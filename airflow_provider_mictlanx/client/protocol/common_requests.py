"""The requests that routers and peers answer alike, and downloads of one chunk to a file."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from typing import Generic, TypeVar

from pydantic import BaseModel, RootModel

from airflow_provider_mictlanx.client.concurrency import PIECE
from airflow_provider_mictlanx.client.errors import FileAlreadyExists, UpstreamProtocolError, ValidationError
from airflow_provider_mictlanx.client.local_io.atomic_file import OpenFolder, check_file_name, disk_errors
from airflow_provider_mictlanx.client.local_io.sinks import FileSink, VerifyingWriter
from airflow_provider_mictlanx.client.models import (
    DeletedByBallIdResponse,
    DeletedByKeyResponse,
    GetMetadataResponse,
    PeerInfo,
    PeersResponse,
    PutMetadataRequest,
    UpdateMetadataRequest,
)
from airflow_provider_mictlanx.client.protocol.endpoint import (
    Body,
    Endpoint,
    Headers,
    M,
    RequestOptions,
    as_body,
    make_form,
    quote_id,
)
from airflow_provider_mictlanx.client.protocol.status_handlers import RequestKind
from airflow_provider_mictlanx.client.protocol.stream import DataStream
from airflow_provider_mictlanx.client.result import returns_result, unwrap
from airflow_provider_mictlanx.client.transport.connections import Response
from airflow_provider_mictlanx.client.transport.headers import NO_HEADERS
from airflow_provider_mictlanx.client.transport.limits import MAX_PEER_LIST
from airflow_provider_mictlanx.client.transport.tls import Verify
from airflow_provider_mictlanx.client.validation import parse_size
from airflow_provider_mictlanx.client.versions import FILTERS_TAG

DEFAULT_FOLDER = "/mictlanx/data"
"""The folder that the official client writes to."""

Acknowledgement = TypeVar("Acknowledgement", bound=BaseModel)

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class CommonRequests(Endpoint, Generic[Acknowledgement]):
    """The requests that routers and peers answer alike."""

    acknowledgement: type[Acknowledgement]
    """The answer to the data of a chunk."""

    # -- writing ---------------------------------------------------------------------------------------------------

    @returns_result
    async def put_chunked(
        self,
        task_id: str,
        chunks: Body,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        action: str = "",
    ) -> Acknowledgement:
        """
        Send the data of an announced chunk; return who stored it: of a router, the peers, which may be none.

        ``UnavailableError``: a router does not take it now. ``PutChunksError``: the router no longer knows the task.
        ``ValidationError``: of a peer, what came is not what was announced, and is not stored.

        :param task_id: of the announcement. At a router it is valid until its peers were tried, so a request that
            failed before can be repeated; at a peer it is spent by this request
        :param chunks: the bytes, or an iterable or async iterable of pieces of them. A plain iterable is iterated on
            the event loop: where its pieces have to be waited for, use an async one
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param action: what is being sent, for errors
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/data/{quote_id(task_id, 'task_id')}/chunked"
        action = f"{action or f'sending the data of task {task_id}'} to {self._label}"
        body = {"content": as_body(chunks), "content_type": "application/octet-stream"}
        return await self._json(self.acknowledgement, "POST", path, action, options, "upload", **body)

    @returns_result
    async def put_data(
        self,
        task_id: str,
        data: bytes | bytearray | memoryview,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        filename: str = "data",
        content_type: str = "application/octet-stream",
    ) -> bool:
        """
        Send the data of an announced chunk as the multipart field ``data``; return True.

        The answer is a status without a body: it says that the data came, not that any peer stored it. The answer of
        ``put_chunked`` names the peers that stored it.

        :param task_id: of the announcement; it is spent by this request, whatever comes of it
        :param data: the bytes of the chunk
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param filename: of the multipart field
        :param content_type: of the multipart field
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        form, body = make_form("data", filename, content_type, memoryview(data).tobytes())
        path = f"/buckets/data/{quote_id(task_id, 'task_id')}"
        action = f"sending the data of task {task_id} to {self._label}"
        await self._send("POST", path, action, options, content=body, content_type=form)
        return True

    @returns_result
    async def disable(
        self, bucket_id: str, key: str, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> bool:
        """
        Mark a chunk as disabled (``is_disabled`` in its metadata); return True.

        ``NotFoundError``: nobody who was asked knows the chunk.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}/disable"
        await self._send("POST", path, self._action("disabling chunk", bucket_id, key), options)
        return True

    @returns_result
    async def update_metadata(
        self,
        bucket_id: str,
        key: str,
        metadata: UpdateMetadataRequest,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
    ) -> bool:
        """
        Change the metadata of a chunk, at every replica where a router is asked; return True.

        ``NotFoundError``: nobody who was asked knows the chunk. ``ValidationError``: ``metadata`` is empty.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param metadata: the fields to change; tags are replaced as a whole
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        if not metadata.model_dump(exclude_none=True):
            raise ValidationError(f"updating chunk {bucket_id}/{key}: metadata must have a field to change")
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata/{quote_id(key, 'key')}"
        action = self._action("updating chunk", bucket_id, key)
        content = metadata.model_dump_json(exclude_none=True).encode()
        await self._send("PUT", path, action, options, content=content, content_type="application/json")
        return True

    async def _announce(self, model: type[M], metadata: PutMetadataRequest, content: str, options: RequestOptions) -> M:
        path = f"/buckets/{quote_id(metadata.bucket_id, 'bucket_id')}/metadata"
        action = self._action("announcing chunk", metadata.bucket_id, metadata.key)
        body = {"content": content.encode(), "content_type": "application/json"}
        return await self._json(model, "POST", path, action, options, "announcement", **body)

    # -- reading ---------------------------------------------------------------------------------------------------

    @returns_result
    async def get_metadata(
        self, bucket_id: str, key: str, timeout: float = 300, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> GetMetadataResponse:
        """
        Return the metadata of one chunk.

        ``NotFoundError``: of a router, the placement service knows no replica; of a peer, it has none itself.
        ``UnavailableError``: a replica is placed, but the peer that the router asked did not return it.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata/{quote_id(key, 'key')}"
        action = self._action("metadata of chunk", bucket_id, key)
        return await self._json(GetMetadataResponse, "GET", path, action, options, "metadata")

    @returns_result
    async def get_streaming(
        self, bucket_id: str, key: str, timeout: float = 300, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> DataStream:
        """
        Request the data of a chunk; return its pieces as they come: an async iterator and context manager.

        ``GetChunkError``: the peer that the router asked does not have it; ``NotFoundError``: of a peer, it has none
        itself. Nothing is verified; ``get_to_file``, and ``AsyncClient``, do that.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param timeout: until the last byte has come (seconds)
        :param headers: further headers, as ``Force-Get: 1`` (past the router's cache), ``Peer-Id`` (of this peer and no
            other) and ``Chunk-Size`` (of the pieces that the service sends)
        :param verify: how TLS is checked
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        return await self._open(path, self._action("data of chunk", bucket_id, key), options, "data")

    @returns_result
    async def get_to_file(
        self,
        bucket_id: str,
        key: str,
        chunk_size: str | int = "1MB",
        sink_folder_path: str | os.PathLike[str] = DEFAULT_FOLDER,
        timeout: float = 300,
        filename: str = "",
        headers: Headers = NO_HEADERS,
        extension: str = "",
        verify: Verify = False,
        *,
        replace: bool = False,
    ) -> str:
        """
        Download one chunk to a file that appears complete or not at all; return its path.

        The chunk's metadata is requested first, and the bytes must have its size and its SHA-256: ``IntegrityError``
        where they don't, as when the router's cache is old (``Force-Get: 1`` goes past it) or replicas differ. Each is
        one request, made once; ``AsyncClient.get_to_file`` reads a whole ball, and searches for a right copy.

        The errors of ``get_metadata`` and ``get_streaming``; ``FileAlreadyExists``: the file exists with other content
        (one with the same content counts as downloaded); ``UpstreamProtocolError``: a newer client changed the bytes
        before it stored them; ``ValidationError``: the folder or the name can't be used, or another argument is wrong.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param chunk_size: how much is requested, and written, at a time: ``"1MB"`` or a number of bytes
        :param sink_folder_path: the folder; made if missing
        :param timeout: for each of the two requests (seconds)
        :param filename: of the file; the chunk's key where it is empty
        :param headers: further headers
        :param extension: appended to the name, with or without its dot
        :param verify: how TLS is checked
        :param replace: whether another file of that name is replaced
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        target = _FileTarget(sink_folder_path, filename or key, extension, chunk_size, replace)
        known = unwrap(await self.get_metadata(bucket_id, key, **options)).metadata
        action = self._action("data of chunk", bucket_id, key)
        if (filters := known.tags.get(FILTERS_TAG, "")) not in ("", "[]"):
            raise UpstreamProtocolError(
                f"{action}: a newer client stored its bytes changed ({filters}); this client can't undo that",
                transient=False,
                permanent=True,
            )
        return await self._download_to(target, path, action, options, "data", known.checksum, known.size)

    @returns_result
    async def get_by_checksum_to_file(
        self,
        checksum: str,
        chunk_size: str | int = "1MB",
        sink_folder_path: str | os.PathLike[str] = DEFAULT_FOLDER,
        timeout: float = 300,
        filename: str = "",
        headers: Headers = NO_HEADERS,
        extension: str = "",
        verify: Verify = False,
        *,
        replace: bool = False,
    ) -> str:
        """
        Download the bytes with a certain SHA-256 to a file that appears complete or not at all; return its path.

        ``IntegrityError``: what came has another SHA-256; ``NotFoundError``: there are no such bytes, or the service
        does not answer by content (the present routers don't; older ones do); ``FileAlreadyExists``: the file exists
        with other content (one with this content counts as downloaded, and nothing is requested); ``ValidationError``:
        the folder or the name can't be used, or another argument is wrong.

        :param checksum: SHA-256, in hex
        :param chunk_size: how much is requested, and written, at a time: ``"1MB"`` or a number of bytes
        :param sink_folder_path: the folder; made if missing
        :param timeout: for the request (seconds)
        :param filename: of the file; the checksum where it is empty
        :param headers: further headers
        :param extension: appended to the name, with or without its dot
        :param verify: how TLS is checked
        :param replace: whether another file of that name is replaced
        """
        if not _SHA256.fullmatch(checksum):
            raise ValidationError(f"checksum must be a SHA-256 in hex (64 digits), got {checksum!r}")
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        target = _FileTarget(sink_folder_path, filename or checksum, extension, chunk_size, replace)
        path, action = f"/buckets/checksum/{checksum.lower()}", f"data with SHA-256 {checksum} at {self._label}"
        return await self._download_to(target, path, action, options, "checksum", checksum.lower())

    async def _download_to(
        self,
        target: _FileTarget,
        path: str,
        action: str,
        options: RequestOptions,
        kind: RequestKind,
        checksum: str,
        size: int | None = None,
    ) -> str:
        """Read bytes into a file, and publish it once they are verified; an existing file may be the same."""
        with_size: Headers = {"Chunk-Size": str(target.piece), **options["headers"]}
        with contextlib.ExitStack() as stack:
            stack.enter_context(disk_errors(f"writing the {action} to {target.folder}"))
            folder = stack.enter_context(OpenFolder(target.folder, "sink_folder_path"))
            if await self._threads.run(folder.kind_of, target.name):
                if await folder.has_content(target.name, size, checksum, self._threads):
                    return str(folder.path / target.name)
                if not target.replace:
                    raise FileAlreadyExists(
                        f"{folder.path / target.name} exists with other content, and is left as it is; replace=True "
                        "replaces it"
                    )
            file = stack.enter_context(folder.make(target.name))
            file.truncate(0)
            writer = VerifyingWriter(FileSink(file), self._threads, batch_size=min(target.piece, PIECE))
            if size != 0:  # a chunk without bytes has no data to ask for
                await self._read(path, writer.write, action, {**options, "headers": with_size}, kind, size)
            await writer.finish(self._label, size, checksum)
            return str(await self._threads.run(file.publish, target.replace))

    # -- deleting --------------------------------------------------------------------------------------------------

    @returns_result
    async def delete(
        self,
        bucket_id: str,
        key: str,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        force: bool = True,
    ) -> DeletedByKeyResponse:
        """
        Delete a chunk; return the number of replicas.

        A router deletes every replica and the placement, a peer its own replica.

        ``NotFoundError``: of a router, the placement service knows no replica; a peer without one returns 0.

        :param bucket_id: the bucket
        :param key: the chunk's key, ``{ball_id}_{index}``
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param force: the header ``Force``
        """
        options = RequestOptions(timeout=timeout, headers={**headers, "Force": str(int(force))}, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        action = self._action("deleting chunk", bucket_id, key)
        response = await self._send("DELETE", path, action, options)
        return await self._parse_deleted(DeletedByKeyResponse, response, action, key=key)

    @returns_result
    async def delete_by_ball_id(
        self,
        bucket_id: str,
        ball_id: str,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        force: bool = True,
    ) -> DeletedByBallIdResponse:
        """
        Delete the chunks of a ball; return the number of replicas, which may be 0.

        A router deletes every replica that the answering peers know, a peer its own. At a router the placement of
        chunks that the peers don't know stays: ``delete`` their keys too.

        :param bucket_id: the bucket
        :param ball_id: the ball
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        :param force: the header ``Force``
        """
        options = RequestOptions(timeout=timeout, headers={**headers, "Force": str(int(force))}, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/bid/{quote_id(ball_id, 'ball_id')}"
        action = self._action("deleting ball", bucket_id, ball_id)
        response = await self._send("DELETE", path, action, options, "storage space")
        return await self._parse_deleted(DeletedByBallIdResponse, response, action, ball_id=ball_id)

    async def _parse_deleted(self, model: type[M], response: Response, action: str, **names: str) -> M:
        """
        Return the answer to a delete as a model.

        :param names: the names of the deleted, for an answer without a body
        """
        return await self._parse(model, response, action)

    # -- the storage space -----------------------------------------------------------------------------------------

    @returns_result
    async def get_peers(
        self, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> PeersResponse:
        """
        Return the known peers: those that answer and those that don't.

        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        return await self._json(
            PeersResponse, "GET", "/peers", f"peers of {self._label}", options, "storage space", max_size=MAX_PEER_LIST
        )

    @returns_result
    async def add_peers(
        self, peers: Sequence[PeerInfo], timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> bool:
        """
        Add storage peers; return True. A peer that is known already stays as it is.

        ``ValidationError``: there are none, or one was refused.

        :param peers: their ids and addresses, at least one
        :param timeout: for the request (seconds)
        :param headers: further headers
        :param verify: how TLS is checked
        """
        if not peers:
            raise ValidationError("peers must have at least one peer, got none")
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        action = f"adding peers {', '.join(peer.peer_id for peer in peers)} at {self._label}"
        content = RootModel[list[PeerInfo]](list(peers)).model_dump_json().encode()
        await self._send("POST", "/peers", action, options, content=content, content_type="application/json")
        return True


class _FileTarget:
    """The file of a download; ``ValidationError`` where an argument is wrong."""

    def __init__(
        self, folder: str | os.PathLike[str], stem: str, extension: str, chunk_size: str | int, replace: bool
    ) -> None:
        self.folder = folder
        self.piece = parse_size(chunk_size)
        self.replace = replace
        suffix = extension.lstrip(".")
        self.name = check_file_name(f"{stem}.{suffix}" if suffix else stem, "sink_folder_path")
