"""
The error tree of the client, with the official client's error codes.

* ``MictlanXError``
    * ``ValidationError`` (400): an argument is invalid, or the service rejected the request as contradictory
    * ``AuthenticationError`` (401), ``PermissionError`` (403)
    * ``NotFoundError`` (404): known to be absent
    * ``FileAlreadyExists`` (405): the file or the key exists with other content
        * ``BallConflictError``: other bytes are stored under the key
    * ``UnknownError`` (500): the service failed
    * ``IntegrityError`` (501): no copy with the right size and SHA-256 could be read, or the source changed
    * ``PutChunksError`` (502): not stored on as many peers as asked
    * ``GetChunkError`` (503): a chunk could not be read
    * ``MaxAvailabilityReachedError`` (666): every peer knows the chunk already
    * ``UpstreamProtocolError`` (1005): the answer does not follow the protocol
    * ``NetworkError`` (1000)
        * ``ConnectFailedError`` (1001)
            * ``CertificateError``: a TLS certificate was refused, the router's or the client's
        * ``DNSResolutionError`` (1002)
        * ``RequestTimeoutError`` (1004)
            * ``DeadlineExceededError``: the call's deadline has passed
        * ``UnavailableError``: a peer does not answer, so the result cannot be confirmed

Every error has two flags. ``transient``: the client may retry within the call. ``permanent``: a retry fails until
somebody changes something. An error may have neither: the client does not retry for a missing object, but the object
may exist when Airflow runs the task again.
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_mictlanx.client.texts import clean


class MictlanXError(Exception):
    """
    Base class of the client's errors. Secrets and unprintable characters are removed from its message.

    :param message: the action, the bucket and key, the cause, and what to do
    :param status_code: the HTTP status of the answer, or the closest one
    :param error_code: the official client's code for this kind of error
    :param transient: overrides whether the client may retry within the call
    :param permanent: overrides whether a retry fails until somebody changes something
    """

    default_status_code: int = 500
    default_error_code: int = 500
    default_transient: bool = False
    default_permanent: bool = False
    exhausted: bool = False
    """True after ``max_tries``: the surrounding work is then not retried either."""

    def __init__(
        self,
        message: str = "",
        status_code: int | None = None,
        error_code: int | None = None,
        *,
        transient: bool | None = None,
        permanent: bool | None = None,
    ) -> None:
        message = clean(message)
        super().__init__(message)
        self.message = message
        self.status_code = self.default_status_code if status_code is None else status_code
        self.error_code = self.default_error_code if error_code is None else error_code
        self.transient = self.default_transient if transient is None else transient
        self.permanent = self.default_permanent if permanent is None else permanent

    def __str__(self) -> str:
        return self.message

    def amend(self, message: str) -> None:
        """Replace the message."""
        self.message = clean(message)
        self.args = (self.message, *self.args[1:])

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[MictlanXError], args: tuple[object, ...], state: dict[str, object]) -> MictlanXError:
    """Build an error from its pickled state."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ValidationError(MictlanXError):
    """An argument is invalid, or the service rejected the request as contradictory (400, 422)."""

    default_status_code = 400
    default_error_code = 400
    default_permanent = True


class AuthenticationError(MictlanXError):
    """The service, or a proxy in front of it, rejected the credentials (401, 407)."""

    default_status_code = 401
    default_error_code = 401
    default_permanent = True


class PermissionError(MictlanXError):  # the official client's name
    """The credentials are valid but do not permit this action (403)."""

    default_status_code = 403
    default_error_code = 403
    default_permanent = True


class NotFoundError(MictlanXError):
    """The requested object is known to be absent (404)."""

    default_status_code = 404
    default_error_code = 404


class FileAlreadyExists(MictlanXError):
    """The file or the key exists with other content."""

    default_status_code = 409
    default_error_code = 405
    default_permanent = True


class BallConflictError(FileAlreadyExists):
    """Other bytes are stored or announced under the key; ``replace=True`` replaces them."""


class UnknownError(MictlanXError):
    """The service failed for a reason that the protocol does not define (500 and above)."""

    default_transient = True


class IntegrityError(MictlanXError):
    """
    The size or the SHA-256 of every readable copy is wrong, or the source of an upload changed.

    :ivar peer_silent: whether a peer that may have a correct copy did not answer
    """

    default_error_code = 501
    peer_silent: bool = False


class PutChunksError(MictlanXError):
    """Fewer peers than requested acknowledged a chunk."""

    default_error_code = 502
    default_transient = True


class GetChunkError(MictlanXError):
    """
    A listed chunk could not be read from any peer.

    :ivar peer_silent: whether a peer that may have it did not answer
    """

    default_status_code = 503
    default_error_code = 503
    default_transient = True
    peer_silent: bool = False


class MaxAvailabilityReachedError(MictlanXError):
    """
    Every peer already knows this chunk (code 666); its data may or may not be stored.

    :ivar replicas: the peers that the service named as knowing it
    """

    default_status_code = 409
    default_error_code = 666
    replicas: Sequence[str] = ()


class UpstreamProtocolError(MictlanXError):
    """
    The answer does not follow the protocol: HTML instead of JSON, a missing field, a redirect, or too long.

    :ivar too_long: whether the answer exceeds the size limit
    """

    default_status_code = 502
    default_error_code = 1005
    default_transient = True
    too_long: bool = False


class NetworkError(MictlanXError):
    """The request did not reach the service, or its answer did not arrive."""

    default_status_code = 503
    default_error_code = 1000
    default_transient = True


class ConnectFailedError(NetworkError):
    """The connection to the router failed."""

    default_error_code = 1001


class CertificateError(ConnectFailedError):
    """TLS was refused: the certificate is not trusted, has expired, or is for another host."""

    default_transient = False
    default_permanent = True


class DNSResolutionError(NetworkError):
    """The router's host name has no address."""

    default_error_code = 1002


class RequestTimeoutError(NetworkError):
    """A request was not answered within its timeout."""

    default_status_code = 504
    default_error_code = 1004


class DeadlineExceededError(RequestTimeoutError):
    """The ``deadline`` of the call has passed."""

    default_transient = False


class UnavailableError(NetworkError):
    """
    A peer does not answer, so a missing object cannot be confirmed.

    :ivar unknown_to_peer: whether the peer answered that it does not know a chunk placed on it
    """

    unknown_to_peer: bool = False
