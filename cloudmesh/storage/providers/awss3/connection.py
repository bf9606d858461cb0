"""How one bucket is reached: its settings, and what they make of libcurl, obstore and boto3."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.errors import ConfigError, MissingExtra
from cloudmesh.storage.providers.awss3.credentials import make_session
from cloudmesh.storage.providers.awss3.faults import translated
from cloudmesh.storage.providers.awss3.signing import Keys

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

    from cloudmesh.storage.providers.awss3.http import Http

DEFAULT_REGION = "us-east-1"
_REFRESH = timedelta(minutes=5)
_BODY_LIMIT = timedelta(days=7)
_INSTALL = "pip install 'cloudmesh-vdir[s3]'"


class Connection:
    """The three libraries, set up alike and only when first needed (boto3 costs 0.4 s, the others 20 ms each).

    None retries: that is done by the layers around the provider. None reads the ``AWS_*`` environment except
    through the credential chain, so that a key that is configured is never mixed with a token of the environment.

    Attributes:
        bucket: its name.
        is_amazon: whether it lies at Amazon itself, whose behaviour is documented, not at a compatible service.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        for package in ("pycurl", "obstore", "boto3"):
            # Looked for, not imported: most calls go without boto3, small files without obstore.
            if find_spec(package) is None:
                raise MissingExtra(settings.name, f"package {package} is not installed", _INSTALL)
        values = {key: value for key, value in settings.credentials.items() if value not in (None, "")}
        self._settings = settings
        self._name = settings.name
        self.bucket = str(values.get("bucket", ""))
        if not self.bucket:
            raise ConfigError(self._name, "bucket is missing", "set credentials.bucket")
        self._access_key = str(values.get("access_key_id", ""))
        self._secret_key = str(values.get("secret_access_key", ""))
        self._token: str | None = str(values["session_token"]) if "session_token" in values else None
        if bool(self._access_key) != bool(self._secret_key):
            raise ConfigError(self._name, "access_key_id and secret_access_key are needed together")
        self._profile = str(values["profile"]) if "profile" in values else None
        if self._profile and self._access_key:
            raise ConfigError(self._name, "profile and access_key_id exclude each other", "remove one of them")
        self._role = str(values["role_arn"]) if "role_arn" in values else None
        self._anonymous = _truth(values.get("anonymous", False), self._name)
        self._endpoint = _endpoint(values.get("endpoint_url"), self._name)
        self.is_amazon = self._endpoint is None
        self._region = str(values["region"]) if "region" in values else None
        # A bucket name with dots does not fit Amazon's TLS certificate.
        style = str(values.get("addressing_style", "virtual" if self.is_amazon and "." not in self.bucket else "path"))
        if style not in ("path", "virtual"):
            raise ConfigError(self._name, f"addressing_style is {style!r}", "set it to path or virtual")
        self._virtual = style == "virtual"
        self._lock = threading.RLock()
        self._session: Any = None
        self._store: S3Store | None = None
        self._http: Http | None = None
        self._fixed = Keys(self._access_key, self._secret_key, self._token) if self._access_key else None

    @property
    def endpoint(self) -> str:
        """The service's URL without the bucket; empty for Amazon's own."""
        return self._endpoint or ""

    @property
    def equal_parts(self) -> bool:
        """Whether the service takes a file only in parts of one length (its last part may be shorter)."""
        return (urlsplit(self.endpoint).hostname or "").endswith(".r2.cloudflarestorage.com")

    @property
    def anonymous(self) -> bool:
        """Whether requests are not signed."""
        return self._anonymous

    @property
    def session(self) -> Any:
        """boto3's session with the credentials that the configuration means.

        Raises:
            ConfigError: the profile does not exist.
        """
        with self._lock:
            if self._session is None:
                with translated(self._name, self.bucket):
                    self._session = self._make_session()
            return self._session

    @property
    def store(self) -> S3Store:
        """obstore's store for the bucket; thread-safe."""
        with self._lock:
            if self._store is None:
                with translated(self._name, self.bucket):
                    self._store = self._make_store()
            return self._store

    @property
    def http(self) -> Http:
        """Signed requests over libcurl; thread-safe."""
        with self._lock:
            if self._http is None:
                with translated(self._name, self.bucket):
                    self._http = self._make_http()
            return self._http

    def close(self) -> None:
        """Release the connections."""
        with self._lock:
            if self._http is not None:
                self._http.close()
            self._session = self._store = self._http = None

    # ---- boto3 ------------------------------------------------------------------------------------------------------

    def _make_session(self) -> Any:
        keys = {
            "aws_access_key_id": self._access_key,
            "aws_secret_access_key": self._secret_key,
            "aws_session_token": self._token,
        }
        return make_session(
            keys if self._access_key else {},
            profile=self._profile,
            role=self._role,
            region=self._region,
            default_region=DEFAULT_REGION,
        )

    def _effective_region(self) -> str:
        if self._region:
            return self._region
        if self._access_key and not self._role:
            return DEFAULT_REGION
        return str(self.session.region_name or DEFAULT_REGION)

    def _bucket_url(self, *, with_bucket: bool) -> str:
        """Return the bucket's URL; ``with_bucket`` false leaves the bucket out of the path, not out of the host."""
        parts = urlsplit(self._endpoint or f"https://s3.{self._effective_region()}.amazonaws.com")
        host = f"{self.bucket}.{parts.netloc}" if self._virtual else parts.netloc
        path = parts.path.rstrip("/")
        return f"{parts.scheme}://{host}{path}/{self.bucket}" if with_bucket else f"{parts.scheme}://{host}{path}"

    # ---- libcurl ----------------------------------------------------------------------------------------------------

    def _make_http(self) -> Http:
        from cloudmesh.storage.providers.awss3.http import Http

        return Http(
            self._bucket_url(with_bucket=not self._virtual),
            self.bucket,
            self._effective_region(),
            None if self._anonymous else self._keys_source(),
            self._settings.timeouts,
            self._settings.parallel,
        )

    def _keys_source(self) -> Callable[[], Keys]:
        """Return what gives the keys of the moment."""
        fixed = self._fixed
        if fixed is not None and not self._role:
            return lambda: fixed
        from botocore.exceptions import NoCredentialsError

        credentials = self.session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        credentials.get_frozen_credentials()  # so that what is wrong with them is said here, in botocore's words

        def current() -> Keys:
            # botocore renews them ahead of time; asking it again costs nothing.
            frozen = credentials.get_frozen_credentials()
            return Keys(frozen.access_key, frozen.secret_key, frozen.token)

        return current

    # ---- obstore ----------------------------------------------------------------------------------------------------

    def _make_store(self) -> S3Store:
        from obstore.store import S3Store

        timeouts = self._settings.timeouts
        endpoint = self._bucket_url(with_bucket=False)
        return S3Store(
            self.bucket,
            endpoint=endpoint,
            region=self._effective_region(),
            virtual_hosted_style_request=self._virtual,
            skip_signature=self._anonymous,
            # obstore's own batch call does not say which file failed.
            disable_bulk_delete=True,
            client_options={
                "allow_http": endpoint.startswith("http:"),
                "connect_timeout": timedelta(seconds=timeouts.connect),
                "read_timeout": timedelta(seconds=timeouts.read),
                # Of a whole request, large bodies included: the timeout between two reads is what counts.
                "timeout": _BODY_LIMIT,
            },
            retry_config={"max_retries": 0},
            credential_provider=None if self._anonymous else self._credential_provider(),
        )

    def _credential_provider(self) -> Callable[[], S3Credential]:
        source = self._keys_source()

        def current() -> S3Credential:
            keys = source()
            return {
                "access_key_id": keys.access_key,
                "secret_access_key": keys.secret_key,
                "token": keys.token,
                "expires_at": None if keys is self._fixed else datetime.now(UTC) + _REFRESH,
            }

        return current


def _endpoint(value: object, name: str) -> str | None:
    if value is None:
        return None
    parts = urlsplit(str(value))
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query:
        raise ConfigError(name, "endpoint_url is not an http:// or https:// URL", "correct endpoint_url")
    if parts.username is not None:
        raise ConfigError(name, "endpoint_url holds a user name", "use access_key_id and secret_access_key")
    return str(value).rstrip("/")


def _truth(value: object, name: str) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "yes", "1"):
        return True
    if str(value).lower() in ("false", "no", "0"):
        return False
    raise ConfigError(name, f"anonymous is {value!r}", "set it to true or false")
