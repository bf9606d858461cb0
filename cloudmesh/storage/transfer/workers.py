"""The workers of a Dask cluster, and the way to them; Dask is imported when this is entered, and by nobody else."""

from __future__ import annotations

import importlib.metadata
import logging
import socket
import time
import uuid
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from cloudmesh.storage.abc import ServiceSettings
from cloudmesh.storage.errors import ConfigError, MissingExtra, StorageError, Unavailable
from cloudmesh.storage.transfer import batch
from cloudmesh.storage.transfer.batch import Ends, Moved, Order, PackedStep, Unready

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 15.0
"""Seconds to wait for the scheduler, and for its first worker."""

_REFUSED_S = 2.0
_READY_S = 180.0
_ANSWER_S = 30.0
_CLOSE_S = 5.0
_TURN_S = 0.2
_HEALTH_S = 5.0
_RETRIES = 2
_LOG = logging.getLogger(__name__)


class Workers:
    """The workers of one cluster, for one run; a context manager.

    Args:
        address: of the scheduler.

    Raises (when it is entered):
        MissingExtra: Dask is not installed.
        ConfigError: the certificates for TLS are missing or wrong.
        Unavailable: there is no scheduler, or it has no workers.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.run = uuid.uuid4().hex
        self._client: Client
        self._to_close = ExitStack()
        self._ended: SimpleQueue[Future[Any]] = SimpleQueue()
        self._count = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._client = stack.enter_context(_connected(self.address))
            stack.callback(self._forget)
            self._wait_for_one()
            self._to_close = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._to_close.close()

    def _forget(self) -> None:
        with suppress(Exception):  # they will forget it some day
            if self.alive:
                self.tell(batch.forget)

    @property
    def alive(self) -> bool:
        """Whether there is a connection to the scheduler."""
        return bool(self._client.status == "running")

    def threads(self) -> dict[str, int]:
        """Return each worker's address and how many batches it does at once; nothing where nobody can tell."""
        with suppress(Exception):
            ask: Any = self._client.scheduler  # a connection, whose methods are what a scheduler can be asked
            found: dict[str, int] = self._client.sync(ask.ncores, callback_timeout=_ANSWER_S)
            return found
        return {}

    def _wait_for_one(self) -> None:
        end = time.monotonic() + CONNECT_S
        while not self.threads():
            if time.monotonic() > end:
                raise Unavailable(self.address, "the cluster has no workers", f"start some: dask worker {self.address}")
            time.sleep(_TURN_S)

    # ---- before anything is moved ---------------------------------------------------------------------------------

    def check_versions(self) -> None:
        """Refuse workers that do not have this package, in this version.

        Raises:
            ConfigError: there is one.
        """
        ours = importlib.metadata.version(batch.DISTRIBUTION)
        # a function that every Python has
        theirs = self._client.run(importlib.metadata.version, batch.DISTRIBUTION, on_error="return")
        for worker, found in theirs.items():
            if found == ours:
                continue
            if isinstance(found, importlib.metadata.PackageNotFoundError):
                why = "is not installed there"
            elif isinstance(found, BaseException):
                raise Unavailable(f"worker {worker}", f"does not answer ({type(found).__name__})")
            else:
                why = f"is {found} there and {ours} here"
            raise ConfigError(
                f"worker {worker}", f"{batch.DISTRIBUTION} {why}", f"pip install {batch.DISTRIBUTION}=={ours}"
            )

    def get_ready(self, order: Order, settings: Mapping[str, ServiceSettings]) -> None:
        """Let every worker open both services; lend to those what they lack, if that is safe.

        Raises:
            StorageError: a worker cannot use a service; it names the worker.
            Unavailable: a worker does not answer.
        """
        left = set(self.threads())
        for last in (False, True):
            futures = {
                worker: self._client.submit(
                    batch.get_ready, order, key=self._key("ready"), workers=[worker], pure=False
                )
                for worker in left
            }
            left = set()
            for worker, future in futures.items():
                unready = self._answer(worker, future)
                if unready is not None:
                    if last:
                        raise ConfigError(f"worker {worker}", "does not keep what is lent to it")
                    self.lend(unready, settings)
                    left.add(worker)

    def _answer(self, worker: str, future: Future[Unready | None]) -> Unready | None:
        end = time.monotonic() + _READY_S
        while True:
            with suppress(TimeoutError):
                return future.result(_HEALTH_S)
            if worker not in self.threads():
                _LOG.warning("the worker %s has left the cluster", worker)
                return None
            if time.monotonic() > end:
                raise Unavailable(f"worker {worker}", f"did not open the services in {_READY_S:g} s")

    def lend(self, unready: Unready, settings: Mapping[str, ServiceSettings]) -> None:
        """Send a worker the settings that it lacks, secrets included, over TLS only.

        Raises:
            ConfigError: it cannot be done, or not safely.
            StorageError: something else is wrong at the worker.
        """
        worker = unready.worker
        if unready.error is not None:
            raise named(unready.error, worker)
        if not (self.address.startswith("tls://") and worker.startswith("tls://")):
            names = " and ".join(unready.lacks)
            raise ConfigError(
                f"worker {worker}",
                f"{names} is not configured there, and settings with their secrets are sent over TLS alone",
                f"cms storage config add {unready.lacks[0]} on that computer, or a cluster at a tls:// address",
            )
        # not a task: the scheduler keeps, shows and logs those
        lent = {name: settings[name] for name in unready.lacks}
        self._client.run(batch.lend, self.run, lent, workers=[worker])

    # ---- batches --------------------------------------------------------------------------------------------------

    def submit(self, order: Order, number: int, compares: bool, steps: Sequence[PackedStep]) -> Future[Ends | Unready]:
        """Hand a batch out; `ended` gives it back."""
        future: Future[Ends | Unready] = self._client.submit(
            batch.do_batch, order, number, compares, steps, key=self._key("batch"), pure=False, retries=_RETRIES
        )
        future.add_done_callback(self._ended.put)
        return future

    def listen(self, observe: Callable[[int, Sequence[Moved]], None]) -> None:
        """Let a function hear, in a thread of Dask's, how far the large files of a batch are, by its number."""

        def take(event: tuple[float, tuple[str, int, Sequence[Moved]]]) -> None:
            run, number, moved = event[1]
            if run == self.run:
                observe(number, moved)

        self._client.subscribe_topic(batch.TOPIC, take)

    def ended(self, seconds: float) -> Future[Ends | Unready] | None:
        """Return a batch that has ended, well or not; None where none does in so many seconds."""
        with suppress(Empty):
            return self._ended.get(timeout=seconds) if seconds else self._ended.get_nowait()
        return None

    def answer(self, future: Future[Ends | Unready]) -> Ends | Unready | StorageError | None:
        """Return what a batch has brought.

        An error where it could not be done; None where its worker was lost after it: it is done again, and will end
        once more.

        Raises:
            Unavailable: the scheduler is gone.
        """
        from distributed import KilledWorker

        try:
            return future.result(_ANSWER_S)
        except TimeoutError:
            future.add_done_callback(self._ended.put)
            return None
        except KilledWorker:
            return StorageError("", "several workers were lost while they did its batch", "run the same command again")
        except (CancelledError, Exception) as error:
            if future.status in ("cancelled", "lost") or not self.alive:
                raise self.gone() from None
            return StorageError("", f"internal error at a worker: {type(error).__name__}")

    def gone(self) -> Unavailable:
        """Return the error that the scheduler is gone."""
        return Unavailable(self.address, "the scheduler is gone", "run the same command again: it goes on")

    def tell(self, what: Callable[[str], None]) -> None:
        """Call a function for this run in every worker's process."""
        self._client.run(what, self.run, on_error="ignore")

    def _key(self, what: str) -> str:
        self._count += 1
        return f"cdir-{what}-{self.run}-{self._count}"


def _knock(address: str) -> None:
    """Find out whether anybody listens at an address, as one who is just being started soon does.

    Dask itself asks again for as long as its timeout, which is meant for one that is slow.

    Raises:
        Unavailable: nobody does.
    """
    place = urlsplit(address)
    end = time.monotonic() + _REFUSED_S
    while True:
        try:
            socket.create_connection((place.hostname, place.port), CONNECT_S).close()
            return
        except (OSError, ValueError) as error:  # the latter of a port that there cannot be
            if not isinstance(error, ConnectionRefusedError) or time.monotonic() > end:
                why = f"nobody listens there ({getattr(error, 'strerror', None) or error})"
                raise Unavailable(address, why, "start a scheduler there, or check the address") from None
        time.sleep(_TURN_S)


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """Give a connection to a scheduler; raises as `Workers`."""
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingExtra(
            "--cluster", "package distributed is not installed", "pip install 'cloudmesh-vdir[cluster]'"
        ) from error
    _knock(address)
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL)  # that a scheduler is lost is told by us, without a traceback
    try:
        # of security it takes what Dask's own configuration says, in its files and in the environment
        try:
            client = Client(
                address, timeout=CONNECT_S, set_as_default=False, asynchronous=False, direct_to_workers=False
            )
        except (OSError, TimeoutError) as error:
            raise Unavailable(
                address, "no scheduler of Dask answers", "check the address, and whether it speaks tcp or tls"
            ) from error
        except (TypeError, ValueError, RuntimeError) as error:  # what it makes of missing certificates
            raise ConfigError(
                address,
                "Dask cannot be reached with its settings for TLS",
                "set distributed.comm.tls (ca-file, client.cert, client.key) in Dask's configuration",
            ) from error
        try:
            yield client
        finally:
            with suppress(Exception):
                client.close(_CLOSE_S)
    finally:
        log.setLevel(level)


def named(error: StorageError, worker: str) -> StorageError:
    """Return an error that names the worker that has it."""
    return type(error)(f"worker {worker}: {error.subject}", error.why, error.hint)
