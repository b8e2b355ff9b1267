"""
Write files that appear complete or not at all: a part file in the target's folder, ``fsync``, rename.

No name from the storage leaves the folder (``object_ids.safe_file_name``). Symbolic links in the folder are not
followed. An existing target is kept unless ``replace`` is true. The folder stays open, so a later rename of its path
does not redirect the download.

The part file's name is derived from the target's, so an interrupted download resumes from it, even after SIGKILL. A
download locks its part file; a second download to the same target uses the next name. Leftover bytes count only after
they were hashed (``PartFile.leftover_size``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from airflow_provider_mictlanx.client.concurrency import PIECE, Threads
from airflow_provider_mictlanx.client.errors import (
    FileAlreadyExists,
    IntegrityError,
    MictlanXError,
    UnknownError,
    ValidationError,
)
from airflow_provider_mictlanx.client.object_ids import is_part_name, part_name

SLOTS = 16
"""Number of concurrent downloads to one target whose part files can be resumed; further ones start anew."""

MIN_RESUMABLE_SIZE = 1024 * 1024
"""Below this size (bytes), downloading again is cheaper than keeping a partial file."""

_NAME_TAKEN = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ETXTBSY})
"""Errors of opening a part file whose name is taken by a link, a folder, a socket or another user's file."""


def check_file_name(name: str, folder_parameter: str = "output_path") -> str:
    """
    Return a plain file name, or raise ``ValidationError``: no folders, no ``..``, not empty.

    :param folder_parameter: the folder's name in the call, for the error
    """
    if not isinstance(name, str) or not name or name in (".", "..") or "/" in name or "\0" in name or "\\" in name:
        raise ValidationError(
            f"filename must be a plain file name without folders, got {name!r}; pass the folder as {folder_parameter}"
        )
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError as error:
        raise ValidationError(f"file name must be valid Unicode, got {name!r}: {error.reason}") from error
    if is_part_name(name):
        raise ValidationError(
            f"file name must not be one of those reserved for partial downloads, got {name!r}; choose another one"
        )
    if len(encoded) > 255:
        raise ValidationError(f"file name must have at most 255 bytes, got {len(encoded)} ({name[:60]!r}…)")
    return name


def check_path(path: str | os.PathLike[str], parameter: str) -> Path:
    """
    Return a path, or raise ``ValidationError`` if no file system accepts it.

    :param parameter: its name in the call, for the error
    """
    try:
        checked = Path(path)
        if b"\0" in os.fsencode(checked):
            raise ValueError("it contains a NUL character")
    except (TypeError, ValueError) as error:
        raise ValidationError(f"{parameter} must be a path, got {path!r}: {error}") from error
    return checked


class OpenFolder:
    """
    The open folder of a target; use it in a ``with`` statement.

    :param folder: created if missing; ``ValidationError`` if it can't be created or written to
    :param parameter: the caller's parameter for the folder, for the error
    """

    def __init__(self, folder: str | os.PathLike[str], parameter: str = "output_path") -> None:
        self.path = check_path(folder, parameter)
        self.descriptor = -1
        self._parameter = parameter

    def __enter__(self) -> OpenFolder:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError) as error:
            raise ValidationError(
                f"{self._parameter} must be a folder, got {str(self.path)!r}: {error.strerror}"
            ) from error
        except OSError as error:
            raise self._not_writable(error) from error
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.descriptor)

    def _not_writable(self, error: OSError) -> ValidationError:
        return ValidationError(f"{self._parameter} must be writable, got {str(self.path)!r}: {error.strerror}")

    def kind_of(self, name: str) -> int:
        """Return the file type of a name (``stat.S_IFREG`` …) without following links; 0 if it does not exist."""
        try:
            return stat.S_IFMT(os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return 0

    def make(self, name: str) -> PartFile:
        """
        Open the part file for this target name, for a ``with`` statement.

        ``ValidationError`` if the folder is not writable or the name is invalid.
        """
        check_file_name(name, self._parameter)
        try:
            for slot in range(SLOTS):
                temporary = part_name(name, slot)
                if (descriptor := self._take(temporary, create=True)) is not None:
                    return PartFile(self, name, temporary, descriptor)
            temporary = part_name(name, secrets.token_hex(8))
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o666, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT):
                raise self._not_writable(error) from error
            raise
        return PartFile(self, name, temporary, descriptor, lasting=False)

    def check_writable(self) -> None:
        """Raise ``ValidationError`` if the folder is not writable."""
        with self.make("check"):
            pass

    def _take(self, temporary: str, *, create: bool) -> int | None:
        """
        Open and lock a part file; return None if another download or another user has it.

        Opening is repeated if its previous user published or removed the file before the lock was taken.
        """
        while True:
            try:
                flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_CREAT if create else 0)
                descriptor = os.open(temporary, flags, 0o666, dir_fd=self.descriptor)
            except OSError as error:
                if error.errno in _NAME_TAKEN and self.kind_of(temporary):
                    return None
                raise
            usable: bool | None = False
            try:
                usable = self._is_ours(descriptor, temporary)
            finally:
                if not usable:
                    os.close(descriptor)
            if usable is not None:
                return descriptor if usable else None

    def _is_ours(self, descriptor: int, temporary: str) -> bool | None:
        """Lock an open part file; return whether it is usable, or None if it was removed or published meanwhile."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # locked by another download
            return False
        except OSError:  # a file system without locks: a name that nobody locks is never used
            if not os.fstat(descriptor).st_size:
                os.unlink(temporary, dir_fd=self.descriptor)
            return False
        opened = os.fstat(descriptor)
        try:
            named = os.stat(temporary, dir_fd=self.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not os.path.samestat(opened, named):
            return None
        if not stat.S_ISREG(opened.st_mode) or opened.st_uid != os.geteuid():
            return False
        if opened.st_nlink > 1:  # published by a download that was then killed: writing would change the target
            os.unlink(temporary, dir_fd=self.descriptor)
            return None
        return True

    def clear_parts(self, name: str) -> None:
        """Remove the unlocked part files of a target."""
        for slot in range(SLOTS):
            temporary = part_name(name, slot)
            with contextlib.suppress(FileNotFoundError):
                if (descriptor := self._take(temporary, create=False)) is not None:
                    os.unlink(temporary, dir_fd=self.descriptor)
                    os.close(descriptor)


class PartFile:
    """
    A part file in its target's folder, opened by ``OpenFolder.make``; use it in a ``with`` statement.

    :ivar descriptor: the open file
    :ivar leftover_size: number of bytes left by an interrupted download, not yet verified
    :ivar verified: number of verified bytes, counted by the writer
    """

    def __init__(self, folder: OpenFolder, name: str, temporary: str, descriptor: int, *, lasting: bool = True) -> None:
        self.folder = folder
        self.name = name
        self.descriptor = descriptor
        self.leftover_size = os.fstat(descriptor).st_size
        self.verified = 0
        self._temporary = temporary
        self._lasting = lasting
        self._published = False

    def __enter__(self) -> PartFile:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._published and not self._is_resumable(error):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary, dir_fd=self.folder.descriptor)
        finally:
            os.close(self.descriptor)  # releases the lock

    def _is_resumable(self, error: BaseException | None) -> bool:
        """Return whether the part file is kept: the download was stopped, or a retry may succeed."""
        if not self._lasting or self.verified < MIN_RESUMABLE_SIZE:
            return False
        if isinstance(error, MictlanXError):
            return not error.permanent and not isinstance(error, IntegrityError)
        return error is not None and not isinstance(error, Exception)

    def truncate(self, size: int) -> None:
        """Truncate leftover bytes beyond a size, and reset the number of verified bytes."""
        self.verified = 0
        self.leftover_size = min(self.leftover_size, size)
        os.ftruncate(self.descriptor, self.leftover_size)

    def publish(self, replace: bool) -> Path:
        """
        Sync the complete file to disk and rename it to its target; return its path.

        ``FileAlreadyExists`` if the target exists, unless ``replace`` is true.
        """
        folder = self.folder.descriptor
        target = self.folder.path / self.name
        os.fsync(self.descriptor)
        if replace:
            if self.folder.kind_of(self.name) == stat.S_IFDIR:
                raise FileAlreadyExists(
                    f"{target} is a folder and is not replaced by a file; remove it or choose another name"
                )
            os.replace(self._temporary, self.name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            self._publish_new(target)
        self._published = True
        os.fsync(folder)
        self.folder.clear_parts(self.name)
        return target

    def _publish_new(self, target: Path) -> None:
        folder = self.folder.descriptor
        exists = FileAlreadyExists(f"{target} exists and was not changed; replace=True replaces it")
        try:
            os.link(self._temporary, self.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise exists from None
        except OSError:  # a file system without hard links
            if self.folder.kind_of(self.name):
                raise exists from None
            os.rename(self._temporary, self.name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.unlink(self._temporary, dir_fd=folder)


async def has_content(
    path: str | Path, size: int | None, checksum: str, threads: Threads, folder: int | None = None
) -> bool:
    """
    Return whether a path is a regular file (not a symbolic link) with the given content.

    :param size: bytes; None if only the checksum is known
    :param checksum: SHA-256 in hex
    :param folder: descriptor of the folder that the path is relative to; None for the working directory
    """
    return bool(await matching_checksum(path, [(size, checksum)], threads, folder))


async def matching_checksum(
    path: str | Path, parts: Sequence[tuple[int | None, str]], threads: Threads, folder: int | None = None
) -> str:
    """
    Return the SHA-256 of a regular file (not a symbolic link) that has the given content, else an empty str.

    :param parts: of the content, each with its size (bytes; None for the complete file) and its SHA-256 in hex
    :param folder: see ``has_content``
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return ""
    try:
        status = os.fstat(descriptor)
        sizes = [status.st_size if size is None else size for size, _ in parts]
        if not stat.S_ISREG(status.st_mode) or sum(sizes) != status.st_size:
            return ""
        digest = hashlib.sha256()

        def hash_a_piece(part: hashlib._Hash, size: int) -> int:
            piece = os.read(descriptor, min(size, PIECE))
            for one in {digest, part}:
                one.update(piece)
            return len(piece)

        for left, (_, checksum) in zip(sizes, parts, strict=True):
            part = digest if len(parts) == 1 else hashlib.sha256()
            while left:
                left -= await threads.run(hash_a_piece, part, left) or left
            if part.hexdigest() != checksum:
                return ""
        return digest.hexdigest()
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(action: str, outcome: str = "") -> Iterator[None]:
    """
    Raise an ``OSError`` of the disk (full, read-only, removed) as an ``UnknownError`` that names action and file.

    :param outcome: for the error, as ``; nothing was left behind``
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a timeout of the caller
            raise
        file = f"{error.filename}: " if error.filename else ""
        message = f"{action} failed: {file}{error.strerror}{outcome}; check the disk, then run it again"
        raise UnknownError(message, transient=False) from error
