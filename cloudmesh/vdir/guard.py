"""Giving one service up when it has stopped working, while the others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from cloudmesh.storage.abc import Content, Entry, Loaded, OnError, ReadRequest, StorageABC, WriteMode, WriteRequest
from cloudmesh.storage.errors import StorageError, Unavailable
from cloudmesh.storage.health import Health, Outage
from cloudmesh.storage.layers.base import Layer, end
from cloudmesh.storage.transfer.breaker import Breaker

T = TypeVar("T")
Request = TypeVar("Request", ReadRequest, WriteRequest)
Answer = TypeVar("Answer", Loaded, Entry)


class Guarded(Layer):
    """A service that is asked nothing more once it has failed too often in a row: all further calls fail at once.

    Once is too often where it was silent for as long as its read timeout, through all attempts: each file of a run
    would wait as long again. How long a stream took tells nothing of that, as bytes may have moved.

    It stands around all other layers, so that a failure is one after all attempts. What a source does wrong while it is
    being written is not counted against the destination.

    Args:
        inner: the service.
        health: hears what calls come to, for the commands that follow.
        outage: the service is out of use because of what earlier commands found, and is asked nothing at all.
    """

    def __init__(self, inner: StorageABC, health: Health, outage: Outage | None = None) -> None:
        super().__init__(inner)
        self._breaker = Breaker()
        self._health = health
        self._outage = outage

    def around(self, primitive: str, path: str, call: Callable[[], T]) -> T:
        """Make one call, if the service still works."""
        self._check(path)
        begun = None if primitive == "download" else time.monotonic()
        try:
            result = call()
        except StorageError as error:
            self._failed(error, begun)
            raise
        self._succeeded()
        return result

    def failed(self, error: StorageError) -> None:
        """Count a failure that the caller met: one of a stream that was opened, which passes here unseen."""
        self._failed(error)

    def scan(self, path: str = "", *, recursive: bool = False, on_error: OnError | None = None) -> Iterator[Entry]:
        """See `StorageABC.scan`."""
        self._check(path)
        moved = time.monotonic()
        try:
            for entry in self.inner.scan(path, recursive=recursive, on_error=on_error):
                yield entry
                moved = time.monotonic()
        except StorageError as error:
            self._failed(error, moved)
            raise
        self._succeeded()

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
                self._failed(error)
            raise
        self._succeeded()
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
                if request is not None and self._is_given_up:
                    refused.append(request)
                    return
                yield request

        steps = call(passed())
        moved = time.monotonic()
        try:
            for step in steps:
                if isinstance(step[1], StorageError):
                    self._failed(step[1], moved)
                else:
                    self._succeeded()
                yield step
                moved = time.monotonic()
        finally:
            end(steps)
        for request in chain(refused, remaining):
            if request is not None:
                yield request, self._refusal(request.path)

    @property
    def _is_given_up(self) -> bool:
        return self._outage is not None or self._breaker.tripped is not None

    def _failed(self, error: StorageError, begun: float | None = None) -> None:
        """Count a failure; ``begun`` is since when nothing had come, by the monotonic clock, where that is known."""
        silent = begun is not None and time.monotonic() - begun >= self.settings.timeouts.read
        self._breaker.failed(error, silent=silent and isinstance(error, Unavailable))
        self._health.failed(self.name, error)

    def _succeeded(self) -> None:
        self._breaker.succeeded()
        self._health.succeeded(self.name)

    def _check(self, path: str) -> None:
        if self._is_given_up:
            raise self._refusal(path)

    def _refusal(self, path: str) -> StorageError:
        if self._outage is not None:
            return self._outage.refusal(self.location(path))
        tripped = self._breaker.tripped
        assert tripped is not None  # noqa: S101 - asked only then
        return type(tripped)(self.location(path), f"not tried, as the service fails: {tripped.why}")
