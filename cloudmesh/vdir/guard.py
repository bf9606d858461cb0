"""Giving one service up when it has stopped working, while the others go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from cloudmesh.storage.abc import Content, Entry, Loaded, ReadRequest, StorageABC, WriteMode, WriteRequest
from cloudmesh.storage.errors import StorageError
from cloudmesh.storage.layers.base import Layer, end
from cloudmesh.storage.transfer.breaker import Breaker

T = TypeVar("T")
Request = TypeVar("Request", ReadRequest, WriteRequest)
Answer = TypeVar("Answer", Loaded, Entry)


class Guarded(Layer):
    """A service that is asked nothing more once it has failed too often in a row: all further calls fail at once.

    It stands around all other layers, so that a failure is one after all attempts. What a source does wrong while it is
    being written is not counted against the destination.

    Args:
        inner: the service.
    """

    def __init__(self, inner: StorageABC) -> None:
        super().__init__(inner)
        self._breaker = Breaker()

    def around(self, primitive: str, path: str, call: Callable[[], T]) -> T:
        """Make one call, if the service still works."""
        self._check(path)
        try:
            result = call()
        except StorageError as error:
            self._breaker.failed(error)
            raise
        self._breaker.succeeded()
        return result

    def failed(self, error: StorageError) -> None:
        """Count a failure that the caller met: one of a stream that was opened, which passes here unseen."""
        self._breaker.failed(error)

    def scan(self, path: str = "", *, recursive: bool = False) -> Iterator[Entry]:
        """See `StorageABC.scan`."""
        self._check(path)
        try:
            yield from self.inner.scan(path, recursive=recursive)
        except StorageError as error:
            self._breaker.failed(error)
            raise

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        """See `StorageABC.write`."""
        of_source: StorageError | None = None

        def pieces() -> Iterator[bytes]:
            nonlocal of_source
            try:
                yield from content.open()
            except StorageError as error:
                of_source = error
                raise

        self._check(path)
        try:
            made = self.inner.write(path, replace(content, open=pieces), mode=mode, if_match=if_match)
        except StorageError as error:
            if error is not of_source:
                self._breaker.failed(error)
            raise
        self._breaker.succeeded()
        return made

    def read_many(self, requests: Iterable[ReadRequest | None]) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
        """See `StorageABC.read_many`."""
        return self._batch(requests, self.inner.read_many)

    def write_many(
        self, requests: Iterable[WriteRequest | None]
    ) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
        """See `StorageABC.write_many`."""
        return self._batch(requests, self.inner.write_many)

    def _batch(
        self,
        requests: Iterable[Request | None],
        call: Callable[[Iterable[Request | None]], Iterator[tuple[Request, Answer | StorageError]]],
    ) -> Iterator[tuple[Request, Answer | StorageError]]:
        """Pass a batch on; from the moment that the service is given up, answer it here."""
        remaining = iter(requests)
        refused: list[Request] = []

        def passed() -> Iterator[Request | None]:
            for request in remaining:
                if request is not None and self._breaker.tripped is not None:
                    refused.append(request)
                    return
                yield request

        steps = call(passed())
        try:
            for step in steps:
                if isinstance(step[1], StorageError):
                    self._breaker.failed(step[1])
                else:
                    self._breaker.succeeded()
                yield step
        finally:
            end(steps)
        for request in chain(refused, remaining):
            if request is not None:
                yield request, self._refusal(request.path)

    def _check(self, path: str) -> None:
        if self._breaker.tripped is not None:
            raise self._refusal(path)

    def _refusal(self, path: str) -> StorageError:
        tripped = self._breaker.tripped
        assert tripped is not None  # noqa: S101 - asked only then
        return type(tripped)(self.location(path), f"not tried, as the service fails: {tripped.why}")
