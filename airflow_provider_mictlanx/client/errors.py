"""
The errors of the client: one tree, numbered as the official client numbers its errors.

* ``MictlanXError``
    * ``ValidationError`` (400): the request contradicts itself, or an argument is wrong
    * ``AuthenticationError`` (401), ``PermissionError`` (403)
    * ``NotFoundError`` (404): known to be absent
    * ``FileAlreadyExists`` (405): something else is in the way
        * ``BallConflictError``: other bytes are stored under the key
    * ``UnknownError`` (500): the service answered with a fault
    * ``IntegrityError`` (501): no copy with the right size and SHA-256 could be read, or the source changed
    * ``PutChunksError`` (502): not stored on as many peers as asked
    * ``GetChunkError`` (503): a chunk could not be read
    * ``MaxAvailabilityReachedError`` (666): every peer knows the chunk already
    * ``UpstreamProtocolError`` (1005): the answer is not one of the protocol's
    * ``NetworkError`` (1000)
        * ``ConnectFailedError`` (1001)
            * ``CertificateError``: the router's certificate was refused, or ours by the router
        * ``DNSResolutionError`` (1002)
        * ``RequestTimeoutError`` (1004)
            * ``DeadlineExceededError``: the whole call's time is over
        * ``UnavailableError``: a peer does not answer, so the answer cannot be believed

Two questions are answered by every error: ``transient`` (may the client itself try again within the call?) and
``permanent`` (is trying again, even in an hour, pointless until somebody changes something?). An error may be neither:
a missing object is not retried by the client, but may be there when Airflow runs the task again.
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_mictlanx.client.texts import clean


class MictlanXError(Exception):
    """
    Base of every error of the client. Its message is cleaned: no secret, and nothing that is not printable.

    :param message: what was being done, to what, what came back and what to do
    :param status_code: the HTTP status that came back, or the one that fits best
    :param error_code: the number that the official client gives this kind of error
    :param transient: overrides whether the client may try again within the call
    :param permanent: overrides whether trying again is pointless until somebody changes something
    """

    default_status_code: int = 500
    default_error_code: int = 500
    default_transient: bool = False
    default_permanent: bool = False
    exhausted: bool = False
    """Whether the failed request was repeated as often as allowed, so that the work around it is not repeated too."""

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
    """An argument is wrong, or the service found that the request contradicts itself (400, 422)."""

    default_status_code = 400
    default_error_code = 400
    default_permanent = True


class AuthenticationError(MictlanXError):
    """The service, or a proxy in front of it, wants other credentials (401, 407)."""

    default_status_code = 401
    default_error_code = 401
    default_permanent = True


class PermissionError(MictlanXError):  # the official client's name
    """The credentials are known but not allowed to do this (403)."""

    default_status_code = 403
    default_error_code = 403
    default_permanent = True


class NotFoundError(MictlanXError):
    """What was asked for is known to be absent (404)."""

    default_status_code = 404
    default_error_code = 404


class FileAlreadyExists(MictlanXError):
    """Something else is in the way: a file with other content, or another ball."""

    default_status_code = 409
    default_error_code = 405
    default_permanent = True


class BallConflictError(FileAlreadyExists):
    """Other bytes are stored, or announced, under the key; ``replace=True`` replaces them."""


class UnknownError(MictlanXError):
    """The service answered with a fault that the protocol does not explain (500 and above)."""

    default_transient = True


class IntegrityError(MictlanXError):
    """
    The size or the SHA-256 is wrong: of every copy that could be read, or of a source that changed meanwhile.

    :ivar peer_away: whether a peer that may have a right copy did not answer
    """

    default_error_code = 501
    peer_away: bool = False


class PutChunksError(MictlanXError):
    """A chunk was not acknowledged by as many peers as asked."""

    default_error_code = 502
    default_transient = True


class GetChunkError(MictlanXError):
    """
    A chunk that is listed could not be read from any peer.

    :ivar peer_away: whether a peer that may have it did not answer
    """

    default_status_code = 503
    default_error_code = 503
    default_transient = True
    peer_away: bool = False


class MaxAvailabilityReachedError(MictlanXError):
    """
    Every peer knows this chunk already (code 666); says nothing about whether its data is stored.

    :ivar replicas: the peers that know it, as far as the service named them
    """

    default_status_code = 409
    default_error_code = 666
    replicas: Sequence[str] = ()


class UpstreamProtocolError(MictlanXError):
    """
    The answer is none of the protocol's: HTML instead of JSON, a field missing, a redirect, far too long.

    :ivar too_long: whether it is longer than what is read of it
    """

    default_status_code = 502
    default_error_code = 1005
    default_transient = True
    too_long: bool = False


class NetworkError(MictlanXError):
    """The request did not get through, or the answer did not come back."""

    default_status_code = 503
    default_error_code = 1000
    default_transient = True


class ConnectFailedError(NetworkError):
    """No connection to the router."""

    default_error_code = 1001


class CertificateError(ConnectFailedError):
    """TLS was refused: the certificate is not trusted, has expired, or is for another host."""

    default_transient = False
    default_permanent = True


class DNSResolutionError(NetworkError):
    """The router's host name has no address."""

    default_error_code = 1002


class RequestTimeoutError(NetworkError):
    """A request was not answered in its time."""

    default_status_code = 504
    default_error_code = 1004


class DeadlineExceededError(RequestTimeoutError):
    """The ``deadline`` of the whole call is over."""

    default_transient = False


class UnavailableError(NetworkError):
    """
    A peer does not answer, so a missing object cannot be confirmed.

    :ivar unknown_to_peer: whether the peer answered that it knows nothing of a chunk that is placed on it
    """

    unknown_to_peer: bool = False
