"""SFTP sessions, lent for requests about one path; whatever goes wrong leaves as an error of the closed set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cloudmesh.storage.errors import StorageError, Unavailable
from cloudmesh.storage.providers.sftp.channel import SftpChannel
from cloudmesh.storage.providers.sftp.faults import about
from cloudmesh.storage.providers.sftp.pool import Lease, Pool
from cloudmesh.storage.providers.sftp.protocol import ProtocolError, Sftp
from cloudmesh.storage.providers.sftp.settings import Login
from cloudmesh.storage.providers.sftp.ssh_session import ConnectionLost


class Session:
    """What is pooled: an ssh connection's channel and the SFTP session on it.

    Raises (when made):
        AuthenticationFailed, Unavailable: as `SftpChannel`; Unavailable also where the host does not speak SFTP.
    """

    def __init__(self, login: Login) -> None:
        self._channel = SftpChannel(login)
        try:
            self.sftp = Sftp(self._channel)
        except (ConnectionLost, ProtocolError) as error:
            self._channel.close()
            raise Unavailable(login.service, str(error)) from error

    def is_usable(self) -> bool:
        """See `pool.Pooled`."""
        return self._channel.is_open(answers_due=self.sftp.answers_due)

    def close(self) -> None:
        """See `pool.Pooled`."""
        self._channel.close()


@contextmanager
def lend(pool: Pool[Session], subject: str) -> Iterator[Sftp]:
    """Lend a session for requests about ``subject``, a location."""
    lease = pool.lease()
    with failing(lease, subject):
        yield lease.item.sftp
        lease.item.sftp.flush()


@contextmanager
def failing(lease: Lease[Session], subject: str, *, keep: bool = False) -> Iterator[None]:
    """Translate failures, and give the lease back: when the connection broke, or (unless ``keep``) at the end."""
    try:
        with about(subject):
            yield
    except (ConnectionLost, ProtocolError) as error:
        lease.discard()
        raise Unavailable(subject, str(error)) from error
    except StorageError:
        if not keep:
            lease.release()
        raise
    except BaseException:
        # Something else broke in, perhaps in the middle of an answer.
        lease.discard()
        raise
    if not keep:
        lease.release()
