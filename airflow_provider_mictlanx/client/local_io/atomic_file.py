"""
Files that appear complete or not at all: a part beside the target, ``fsync``, rename.

No name that comes out of the storage ever leaves the folder (``names.safe_file_name``), no symbolic link in it is
followed, and what stands under the target's name is left as it is unless it is to be replaced. The folder is held open:
everything happens in this very one, wherever its path leads to meanwhile.

The part's name follows from the target's, so that an interrupted download goes on from it, also after a SIGKILL;
whoever takes it holds a lock on it, and a second download to the same target takes the next name. What is in a part
counts only after it was hashed (``PartFile.leftover_size``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
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
"""So many downloads to one target, at once, get parts that can be gone on with; there may be more."""

MIN_RESUMABLE_SIZE = 1024 * 1024
"""Below this size (bytes), downloading again is cheaper than keeping a partial file."""

_NAME_TAKEN = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES, errno.EPERM, errno.ETXTBSY})
"""The system's errors for a part's name that is taken: by a link, a folder, a socket, another user's file."""


def check_file_name(name: str, folder_parameter: str = "output_path") -> str:
    """
    Return a plain file name, or raise ``ValidationError``: no folders, no ``..``, not empty.

    :param folder_parameter: the folder's name in the call, for the error
    """
    if not isinstance(name, str) or not name or name in (".", "..") or "/" in name or "\0" in name or "\\" in name:
        raise ValidationError(
            f"a plain file name without folders is wanted, not {name!r}; the folder is {folder_parameter}"
        )
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError as error:
        raise ValidationError(f"the file name {name!r} is no valid Unicode text: {error.reason}") from error
    if is_part_name(name):
        raise ValidationError(
            f"the file name {name!r} is one of those that parts of downloads have: choose another one"
        )
    if len(encoded) > 255:
        raise ValidationError(f"the file name {name[:60]!r}… is longer than the 255 bytes that a file system takes")
    return name


def check_path(path: str | os.PathLike[str], parameter: str) -> Path:
    """
    Return a path, or raise ``ValidationError`` for one that no file system accepts.

    :param parameter: its name in the call, for the error
    """
    try:
        checked = Path(path)
        if b"\0" in os.fsencode(checked):
            raise ValueError("it has a NUL character")
    except (TypeError, ValueError) as error:
        raise ValidationError(f"{parameter} must be a path, got {path!r}: {error}") from error
    return checked


class OpenFolder:
    """
    The folder of a target, held open; for ``with``.

    :param folder: made if missing; ``ValidationError`` where it can't be, or can't be written to
    :param parameter: where the caller names the folder, for the error
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
            raise ValidationError(f"{self._parameter} {self.path} is no folder: {error.strerror}") from error
        except OSError as error:
            raise self._not_writable(error) from error
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.descriptor)

    def _not_writable(self, error: OSError) -> ValidationError:
        return ValidationError(f"{self._parameter} {self.path} can't be written to: {error.strerror}")

    def kind_of(self, name: str) -> int:
        """Return the file type of a name (``stat.S_IFREG`` …), of a link the link's own; 0 if it does not exist."""
        try:
            return stat.S_IFMT(os.stat(name, dir_fd=self.descriptor, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return 0

    async def has_content(self, name: str, size: int | None, checksum: str, threads: Threads) -> bool:
        """
        Return whether a regular file (no symbolic link) of this name has these bytes.

        :param size: how many; None where only the checksum is known
        :param checksum: their SHA-256 in hex
        """
        return await has_content(name, size, checksum, threads, self.descriptor)

    def make(self, name: str) -> PartFile:
        """
        Return the part file of this name, for ``with``.

        ``ValidationError`` if no file can be made here, or none can have this name.
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
        """Raise ``ValidationError`` where no file can be made here."""
        with self.make("check"):
            pass

    def _take(self, temporary: str, *, create: bool) -> int | None:
        """
        Open a part and lock it; None where that can't be: somebody is at it, or it is not ours to use.

        Whoever had it before may have made it a target, or removed it, between the opening and the lock.
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
        """Lock an open part; return whether it can be used, or None if it is gone or was a target too."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody has it, or the file system has no locks
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
        if opened.st_nlink > 1:  # its owner was killed after it had become the target: writing to it would change that
            os.unlink(temporary, dir_fd=self.descriptor)
            return None
        return True

    def clear_parts(self, name: str) -> None:
        """Remove what other downloads to a target have left, if nobody is at it."""
        for slot in range(SLOTS):
            temporary = part_name(name, slot)
            with contextlib.suppress(FileNotFoundError):
                if (descriptor := self._take(temporary, create=False)) is not None:
                    os.unlink(temporary, dir_fd=self.descriptor)
                    os.close(descriptor)


class PartFile:
    """
    A file under a part's name in the folder of its target, made by ``OpenFolder.make``; for ``with``.

    :ivar descriptor: to be written to, and read from
    :ivar leftover_size: how many bytes an interrupted download left in it; nobody has looked whether they are right
    :ivar verified: how many bytes in it are right, to be counted by who writes them
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
            os.close(self.descriptor)  # lets go of the lock

    def _is_resumable(self, error: BaseException | None) -> bool:
        """Return whether the same download may be started again: it was stopped, or its error may pass."""
        if not self._lasting or self.verified < MIN_RESUMABLE_SIZE:
            return False
        if isinstance(error, MictlanXError):
            return not error.permanent and not isinstance(error, IntegrityError)
        return error is not None and not isinstance(error, Exception)

    def truncate(self, size: int) -> None:
        """Forget what an interrupted download left beyond so many bytes, and what was verified."""
        self.verified = 0
        self.leftover_size = min(self.leftover_size, size)
        os.ftruncate(self.descriptor, self.leftover_size)

    def publish(self, replace: bool) -> Path:
        """
        Move the file to its name, complete and synced to the disk; return its path.

        ``FileAlreadyExists`` if something has that name by now, unless ``replace`` is true.
        """
        folder = self.folder.descriptor
        target = self.folder.path / self.name
        os.fsync(self.descriptor)
        if replace:
            if self.folder.kind_of(self.name) == stat.S_IFDIR:
                raise FileAlreadyExists(f"{target} is a folder, and is not replaced by a file")
            os.replace(self._temporary, self.name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            self._publish_new(target)
        self._published = True
        os.fsync(folder)
        self.folder.clear_parts(self.name)
        return target

    def _publish_new(self, target: Path) -> None:
        folder = self.folder.descriptor
        there = FileAlreadyExists(f"{target} exists, and is left as it is; replace=True replaces it")
        try:
            os.link(self._temporary, self.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise there from None
        except OSError:  # a file system without hard links
            if self.folder.kind_of(self.name):
                raise there from None
            os.rename(self._temporary, self.name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.unlink(self._temporary, dir_fd=folder)


async def has_content(
    path: str | Path, size: int | None, checksum: str, threads: Threads, folder: int | None = None
) -> bool:
    """
    Return whether a regular file (no symbolic link) has these bytes.

    :param size: how many; None where only the checksum is known
    :param checksum: their SHA-256 in hex
    :param folder: an open folder that the path begins in; None for the working directory
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or size not in (None, status.st_size):
            return False
        digest = hashlib.sha256()

        def hash_a_piece() -> int:
            piece = os.read(descriptor, PIECE)
            digest.update(piece)
            return len(piece)

        while await threads.run(hash_a_piece):
            pass
        return digest.hexdigest() == checksum
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Raise an ``OSError`` of the disk (full, read-only, gone) as a ``MictlanXError`` that names the action."""
    try:
        yield
    except OSError as error:
        said = f"{doing}: {error.strerror or error}; nothing was left behind"
        raise UnknownError(said, transient=False) from error
