from __future__ import annotations

import pickle
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from cloudmesh.cdir.service import security
from cloudmesh.cdir.service.security.tls import is_loopback, made_certificate, own_certificate
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import ConfigError, Refused, VaultError
from tests.cdir.service.security.running import Running


def test_a_certificate_is_made_once_and_known_by_its_fingerprint(tmp_path: Path) -> None:
    made = made_certificate(tmp_path, ["nas.example.org", "192.0.2.7"])
    shown = subprocess.run(
        ["openssl", "x509", "-in", made.file, "-noout", "-fingerprint", "-sha256", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert made.fingerprint in shown
    for name in ("DNS:nas.example.org", "IP Address:192.0.2.7", "DNS:localhost", "IP Address:127.0.0.1"):
        assert name in shown
    assert made.key.stat().st_mode & 0o077 == 0
    assert made_certificate(tmp_path, ["192.0.2.7"]) == made
    assert made_certificate(tmp_path, ["other.example.org"]).fingerprint != made.fingerprint


def test_a_certificate_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    made = made_certificate(tmp_path, [])
    made.file.write_text("nothing")
    assert made_certificate(tmp_path, []).fingerprint != made.fingerprint


def test_an_own_certificate_must_go_with_its_key(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf, other = authority.issue_cert("nas.example.org"), authority.issue_cert("nas.example.org")
    file, key, wrong = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "other.pem"
    file.write_bytes(b"".join(one.bytes() for one in (*leaf.cert_chain_pems, authority.cert_pem)))
    for path, content in ((key, leaf), (wrong, other)):
        path.touch(0o600)
        content.private_key_pem.write_to_path(path)
    assert len(own_certificate(file, key).fingerprint) == 95
    with pytest.raises(ConfigError, match="do not go together"):
        own_certificate(file, wrong)
    with pytest.raises(ConfigError, match=r"none\.pem: is missing"):
        own_certificate(tmp_path / "none.pem", key)
    key.chmod(0o644)
    with pytest.raises(VaultError, match="read by others"):
        own_certificate(file, key)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "::", "", "192.0.2.1", "no-such-host.invalid")],
    ],
)
def test_what_only_this_computer_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_nobody_listens_beyond_this_computer_without_tls(tmp_path: Path, host: str) -> None:
    made = made_certificate(tmp_path, [])
    with Database(f"sqlite:///{tmp_path}/a.db") as database:
        with pytest.raises(Refused, match="TLS"):
            security.listening(host, security.Settings(lambda: database, "http://nas.example.org"))
        guarded = security.Settings(lambda: database, "https://nas", certificate=made.file, key=made.key)
        assert security.listening(host, guarded)["ssl_keyfile"] == made.key


def test_several_processes_can_be_told_how_to_listen(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/a.db") as database:
        options = security.listening("127.0.0.1", security.Settings(lambda: database, "http://localhost", head_s=7))
    assert pickle.loads(pickle.dumps(options))["http"].keywords["patience"].head_s == 7


def test_over_tls_the_cookie_is_secure_and_browsers_are_told_to_stay(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    made = made_certificate(tmp_path, [])
    context = ssl.create_default_context(cafile=str(made.file))
    service = start(context=context, certificate=made.file, key=made.key)
    link = service.sessions.new_link(service.settings.url)
    answer = service.ask("GET", link.removeprefix(service.settings.url))
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-")
    assert cookie.endswith("; Secure")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    headers = {"Cookie": cookie.partition(";")[0], "Origin": service.settings.url}
    assert service.ask("POST", "/write", headers=headers).status == 200
    headers["Origin"] = service.settings.url.replace("https", "http")
    assert service.ask("POST", "/write", headers=headers).status == 403


def test_old_versions_of_tls_are_refused(start: Callable[..., Running], tmp_path: Path) -> None:
    made = made_certificate(tmp_path, [])
    service = start(context=ssl.create_default_context(), certificate=made.file, key=made.key)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with service.connect() as connection, pytest.raises(ssl.SSLError):
        old.wrap_socket(connection)


def test_behind_a_proxy_that_speaks_tls_browsers_are_told_the_same(start: Callable[..., Running]) -> None:
    service = start(url="https://nas.example.org")
    host = {"Host": "nas.example.org"}
    answer = service.ask("GET", service.sessions.new_link(""), headers=host)
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-cdir-session-443=")
    assert cookie.endswith("; Secure")
    assert answer.headers["strict-transport-security"]
    headers = host | {"Cookie": cookie.partition(";")[0]}
    assert service.ask("POST", "/write", headers=headers | {"Origin": "https://nas.example.org"}).status == 200
    assert service.ask("POST", "/write", headers=headers | {"Origin": "http://nas.example.org"}).status == 403
    assert service.ask("GET", "/healthz", headers={"Host": "other.example.org"}).status == 421
    assert service.ask("GET", "/healthz").status == 200, "the proxy itself may ask by the name of this computer"
