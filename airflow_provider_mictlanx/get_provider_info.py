"""
What Airflow reads about the package (entry point ``apache_airflow_provider``).

Called in every process of Airflow, so it imports nothing but the version. The form fields here are those of Airflow 3.2
and later; older ones ask the hook, which takes them from ``hooks.form``.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_mictlanx import __version__

_INTEGRATION = "MictlanX"


def get_provider_info() -> dict[str, Any]:
    """Give what ``provider_info.schema.json`` asks for: the modules, and the connection type with its form."""
    return {
        "package-name": "airflow-provider-mictlanx",
        "name": "MictlanX",
        "description": "MictlanX, a decentralized object store\n",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "tags": ["service"],
            }
        ],
        "hooks": [_modules("hooks")],
        "operators": [_modules("operators")],
        "sensors": [_modules("sensors")],
        "triggers": [_modules("triggers")],
        "connection-types": [
            {
                "connection-type": "mictlanx",
                "hook-class-name": "airflow_provider_mictlanx.hooks.mictlanx.MictlanXHook",
                "hook-name": "MictlanX",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": _conn_fields(),
            }
        ],
    }


UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login", "schema", "port"],
    "relabeling": {"password": "Token", "host": "Single router (host or URL)"},
    "placeholders": {
        "host": "empty where Routers are given",
        "password": "sent as 'Authorization: Bearer …'",
    },
}


def _modules(kind: str) -> dict[str, Any]:
    return {"integration-name": _INTEGRATION, "python-modules": [f"airflow_provider_mictlanx.{kind}.mictlanx"]}


def _field(label: str, description: str, type_: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [type_, "null"], **schema}}


def _conn_fields() -> dict[str, dict[str, Any]]:
    return {
        "routers": _field(
            "Routers",
            "One URI per line: mictlanx://router-0@host:60666/?protocol=http (one or more routers, separated by commas), "
            "http://host:60666 or https://host/path. All lines are routers of one storage space.",
            "array",
            items={"type": "string"},
        ),
        "verify": _field(
            "Verify TLS", "Check the routers' certificates (https). Leave it on in production.", "boolean", default=True
        ),
        "ca_file": _field(
            "CA file", "PEM file, on the workers, with the certificates to trust instead of the usual ones.", "string"
        ),
        "client_cert": _field(
            "Client certificate", "PEM file, on the workers, that is shown to the routers.", "string"
        ),
        "client_key": _field(
            "Client key",
            "PEM file, on the workers, with the certificate's key where that is a file of its own.",
            "string",
        ),
        "client_id": _field(
            "Client id", "Who writes: kept with every object as its producer. Default: airflow.", "string"
        ),
        "headers": _field("Extra headers", 'Sent with every request, as JSON: {"X-Tenant": "genomics"}.', "object"),
        "timeout": _field(
            "Request timeout (seconds)", "For one request, not for a whole transfer. Default: 120.", "number"
        ),
        "chunk_size": _field(
            "Chunk size", 'How objects are cut, as "256kb" or "8MB" (1 MB = 1,000,000 bytes). Default: 256kb.', "string"
        ),
        "max_concurrency": _field("Concurrency", "Chunks in flight per transfer.", "integer", minimum=1),
    }
