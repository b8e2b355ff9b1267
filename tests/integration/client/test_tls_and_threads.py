"""``verify`` holds for every request; ``max_workers`` bounds the threads; a closed client leaves nothing."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_mictlanx.client import (
    AsyncClient,
    AsyncRouter,
    CertificateError,
    Chunk,
    NetworkError,
    ValidationError,
)
from tests.support.certificates import Authority
from tests.support.clients import checked_client
from tests.support.new_threads import NewThreads
from tests.support.sample_bytes import pattern
from tests.support.vss import LocalVSS

DATA = pattern(1000)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_vss(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVSS]:
    """A local VSS that speaks https, with a certificate that no system trusts."""
    certificate, key = authority.issue("server")
    options = ("--certificate", str(certificate), "--private-key", str(key))
    with LocalVSS(tmp_path_factory.mktemp("vss"), options=options) as running:
        yield running


@pytest.fixture(autouse=True)
def _port_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """With https a router's port is not used, as in the official client; nobody can listen on 443 here."""
    monkeypatch.setattr(AsyncRouter, "https_has_port", True)


async def _first(chunks: AsyncGenerator[Any]) -> None:
    await anext(chunks)


def calls(bucket_id: str, folder: Path) -> dict[str, Callable[[AsyncClient], Any]]:
    path = folder / "source.bin"
    path.write_bytes(DATA)
    return {
        "put": lambda client: client.put(bucket_id, "ball", DATA),
        "put_file": lambda client: client.put_file(bucket_id, "file", path),
        "put_chunks": lambda client: client.put_chunks(bucket_id, "chunks", [Chunk("chunks", 0, DATA)]),
        "put_single_chunk": lambda client: client.put_single_chunk(bucket_id, "single", Chunk("single", 0, DATA)),
        "get": lambda client: client.get(bucket_id, "ball"),
        "get_chunk": lambda client: client.get_chunk(bucket_id, "ball", 0),
        "get_to_file": lambda client: client.get_to_file(bucket_id, "ball", str(folder / "out")),
        "get_metadata": lambda client: client.get_metadata(bucket_id, "ball"),
        "get_metadata_by_key": lambda client: client.get_metadata_by_key(bucket_id, "ball_0"),
        "get_bucket_metadata": lambda client: client.get_bucket_metadata(bucket_id),
        "get_chunks_by_bucket_id": lambda client: client.get_chunks_by_bucket_id(bucket_id),
        "exists": lambda client: client.exists(bucket_id, "ball"),
        "delete_by_key": lambda client: client.delete_by_key("single_0", bucket_id),
        "delete": lambda client: client.delete("ball", bucket_id),
        "delete_bucket": lambda client: client.delete_bucket(bucket_id),
    }


async def test_untrusted_certificate_is_refused_by_every_call(
    tls_vss: LocalVSS, bucket_id: str, tmp_path: Path
) -> None:
    async with checked_client(tls_vss, verify=True) as client:
        tls_vss.reset_requests()
        for name, call in calls(bucket_id, tmp_path).items():
            error = (await call(client)).unwrap_err()
            assert isinstance(error, CertificateError), name
            assert "the certificate was refused" in str(error)
        with pytest.raises(CertificateError):
            await _first(client.get_chunks(bucket_id, "ball"))
        bulk = [{"bucket_id": bucket_id, "key": "bulk", "source": DATA}]
        (await client.put_bulk("b", bulk)).unwrap()  # type: ignore[arg-type]
        [failure] = (await client.await_bulk("b")).unwrap()["failures"]
        assert isinstance(failure["error"], CertificateError)
        [check] = (await client.check_routers()).unwrap()
        assert isinstance(check.error, CertificateError)
        assert tls_vss.requests() == []


@pytest.mark.parametrize("how", ["unchecked", "file", "context"])
async def test_every_call_works_when_it_is_trusted_or_not_checked(
    tls_vss: LocalVSS, authority: Authority, bucket_id: str, tmp_path: Path, how: str
) -> None:
    ways = {
        "unchecked": False,
        "file": str(authority.certificate),
        "context": ssl.create_default_context(cafile=authority.certificate),
    }
    async with checked_client(tls_vss, verify=ways[how]) as client:
        for name, call in calls(bucket_id, tmp_path).items():
            assert (await call(client)).is_ok, name
        [check] = (await client.check_routers()).unwrap()
        assert check.error is None


async def test_a_ca_file_that_is_none(tls_vss: LocalVSS, bucket_id: str, tmp_path: Path) -> None:
    async with checked_client(tls_vss, verify=str(tmp_path / "no-such.pem")) as client:
        error = (await client.get(bucket_id, "k")).unwrap_err()
        assert isinstance(error, ValidationError)
        assert "no-such.pem' can't be read" in str(error)


@pytest.mark.parametrize("most", [1, 3])
async def test_max_workers_bounds_threads_that_end_with_client(
    vss: LocalVSS, bucket_id: str, tmp_path: Path, most: int
) -> None:
    threads = NewThreads()
    async with checked_client(vss, max_workers=most) as client:
        paths = [tmp_path / f"{n}.bin" for n in range(6)]
        for n, path in enumerate(paths):
            path.write_bytes(pattern(1_500_000, seed=n))
        puts = (client.put_file(bucket_id, path.stem, path, max_concurrency=5) for path in paths)
        assert all(put.unwrap() for put in await asyncio.gather(*puts))
        gets = (client.get_to_file(bucket_id, path.stem, str(tmp_path / "out"), path.name) for path in paths)
        assert all(got.is_ok for got in await asyncio.gather(*gets))
        assert len(threads.alive()) == most  # they live until the client is closed: these are all that there were
    assert threads.after_their_end() == []


async def test_unused_client_opens_nothing_and_closes_twice() -> None:
    threads = NewThreads()
    client = AsyncClient("mictlanx://r@127.0.0.1:1/?protocol=http", "c", debug=False, log_output_path=None)
    assert "r@127.0.0.1:1" in repr(client)
    await client.aclose()
    await client.aclose()
    assert threads.alive() == []


async def test_http_and_https_mixed_up_are_told_as_what_they_are(tls_vss: LocalVSS, vss: LocalVSS) -> None:
    async with AsyncRouter("r", "127.0.0.1", tls_vss.port, "http") as router:
        error = (await router.get_peers()).unwrap_err()
        assert type(error) is NetworkError
        assert "whether the router expects https" in str(error)
    async with AsyncRouter("r", "127.0.0.1", vss.port, "https") as router:
        error = (await router.get_peers()).unwrap_err()
        assert type(error) is CertificateError
        assert "set protocol=http" in str(error)
