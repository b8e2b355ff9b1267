"""What every call of the surface needs: the routers, the threads, the time that is left, and who to tell."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import MappingProxyType

from airflow_provider_mictlanx.client.balancer import Balancer
from airflow_provider_mictlanx.client.cache import ReadCache
from airflow_provider_mictlanx.client.checks import whole_number
from airflow_provider_mictlanx.client.chunks import parse_size
from airflow_provider_mictlanx.client.dispatch import Dispatcher, How
from airflow_provider_mictlanx.client.errors import MictlanXError, ValidationError
from airflow_provider_mictlanx.client.logs import ClientLogs
from airflow_provider_mictlanx.client.lookup import Name
from airflow_provider_mictlanx.client.models import RetryPolicy
from airflow_provider_mictlanx.client.names import (
    ball_id_of,
    check_bucket_id,
    check_bucket_may_change,
    is_safe_id,
)
from airflow_provider_mictlanx.client.retry import RetryRule, within
from airflow_provider_mictlanx.client.router import AsyncRouter
from airflow_provider_mictlanx.client.texts import get_logger
from airflow_provider_mictlanx.client.threads import Threads
from airflow_provider_mictlanx.client.transport import Transport, Verify
from airflow_provider_mictlanx.client.uri import MictlanXURI

log = get_logger("airflow_provider_mictlanx.client")

NONE: Mapping[str, str] = MappingProxyType({})
"""No headers, no tags."""

LOG_PATH = os.environ.get("MICTLANX_LOG_PATH", "/mictlanx/client")
"""The folder of the log files, unless another one is given."""

ROUTERS_SHOWN = 3
"""How many routers an error names."""


class ClientBase:
    """The parts of a client that its calls share; ``AsyncClient`` documents the parameters."""

    def __init__(
        self,
        uri: str | MictlanXURI,
        client_id: str,
        debug: bool = True,
        max_workers: int = 12,
        log_output_path: str | os.PathLike[str] | None = LOG_PATH,
        log_when: str = "m",
        log_interval: int = 30,
        eviction_policy: str = "LRU",
        capacity_storage: str | int = "1GB",
        verify: Verify = False,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(client_id, str) or not client_id or any("\ud800" <= c <= "\udfff" for c in client_id):
            raise ValidationError(f"client_id is a text that is not empty, not {client_id!r}")
        whole_number("max_workers", max_workers)
        self.uri = uri if isinstance(uri, MictlanXURI) else MictlanXURI.parse(uri)
        self.client_id = client_id
        self._verify = verify
        self._cache = ReadCache(eviction_policy, _capacity_of(capacity_storage))
        self._threads = Threads(max_workers)
        self._transport = Transport(token=token, headers=headers, http2=self.uri.http2)
        self._balancer = Balancer(
            [
                AsyncRouter.at(address, self.uri.protocol, self.uri.http2, self.uri.api_version, self._transport)
                for address in self.uri.named_routers
            ]
        )
        self._logs = ClientLogs(client_id, debug, log_output_path, log_when, log_interval)
        if self.uri.protocol == "https" and verify is False:
            log.warning("Client %s does not check the routers' certificates: verify=True does", client_id)

    def __repr__(self) -> str:
        return f"AsyncClient({str(self.uri)!r}, client_id={self.client_id!r})"

    @asynccontextmanager
    async def _doing(self, what: str, deadline: float | None, *names: Name | str) -> AsyncIterator[None]:
        """
        Bound a call, name its object in every error, and log the outcome.

        :param what: what is being done, with its objects, for errors
        :param names: the call's objects: balls, buckets or chunks
        """
        started = time.monotonic()
        try:
            async with within(deadline, what):
                yield
        except MictlanXError as error:
            self._name_in(error, what, names)
            log.debug("Failed after %.3f s: %s", time.monotonic() - started, error)
            raise
        log.debug("Done in %.3f s: %s", time.monotonic() - started, what)

    def _name_in(self, error: MictlanXError, what: str, names: Sequence[Name | str]) -> None:
        """Amend an error so that it names the objects of the call as the caller wrote them, and the routers."""
        message = str(error)
        written = []
        for name in names:
            if isinstance(name, Name):
                if name.key != name.ball_id:
                    message = message.replace(name.ball_id, f"{name.ball_id[:12]}…")
                name = f"{name.bucket_id}/{name.key}"
            written.append(name)
        if not all(name in message for name in written):
            message = f"{what}: {message}"
        routers = self._balancer.routers
        # A ValidationError without a router's address was raised before any request.
        if not any(router.base_url() in message for router in routers) and not isinstance(error, ValidationError):
            shown = ", ".join(f"{router.router_id} {router.base_url()}" for router in routers[:ROUTERS_SHOWN])
            more = f" and {len(routers) - ROUTERS_SHOWN} more" if len(routers) > ROUTERS_SHOWN else ""
            message = f"{message} [{shown}{more}]"
        error.amend(message)

    def _dispatcher(self, timeout: float, headers: Mapping[str, str], rule: RetryRule | None = None) -> Dispatcher:
        how = How(timeout=timeout, headers=headers, verify=self._verify)
        return Dispatcher(self._balancer, how, rule or RetryRule())


def name_of(bucket_id: str, key: str) -> Name:
    """Give the name of a ball, checked: by its id or by any key."""
    return Name(check_bucket_id(bucket_id), ball_id_of(key), key)


def changing_name(bucket_id: str, key: str, allow_reserved_bucket: bool, parameter: str = "bucket_id") -> Name:
    """Return the name of a ball that is written or deleted, checked as ``check_bucket_may_change`` does."""
    return Name(check_bucket_may_change(bucket_id, allow_reserved_bucket, parameter), ball_id_of(key), key)


def check_chunk_key(key: str) -> str:
    """Give a chunk's key back, or raise ``ValidationError``: it is made of the ball id, never of any key."""
    if not isinstance(key, str) or not is_safe_id(key):
        raise ValidationError(f"key is a chunk's here, {{ball_id}}_{{index}}, made of the ball id; {key!r} is none")
    return key


def rule_of(policy: RetryPolicy | None) -> RetryRule:
    """Give the rule for the official client's retry policy."""
    if policy is None:
        return RetryRule()
    if not isinstance(policy, RetryPolicy):
        raise ValidationError(f"the retry policy is a RetryPolicy or None, not {policy!r}")
    retries = whole_number("retries of the retry policy", policy.retries, least=0)
    return RetryRule(
        retries + 1, policy.max_delay, policy.initial_delay, factor=policy.backoff_factor, jitter=policy.jitter
    )


def _capacity_of(capacity: str | int) -> int:
    return parse_size(capacity, "capacity_storage", least=0)
