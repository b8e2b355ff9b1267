"""The routers over https: with a certificate of a private CA, and asking clients for one."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Authority:
    """A private CA that writes PEM files into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test CA")
        self.certificate = folder / "ca.pem"
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate.write_bytes(self._pem(builder))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Give the files of a new certificate for 127.0.0.1, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self._name, key.public_key()).add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        certificate, key_file = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        certificate.write_bytes(self._pem(builder))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, key_file

    def _pem(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_https_with_a_certificate_of_a_private_ca(own_vss, authority) -> None:
    certificate, key = authority.issue("server")
    vss = own_vss(options=("--certificate", str(certificate), "--private-key", str(key)))
    assert vss.uri.endswith("/?protocol=https&api_version=4&http2=0")
    trusting = ssl.create_default_context(cafile=authority.certificate)
    assert httpx.get(f"{vss.api()}/peers", verify=trusting).status_code == 200
    with pytest.raises(httpx.ConnectError, match=r"(?i)certificate"):
        httpx.get(f"{vss.api()}/peers")
    with vss.fault("reset"), pytest.raises(httpx.TransportError):
        httpx.get(f"{vss.api()}/peers", verify=trusting)


def test_clients_are_asked_for_a_certificate(own_vss, authority) -> None:
    certificate, key = authority.issue("server")
    options = ("--certificate", certificate, "--private-key", key, "--client-ca", authority.certificate)
    vss = own_vss(options=tuple(map(str, options)))
    trusting = ssl.create_default_context(cafile=authority.certificate)
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{vss.api()}/peers", verify=trusting)
    trusting.load_cert_chain(*authority.issue("client"))
    assert httpx.get(f"{vss.api()}/peers", verify=trusting).status_code == 200


def test_certificate_files_that_are_none(own_vss, authority, tmp_path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)status 2.*none\.pem"):
        own_vss(options=("--certificate", str(tmp_path / "none.pem")))
    with pytest.raises(RuntimeError, match=r"status 2.*--certificate"):
        own_vss(options=("--client-ca", str(authority.certificate)))
