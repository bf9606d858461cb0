"""Many small files at once, in one thread and with one request a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from cloudmesh.storage.abc import Entry, Loaded, ReadRequest, WriteRequest
from cloudmesh.storage.errors import ChecksumMismatch, NotFound, StorageError
from cloudmesh.storage.providers.awss3 import writing
from cloudmesh.storage.providers.awss3.bucket import Bucket

if TYPE_CHECKING:
    from cloudmesh.storage.http_multi import Answer, Transfer

Request = TypeVar("Request", ReadRequest, WriteRequest)
Result = TypeVar("Result")


def read(
    bucket: Bucket, requests: Iterable[ReadRequest | None], check: Callable[[str], None]
) -> Iterator[tuple[ReadRequest, Loaded | StorageError]]:
    """Read files as `StorageABC.read_many`; ``check`` refuses a path."""
    http = bucket.connection.http

    def get(request: ReadRequest) -> Transfer:
        check(request.path)
        condition = {} if request.if_match is None else {"If-Match": request.if_match}
        return http.transfer("GET", bucket.key(request.path), headers=condition)

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

    return _run(bucket, requests, get, loaded)


def write(
    bucket: Bucket,
    requests: Iterable[WriteRequest | None],
    condition: Callable[[WriteRequest], Mapping[str, str]],
    failure: Callable[[WriteRequest, StorageError], StorageError],
) -> Iterator[tuple[WriteRequest, Entry | StorageError]]:
    """Store files as `StorageABC.write_many`.

    Args:
        condition: returns what the service shall check, or refuses the request.
        failure: returns what the error of a request that was sent means.
    """
    http = bucket.connection.http

    def put(request: WriteRequest) -> Transfer:
        return writing.put(bucket, request.path, request.data, request.mtime_ns, condition(request))

    def stored(request: WriteRequest, answer: Answer) -> Entry:
        problem = http.problem(bucket.location(request.path), answer)
        if problem is not None:
            raise failure(request, problem)
        return writing.stored(bucket, request.path, len(request.data), request.mtime_ns, answer.headers)

    return _run(bucket, requests, put, stored)


def _run(
    bucket: Bucket,
    requests: Iterable[Request | None],
    prepare: Callable[[Request], Transfer],
    finish: Callable[[Request, Answer], Result],
) -> Iterator[tuple[Request, Result | StorageError]]:
    """Yield each request with what ``finish`` makes of the answer to what ``prepare`` made of it, or with an error."""
    from cloudmesh.storage.http_multi import Transfer

    http = bucket.connection.http

    def transfers() -> Iterator[Transfer | None]:
        for request in requests:
            if request is None:
                yield None
                continue
            try:
                try:
                    transfer = prepare(request)
                except Exception:
                    with bucket.translated(request.path):  # around each of many files it would cost more than signing
                        raise
            except StorageError as error:
                yield Transfer("", "", context=(request, error))
            else:
                transfer.context = request, None
                yield transfer

    for transfer, result in http.run(transfers()):
        request, refusal = transfer.context
        outcome: Result | StorageError
        try:
            if refusal is not None:
                raise refusal
            outcome = finish(request, http.answered(bucket.location(request.path), result))
        except StorageError as error:
            outcome = error
        yield request, outcome
