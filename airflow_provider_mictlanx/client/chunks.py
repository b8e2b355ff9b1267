"""``Chunk`` and ``Chunks``, the pieces of a ball under the official client's names."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from option import Err, Ok, Option, Result

from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.client.models import NO_TAGS
from airflow_provider_mictlanx.client.validation import check_int, parse_size

if TYPE_CHECKING:
    import numpy as np

ChunkSize: TypeAlias = str | int | Option[str] | Option[int] | None
"""``"256kb"``, a number of bytes, either of them as an ``Option``, or None."""

_DTYPE = re.compile(r"[<>|=]?[a-zA-Z]\d*(\[\w+\])?|[a-z]+\d*")
_SHAPE = re.compile(r"\((\d{1,18}(, ?\d{1,18})*,?)?\)")


class ChunkLike(Protocol):
    """A chunk of any class: ``Chunk``, or the official client's."""

    group_id: Any
    index: Any
    data: Any
    chunk_id: Any
    metadata: Any


class Chunk:
    """
    One chunk of a ball.

    :param group_id: the ball id
    :param index: the chunk's index in the ball, from 0
    :param data: the bytes
    :param chunk_id: the chunk's key, ``{group_id}_{index}`` by default
    :param metadata: tags of this chunk
    """

    def __init__(
        self, group_id: str, index: int, data: bytes, chunk_id: str | None = None, metadata: Mapping[str, str] = NO_TAGS
    ) -> None:
        self.group_id = group_id
        self.index = index
        self.data = data
        self.chunk_id = f"{group_id}_{index}" if chunk_id is None else chunk_id
        self.metadata = dict(metadata or {})

    @staticmethod
    def from_bytes(
        group_id: str, index: int, data: bytes, metadata: Mapping[str, str] = NO_TAGS, chunk_id: str | None = None
    ) -> Chunk:
        """Build a chunk; parameters as in ``Chunk``, in the official client's order."""
        return Chunk(group_id, index, data, chunk_id, metadata)

    @staticmethod
    def from_ndarray(
        group_id: str,
        index: int,
        ndarray: np.ndarray[Any, Any],
        metadata: Mapping[str, str] = NO_TAGS,
        chunk_id: str | None = None,
    ) -> Chunk:
        """
        Build a chunk from a numpy array, whose type and shape become the tags ``dtype`` and ``shape``.

        Other parameters: see ``Chunk``.

        :param ndarray: an array of numbers, times or strings

        :raises ValidationError: the array contains Python objects or records
        """
        if ndarray.dtype.hasobject or ndarray.dtype.names is not None:
            raise ValidationError(f"ndarray must contain numbers, times or strings, got the dtype {ndarray.dtype}")
        array_tags = {"dtype": ndarray.dtype.str, "shape": str(ndarray.shape)}
        return Chunk(group_id, index, ndarray.tobytes(), chunk_id, {**metadata, **array_tags})

    @staticmethod
    def from_list(
        group_id: str,
        index: int,
        xs: list[Any],
        metadata: Mapping[str, str] = NO_TAGS,
        chunk_id: str | None = None,
    ) -> Chunk:
        """
        Build a chunk from a list, stored as a numpy array; needs numpy.

        Other parameters: see ``Chunk``.

        :param xs: numbers or strings, or lists of these with equal length

        :raises ValidationError: numpy cannot convert the list to an array, or would change its values
        """
        import numpy as np

        try:
            ndarray = np.array(xs)
            has_nan = ndarray.dtype.kind in "fc" and bool(np.isnan(ndarray).any())  # NaN is not equal to itself
            is_kept = has_nan or ndarray.dtype.hasobject or bool(ndarray.tolist() == xs)
        except ValueError as error:
            raise ValidationError(f"xs must be a list that numpy can convert to an array: {error}") from error
        if not is_kept:
            raise ValidationError(
                f"xs must contain values of one type, which numpy keeps; {ndarray.dtype} changes them"
            )
        return Chunk.from_ndarray(group_id, index, ndarray, metadata, chunk_id)

    def to_ndarray(self) -> Result[np.ndarray[Any, Any], MictlanXError]:
        """
        Return the bytes as a read-only numpy array; needs numpy.

        Its error is a ``ValidationError`` if the tags ``dtype`` and ``shape`` are missing or do not fit the bytes.
        """
        import numpy as np

        dtype, shape = self.metadata.get("dtype", ""), self.metadata.get("shape", "")
        try:
            if not _DTYPE.fullmatch(dtype) or not _SHAPE.fullmatch(shape):
                raise ValueError("no array was stored")
            lengths = [int(length) for length in re.findall(r"\d+", shape)]
            return Ok(np.frombuffer(self.data, dtype).reshape(lengths))
        except (TypeError, ValueError) as error:
            return Err(
                ValidationError(
                    f"tags dtype and shape of chunk {self.chunk_id} must describe its {self.size} bytes, got "
                    f"{dtype!r} and {shape!r}: {error}"
                )
            )

    def to_list(self) -> Result[list[Any], MictlanXError]:
        """Return the array of ``to_ndarray`` as a list, or its error; needs numpy."""
        array = self.to_ndarray()
        if array.is_err:
            return Err(array.unwrap_err())
        return Ok(array.unwrap().tolist())

    @property
    def size(self) -> int:
        """Size of the chunk (bytes)."""
        return len(self.data)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the chunk, in hex."""
        return hashlib.sha256(self.data).hexdigest()

    def __repr__(self) -> str:
        return f"Chunk(group_id={self.group_id!r}, index={self.index}, size={self.size})"


class Chunks:
    """
    The chunks of a ball in memory; supports iteration and ``len``.

    :param chs: the chunks, in any order
    :param n: number of the chunks
    :param strict: raise ``ValidationError`` unless there are exactly ``n`` chunks, with the indexes 0, 1, 2 …
    """

    def __init__(self, chs: Iterable[Chunk], n: int, strict: bool = False) -> None:
        self.chunks = list(chs)
        self.n = n
        if strict and sorted(chunk.index for chunk in self.chunks) != list(range(n)):
            indexes = ", ".join(str(chunk.index) for chunk in self.chunks) or "none"
            raise ValidationError(f"chs must be {n} chunks with the indexes 0, 1, 2 …, got the indexes {indexes}")

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self.chunks)

    def __len__(self) -> int:
        return len(self.chunks)

    def __repr__(self) -> str:
        return f"Chunks({len(self)} chunks)"

    def sort(self) -> None:
        """Sort the chunks by index, in place."""
        self.chunks.sort(key=lambda chunk: chunk.index)

    def sorted_by(self, key: Callable[[Chunk], Any], reverse: bool = False) -> Chunks:
        """
        Return the chunks in another order.

        :param key: as in ``sorted``
        :param reverse: as in ``sorted``
        """
        return Chunks(sorted(self.chunks, key=key, reverse=reverse), self.n)

    @staticmethod
    def from_bytes(
        data: bytes, group_id: str, chunk_size: ChunkSize = None, num_chunks: int = 1
    ) -> Result[Chunks, MictlanXError]:
        """
        Split bytes into chunks; return them in a ``Result``.

        :param data: the bytes
        :param group_id: the ball id
        :param chunk_size: of every chunk but the last; None to choose it by ``num_chunks``
        :param num_chunks: number of chunks, unless ``chunk_size`` is set
        """
        try:
            view = memoryview(data)
            size = _chunk_size(len(view), chunk_size, num_chunks)
            parts = [bytes(view[start : start + size]) for start in range(0, len(view), size)] or [b""]
            return Chunks.from_iterator(parts, group_id)
        except ValidationError as error:
            return Err(error)

    @staticmethod
    def from_file(
        path: str | os.PathLike[str], group_id: str, chunk_size: ChunkSize = None, num_chunks: int = 1
    ) -> Result[Chunks, MictlanXError]:
        """
        Read a file into chunks; return them in a ``Result``. ``AsyncClient.put_file`` needs less memory.

        Its error is a ``ValidationError`` if the file cannot be read. Other parameters: see ``from_bytes``.

        :param path: path of the file
        """
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            return Err(ValidationError(f"path must be a readable file, got {os.fspath(path)!r}: {error.strerror}"))
        return Chunks.from_bytes(data, group_id, chunk_size, num_chunks)

    @staticmethod
    def from_ndarray(
        ndarray: np.ndarray[Any, Any], group_id: str, num_chunks: int = 1
    ) -> Result[Chunks, MictlanXError]:
        """
        Split a numpy array along its first axis; return the chunks in a ``Result``. Needs numpy.

        :param ndarray: an array that ``Chunk.from_ndarray`` accepts
        :param group_id: the ball id
        :param num_chunks: number of chunks; at most the array's length
        """
        import numpy as np

        try:
            check_int("num_chunks", num_chunks)
            most = max(len(ndarray), 1) if ndarray.ndim else 1
            parts = np.array_split(ndarray, min(num_chunks, most)) if most > 1 else [ndarray]
            chunks = [Chunk.from_ndarray(group_id, index, part) for index, part in enumerate(parts)]
            return Ok(Chunks(chunks, len(chunks)))
        except ValidationError as error:
            return Err(error)

    @staticmethod
    def from_iterator(iterator: Iterable[bytes], group_id: str) -> Result[Chunks, MictlanXError]:
        """
        Build one chunk of each item; return them in a ``Result``.

        :param iterator: the bytes of the chunks, in order
        :param group_id: the ball id
        """
        chunks = [Chunk(group_id, index, data) for index, data in enumerate(iterator)]
        return Ok(Chunks(chunks, len(chunks)))


def _chunk_size(size: int, chunk_size: ChunkSize, num_chunks: int) -> int:
    """Return the size of the chunks (bytes), of the size or the number that the caller chose."""
    check_int("num_chunks", num_chunks)
    chosen = chunk_size.unwrap_or(None) if isinstance(chunk_size, Option) else chunk_size
    return max(-(-size // num_chunks), 1) if chosen is None else parse_size(chosen)
