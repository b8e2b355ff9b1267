"""A backend of Airflow's state store that keeps the states of assets in MictlanX."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NoReturn

from airflow.sdk.state import BaseStoreBackend

from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook

BUCKET = "airflow-state"


def _unused(*_: Any, **__: Any) -> NoReturn:
    raise NotImplementedError("of the API server, which keeps the metadata database")


class MictlanXStateBackend(BaseStoreBackend):
    """Every state is an object of its own: a replace would leave none if the triggerer is killed in it."""

    get = set = delete = clear = _unused
    aget = aset = adelete = aclear = _unused

    def serialize_asset_state_store_to_ref(self, *, value: Any, key: str, scope: Any) -> str:
        data = json.dumps(value)
        name = f"{scope.name or scope.uri}/{key}/{hashlib.sha256(data.encode()).hexdigest()}"
        MictlanXHook().put(BUCKET, name, data)
        return name

    def deserialize_asset_state_store_from_ref(self, stored: str) -> Any:
        return json.loads(MictlanXHook().get_text(BUCKET, stored))
