"""Requests common to routers and peers, and downloads of one chunk to a file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from airflow_provider_mictlanx.client.concurrency import PIECE
from airflow_provider_mictlanx.client.errors import FileAlreadyExists, ValidationError
from airflow_provider_mictlanx.client.local_io.atomic_file import OpenFolder, check_file_name, disk_errors, has_content
from airflow_provider_mictlanx.client.local_io.sinks import FileSink, VerifyingWriter
from airflow_provider_mictlanx.client.models import (
    Answer,
    DeletedByBallIdResponse,
    DeletedByKeyResponse,
    GetMetadataResponse,
    PeersResponse,
    PutMetadataRequest,
    UpdateMetadataRequest,
)
from airflow_provider_mictlanx.client.protocol.endpoint import (
    A,
    Body,
    Endpoint,
    Headers,
    M,
    RequestOptions,
    as_body,
    build_model,
    make_form,
    quote_id,
)
from airflow_provider_mictlanx.client.protocol.status_handlers import RequestKind
from airflow_provider_mictlanx.client.protocol.stream import DataStream
from airflow_provider_mictlanx.client.result import returns_result, unwrap
from airflow_provider_mictlanx.client.transport.connections import Response
from airflow_provider_mictlanx.client.transport.headers import NO_HEADERS, add_headers, check_headers, merge_headers
from airflow_provider_mictlanx.client.transport.limits import MAX_METADATA, MAX_PEER_LIST
from airflow_provider_mictlanx.client.transport.tls import Verify
from airflow_provider_mictlanx.client.validation import check_bool, parse_size
from airflow_provider_mictlanx.client.versions import filtered_error, read_filters

DEFAULT_FOLDER = "/mictlanx/data"
"""The official client's default folder."""

Acknowledgement = TypeVar("Acknowledgement", bound=Answer)
"""The answer to a chunk's data, which names the peers that stored it."""

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class PeerAddress(Protocol):
    """A peer to add: ``PeerInfo``, ``AsyncPeer``, or the official client's classes."""

    peer_id: str
    ip_addr: str
    port: int
    protocol: str


class CommonRequests(Endpoint, Generic[Acknowledgement]):
    """
    Requests common to routers and peers.

    Every method returns a ``Result``. Its error may be ``NetworkError`` (no answer), ``UnknownError`` (the service
    failed), ``AuthenticationError``, ``PermissionError``, ``ValidationError`` (an argument is invalid or was refused)
    or ``UpstreamProtocolError`` (the answer does not follow the protocol). Each method documents its further errors.

    Parameters that the methods share:

    :param bucket_id: the bucket
    :param ball_id: the ball
    :param key: the chunk's key, ``{ball_id}_{index}``
    :param size: of the chunk (bytes)
    :param checksum: SHA-256 of the chunk, in hex
    :param producer_id: the writer
    :param content_type: of the chunk
    :param tags: dict of str
    :param force: the header ``Force``
    :param timeout: for the request (seconds)
    :param headers: further headers
    :param verify: how TLS is checked: True = by the system's authorities, False = not at all, a str = by the
        authorities in that file, or an ``ssl.SSLContext``
    """

    acknowledgement: type[Acknowledgement]
    """Model of the answer to a chunk's data."""

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
        Send the data of an announced chunk; return the peers that stored it, which may be none at a router.

        ``UnavailableError``: the router does not accept data now. ``PutChunksError``: the router no longer knows the
        task. ``ValidationError``: a peer received other bytes than announced, and did not store them.

        :param task_id: of the announcement. A router accepts it until it has tried the peers, so an earlier failure
            can be retried. A peer accepts it once
        :param chunks: the bytes, or an iterable or async iterable of bytes. A plain iterable blocks the event loop; use
            an async one if it waits
        :param action: the action, for errors
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
        key: str,
        value: bytes | bytearray | memoryview,
        content_type: str,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        file_id: str = "data",
        verify: Verify = False,
    ) -> bool:
        """
        Send the data of an announced chunk as a multipart form; return True.

        The answer is a status without a body: it confirms that the data arrived, not that a peer stored it. The answer
        of ``put_chunked`` names the peers that stored it.

        :param task_id: of the announcement; this request spends it even if it fails
        :param key: the chunk's key, sent as the file name of the multipart field
        :param value: the bytes of the chunk
        :param content_type: of the multipart field
        :param file_id: name of the multipart field; services read ``data``
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        form, body = make_form(file_id, key, content_type, memoryview(value).tobytes())
        path = f"/buckets/data/{quote_id(task_id, 'task_id')}"
        action = f"sending the data of task {task_id} to {self._label}"
        return await self._confirm("POST", path, action, options, content=body, content_type=form)

    @returns_result
    async def disable(
        self, bucket_id: str, key: str, headers: Headers = NO_HEADERS, verify: Verify = False, timeout: float = 120
    ) -> bool:
        """
        Mark a chunk as disabled (``is_disabled`` in its metadata); return True.

        ``NotFoundError``: no asked peer knows the chunk.
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}/disable"
        return await self._confirm("POST", path, self._action("disabling chunk", bucket_id, key), options)

    @returns_result
    async def update_metadata(
        self,
        bucket_id: str,
        key: str,
        metadata: UpdateMetadataRequest | Mapping[str, Any],
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        timeout: float = 120,
    ) -> bool:
        """
        Update the metadata of a chunk; return True.

        ``NotFoundError``: no asked peer knows the chunk. ``ValidationError``: ``metadata`` is empty or invalid.
        ``UnknownError``: the service failed; routers of version 0.1.0a5 always do.

        :param metadata: the fields to change; given tags replace all tags
        """
        if isinstance(metadata, Mapping):
            metadata = build_model(UpdateMetadataRequest, **metadata)
        if not metadata.model_dump(exclude_none=True):
            raise ValidationError(f"metadata must have a field to change, got {metadata!r} for chunk {bucket_id}/{key}")
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/u/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        action = self._action("updating chunk", bucket_id, key)
        content = metadata.model_dump_json(exclude_none=True).encode()
        return await self._confirm("POST", path, action, options, content=content, content_type="application/json")

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

        ``NotFoundError``: the placement service of a router knows no replica, or a peer has none itself.
        ``UnavailableError``: a replica is placed, but the peer that the router asked did not return it.
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/metadata/{quote_id(key, 'key')}"
        action = self._action("reading the metadata of chunk", bucket_id, key)
        return await self._json(GetMetadataResponse, "GET", path, action, options, "metadata", max_size=MAX_METADATA)

    @returns_result
    async def get_streaming(
        self, bucket_id: str, key: str, timeout: float = 300, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> DataStream:
        """
        Request the data of a chunk; return it as an async iterator and context manager.

        ``GetChunkError``: the peer that the router asked does not have it. ``NotFoundError``: a peer has no replica
        itself. The data is not verified; ``get_to_file`` and ``AsyncClient`` verify it.

        :param timeout: until the last byte has arrived (seconds)
        :param headers: further headers, such as ``Force-Get: 1`` (bypass the router's cache), ``Peer-Id`` (ask only
            this peer) and ``Chunk-Size`` (buffer size of the service)
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        return await self._open(path, self._action("reading chunk", bucket_id, key), options, "data")

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

        The metadata is requested first. ``IntegrityError``: the size or SHA-256 of the data differs from it, because
        the router's cache is outdated (``Force-Get: 1`` bypasses it) or replicas differ. Both requests are made once;
        ``AsyncClient.get_to_file`` reads a complete ball and searches for a correct copy.

        The errors of ``get_metadata`` and ``get_streaming``, and: ``FileAlreadyExists``: the file exists with other
        content (the same content counts as downloaded). ``UpstreamProtocolError``: a newer client compressed or
        encrypted the bytes. ``ValidationError``: an argument is invalid.

        :param chunk_size: buffer size for reading and writing: ``"1MB"`` or a number of bytes
        :param sink_folder_path: the folder; created if missing
        :param timeout: for each request (seconds)
        :param filename: of the file; the chunk's key by default
        :param extension: appended to the name, with or without its dot
        :param replace: whether an existing file with other content is replaced
        """
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        target = _FileTarget(sink_folder_path, filename or key, extension, chunk_size, replace)
        known = unwrap(await self.get_metadata(bucket_id, key, **options)).metadata
        action = self._action("reading chunk", bucket_id, key)
        if filters := read_filters([known]):
            raise filtered_error(action, filters)
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
        Download the bytes with a given SHA-256 to a file that appears complete or not at all; return its path.

        ``IntegrityError``: the received bytes have another SHA-256. ``NotFoundError``: no such bytes are stored, or the
        service does not support reading by checksum (current routers don't; older ones do). Parameters and errors: see
        ``get_to_file``, and:

        :param checksum: SHA-256, in hex
        :param filename: of the file; the checksum by default
        """
        if not _SHA256.fullmatch(checksum):
            raise ValidationError(f"checksum must be a SHA-256 in hex (64 digits), got {checksum!r}")
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        target = _FileTarget(sink_folder_path, filename or checksum, extension, chunk_size, replace)
        path, action = f"/buckets/checksum/{checksum.lower()}", f"reading SHA-256 {checksum} at {self._label}"
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
        """Download bytes to a part file, verify and publish it, unless the target already has the content."""
        with_size = merge_headers({"Chunk-Size": str(target.piece)}, check_headers(options["headers"]))
        with (
            disk_errors(f"{action} to {target.folder}", "; nothing was left behind"),
            OpenFolder(target.folder, "sink_folder_path") as folder,
        ):
            if folder.kind_of(target.name):
                if await has_content(target.name, size, checksum, self._threads, folder.descriptor):
                    return str(folder.path / target.name)
                if not target.replace:
                    raise FileAlreadyExists(
                        f"{folder.path / target.name} exists with other content and was not changed; replace=True "
                        "replaces it"
                    )
            with folder.make(target.name) as file:
                file.truncate(0)
                writer = VerifyingWriter(FileSink(file), self._threads, batch_size=min(target.piece, PIECE))
                if size != 0:  # an empty chunk has no data to request
                    await self._read(path, writer.write, action, {**options, "headers": with_size}, kind, size)
                await writer.finish(self._label, size, checksum)
                return str(await self._threads.run(file.publish, target.replace))

    # -- deleting --------------------------------------------------------------------------------------------------

    async def _delete(self, bucket_id: str, key: str, options: RequestOptions, force: bool) -> DeletedByKeyResponse:
        sent = add_headers(options["headers"], {"Force": str(int(check_bool("force", force)))})
        options = {**options, "headers": sent}
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/{quote_id(key, 'key')}"
        action = self._action("deleting chunk", bucket_id, key)
        response = await self._send("DELETE", path, action, options)
        return self._parse_deleted(DeletedByKeyResponse, response, action, key=key)

    @returns_result
    async def delete_by_ball_id(
        self,
        ball_id: str,
        bucket_id: str,
        timeout: float = 120,
        headers: Headers = NO_HEADERS,
        verify: Verify = False,
        *,
        force: bool = True,
    ) -> DeletedByBallIdResponse:
        """
        Delete the chunks of a ball; return the number of deleted replicas, which may be 0.

        A router deletes every replica that the answering peers know; a peer deletes its own. A router keeps the
        placement of chunks that the peers do not know: ``delete`` their keys too.
        """
        sent = add_headers(headers, {"Force": str(int(check_bool("force", force)))})
        options = RequestOptions(timeout=timeout, headers=sent, verify=verify)
        path = f"/buckets/{quote_id(bucket_id, 'bucket_id')}/bid/{quote_id(ball_id, 'ball_id')}"
        action = self._action("deleting object", bucket_id, ball_id)
        response = await self._send("DELETE", path, action, options, "storage space")
        return self._parse_deleted(DeletedByBallIdResponse, response, action, ball_id=ball_id)

    def _parse_deleted(self, model: type[A], response: Response, action: str, **names: str) -> A:
        """
        Parse the answer to a delete.

        :param names: fields of the model, for an answer without a body
        """
        return self._parse(model, response, action)

    # -- the storage space -----------------------------------------------------------------------------------------

    @returns_result
    async def get_peers(
        self, timeout: float = 120, headers: Headers = NO_HEADERS, verify: Verify = False
    ) -> PeersResponse:
        """Return the available and the unavailable peers."""
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        return await self._json(
            PeersResponse,
            "GET",
            "/peers",
            f"listing the peers of {self._label}",
            options,
            "storage space",
            max_size=MAX_PEER_LIST,
        )

    @returns_result
    async def add_peers(
        self,
        peers: Sequence[PeerAddress],
        headers: Headers = NO_HEADERS,
        timeout: float = 120,
        verify: Verify = False,
    ) -> bool:
        """
        Add storage peers; return True. A peer that is already known is not changed.

        ``ValidationError``: ``peers`` is empty, or the service refused one.

        :param peers: at least one: ``PeerInfo``, ``AsyncPeer``, or any object with ``peer_id``, ``ip_addr``, ``port``
            and ``protocol``
        """
        if not peers:
            raise ValidationError("peers must contain at least one peer, got none")
        options = RequestOptions(timeout=timeout, headers=headers, verify=verify)
        action = f"adding peers {', '.join(peer.peer_id for peer in peers)} at {self._label}"
        added = [
            {"protocol": peer.protocol, "peer_id": peer.peer_id, "hostname": peer.ip_addr, "port": peer.port}
            for peer in peers
        ]
        content = msgspec.json.encode(added)
        return await self._confirm("POST", "/xpeers", action, options, content=content, content_type="application/json")


class _FileTarget:
    """The target file of a download; raises ``ValidationError`` for an invalid argument."""

    def __init__(
        self, folder: str | os.PathLike[str], stem: str, extension: str, chunk_size: str | int, replace: bool
    ) -> None:
        self.folder = folder
        self.piece = parse_size(chunk_size)
        self.replace = check_bool("replace", replace)
        suffix = extension.lstrip(".")
        self.name = check_file_name(f"{stem}.{suffix}" if suffix else stem, "sink_folder_path")
