"""
Run a complete Airflow 3 locally: API server, scheduler, DAG processor, triggerer, and Celery workers if wanted.

``make demo`` and the distributed tests use it. It listens on one free loopback port, for one user with a random
password, and writes only to its ``AIRFLOW_HOME``. ``end_with_parent.py`` starts every process, so that each ends with
the process that started it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil

T = TypeVar("T")
USER = "operator"
END_WITH_PARENT = Path(__file__).with_name("end_with_parent.py")
MOST_TASKS = 1000
"""Page size for the tasks of a run; the API's default is at most a hundred."""
COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")


class NotRunningError(Exception):
    """Raised when a process ended unexpectedly, or on a timeout; the message ends with the end of the logs."""


def clean_environment(home: Path, dags: Path) -> dict[str, str]:
    """Return an environment for an Airflow of its own, without the user's settings."""
    return environment_without("AIRFLOW", "_AIRFLOW") | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # SQLite has one writer at a time, and by default the others fail after 5 s.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PYTHONUNBUFFERED": "1",
    }


def environment_without(*prefixes: str) -> dict[str, str]:
    """Return the environment without variables of these prefixes, and without proxies for the loopback address."""
    loopback = "127.0.0.1,localhost"
    no_proxy = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    bypass = f"{no_proxy},{loopback}" if no_proxy else loopback
    environment = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return environment | {"NO_PROXY": bypass, "no_proxy": bypass}


def free_port() -> int:
    """Return a free port below those of outgoing connections and of local VSSs, which come back after a stop."""
    while True:
        port = random.randrange(10000, 12000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def start_attached(
    command: Sequence[str], environment: Mapping[str, str], log: Path, grace: float = 10
) -> subprocess.Popen[bytes]:
    """
    Start a command that ends with all its processes when ``end`` is called or this process ends.

    :param log: the file to which its output is appended
    :param grace: seconds between SIGTERM and SIGKILL
    """
    guardian = [sys.executable, str(END_WITH_PARENT), "--grace", str(grace), *command]
    with log.open("ab") as output:
        return subprocess.Popen(
            guardian, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )


def end(*processes: subprocess.Popen[bytes]) -> None:
    """End processes of ``start_attached`` concurrently, and wait for them."""
    for process in processes:
        if process.stdin:
            process.stdin.close()
    for process in processes:
        process.wait()


class AirflowAPI:
    """
    The API of an Airflow 3, for one user; ``wait_until_healthy`` logs in.

    :param home: its ``AIRFLOW_HOME``, which errors name
    """

    def __init__(self, url: str, home: Path, user: str, password: str) -> None:
        self.url = url
        self.home = home
        self.user = user
        self.password = password
        self._token = ""
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def wait_until_healthy(self, seconds: float = 240) -> None:
        """Wait until every component reports that it is healthy, and log in."""
        self.wait_for("a healthy Airflow", self._is_healthy, seconds)
        credentials = {"username": self.user, "password": self.password}
        self._token = self.request("POST", "/auth/token", credentials)["access_token"]

    def _is_healthy(self) -> bool:
        try:
            health = self.request("GET", "/api/v2/monitor/health")
        except OSError:  # the server does not listen yet
            return False
        return all(health[name]["status"] == "healthy" for name in COMPONENTS)

    def wait_for(self, what: str, question: Callable[[], T | None], seconds: float, pause: float = 0.5) -> T:
        """
        Call until the result is not None, and return it.

        Raise ``NotRunningError`` after the timeout, or if a process that ``RunningAirflow`` started ended.
        """
        deadline = time.monotonic() + seconds
        while not (answer := question()):
            if ended := self._ended_process():
                raise NotRunningError(f"waiting for {what}: {ended}")
            if time.monotonic() > deadline:
                raise NotRunningError(f"waiting for {what}: not within {seconds:.0f} s; the logs are in {self.home}")
            time.sleep(pause)
        return answer

    def _ended_process(self) -> str:
        return ""

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """
        Send a request to the API server, and return the parsed answer; None if it is empty.

        Raise ``urllib.error.HTTPError`` (an ``OSError``) if the server refuses.
        """
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        with self._opener.open(request, timeout=60) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def add_connection(self, conn_id: str, uri: str) -> None:
        """Add a connection of type MictlanX to the database."""
        connection = {"connection_id": conn_id, "conn_type": "mictlanx", "extra": json.dumps({"uri": uri})}
        self.request("POST", "/api/v2/connections", connection)

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any], seconds: float = 120, logical_date: str | None = None
    ) -> str:
        """Unpause a DAG once its file has been parsed, start a run like *Trigger* in the UI, and return its id."""
        self.wait_for(f"DAG {dag_id}", lambda: self._knows(dag_id), seconds)
        self.request("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})
        run = self.request("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": logical_date, "conf": conf})
        run_id: str = run["dag_run_id"]
        return run_id

    def _knows(self, dag_id: str) -> bool:
        broken = self.request("GET", "/api/v2/importErrors")["import_errors"]
        if broken:
            raise NotRunningError("\n".join(f"{error['filename']}: {error['stack_trace']}" for error in broken))
        return any(dag["dag_id"] == dag_id for dag in self.request("GET", "/api/v2/dags")["dags"])

    def runs(self, dag_id: str) -> list[str]:
        """Return the ids of a DAG's runs, the oldest first."""
        found = self.request("GET", f"/api/v2/dags/{dag_id}/dagRuns?order_by=id")["dag_runs"]
        return [run["dag_run_id"] for run in found]

    def state_of(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: ``queued``, ``running``, ``success`` or ``failed``."""
        state: str = self.request("GET", self._run_path(dag_id, run_id))["state"]
        return state

    def wait_for_run(self, dag_id: str, run_id: str, seconds: float) -> str:
        """Wait for the end of a run, and return its state: ``success`` or ``failed``."""

        def finished() -> str | None:
            state = self.state_of(dag_id, run_id)
            return state if state in ("success", "failed") else None

        return self.wait_for(f"the end of {dag_id} {run_id}", finished, seconds)

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run from the API: ``task_id, map_index, state, start_date, …``."""
        path = f"{self._run_path(dag_id, run_id)}/taskInstances?limit={MOST_TASKS}"
        found: list[dict[str, Any]] = self.request("GET", path)["task_instances"]
        return found

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any:
        """Return the XCom of a task."""
        path = (
            f"/taskInstances/{task_id}/xcomEntries/return_value?map_index={map_index}&deserialize=false&stringify=false"
        )
        return self.request("GET", self._run_path(dag_id, run_id) + path)["value"]

    def task_log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try of a task."""
        path = f"/taskInstances/{task_id}/logs/{try_number}?map_index={map_index}&full_content=true"
        content = self.request("GET", self._run_path(dag_id, run_id) + path)["content"]
        return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in content)

    @staticmethod
    def _run_path(dag_id: str, run_id: str) -> str:
        return f"/api/v2/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='')}"


class RunningAirflow(AirflowAPI):
    """
    An Airflow whose processes run while the context is open; ``wait_until_healthy`` waits for them.

    :param environment: from ``clean_environment``, plus the connections; its database is migrated
    :param executor: the executor's name
    :param workers: names of Celery workers to start, each in a process of its own
    :param slots: number of concurrent tasks, per worker, or in total without workers
    :param grace: seconds for a process to end by itself
    :param path: the path below which it is served, such as ``/airflow``
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        executor: str = "LocalExecutor",
        workers: Sequence[str] = (),
        slots: int = 4,
        grace: float = 10,
        path: str = "",
    ) -> None:
        url = f"http://127.0.0.1:{free_port()}{path}"
        super().__init__(url, Path(environment["AIRFLOW_HOME"]), USER, secrets.token_urlsafe())
        self.environment = dict(environment) | self._settings(executor, slots * max(1, len(workers)))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._commands = {
            "api-server": ["api-server"],
            "scheduler": ["scheduler", "--skip-serve-logs"],
            "dag-processor": ["dag-processor"],
            "triggerer": ["triggerer", "--skip-serve-logs"],
        } | {
            name: ["celery", "worker", "--skip-serve-logs", "--celery-hostname", name, "--concurrency", str(slots)]
            for name in workers
        }
        self._grace = grace

    def _settings(self, executor: str, parallelism: int) -> dict[str, str]:
        return {
            "AIRFLOW__CORE__EXECUTOR": executor,
            "AIRFLOW__CORE__PARALLELISM": str(parallelism),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(urllib.parse.urlsplit(self.url).port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # seconds, on a busy machine
            "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": str(MOST_TASKS),
            "AIRFLOW__API__BASE_URL": f"{self.url}/",
            # Without shared keys, every process generates its own: it can't read what the others encrypt and sign.
            "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(),
        }

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        passwords = self.home / "passwords.json"
        passwords.touch(mode=0o600)
        passwords.write_text(json.dumps({USER: self.password}), encoding="utf-8")
        for name in self._commands:
            self.start(name)

    def _stop(self) -> None:
        end(*self.processes.values())

    def start(self, name: str) -> None:
        """Start a stopped process: one of ``api-server, scheduler, dag-processor, triggerer``, or a worker."""
        command = [sys.executable, "-m", "airflow", *self._commands[name]]
        self.processes[name] = start_attached(command, self.environment, self.log_of(name), self._grace)

    def kill(self, name: str) -> None:
        """Kill a process and all processes it started (SIGKILL); ``start`` starts it again."""
        guardian = self.processes.pop(name)
        for process in psutil.Process(guardian.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        end(guardian)

    def log_of(self, name: str) -> Path:
        """Return the log file of a process: ``scheduler``, or the name of a worker."""
        return self.home / f"{name}.log"

    def _ended_process(self) -> str:
        for name, process in self.processes.items():
            if process.poll() is not None:
                return f"{name} ended, with status {process.returncode}; see {self.log_of(name)}"
        return ""
