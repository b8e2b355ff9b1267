"""TLS contexts."""

from __future__ import annotations

import ssl
from typing import TypeAlias

from airflow_provider_mictlanx.client.errors import ValidationError

Verify: TypeAlias = "bool | str | ssl.SSLContext"
"""True = the system's authorities, False = no check, a text = path of a CA file, or a context made by the caller."""


def tls_context(verify: bool | str) -> ssl.SSLContext:
    """
    Build a TLS context; takes tens of milliseconds, so it is done off the event loop.

    :param verify: True = the system's authorities, False = no check, a text = path of a CA file
    """
    if verify is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if verify is True:
        import httpx  # its set of authorities; a while to import, and most routers speak no TLS

        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=verify)
    except (OSError, ssl.SSLError) as error:
        raise ValidationError(f"the CA file {verify} can't be read: {error.strerror or error}") from error
