"""Errors of the client as the ``OSError`` classes that callers of a filesystem expect."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_mictlanx.client import errors
from airflow_provider_mictlanx.client.errors import MictlanXError

# Airflow's XCom backend takes FileNotFoundError, TypeError and ValueError for "not stored there", so any other error of
# the client must be none of these.
_ERRNO: tuple[tuple[type[MictlanXError], int], ...] = (
    (errors.NotFoundError, errno.ENOENT),  # FileNotFoundError
    (errors.FileAlreadyExists, errno.EEXIST),  # FileExistsError
    (errors.AuthenticationError, errno.EACCES),  # PermissionError
    (errors.PermissionError, errno.EACCES),
    (errors.RequestTimeoutError, errno.ETIMEDOUT),  # TimeoutError
)


@contextmanager
def os_errors() -> Iterator[None]:
    """Raise every ``MictlanXError`` of the block as an ``OSError`` with the same message."""
    try:
        yield
    except MictlanXError as error:
        number = next((number for kind, number in _ERRNO if isinstance(error, kind)), errno.EIO)
        raise OSError(number, str(error)) from error


def missing(path: str, cause: str = "no object or directory has this path") -> OSError:
    """Return the ``FileNotFoundError`` of a path."""
    return FileNotFoundError(errno.ENOENT, cause, path)
