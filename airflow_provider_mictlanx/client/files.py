"""
Files that appear whole or not at all: a temporary name beside the target, ``fsync``, rename. Knows the errors and the threads.

No name that comes out of the storage ever leaves the folder (``names.safe_file_name``), and what stands under the target's
name is left as it is unless it is to be replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_mictlanx.client.errors import FileAlreadyExists, UnknownError, ValidationError
from airflow_provider_mictlanx.client.threads import PIECE, Threads


def check_file_name(name: str, folder_parameter: str = "output_path") -> str:
    """
    Give a plain file name back, or raise ``ValidationError``: no folders, no ``..``, not empty.

    :param folder_parameter: where the caller names the folder, for the error
    """
    if not isinstance(name, str) or not name or name in (".", "..") or "/" in name or "\0" in name or "\\" in name:
        raise ValidationError(
            f"a plain file name without folders is wanted, not {name!r}; the folder is {folder_parameter}"
        )
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError as error:
        raise ValidationError(f"the file name {name!r} is no valid Unicode text: {error.reason}") from error
    if len(encoded) > 255:
        raise ValidationError(f"the file name {name[:60]!r}… is longer than the 255 bytes that a file system takes")
    return name


def path_of(path: object, parameter: str) -> Path:
    """
    Give what a caller named as a path; what no file system takes is a ``ValidationError``.

    :param parameter: where the caller names it, for the error
    """
    if not isinstance(path, str | os.PathLike):
        raise ValidationError(f"{parameter} is a path as text or PathLike, not {path!r}")
    try:
        found = Path(path)
        if b"\0" not in os.fsencode(found):
            return found
    except (TypeError, UnicodeEncodeError) as error:
        raise ValidationError(f"{parameter} {path!r} is no path: {error}") from error
    raise ValidationError(f"{parameter} {path!r} is no path: it holds a NUL character")


class FileInTheMaking:
    """
    A file under a temporary name in the folder of its target.

    :param folder: made if missing; ``ValidationError`` where it can't be, or can't be written to
    :param folder_parameter: where the caller names the folder, for the error
    """

    def __init__(self, folder: str | os.PathLike[str], folder_parameter: str = "output_path") -> None:
        self.folder = path_of(folder, folder_parameter)
        self._parameter = folder_parameter
        self.descriptor = -1
        self._temporary = self.folder / f".mictlanx-{secrets.token_hex(8)}.part"

    def __enter__(self) -> FileInTheMaking:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.descriptor = os.open(self._temporary, flags, 0o666)
        except (FileExistsError, NotADirectoryError) as error:
            raise ValidationError(f"{self._parameter} {self.folder} is no folder: {error.strerror}") from error
        except OSError as error:
            raise ValidationError(f"{self._parameter} {self.folder} can't be written to: {error.strerror}") from error
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.descriptor)
        with contextlib.suppress(FileNotFoundError):  # it has become the target
            os.unlink(self._temporary)

    def clear(self) -> None:
        """Begin again with an empty file."""
        os.ftruncate(self.descriptor, 0)

    def appear(self, name: str, replace: bool) -> Path:
        """
        Make the file appear under its name, whole and on the disk; gives the path.

        ``FileAlreadyExists`` where something has that name by now, unless ``replace`` is true.
        """
        target = self.folder / check_file_name(name)
        os.fsync(self.descriptor)
        if replace:
            if target.is_dir() and not target.is_symlink():
                raise FileAlreadyExists(f"{target} is a folder, and is not replaced by a file")
            os.replace(self._temporary, target)
        else:
            try:
                os.link(self._temporary, target, follow_symlinks=False)
            except FileExistsError:
                raise FileAlreadyExists(f"{target} exists, and is left as it is; replace=True replaces it") from None
            except OSError:  # a file system without hard links
                if os.path.lexists(target):
                    raise FileAlreadyExists(
                        f"{target} exists, and is left as it is; replace=True replaces it"
                    ) from None
                os.rename(self._temporary, target)
        _sync_folder(self.folder)
        return target


async def has_content(path: Path, size: int | None, checksum: str, threads: Threads) -> bool:
    """
    Tell whether a regular file (no symbolic link) has these bytes.

    :param size: how many; None where only the checksum is known
    :param checksum: their SHA-256 in hex
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
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
    """Turn an ``OSError`` of the disk (full, read-only, gone) into a ``MictlanXError`` that says what was being done."""
    try:
        yield
    except OSError as error:
        said = f"{doing}: {error.strerror or error}; nothing was left behind"
        raise UnknownError(said, transient=False) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
