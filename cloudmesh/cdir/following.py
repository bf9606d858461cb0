"""Long work that a service does as a job: begun, followed to its end, and paused where it is interrupted here."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from cloudmesh.cdir import progress
from cloudmesh.cdir.exchange import Exchange
from cloudmesh.cdir.offers import Offer
from cloudmesh.storage.errors import PermissionDenied, Refused, StorageError, from_words
from cloudmesh.storage.transfer.events import Observer, nobody

if TYPE_CHECKING:
    from cloudmesh.storage.jobs.commands import Jobs

_SOON = {"Prefer": "wait=1"}
"""Short work is answered at once, and not as a job; of its progress nobody hears then."""

_PATIENCE_S = 2.0
"""So long an interrupted command waits for the service, at most: it has to end within three seconds."""

Result = TypeVar("Result")


class _Begun(NamedTuple):
    """What the service answered: the name of the job, None where all is done, and else what that came to."""

    job: str | None
    returned: Any = None


class Following:
    """Waits for jobs of a service.

    Args:
        exchange: with the service.
        observer: hears of their progress.
        jobs: `Jobs` there.
    """

    def __init__(self, exchange: Exchange, observer: Observer, jobs: Jobs) -> None:
        self._exchange = exchange
        self._observer = observer
        self._jobs = jobs

    def done(self, offer: Offer, values: Mapping[str, Any]) -> Any:
        """Let the service do long work, and return what it came to, as JSON holds it.

        Raises:
            StorageError: what the work raises.
            KeyboardInterrupt: it is interrupted here; the text says what becomes of the job.
        """
        # in a thread, as an answer that names a job is to be read also where this one is interrupted meanwhile
        begun: Future[_Begun] = Future()
        with self._pausing(begun):
            job, returned = _in_background(begun, lambda: self._begin(offer, values)).result()
            if job is None:
                return returned
            return self._result(self._followed(job))

    def ended(self, name: str) -> Mapping[str, Any]:
        """Wait for the end of a job, and return it as JSON holds it; interrupted as `done`."""
        begun: Future[_Begun] = Future()
        begun.set_result(_Begun(name))
        with self._pausing(begun):
            job: Mapping[str, Any] = self._followed(name)["job"]
            return job

    def _begin(self, offer: Offer, values: Mapping[str, Any]) -> _Begun:
        headers = _SOON if self._observer is nobody else {}
        with self._exchange.answer(offer.http_method, offer.path, values, headers) as answer:
            told = json.loads(answer.read())
            return _Begun(told["name"]) if answer.status == 202 else _Begun(None, told)

    def _followed(self, job: str) -> Mapping[str, Any]:
        try:
            return progress.follow(self._exchange, job, self._observer)
        except PermissionDenied as error:
            why = f"the service does it, but does not tell how it ends: {error.why}"
            raise PermissionDenied(job, why, "a token that has the scope read, too, is told") from None

    def _result(self, end: Mapping[str, Any]) -> Any:
        result, job = end["result"], end["job"]
        if result is None:
            raise StorageError(
                job["name"], f"the job is {job['state']}", f"{self._command('resume', job['name'])} goes on"
            )
        if (error := result.get("error")) is not None:
            raise from_words(**error)
        return result["returned"]

    @contextmanager
    def _pausing(self, begun: Future[_Begun]) -> Iterator[None]:
        """Let an interruption of the block pause the job."""
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._left(begun)) from None

    def _left(self, begun: Future[_Begun]) -> str:
        """Pause the job, and return what becomes of it; empty where nothing is left of it."""
        try:
            name = _in_background(Future(), lambda: self._paused(begun.result())).result(_PATIENCE_S)
        except (StorageError, TimeoutError, KeyboardInterrupt):
            return f"the service may go on: {self._command('list')} tells, {self._command('cancel', 'NAME')} ends it"
        return f"{name} pauses where nothing is half done: {self._command('resume', name)} goes on" if name else ""

    def _paused(self, begun: _Begun) -> str | None:
        if begun.job is not None:
            try:
                self._jobs.pause(begun.job)
            except Refused:  # it has ended
                return None
        return begun.job

    def _command(self, *words: str) -> str:
        return shlex.join(["cdir", f"--url={self._exchange.url}", "storage", "jobs", *words])


def _in_background(future: Future[Result], work: Callable[[], Result]) -> Future[Result]:
    """Do what a future stands for in a thread that the end of this process does not wait for, and return the future."""

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
