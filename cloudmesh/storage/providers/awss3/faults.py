"""What answers tell, and what obstore and botocore raise, in the words of `errors.py`.

Texts are our own: the libraries' messages hold whole requests, with headers and signed URLs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cloudmesh.storage.errors import (
    AuthenticationFailed,
    ChecksumMismatch,
    ConfigError,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    QuotaExceeded,
    RateLimited,
    StorageError,
    Unavailable,
    Unsupported,
)

NOT_PARTIAL = "Received non-partial response"
"""What obstore says when a server answers a range with the whole object, as some do where the two are the same."""
BUSY = "the service failed with status 503"
INTERNAL = "the service failed with status 500"
"""How servers that lie on a tree fail where a file is in the way of a directory or the other way round."""

_BY_CODE: dict[str, tuple[type[StorageError], str, str]] = {
    "SignatureDoesNotMatch": (AuthenticationFailed, "the secret key does not fit the access key", ""),
    "InvalidAccessKeyId": (AuthenticationFailed, "the access key is not known there", ""),
    "ExpiredToken": (AuthenticationFailed, "the session token has expired", ""),
    "ExpiredTokenException": (AuthenticationFailed, "the session token has expired", ""),
    "TokenRefreshRequired": (AuthenticationFailed, "the session token has expired", ""),
    "InvalidToken": (AuthenticationFailed, "the session token is not valid", ""),
    "InvalidClientTokenId": (AuthenticationFailed, "the access key is not known there", ""),
    "UnrecognizedClientException": (AuthenticationFailed, "the access key is not known there", ""),
    "InvalidSecurity": (AuthenticationFailed, "", ""),
    "MissingSecurityHeader": (AuthenticationFailed, "", ""),
    "AuthFailure": (AuthenticationFailed, "", ""),
    "NotSignedUp": (AuthenticationFailed, "the account has no such service", ""),
    "RequestTimeTooSkewed": (AuthenticationFailed, "this computer's clock is wrong", "set the clock"),
    "AccessDenied": (PermissionDenied, "", ""),
    "AllAccessDisabled": (PermissionDenied, "", ""),
    "AccountProblem": (PermissionDenied, "there is a problem with the account", ""),
    "NoSuchKey": (NotFound, "", ""),
    "NoSuchVersion": (NotFound, "", ""),
    "PreconditionFailed": (PreconditionFailed, "", ""),
    "ConditionalRequestConflict": (Unavailable, "somebody else is writing the same file", ""),
    "OperationAborted": (Unavailable, "somebody else is changing the same file", ""),
    "SlowDown": (RateLimited, "", ""),
    "RequestLimitExceeded": (RateLimited, "", ""),
    "Throttling": (RateLimited, "", ""),
    "ThrottlingException": (RateLimited, "", ""),
    "TooManyRequests": (RateLimited, "", ""),
    "RequestTimeout": (Unavailable, "the connection was idle for too long", ""),
    "IncompleteBody": (Unavailable, "the connection broke", ""),
    "BadDigest": (ChecksumMismatch, "", ""),
    "InvalidDigest": (ChecksumMismatch, "", ""),
    "XAmzContentSHA256Mismatch": (ChecksumMismatch, "", ""),
    "XAmzContentChecksumMismatch": (ChecksumMismatch, "", ""),
    "KeyTooLongError": (InvalidName, "the path is too long", ""),
    "InvalidURI": (InvalidName, "", ""),
    "ExistingObjectIsDirectory": (IsADirectory, "", ""),
    "ExistingObjectIsFile": (NotADirectory, "", ""),
    "EntityTooLarge": (QuotaExceeded, "the file is larger than the service takes", ""),
    "QuotaExceeded": (QuotaExceeded, "", ""),
    "InsufficientStorage": (QuotaExceeded, "", ""),
    "XMinioStorageFull": (QuotaExceeded, "", ""),
    "InvalidObjectState": (Unsupported, "the file is archived", "restore it first"),
    "NotImplemented": (Unsupported, "", ""),
    "MethodNotAllowed": (Unsupported, "", ""),
    "InvalidBucketName": (ConfigError, "the service takes no such bucket name", ""),
    "PermanentRedirect": (ConfigError, "the bucket lies in another region", "set region"),
    "TemporaryRedirect": (ConfigError, "the bucket lies in another region", "set region"),
    "AuthorizationHeaderMalformed": (ConfigError, "the bucket lies in another region", "set region"),
    "IllegalLocationConstraintException": (ConfigError, "the bucket lies in another region", "set region"),
}
_BY_STATUS: dict[int, type[StorageError]] = {
    301: ConfigError,
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    405: Unsupported,
    408: Unavailable,
    412: PreconditionFailed,
    429: RateLimited,
    501: Unsupported,
    507: QuotaExceeded,
}
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]+)\s*</Code>")


def status_and_code(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and S3's error code of an answer; 0 and ``""`` where there was none."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        code = str(response.get("Error", {}).get("Code", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return status, "" if code.isdigit() else code
    text = str(error)
    status_found = _STATUS.search(text)
    return int(status_found[1]) if status_found else 0, code_in(text.encode(errors="replace"))


def code_in(body: bytes) -> str:
    """Return S3's error code that an answer's body holds; ``""`` for none."""
    found = _CODE.search(body)
    return found[1].decode() if found else ""


def translate(error: Exception, subject: str, bucket: str) -> StorageError:
    """Return the error of our closed set that ``error``, raised by obstore or botocore, means for ``subject``."""
    status, code = status_and_code(error)
    if not status and not code:
        return _without_answer(error, subject)
    return meaning(status, code, subject, bucket, _retry_after_header(error))


def meaning(status: int, code: str, subject: str, bucket: str, retry_after: str | None) -> StorageError:
    """Return the error of our closed set that an answer means.

    Args:
        status: of HTTP.
        code: S3's; may be empty.
        subject: what was asked for.
        bucket: its name.
        retry_after: the answer's Retry-After header.
    """
    if code == "NoSuchBucket":
        return NotFound(subject, f"there is no bucket {bucket!r}", "create it or correct the service's bucket")
    if code in _BY_CODE:
        error = from_code(code, subject)
    elif status in _BY_STATUS:
        error = _BY_STATUS[status](subject)
    elif status >= 500:
        error = Unavailable(subject, f"the service failed with status {status}")
    else:
        error = Unsupported(subject, f"the service refused the request with {code or f'status {status}'}")
    error.retry_after = seconds(retry_after)
    return error


def from_code(code: str, subject: str) -> StorageError:
    """Return the error that S3's ``code`` means; Unavailable for one that is not known."""
    kind, why, hint = _BY_CODE.get(code, (Unavailable, f"the service failed with {code}", ""))
    return kind(subject, why, hint)


def seconds(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for; None without one."""
    try:
        return None if retry_after is None else float(retry_after)
    except ValueError:
        return None


def _retry_after_header(error: Exception) -> str | None:
    response: Any = getattr(error, "response", None)
    if not isinstance(response, Mapping):
        return None
    value = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("retry-after")
    return None if value is None else str(value)


def _without_answer(error: Exception, subject: str) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return NotFound(subject)
    if _bad_path(error):
        return InvalidName(subject)
    kind = type(error).__name__
    if kind == "ProfileNotFound":
        return ConfigError(subject, "the profile is not in the AWS configuration files", "correct profile")
    if "Credential" in kind or "Token" in kind or "SSO" in kind or kind == "UnauthenticatedError":
        return AuthenticationFailed(subject, "no usable credentials were found", "set access_key_id or profile")
    return Unavailable(subject, _network_cause(f"{kind} {error}"))


def _network_cause(text: str) -> str:
    text = text.lower()
    for sign, cause in (
        ("timedout", "timed out"),
        ("timed out", "timed out"),
        ("timeouterror", "timed out"),
        ("dns error", "the host's name is not known"),
        ("name or service not known", "the host's name is not known"),
        ("name resolution", "the host's name is not known"),
        ("certificate", "the server's TLS certificate is not trusted"),
        ("refused", "the connection was refused"),
        ("endpointconnectionerror", "the service cannot be reached"),
        ("kind: connect", "the service cannot be reached"),
    ):
        if sign in text:
            return cause
    return "the connection broke"


@contextmanager
def translated(subject: str, bucket: str) -> Iterator[None]:
    """Turn what the libraries raise inside into errors of our closed set about ``subject``."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        if not _from_library(error):
            raise
        # Not chained: a traceback would print the library's message, which may hold a signed URL.
        raise translate(error, subject, bucket) from None


def _from_library(error: Exception) -> bool:
    module = type(error).__module__.partition(".")[0]
    obstores_builtins = isinstance(error, FileNotFoundError) and error.errno is None
    return module in ("obstore", "botocore", "urllib3") or obstores_builtins or _bad_path(error)


def _bad_path(error: Exception) -> bool:
    return isinstance(error, ValueError) and "parse path" in str(error)
