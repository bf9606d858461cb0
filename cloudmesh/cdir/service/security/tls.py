"""The service's certificate: one's own, or one made here, which others then know by its fingerprint."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloudmesh.storage import age
from cloudmesh.storage.errors import ConfigError, MissingExtra
from cloudmesh.storage.local_files import replacing, translated

if TYPE_CHECKING:
    from cryptography import x509

DAYS = 397
"""How long a certificate made here is good; browsers take none that is good for longer."""

_RENEW_DAYS = 30


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that can be served.

    Attributes:
        file: the PEM file with it.
        key: the PEM file with its key.
        fingerprint: the SHA-256 of the certificate, as browsers show it (``A1:B2:…``).
    """

    file: Path
    key: Path
    fingerprint: str


def own_certificate(file: Path, key: Path) -> Certificate:
    """Return the user's own certificate, once it is known to be one that goes with its key.

    Raises:
        ConfigError: it is not, or cannot be read.
        VaultError: others may read the key.
    """
    try:
        # a passphrase would be asked for in the middle of a start
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file, key, password=lambda: b"")
        made = Certificate(file, key, _fingerprint(file))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        missing = next((one for one in (file, key) if not one.exists()), None)
        why = "is missing" if missing else "the certificate and its key cannot be read, or do not go together"
        raise ConfigError(str(missing or file), why, "both are PEM files, the key without a passphrase") from error
    age.read_private(key)
    return made


def made_certificate(folder: Path, names: Iterable[str]) -> Certificate:
    """Return a certificate made here for these names, the one made before where it is still good for all of them.

    Args:
        folder: where it and its key are kept; nobody else may read the key.
        names: host names and addresses.

    Raises:
        MissingExtra: the package that makes certificates is not installed.
        StorageError: the files cannot be written.
    """
    wanted = sorted({*names, "localhost", "127.0.0.1", "::1"})
    file, key = folder / "service-certificate.pem", folder / "service-key.pem"
    with translated(str(file)):
        if not (file.exists() and key.exists() and _is_good(file.read_bytes(), wanted)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            made_key, made = _make(wanted)
            for path, content in ((key, made_key), (file, made)):
                with replacing(path, mode=0o600) as temporary:
                    temporary.write_bytes(content)
    return own_certificate(file, key)


def is_loopback(host: str) -> bool:
    """Tell whether only this computer can reach what listens at ``host``."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host or "0.0.0.0", None)}  # noqa: S104 - what "" means
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found)


def _fingerprint(file: Path) -> str:
    text = file.read_text("ascii")
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first = begin + text.partition(begin)[2].partition(end)[0] + end  # those of a chain come after it
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).digest().hex(":").upper()


def _x509() -> None:
    try:
        import cryptography  # noqa: F401 - tried before anything of it is used
    except ImportError as error:
        hint = "pip install 'cloudmesh-vdir[service]'"
        raise MissingExtra("TLS", "package cryptography is not installed", hint) from error


def _alternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    made: list[x509.GeneralName] = []
    for name in names:
        try:
            made.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            made.append(x509.DNSName(name.encode("idna").decode()))
    return made


def _is_good(pem: bytes, names: list[str]) -> bool:
    _x509()
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(pem)
        there = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    until = certificate.not_valid_after_utc - datetime.timedelta(days=_RENEW_DAYS)
    return datetime.datetime.now(datetime.UTC) < until and set(_alternatives(names)) <= set(there)


def _make(names: list[str]) -> tuple[bytes, bytes]:
    _x509()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"cdir on {socket.gethostname()}"[:64])])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        # it signs nothing: whoever trusts it trusts this service alone
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(pem, form, plain), certificate.public_bytes(pem)
