"""Many small files at once, in one thread and with one request a file; two where we have to look before we write."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from cloudmesh.storage.abc import Entry, Loaded, ReadRequest, WriteRequest
from cloudmesh.storage.errors import AlreadyExists, ChecksumMismatch, NotFound, StorageError
from cloudmesh.storage.providers.awss3 import writing
from cloudmesh.storage.providers.awss3.bucket import Bucket

if TYPE_CHECKING:
    from cloudmesh.storage.http_multi import Answer, Transfer

Request = TypeVar("Request", ReadRequest, WriteRequest)


def read(
    bucket: Bucket, requests: Iterable[ReadRequest | None], check: Callable[[str], None]
) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
    """Read files as `StorageABC.read_many`; ``check`` refuses a path."""
    http = bucket.connection.http

    def get(request: ReadRequest) -> Transfer:
        check(request.path)
        condition = {} if request.if_match is None else {"If-Match": request.if_match}
        return http.transfer("GET", bucket.key(request.path), headers=condition, context=loaded)

    def loaded(request: ReadRequest, answer: Answer) -> Loaded:
        path = request.path
        problem = http.problem(bucket.location(path), answer)
        if problem is not None:
            raise bucket.missing(path, problem) if isinstance(problem, NotFound) else problem
        entry = bucket.entry(path, answer.headers, size=len(answer.body))
        bucket.match(entry, request.if_match)
        digest = entry.hashes.get("md5")
        if digest and digest != hashlib.md5(answer.body, usedforsecurity=False).hexdigest():
            raise ChecksumMismatch(bucket.location(path), "the bytes that came are not those of the service's MD5")
        return Loaded(entry, answer.body)

    return _run(bucket, requests, get)


def write(
    bucket: Bucket,
    requests: Iterable[WriteRequest | None],
    condition: Callable[[WriteRequest], Mapping[str, str] | None],
    failure: Callable[[WriteRequest, StorageError], StorageError],
) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
    """Store files as `StorageABC.write_many`.

    Args:
        condition: returns what the service shall check, None where it checks nothing and no file may be there, or
            refuses the request.
        failure: returns what the error of a request that was sent means.
    """
    http = bucket.connection.http

    def begin(request: WriteRequest) -> Transfer:
        headers = condition(request)
        if headers is None:
            return http.transfer("HEAD", bucket.key(request.path), context=looked)
        return put(request, headers)

    def looked(request: WriteRequest, answer: Answer) -> Transfer:
        problem = http.problem(bucket.location(request.path), answer)
        if problem is None:
            raise AlreadyExists(bucket.location(request.path))
        if not isinstance(problem, NotFound):
            bucket.head(request.path)  # an answer without a text does not tell what is wrong
            raise problem
        with bucket.translated(request.path):
            return put(request, {})

    def put(request: WriteRequest, headers: Mapping[str, str]) -> Transfer:
        return writing.put(bucket, request.path, request.data, request.mtime_ns, headers, context=stored)

    def stored(request: WriteRequest, answer: Answer) -> Entry:
        problem = http.problem(bucket.location(request.path), answer)
        if problem is not None:
            raise failure(request, problem)
        return writing.stored(bucket, request.path, len(request.data), request.mtime_ns, answer.headers)

    return _run(bucket, requests, begin)


def _run(
    bucket: Bucket, requests: Iterable[Request | None], begin: Callable[[Request], Transfer]
) -> Iterator[tuple[Request, Any]]:
    """Yield each request with what came of it, or with an error.

    Args:
        begin: makes the first transfer of a request. Its ``context`` is called with the request and the answer, and
            returns what came of it, or the next transfer.
    """
    from cloudmesh.storage.http_multi import Transfer

    http = bucket.connection.http
    following: deque[Transfer] = deque()
    under_way = 0

    def transfers() -> Iterator[Transfer | None]:
        nonlocal under_way
        for request in requests:
            if request is None:
                yield None
            else:
                under_way += 1
                yield first(request)
            while following:
                yield following.popleft()
        while under_way:
            yield following.popleft() if following else None

    def first(request: Request) -> Transfer:
        try:
            try:
                transfer = begin(request)
            except Exception:
                with bucket.translated(request.path):  # around each of many files it would cost more than signing
                    raise
        except StorageError as error:
            return Transfer("", "", context=(request, error))
        transfer.context = request, transfer.context
        return transfer

    for transfer, result in http.run(transfers()):
        request, finish = transfer.context
        outcome: Any
        try:
            if isinstance(finish, StorageError):
                raise finish
            outcome = finish(request, http.answered(bucket.location(request.path), result))
        except StorageError as error:
            outcome = error
        if isinstance(outcome, Transfer):
            outcome.context = request, outcome.context
            following.append(outcome)
        else:
            under_way -= 1
            yield request, outcome
