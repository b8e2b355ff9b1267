"""Build TLS contexts, for the client and for the files of an Airflow connection."""

from __future__ import annotations

import ssl
from typing import TypeAlias

from airflow_provider_mictlanx.client.errors import ValidationError

Verify: TypeAlias = "bool | str | ssl.SSLContext"
"""True = the system's authorities, False = no check, a str = path of a CA file, or a context of the caller."""


def tls_context(verify: bool | str, client_cert: str | None = None, client_key: str | None = None) -> ssl.SSLContext:
    """
    Build a TLS context. This takes tens of milliseconds: call it in a thread.

    Raises ``ValidationError`` that names a missing, unreadable or malformed file.

    :param verify: True = the system's authorities, False = no check, a str = path of a CA file
    :param client_cert: PEM file with the client's certificate
    :param client_key: PEM file with its key
    """
    context = _trust_context(verify)
    if client_cert:
        _check_readable("client_cert", client_cert)
        if client_key:
            _check_readable("client_key", client_key)
        try:
            # An empty password keeps OpenSSL from asking a terminal for one.
            context.load_cert_chain(client_cert, client_key, password="")
        except (OSError, ValueError) as error:
            key = f" with client_key {client_key!r}" if client_key else " (client_key is not set)"
            raise ValidationError(
                f"client_cert {client_cert!r}{key} can't be used: {_reason(error)}; use PEM files, and the key of this "
                "certificate with no passphrase"
            ) from error
    return context


def _trust_context(verify: bool | str) -> ssl.SSLContext:
    if isinstance(verify, str):
        _check_readable("ca_file", verify)
        try:
            return ssl.create_default_context(cafile=verify)
        except OSError as error:
            raise ValidationError(
                f"ca_file must be a PEM file with certificates, got {verify!r}: {_reason(error)}"
            ) from error
    if verify:
        import httpx  # a slow import, needed only for its set of authorities

        return httpx.create_ssl_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise ValidationError(f"{name} {path!r} can't be read on this machine: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
