"""Proxies between client and routers: a real proxy process, with and without authentication, for http and https, on both engines."""

from __future__ import annotations

import asyncio
import base64
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    AsyncRouter,
    AuthenticationError,
    ConnectFailedError,
    MictlanXError,
    ValidationError,
)
from airflow_provider_mictlanx.client.transport.proxies import Proxy, ProxyRules
from airflow_provider_mictlanx.hooks.mictlanx import MictlanXHook
from tests.support.certificates import Authority
from tests.support.vss import LocalVSS

ROOT = Path(__file__).parents[3]
TOKEN = "t0ken-of-the-routers"
PASSWORD = "p@ss:word/of proxy"
CREDENTIALS = "someone:p%40ss%3Aword%2Fof%20proxy"
BASIC = base64.b64encode(f"someone:{PASSWORD}".encode())
DATA = bytes(range(256)) * 4096

VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def start_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., int]]:
    """Start a proxy; return its port."""
    started = []

    def start(*options: str) -> int:
        folder = tmp_path_factory.mktemp("proxy")
        command = [sys.executable, str(ROOT / "scripts/end_with_parent.py"), sys.executable, "-m", "proxy"]
        command += ["--hostname", "127.0.0.1", "--port", "0", "--port-file", "port", "--num-acceptors", "1"]
        command += ["--num-workers", "1", "--data-dir", str(folder), *options]
        with (folder / "log").open("w") as log:
            started.append(subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=log, stderr=log))
        for _ in range(600):
            if (folder / "port").exists() and (text := (folder / "port").read_text().strip()):
                return int(text)
            time.sleep(0.05)
        raise RuntimeError((folder / "log").read_text())

    yield start
    for process in started:
        process.communicate()  # closes its standard input, which ends it


@pytest.fixture(scope="module")
def open_proxy(start_proxy: Callable[..., int]) -> int:
    return start_proxy()


@pytest.fixture(scope="module")
def closed_proxy(start_proxy: Callable[..., int]) -> int:
    return start_proxy("--basic-auth", f"someone:{PASSWORD}")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def tls_vss(own_vss: Callable[..., LocalVSS], authority: Authority, monkeypatch: pytest.MonkeyPatch) -> LocalVSS:
    monkeypatch.setattr(AsyncRouter, "https_has_port", True)  # nobody can listen on 443 here
    certificate, key = map(str, authority.issue("router"))
    return own_vss(peers=1, options=("--certificate", certificate, "--private-key", key))


class Recorder:
    """
    A TCP relay before a proxy.

    :ivar seen: what was sent towards the proxy
    """

    def __init__(self) -> None:
        self.seen = b""
        self.port = 0

    @asynccontextmanager
    async def before(self, port: int) -> AsyncIterator[Recorder]:
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(
                self._pump(reader, far_writer, record=True), self._pump(far_reader, writer, record=False)
            )

        async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, record: bool) -> None:
        try:
            while data := await reader.read(65536):
                if record:
                    self.seen += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


def client_through(uri: str, proxy: str | None, **arguments: object) -> AsyncClient:
    options = {
        "debug": False,
        "log_output_path": None,
        "token": TOKEN,
        "proxy": proxy,
        "connect_patience": 0,
        **arguments,
    }
    return AsyncClient(uri, "tests", **options)  # type: ignore[arg-type]


async def put_and_get(client: AsyncClient, bucket_id: str) -> None:
    (await client.put(bucket_id, "key", DATA, chunk_size="256kb", max_tries=2)).unwrap()
    assert (await client.get(bucket_id, "key", max_retries=2)).unwrap().data == DATA


async def test_http_goes_through_the_proxy(vss: LocalVSS, bucket_id: str, open_proxy: int) -> None:
    async with Recorder().before(open_proxy) as recorder:
        async with client_through(vss.uri, f"http://127.0.0.1:{recorder.port}") as client:
            await put_and_get(client, bucket_id)
        assert f"http://127.0.0.1:{vss.port}/api/v4/".encode() in recorder.seen
        assert b"Proxy-Authorization" not in recorder.seen


async def test_http_proxy_gets_its_credentials(vss: LocalVSS, bucket_id: str, closed_proxy: int) -> None:
    async with Recorder().before(closed_proxy) as recorder:
        async with client_through(vss.uri, f"http://{CREDENTIALS}@127.0.0.1:{recorder.port}") as client:
            await put_and_get(client, bucket_id)
        assert BASIC in recorder.seen


@pytest.mark.parametrize("http2", [0, 1], ids=["aiohttp", "httpx"])
async def test_https_is_tunnelled_and_hides_the_token(
    tls_vss: LocalVSS, bucket_id: str, closed_proxy: int, authority: Authority, http2: int
) -> None:
    uri = tls_vss.uri.replace("http2=0", f"http2={http2}")
    async with Recorder().before(closed_proxy) as recorder:
        proxy = f"http://{CREDENTIALS}@127.0.0.1:{recorder.port}"
        async with client_through(uri, proxy, verify=str(authority.certificate)) as client:
            await put_and_get(client, bucket_id)
        assert f"CONNECT 127.0.0.1:{tls_vss.port} HTTP/1.1".encode() in recorder.seen
        assert BASIC in recorder.seen
        assert TOKEN.encode() not in recorder.seen
        assert bucket_id.encode() not in recorder.seen


@pytest.mark.parametrize("credentials", ["", "someone:wr0ng-password@"], ids=["none", "wrong"])
@pytest.mark.parametrize("how", ["http", "aiohttp", "httpx"])
def test_refusing_proxy_is_named_without_its_credentials(
    vss: LocalVSS,
    bucket_id: str,
    closed_proxy: int,
    how: str,
    credentials: str,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A 407 is permanent: one request, one error that says what to check."""
    caplog.set_level(logging.DEBUG)
    uri, verify = vss.uri, False
    if how != "http":
        uri = request.getfixturevalue("tls_vss").uri.replace("http2=0", f"http2={int(how == 'httpx')}")

    async def scenario() -> MictlanXError:
        proxy = f"http://{credentials}127.0.0.1:{closed_proxy}"
        async with client_through(uri, proxy, verify=verify) as client:
            return (await client.put(bucket_id, "key", DATA, max_tries=3)).unwrap_err()

    error = asyncio.run(scenario())
    assert isinstance(error, AuthenticationError)
    assert "407" in str(error)
    assert "check user and password in the connection's Proxy" in str(error)
    for text in (str(error), repr(error), str(error.__cause__), caplog.text):
        assert "wr0ng" not in text
        assert base64.b64encode(b"someone:wr0ng-password").decode() not in text


@pytest.mark.parametrize("how", ["http", "aiohttp", "httpx"])
def test_proxy_that_does_not_run_is_named(
    vss: LocalVSS, bucket_id: str, how: str, request: pytest.FixtureRequest
) -> None:
    uri = vss.uri
    if how != "http":
        uri = request.getfixturevalue("tls_vss").uri.replace("http2=0", f"http2={int(how == 'httpx')}")

    async def scenario() -> MictlanXError:
        async with client_through(uri, "http://someone:s3cret-pass@127.0.0.1:1") as client:
            return (await client.put(bucket_id, "key", DATA, max_tries=1)).unwrap_err()

    error = asyncio.run(scenario())
    assert isinstance(error, ConnectFailedError)
    assert "through proxy http://127.0.0.1:1 failed: no connection (Connection refused)" in str(error)
    assert "s3cret" not in str(error)


@pytest.mark.parametrize("http2", [0, 1], ids=["aiohttp", "httpx"])
def test_unreachable_router_behind_a_proxy(open_proxy: int, http2: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncRouter, "https_has_port", True)

    async def scenario() -> MictlanXError:
        uri = f"mictlanx://r0@127.0.0.1:1/?protocol=https&http2={http2}"
        async with client_through(uri, f"http://127.0.0.1:{open_proxy}") as client:
            return (await client.get("bucket", "key", max_retries=1)).unwrap_err()

    error = asyncio.run(scenario())
    assert isinstance(error, ConnectFailedError)
    assert f"proxy http://127.0.0.1:{open_proxy}" in str(error)


def test_environment_holds_only_where_it_is_trusted(
    vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async def put(**arguments: object) -> bool:
        async with client_through(vss.uri, None, **arguments) as client:
            return (await client.put(bucket_id, "key", b"data", max_tries=1)).is_ok

    assert asyncio.run(put())
    assert not asyncio.run(put(trust_env=True))
    monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
    assert asyncio.run(put(trust_env=True))


async def test_netrc_of_the_environment_is_never_sent(
    vss: LocalVSS, bucket_id: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password netrc-password\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with Recorder().before(vss.port) as recorder:
        uri = vss.uri.replace(str(vss.port), str(recorder.port))
        async with client_through(uri, None, trust_env=True, token=None) as client:
            (await client.put(bucket_id, "key", b"data")).unwrap()
        assert b"uthorization" not in recorder.seen


@pytest.mark.parametrize(
    ("variables", "url", "expected"),
    [
        ({"HTTP_PROXY": "proxy:3128"}, "http://h0:60666/api", "http://proxy:3128"),
        ({"http_proxy": "http://proxy:3128/"}, "http://h0/api", "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, "https://h0/api", None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://h0/api", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, "https://h0/api", None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".example.org"}, "https://r0.example.org:8443/api", None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "h0:443"}, "https://h0:8443/api", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://[::1]:3128"}, "https://h0/api", "http://[::1]:3128"),
        ({}, "https://h0/api", None),
    ],
)
def test_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, expected: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = ProxyRules(trust_env=True).for_url(url)
    assert (found and found.url) == expected


def test_configured_proxy_precedes_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://other:1")
    found = ProxyRules("http://a:c%2Fd@proxy:3128", True).for_url("http://h")
    assert found == Proxy("http://proxy:3128", "a", "c/d")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "socks5://someone:s3cret-pass@proxy:1080",
            "must be an HTTP proxy, got 'socks5://proxy:1080'; SOCKS proxies are not",
        ),
        ("https://someone:s3cret-pass@proxy:443", "must be reached over http, got 'https://proxy:443'"),
        ("http://someone:s3cret-pass@proxy:99999", "must be a URL such as"),
        ("http://someone:s3cret-pass@", "must be a URL such as"),
        ("http://someone:s3cret-pass@proxy:3128/path", "must be a URL such as"),
        ("http://some%3Aone:s3cret-pass@proxy:3128", "must have a user without a colon"),
        ("http://[::1", "must be a URL such as"),
    ],
)
def test_bad_proxy_is_refused_without_its_credentials(text: str, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AsyncClient("mictlanx://r0@h0:1/?protocol=http", "tests", debug=False, log_output_path=None, proxy=text)
    assert reason in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_socks_proxy_of_the_environment_is_a_clear_error(vss: LocalVSS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5h://proxy:1080")

    async def scenario() -> MictlanXError:
        async with client_through(vss.uri, None, trust_env=True) as client:
            return (await client.get("bucket", "key", max_retries=1)).unwrap_err()

    error = asyncio.run(scenario())
    assert isinstance(error, ValidationError)
    assert "HTTP_PROXY of the environment must be an HTTP proxy" in str(error)


@pytest.mark.parametrize(
    "value", ["socks5://someone:s3cret-pass@proxy:1080", "http://someone:s3cret-pass\0@proxy", ["s3cret"]]
)
def test_bad_proxy_of_a_connection(vss: LocalVSS, connect: Callable[..., None], value: object) -> None:
    connect(vss, proxy=value)
    with pytest.raises(ValidationError, match="connection 'mictlanx_default': proxy must be") as caught:
        MictlanXHook().get("bucket", "key")
    assert "s3cret" not in str(caught.value)


def test_callers_own_client_has_its_own_proxies() -> None:
    with pytest.raises(ValidationError, match="proxy and trust_env must be unset with an http_client"):
        client_through("mictlanx://r0@h0:1/?protocol=http", "http://p:1", http_client=httpx.AsyncClient())


def test_connection_has_a_proxy(
    vss: LocalVSS, bucket_id: str, closed_proxy: int, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(vss, proxy=f"http://{CREDENTIALS}@127.0.0.1:{closed_proxy}")
    hook = MictlanXHook()
    hook.put(bucket_id, "key", "x")
    assert hook.get(bucket_id, "key") == b"x"
    assert set(hook.settings.secrets) >= {PASSWORD}
    assert "someone" not in repr(hook.settings)
    connect(vss, proxy=f"http://someone:wr0ng-password@127.0.0.1:{closed_proxy}")
    with pytest.raises(AuthenticationError, match="407"):
        MictlanXHook().put(bucket_id, "key", "x")
    ok, message = MictlanXHook().test_connection()
    assert not ok
    assert "407" in message
    assert "wr0ng" not in message
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    connect(vss, trust_env=True, connect_patience=0)
    with pytest.raises(ConnectFailedError, match=r"through proxy http://127\.0\.0\.1:1"):
        MictlanXHook().put(bucket_id, "key", "x", max_tries=1)
