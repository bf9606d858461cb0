"""The closed set of errors. No SDK's exception leaves a provider; every failure is one of these.

    StorageError
    ├── NotFound                 the path, service or name is not there
    ├── AlreadyExists            something is in the way and overwriting was not asked for
    ├── IsADirectory             a file was needed
    ├── NotADirectory            a directory was needed, or a parent of the path is a file
    ├── DirectoryNotEmpty        only an empty directory can be removed this way
    ├── PermissionDenied         the credentials are right but do not allow it
    ├── AuthenticationFailed     the credentials are wrong, expired or missing
    ├── InvalidName              the service cannot hold this name; nothing was sent
    ├── PreconditionFailed       the file is not (any longer) the version that was asked for
    ├── ChecksumMismatch         the bytes are not the bytes            (retryable)
    ├── SourceChanged            the source gave fewer or more bytes than it promised
    ├── QuotaExceeded            no room left
    ├── RateLimited              asked to slow down                     (retryable)
    ├── Unavailable              unreachable, timed out, or a 5xx       (retryable)
    ├── Unsupported              the service cannot do this
    ├── Refused                  we do not do this because something would be lost
    ├── ConfigError              the configuration is wrong or incomplete
    │   ├── MissingExtra         a Python package is needed that is not installed
    │   └── VaultError           the vault is locked, damaged or changed by others
    └── UsageError               the command was typed wrongly          (exit code 2)

Each carries its subject (a location, a service, an option), the cause in words, and where there is one the next step.
None ever carries a secret: providers pass texts of their own, never a request's headers or a URL's query.
"""

from __future__ import annotations

from typing import ClassVar


class StorageError(Exception):
    """Something did not work.

    Args:
        subject: what it is about, as the user would type it (``aws:data/a.csv``).
        why: the cause in words; the class's own sentence when empty.
        hint: what to do next; the class's own advice when empty, where it has any.
        retry_after: seconds after which the service said to try again.
    """

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    sentence: ClassVar[str] = "failed"
    advice: ClassVar[str] = ""

    def __init__(self, subject: str, why: str = "", hint: str = "", *, retry_after: float | None = None) -> None:
        self.subject = subject
        self.why = why or self.sentence
        self.hint = hint or self.advice
        self.retry_after = retry_after
        super().__init__(subject, self.why, self.hint)

    def __str__(self) -> str:
        # the root of a service is written with a colon at its end already
        text = f"{self.subject.removesuffix(':')}: {self.why}" if self.subject else self.why
        return f"{text} ({self.hint})" if self.hint else text


def in_words(error: StorageError) -> dict[str, str]:
    """Return an error as texts, from which `from_words` makes it again elsewhere."""
    return {"kind": type(error).__name__, "subject": error.subject, "why": error.why, "hint": error.hint}


def from_words(kind: str, subject: str, why: str, hint: str, retry_after: float | None = None) -> StorageError:
    """Return the error of the closed set that `in_words` told; what is not known by its name is a StorageError."""
    found = globals().get(kind)
    is_known = isinstance(found, type) and issubclass(found, StorageError)
    return (found if is_known else StorageError)(subject, why, hint, retry_after=retry_after)  # type: ignore[misc]


def internal_error(subject: str, error: BaseException) -> StorageError:
    """Return the error that tells of one that nobody expected, so that it ends one file and not the rest."""
    told = StorageError(subject, f"internal error: {type(error).__name__}")
    told.__cause__ = error
    return told


class NotFound(StorageError):
    sentence = "not found"


class AlreadyExists(StorageError):
    sentence = "already exists"


class IsADirectory(StorageError):
    sentence = "is a directory"


class NotADirectory(StorageError):
    sentence = "is not a directory"


class DirectoryNotEmpty(StorageError):
    sentence = "directory is not empty"


class PermissionDenied(StorageError):
    sentence = "permission denied"


class AuthenticationFailed(StorageError):
    sentence = "the service did not accept the credentials"
    advice = "cms storage config test tries them, cms storage config edit changes them"


class InvalidName(StorageError):
    sentence = "the name cannot be stored there"


class PreconditionFailed(StorageError):
    sentence = "the file has changed meanwhile"
    advice = "run the same command again"


class ChecksumMismatch(StorageError):
    retryable = True
    sentence = "checksum mismatch"


class SourceChanged(StorageError):
    sentence = "the source changed while it was read"
    advice = "run the same command again when nothing writes to it"


class QuotaExceeded(StorageError):
    sentence = "no room left"
    advice = "make room, then run the same command again"


class RateLimited(StorageError):
    retryable = True
    sentence = "the service asks to slow down"
    advice = "run the same command again later, or with a smaller --parallel"


class Unavailable(StorageError):
    retryable = True
    sentence = "the service cannot be reached"
    advice = "check its address and the network, then run the same command again"


class Unsupported(StorageError):
    sentence = "the service cannot do this"


class Refused(StorageError):
    sentence = "refused, because data would be lost"


class ConfigError(StorageError):
    sentence = "the configuration is wrong"


class MissingExtra(ConfigError):
    sentence = "a package is missing"


class VaultError(ConfigError):
    sentence = "the vault cannot be opened"


class UsageError(StorageError):
    exit_code = 2
    sentence = "cannot be understood"
