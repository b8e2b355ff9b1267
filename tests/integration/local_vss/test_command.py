"""The command line: one line on standard output, clear reasons on standard error, a clean end."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from airflow_provider_mictlanx.client.uri import MictlanXURI
from airflow_provider_mictlanx.local_vss.server import listen
from tests.support.vss import MAIN, PROCESSES

COMMAND = (sys.executable, "-m", "airflow_provider_mictlanx.local_vss")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    process = PROCESSES.start(MAIN, arguments)
    output, errors = process.communicate(60)
    return subprocess.CompletedProcess(arguments, process.wait(), output, errors)


@pytest.fixture
def started():
    """Start the command; whatever becomes of the test, it ends."""
    processes = []

    def start(*arguments: str, **options) -> subprocess.Popen[str]:
        command = [*COMMAND, "--port", "0", "--peer-port-base", "0", *arguments]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def connection_of(process) -> MictlanXURI:
    """Return the connection that the printed line sets, as a shell reads it."""
    command, assignment = shlex.split(process.stdout.readline())
    name, _, uri = assignment.partition("=")
    assert (command, name) == ("export", "AIRFLOW_CONN_MICTLANX_DEFAULT")
    return MictlanXURI.parse(uri)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_says_one_line_and_stops_cleanly(started, tmp_path, number) -> None:
    process = started("--data", str(tmp_path / "vss"), "--routers", "2")
    uri = connection_of(process)
    assert uri.protocol == "http"
    assert [router.router_id for router in uri.routers] == ["router-0", "router-1"]
    for router in uri.routers:
        assert len(httpx.get(f"http://{router.host}:{router.port}/api/v4/peers", verify=False).json()["available"]) == 3
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")


def test_stops_while_connections_are_open_and_a_request_hangs(own_vss) -> None:
    vss = own_vss()
    vss.set_fault("latency", seconds=60)
    with httpx.Client(verify=False) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.get(f"{vss.api()}/peers", timeout=httpx.Timeout(60, read=0.2))
        assert client.get(f"{vss.url()}/_faults").status_code == 200  # stays open
        assert vss.stop() == 0


def test_the_usual_form_of_the_uri(own_vss) -> None:
    vss = own_vss()
    assert vss.uri == f"mictlanx://router-0@127.0.0.1:{vss.port}/?protocol=http&api_version=4&http2=0"


@pytest.mark.parametrize("option", ["--port", "--peer-port-base"])
def test_a_port_in_use(tmp_path, option) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = "--peer-port-base" if option == "--port" else "--port"
        done = run("--data", str(tmp_path), option, str(port), other, "0")
    assert done.returncode == 2
    assert done.stdout == ""
    expected = rf"mictlanx-local-vss: listening on 127\.0\.0\.1:{port} failed: .*in use; set {option} to another port\n"
    assert re.fullmatch(expected, done.stderr)


def test_answers_do_not_wait_for_an_acknowledgement() -> None:
    """With Nagle's algorithm every answer in several pieces takes 40 ms longer; asyncio switches it off for some sockets only."""

    async def scenario() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def on_connection(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sock = writer.get_extra_info("socket")
            accepted.set_result(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()  # since Python 3.12 the end of the server waits for it

        sock = listen("127.0.0.1", 0)
        async with await asyncio.start_server(on_connection, sock=sock):
            _, writer = await asyncio.open_connection(*sock.getsockname())
            no_delay = await accepted
            writer.close()
            return no_delay

    assert asyncio.run(scenario()) == 1


@pytest.mark.parametrize(("method", "path"), [("POST", "b/metadata"), ("POST", "data/task")])
def test_client_that_leaves_within_its_request_is_no_error(own_vss, capsys, method, path) -> None:
    vss = own_vss()
    with socket.create_connection(("127.0.0.1", vss.port)) as leaving:
        leaving.sendall(
            f"{method} /api/v4/buckets/{path} HTTP/1.1\r\nHost: router\r\nContent-Length: 9\r\n\r\n{{".encode()
        )
    deadline = time.monotonic() + 30
    while not vss.requests() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [request["method"] for request in vss.requests()] == [method]
    assert vss.stop() == 0
    assert capsys.readouterr().err == ""


def test_a_data_folder_that_cannot_be_written(tmp_path) -> None:
    (tmp_path / "file").write_text("no folder")
    command = [*COMMAND, "--data", str(tmp_path / "file"), "--port", "0", "--peer-port-base", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "file") in done.stderr


def test_a_data_folder_that_is_no_ones(tmp_path) -> None:
    (tmp_path / "metadata.sqlite3").write_text("this is no database, " * 100)
    done = run("--data", str(tmp_path), "--port", "0", "--peer-port-base", "0")
    assert done.returncode == 2
    assert "not a database" in done.stderr


def test_a_data_folder_in_use(own_vss) -> None:
    vss = own_vss()
    done = run("--data", str(vss.data), "--port", "0", "--peer-port-base", "0")
    assert done.returncode == 2
    assert "another local VSS uses it" in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_let_in_only_by_a_flag(tmp_path, host) -> None:
    done = run("--data", str(tmp_path), "--host", host, "--port", "0", "--peer-port-base", "0")
    assert done.returncode == 2
    assert "--allow-remote" in done.stderr


def test_faults_and_log_stay_on_loopback(started, tmp_path) -> None:
    process = started("--data", str(tmp_path), "--host", "0.0.0.0", "--allow-remote")
    (router,) = connection_of(process).routers
    own = _own_address()
    if own is None:
        pytest.skip("this machine has no address but loopback")
    assert httpx.get(f"http://{own}:{router.port}/api/v4/peers", verify=False).status_code == 200
    assert httpx.get(f"http://{own}:{router.port}/_faults", verify=False).status_code == 403
    assert httpx.get(f"http://{own}:{router.port}/_requests", verify=False).status_code == 403
    for tricks in ({"Host": "127.0.0.1"}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}):
        assert httpx.get(f"http://{own}:{router.port}/_faults", headers=tricks, verify=False).status_code == 403
        assert (
            httpx.put(f"http://{own}:{router.port}/_faults", headers=tricks, json=[], verify=False).status_code == 403
        )
    assert httpx.get(f"http://127.0.0.1:{router.port}/_faults", verify=False).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "storage.example.org"},
        {"Host": "127.0.0.1.example.org"},
        {"X-Forwarded-For": "192.0.2.7"},
        {"Forwarded": "for=192.0.2.7"},
        {"Via": "1.1 proxy"},
        {"Origin": "https://example.org"},
    ],
)
def test_control_api_refuses_requests_of_proxies_and_pages(vss, headers) -> None:
    for port in (vss.port, vss.peer_port()):
        for method, path in (
            ("PUT", "/_faults"),
            ("GET", "/_faults"),
            ("DELETE", "/_faults"),
            ("GET", "/_requests"),
            ("DELETE", "/_data"),
        ):
            answer = httpx.request(
                method, f"http://127.0.0.1:{port}{path}", headers=headers, trust_env=False, verify=False
            )
            assert answer.status_code == 403, (method, path)
    assert httpx.get(f"http://localhost:{vss.port}/_faults", trust_env=False, verify=False).status_code == 200


def _own_address() -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; only asks which address it would be sent from
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--port", "abc"), "--port must be a valid integer"),
        (("--port", "65536"), "--port must be less than or equal to 65535, got '65536'"),
        (("--peers", "0"), "--peers must be greater than or equal to 1, got '0'"),
        (("--routers", "-1"), "--routers must be greater than or equal to 1"),
        (("--task-lifetime", "0"), "--task-lifetime must be greater than 0"),
        (("--cache-size", "much"), "got 'much'"),
        (("--port", "65535", "--routers", "2"), "ports up to 65535"),
        (("--data", ""), "name of a folder"),
        (("--path-prefix", "a b?"), "--path-prefix must be a path"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, arguments, word) -> None:
    done = run("--data", str(tmp_path), *arguments)
    assert done.returncode == 2
    assert word in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_path_prefix_as_behind_a_proxy(own_vss) -> None:
    vss = own_vss(options=("--path-prefix", "/v0/mictlanx/"))
    assert vss.uri.startswith(f"mictlanx://router-0@127.0.0.1/v0/mictlanx:{vss.port}/?")
    for prefix in ("", "/v0/mictlanx"):
        assert httpx.get(f"{vss.url()}{prefix}/api/v4/peers", verify=False).status_code == 200
    assert httpx.get(f"{vss.url()}/v0/api/v4/peers", verify=False).status_code == 404
