"""
Run as a process of its own, on Airflow 2 with a migrated database: opens connections in the form of its UI, and saves them as they are.

On standard input: ``{"conn_id": {"conn_type": …, "extra": …}, …}``; in place of such a connection ``{"typed": {field: text}}`` for one that is
made in the form. Prints ``{"conn_id": {"shown": …, "stored": …}, …}``: the form's own fields
as a browser has them, and the connection as the database holds it afterwards.
"""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from typing import Any

from airflow.models import Connection
from airflow.utils.session import create_session
from airflow.www.app import create_app


class Form(HTMLParser):
    """What a browser would send if nothing was changed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self._area = self._select = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name = given.get("name") or ""
        if tag == "input" and name and given.get("type") not in ("submit", "button", "checkbox"):
            self.fields[name] = given.get("value") or ""
        elif tag == "input" and name and "checked" in given:
            self.fields[name] = given.get("value") or "y"
        elif tag == "textarea":
            self._area = name
            self.fields[name] = ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and "selected" in given:
            self.fields[self._select] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            # A browser drops the first line end, and sends the others as CRLF.
            text = self.fields[self._area].replace("\r\n", "\n").removeprefix("\n")
            self.fields[self._area] = text.replace("\n", "\r\n")
            self._area = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.fields[self._area] += data


def stored(conn_id: str) -> dict[str, Any]:
    with create_session() as session:
        connection = session.query(Connection).filter_by(conn_id=conn_id).one()
        names = ("conn_type", "host", "login", "password", "port", "schema")
        return {"id": connection.id, "extra": connection.extra_dejson} | {
            name: getattr(connection, name) for name in names
        }


def saved(browser: Any, conn_id: str, typed: dict[str, str]) -> dict[str, Any]:
    """Open a connection, or with ``typed`` a new one, and save it."""
    url = "/connection/add" if typed else f"/connection/edit/{stored(conn_id)['id']}"
    page = browser.get(url)
    assert page.status_code == 200, page.status
    # The page's script takes the fields of other types of connections out.
    fields = {
        name: text
        for name, text in Form(page.text).fields.items()
        if not name.startswith("extra__") or name.startswith("extra__mictlanx__")
    }
    answer = browser.post(url, data=fields | typed)
    assert answer.status_code == 302, answer.text.partition("alert-danger")[2][:1500]
    return {"shown": fields, "stored": stored(conn_id)}


def main() -> None:
    connections = json.load(sys.stdin)
    with create_session() as session:
        for conn_id, given in connections.items():
            if "typed" not in given:
                session.add(Connection(conn_id, **{**given, "extra": json.dumps(given["extra"])}))
    app = create_app(testing=True)
    app.config |= {"WTF_CSRF_ENABLED": False, "AUTH_ROLE_PUBLIC": "Admin"}
    with app.test_client() as browser:
        told = {conn_id: saved(browser, conn_id, given.get("typed", {})) for conn_id, given in connections.items()}
    sys.stdout.write(f"FORM {json.dumps(told)}\n")


if __name__ == "__main__":
    main()
