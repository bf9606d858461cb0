"""The ``webdav`` provider: any WebDAV server, and what Nextcloud and ownCloud add.

Servers differ in what they promise, so the provider finds out what it talks to (`_Server`): from the first answer what
reading needs, and before the first write the rest. A file is written in one of three ways:

* straight to its name, where the service is known to replace a file atomically (Nextcloud, ownCloud, Apache's mod_dav);
* everywhere else to a temporary name beside it, followed by a MOVE, because most servers write in place;
* in parts, which a MOVE puts together, where it is large and the service has Nextcloud's chunked upload.

A MOVE onto a directory would remove that with all that it holds, so a MOVE first forbids overwriting, and allows it
only after a look at what is in the way. See docs/decisions/0046-webdav-writes.md and 0047-webdav-mtimes.md.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape

from cloudmesh.storage import paths
from cloudmesh.storage.abc import (
    NO_HASHES,
    Capabilities,
    Content,
    Entry,
    Reader,
    ServiceSettings,
    StorageABC,
    Usage,
    WriteMode,
)
from cloudmesh.storage.errors import (
    AlreadyExists,
    ConfigError,
    DirectoryNotEmpty,
    InvalidName,
    IsADirectory,
    MissingExtra,
    NotADirectory,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Refused,
    StorageError,
    Unavailable,
    Unsupported,
)
from cloudmesh.storage.paths import TEMPORARY_PREFIX
from cloudmesh.storage.providers.webdav.answers import bare_etag, epoch_of, error_for, hashes_of, segments_of
from cloudmesh.storage.providers.webdav.multistatus import MultistatusError, MultistatusParser, Response

if TYPE_CHECKING:
    from cloudmesh.storage.providers.webdav.http import Answer, Body

_DAV = "DAV: "
_OC = "http://owncloud.org/ns "
_OURS = "https://cloudmesh.github.io/vdir/ns"
_MTIME = f"{_OURS} mtime"
_COLLECTION = f"{_DAV}resourcetype/{_DAV}collection"
_CHECKSUM = f"{_OC}checksums/{_OC}checksum"
_SECOND = 1_000_000_000

_XML = '<?xml version="1.0" encoding="utf-8"?>\n'
_PROPFIND = (
    f'{_XML}<d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" xmlns:v="{_OURS}"><d:prop>'
    "<d:resourcetype/><d:getcontentlength/><d:getlastmodified/><d:getetag/>%s</d:prop></d:propfind>"
)
_ENTRY_PROPS = (_PROPFIND % "<oc:checksums/><v:mtime/>").encode()
_SERVICE_PROPS = (_PROPFIND % "<d:quota-available-bytes/><d:quota-used-bytes/><oc:id/><oc:permissions/>").encode()
_PROBE_PROPS = (_PROPFIND % "<v:probe/>").encode()

_XML_TYPE = ("Content-Type", "application/xml; charset=utf-8")
_CLIENT_REFUSALS = frozenset((400, 403, 404, 405, 409))
_REDIRECTS = frozenset((301, 302, 307, 308))
_HASHED_BEFORE = 1024 * 1024
_AHEAD = 8
_LISTING_ATTEMPTS = 4
_ASSEMBLY_PATIENCE = 3600.0
_CUT = frozenset("?;\t\n\r")
_NAMES = Capabilities(name_max_bytes=255)


class _Unsettled(Unavailable):
    """The service stumbled over what it was asked about, not over the connection."""


@dataclass(frozen=True, slots=True)
class _Server:
    """What is known of the service after the first answers.

    Attributes:
        family: ``nextcloud`` (and ownCloud), ``rclone``, ``apache`` (mod_dav on a file system), or ``other``.
        quota: whether it tells how much room there is.
    """

    family: str
    quota: bool

    @property
    def own_mtime(self) -> bool:
        """Whether getlastmodified is the modification time that a writer gives by X-OC-Mtime."""
        return self.family in ("nextcloud", "rclone")

    @property
    def atomic_put(self) -> bool:
        """Whether a PUT replaces a file in one step, and a broken one leaves the old."""
        return self.family in ("nextcloud", "apache")


class WebdavStorage(StorageABC):
    """One account on a WebDAV server, Nextcloud or ownCloud.

    ``capabilities`` asks the service when it is first read: a few small requests, among them, where the server is
    unknown, one that sets and one that removes a property of the root directory, to learn whether it keeps them.
    """

    kind = "webdav"
    keys: ClassVar[Mapping[str, str]] = {
        "url": "address of the collection, such as https://cloud.example.org/remote.php/dav/files/USER/",
        "username": "name of the account (Basic or Digest, as the server asks)",
        "password": "password of the account, or better an app password",
        "token": "bearer token, instead of name and password",
    }
    required = frozenset({"url"})
    secrets = frozenset({"password", "token"})

    def __init__(self, settings: ServiceSettings) -> None:
        super().__init__(settings)
        try:
            from cloudmesh.storage.providers.webdav.http import Body, Client
            from cloudmesh.storage.providers.webdav.nextcloud import PART_BYTES, Upload, Uploads
        except ImportError as error:
            if error.name != "pycurl":
                raise
            raise MissingExtra(
                self.name, "package pycurl is not installed", "pip install 'cloudmesh-vdir[webdav]'"
            ) from None
        username, password, token = (_text(settings, key) for key in ("username", "password", "token"))
        if token and (username or password):
            raise ConfigError(self.name, "has both a token and a username or password", "keep one of the two")
        if password and not username:
            raise ConfigError(self.name, "has a password but no username", "set credentials.username")
        base = _base_url(self.name, _text(settings, "url"))
        self._base = base
        self._root = base + "".join("/" + quote(part, safe="") for part in _parts(paths.normalize(settings.root)))
        self._client = Client(
            username=username, password=password, token=token, timeouts=settings.timeouts, keep=settings.parallel
        )
        self._body_class = Body
        self._upload_class = Upload
        self._part_bytes = PART_BYTES
        self._uploads = Uploads.of(self._root, username)
        self._known: _Server | None = None
        self._faithful: bool | None = None
        self._places = tuple(threading.Lock() for _ in range(64))
        self._facts: Capabilities | None = None
        self._facts_lock = threading.Lock()
        self._directories: set[str] = set()

    # ---- what the service is --------------------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # asked once, then a constant
        """The facts, asked from the service once.

        Raises:
            StorageError: the service cannot be asked.
        """
        with self._facts_lock:
            if self._facts is None:
                self._facts = self._find_facts()
            return self._facts

    @property
    def name_limits(self) -> Capabilities:
        return _NAMES

    def _server(self) -> _Server:
        if self._known is None:
            self._known = self._connect()
        return self._known

    def _connect(self) -> _Server:
        """Make the first request, which also finds out how the service wants to be given the password."""
        subject = self.location("")
        for url in dict.fromkeys((self._root, self._base)):
            headers = [("Depth", "0"), _XML_TYPE]
            answer = self._client.negotiate("PROPFIND", url + "/", headers, _SERVICE_PROPS, subject)
            if answer.status == 207:
                return self._recognise(answer, subject)
            if answer.status != 404 or url == self._base:
                break
        if answer.status == 404:
            raise NotFound(subject, "nothing is at the configured url", "check credentials.url")
        if answer.status in (200, 400, 405, 501):
            raise ConfigError(subject, "the configured url does not speak WebDAV", "check credentials.url")
        raise self._error(answer, "")

    def _recognise(self, answer: Answer, subject: str) -> _Server:
        found = _parse(answer.body, subject)
        props = found[0].props if found else {}
        quota = any(_DAV + name in props for name in ("quota-available-bytes", "quota-used-bytes"))
        if self._uploads is not None or _OC + "id" in props or _OC + "permissions" in props:
            family = "nextcloud"
        elif answer.headers.get("server", "").startswith("rclone/"):
            family = "rclone"
        else:
            options = self._client.request("OPTIONS", self._base + "/", subject)
            apache = "<http://apache.org/dav/propset/fs/1>" in options.headers.get("dav", "")
            family = "apache" if apache else "other"
        return _Server(family, quota)

    def _find_facts(self) -> Capabilities:
        server = self._server()
        nextcloud = server.family == "nextcloud"
        dead_mtime = not server.own_mtime and self._keeps_properties()
        return replace(
            _NAMES,
            mtime_precision_ns=_SECOND if server.own_mtime else 1 if dead_mtime else None,
            scan_mtime=server.own_mtime or dead_mtime,
            set_mtime=nextcloud or dead_mtime,
            hashes=frozenset({"sha1", "md5", "sha256"}) if nextcloud else frozenset(),
            # Measured: mod_dav and wsgidav look and act in two steps, so that two of eight writers may both win.
            conditional_create=server.family == "rclone",
            server_copy=True,
            server_move=True,
            quota=server.quota,
            part_bytes=self._part_bytes if self._uploads is not None else None,
        )

    def _keeps_properties(self) -> bool:
        """Try whether the service keeps a property that it does not know: some say that they do and do not."""
        if self._server().family == "apache":
            return True
        subject = self.location("")
        token = uuid.uuid4().hex
        url = self._root + "/"
        if self._propfind(url, "0", subject)[0].status == 404:
            url = self._base + "/"
        if not self._proppatch(url, f"<v:probe>{token}</v:probe>", subject):
            return False
        _, found = self._propfind(url, "0", subject, body=_PROBE_PROPS)
        kept = bool(found) and found[0].props.get(f"{_OURS} probe") == token
        self._proppatch(url, "<v:probe/>", subject, remove=True)
        return kept

    # ---- reading ----------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry:
        self.check_path(path)
        server = self._server()
        url, subject = self._url(path), self.location(path)
        answer, found = self._propfind(url, "0", subject)
        if answer.status in _REDIRECTS:
            answer, found = self._propfind(url + "/", "0", subject)
        if answer.status == 207 and found and found[0].status in (None, 200):
            return _entry(path, found[0].props, server)
        if answer.status == 404 or (answer.status == 207 and found and found[0].status == 404):
            if not path:
                return Entry("", is_directory=True)
            raise NotFound(subject)
        if answer.status in _CLIENT_REFUSALS and path and self._below_file(path):
            raise NotFound(subject)
        raise self._error(answer, path)

    def _below_file(self, path: str) -> bool:
        """Tell whether a parent of ``path`` is a file, which some servers answer with any error that they like."""
        parent = paths.parent(path)
        if not parent:
            return False
        try:
            return not self.stat(parent).is_directory
        except NotFound:
            return self._below_file(parent)

    def scan(self, path: str = "", *, recursive: bool = False) -> Iterator[Entry]:
        self.check_path(path)
        first = self._list(path)
        if not recursive:
            yield from first
            return
        listings = {path: iter(first)}
        waiting: deque[str] = deque(entry.path for entry in first if entry.is_directory)
        coming: dict[str, Future[list[Entry]]] = {}
        stack = [path]
        pool = ThreadPoolExecutor(min(_AHEAD, max(1, self.settings.parallel)), f"scan-{self.name}")
        try:
            # The next few directories in order are listed meanwhile; no more, so that memory stays bounded.
            while stack:
                entry = next(listings[stack[-1]], None)
                if entry is None:
                    del listings[stack.pop()]
                    continue
                yield entry
                if entry.is_directory:
                    for ahead in islice(waiting, _AHEAD):
                        if ahead not in coming:
                            coming[ahead] = pool.submit(self._list_if_there, ahead)
                    waiting.popleft()
                    entries = coming.pop(entry.path).result()
                    waiting.extendleft(e.path for e in reversed(entries) if e.is_directory)
                    listings[entry.path] = iter(entries)
                    stack.append(entry.path)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _list_if_there(self, path: str) -> list[Entry]:
        """List a directory that was seen a moment ago; one that is gone by now holds nothing."""
        try:
            return self._list(path)
        except (NotFound, NotADirectory):
            return []

    def _list(self, path: str) -> list[Entry]:
        """Return what is in one directory, sorted."""
        server = self._server()
        for _ in range(_LISTING_ATTEMPTS - 1):
            # A file that vanishes while it is listed makes some servers answer 500 or break off their XML. The retry
            # layer cannot repeat one directory of a running scan, so that is done here.
            try:
                return self._list_once(path, server)
            except _Unsettled:
                continue
        return self._list_once(path, server)

    def _list_once(self, path: str, server: _Server) -> list[Entry]:
        url, subject = self._url(path), self.location(path)
        entries: list[Entry] = []
        names: list[list[str]] = []

        def take(response: Response) -> None:
            segments = segments_of(response.href)
            if response.status not in (None, 200):
                return
            # The directory itself is among the responses, with the shortest address; a proxy may have changed the
            # part before it, so only the last part of each address is taken for true.
            names.append(segments)
            name = segments[-1] if segments else ""
            entries.append(_entry(paths.join(path, name), response.props, server))

        answer = self._propfind(url + "/", "1", subject, take)[0]
        if answer.status != 207:
            if answer.status == 404 and not path:
                return []
            if answer.status == 500:
                raise _Unsettled(subject, "the service is in trouble (HTTP 500)")
            if self.stat(path).is_directory:
                raise self._error(answer, path)
            raise NotADirectory(subject)
        shortest = min((len(segments) for segments in names), default=0)
        for segments, entry in zip(names, entries, strict=True):
            if len(segments) == shortest and not entry.is_directory:
                raise NotADirectory(subject)
        found = [
            entry
            for segments, entry in zip(names, entries, strict=True)
            if len(segments) == shortest + 1
            and "/" not in segments[-1]
            and not segments[-1].startswith(TEMPORARY_PREFIX)
            and segments[-1] not in (".", "..")
        ]
        found.sort(key=lambda entry: entry.sort_key)
        return found

    def open_read(self, path: str, *, start: int = 0, length: int | None = None, if_match: str | None = None) -> Reader:
        self.check_path(path)
        subject = self.location(path)
        server = self._server()
        if length == 0:
            return self._empty(path, if_match)
        exchange, end = self._client.open("GET", self._url(path), subject, headers=_range(start, length))
        try:
            status, headers = exchange.status, exchange.headers
            if status == 416:
                end()
                return self._empty(path, if_match)
            if status not in (200, 206):
                answer = _answer_of(status, headers, exchange)
                end()
                self._refuse_read(path, answer)
            etag = bare_etag(headers.get("etag"))
            # Some servers answer with a page that lists a directory.
            if etag is None and "last-modified" not in headers and self.stat(path).is_directory:
                raise IsADirectory(subject)
            if if_match is not None and (etag or self.stat(path).etag) != bare_etag(if_match):
                raise PreconditionFailed(subject)
            size, begin = _extent(status, headers, start, subject)
            entry = _entry_of_headers(path, headers, size, server)
            skip = 0
            if begin is None:
                skip = start if start >= 0 else max(0, (size or 0) + start)
                if start < 0 and size is None:
                    raise Unsupported(subject, "the service neither reads from the end nor tells the size")
            return Reader(entry, _cut(exchange, skip, length, end), end)
        except BaseException:
            end()
            raise

    def _refuse_read(self, path: str, answer: Answer) -> None:
        """Raise what a refused GET means; a directory is refused in many ways."""
        if answer.status in _CLIENT_REFUSALS or answer.status in _REDIRECTS or answer.status == 501:
            if self.stat(path).is_directory:
                raise IsADirectory(self.location(path))
            if answer.status == 404:
                # Servers that replace a file by removing it first show a gap for a moment.
                raise Unavailable(self.location(path), "it was being replaced just now")
        raise self._error(answer, path)

    def _empty(self, path: str, if_match: str | None) -> Reader:
        entry = self.stat(path)
        if entry.is_directory:
            raise IsADirectory(self.location(path))
        if if_match is not None and entry.etag != bare_etag(if_match):
            raise PreconditionFailed(self.location(path))
        return Reader(entry, iter(()))

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write(
        self, path: str, content: Content, *, mode: WriteMode = "overwrite", if_match: str | None = None
    ) -> Entry:
        subject = self.location(path)
        self.check_path(path)
        if not path:
            raise IsADirectory(subject)
        server = self._server()
        self._make_parents(path)
        large = content.size is None or content.size > self._part_bytes
        if self._uploads is not None and large:
            entry = self._write_parts(path, content, mode, if_match)
            if entry is not None:
                return entry
        if not self._moves_faithfully(path):
            return self._write_in_place(path, content, mode, if_match)
        if server.atomic_put:
            return self._write_straight(path, content, mode, if_match)
        return self._write_beside(path, content, mode, if_match)

    def _write_straight(self, path: str, content: Content, mode: WriteMode, if_match: str | None) -> Entry:
        server = self._server()
        subject, url = self.location(path), self._url(path)
        headers: list[tuple[str, str]] = []
        if mode == "create":
            headers.append(("If-None-Match", "*"))
        if if_match is not None:
            etag = f'"{bare_etag(if_match)}"'
            # mod_dav shows a new file's tag as weak, which If-Match never matches; its If compares weakly.
            headers.append(("If-Match", etag) if server.family == "nextcloud" else ("If", f"([{etag}])"))
        if server.family == "nextcloud" and (checksum := _checksum_before(content)):
            headers.append(("OC-Checksum", checksum))
        answer, size, window = self._put(path, url, content, headers)
        if answer.status == 412:
            self._refuse_condition(path, mode)
        entry = Entry(path, size=size, etag=bare_etag(answer.headers.get("oc-etag") or answer.headers.get("etag")))
        return self._with_mtime(entry, url, content.mtime_ns, window, subject)

    def _write_beside(self, path: str, content: Content, mode: WriteMode, if_match: str | None) -> Entry:
        subject = self.location(path)
        if mode == "create" or if_match is not None:
            self._check_condition(path, mode, if_match)
        temporary = self._temporary(path)
        try:
            _, size, window = self._put(path, temporary, content, [])
            entry = self._with_mtime(Entry(path, size=size), temporary, content.mtime_ns, window, subject)
            self._move_into_place(temporary, path, mode, if_match)
        except BaseException:
            self._discard(temporary)
            raise
        return entry

    def _write_in_place(self, path: str, content: Content, mode: WriteMode, if_match: str | None) -> Entry:
        """Write a new file straight to its name on a server that can neither do this atomically nor rename to it."""
        try:
            self._check_condition(path, mode, if_match)
            self.stat(path)
        except NotFound:
            pass
        else:
            raise Unsupported(
                self.location(path), "this server cannot replace a file with such a name safely", "remove it first"
            )
        url = self._url(path)
        try:
            _, size, window = self._put(path, url, content, [])
            return self._with_mtime(Entry(path, size=size), url, content.mtime_ns, window, self.location(path))
        except BaseException:
            self._discard(url)
            raise

    def _moves_faithfully(self, path: str) -> bool:
        """Tell whether a MOVE to ``path`` ends there: wsgidav decodes its Destination and only then
        cuts it at '?' and ';' and drops tabs and line ends.

        Tried once, with two temporary files, when the first such name comes up on a server that we do not know.
        """
        if self._server().family != "other" or not _CUT.intersection(unquote(self._root) + path):
            return True
        if self._faithful is None:
            # In the root, so that a target that is cut is the source itself and nothing else is touched.
            if _CUT.intersection(unquote(self._root)):
                self._faithful = False
                return False
            subject = self.location(path)
            source = self._temporary("")
            target = source + quote("?;x", safe="")
            answer = self._client.request("PUT", source, subject, body=self._body_class.of_bytes(b"x"))
            if not 200 <= answer.status < 300:
                raise self._error(answer, path)
            try:
                headers = [("Destination", target), ("Overwrite", "F")]
                self._client.request("MOVE", source, subject, headers=headers)
                self._faithful = self._propfind(target, "0", subject)[0].status == 207
            finally:
                for url in (source, target):
                    self._client.request("DELETE", url, subject)
        return self._faithful

    def _write_parts(self, path: str, content: Content, mode: WriteMode, if_match: str | None) -> Entry | None:
        """Write in parts; None where the service turns out to know no chunked upload, and nothing was read yet."""
        assert self._uploads is not None  # noqa: S101 - the caller has looked
        subject = self.location(path)
        if mode == "create" or if_match is not None:
            self._check_condition(path, mode, if_match)
        destination = self._uploads.files + self._below(path)
        upload = self._upload_class(self._client, self._uploads, destination, subject)
        if not upload.begin():
            return None
        try:
            upload.send(content)
            headers = [
                ("OC-Total-Length", str(upload.size)),
                ("OC-Checksum", f"SHA1:{upload.sha1}"),
                *_mtime_header(content.mtime_ns),
            ]
            answer = self._move_into_place(
                upload.url, path, mode, if_match, destination=destination, headers=headers, patience=_ASSEMBLY_PATIENCE
            )
        except BaseException:
            upload.abandon()
            raise
        etag = bare_etag(answer.headers.get("oc-etag") or answer.headers.get("etag"))
        mtime_ns = None if content.mtime_ns is None else content.mtime_ns // _SECOND * _SECOND
        return Entry(path, size=upload.size, mtime_ns=mtime_ns, etag=etag, hashes={"sha1": upload.sha1})

    def _put(
        self, path: str, url: str, content: Content, headers: Sequence[tuple[str, str]]
    ) -> tuple[Answer, int, tuple[int, int]]:
        """PUT the content; return the answer (2xx or 412), the bytes sent, and when the service stored it.

        A parent that has vanished since it was made is made again.
        """
        subject = self.location(path)
        sent = 0

        def pieces() -> Iterator[bytes]:
            nonlocal sent
            sent = 0
            for piece in content.open():
                sent += len(piece)
                yield piece

        body = self._body_class(open=pieces, size=content.size, replayable=content.replayable)
        sending = [*headers, ("Content-Type", "application/octet-stream")]
        if self._server().own_mtime:
            sending += _mtime_header(content.mtime_ns)
        for attempt in (1, 2):
            begun = time.monotonic()
            answer = self._client.request("PUT", url, subject, headers=sending, body=body)
            if 200 <= answer.status < 300 or (answer.status == 412 and headers):
                break
            if answer.status in _CLIENT_REFUSALS or answer.status in _REDIRECTS or answer.status == 500:
                self._refuse_write(path)
                if attempt == 1 and answer.status in (404, 409) and content.replayable:
                    self._directories.clear()
                    self._make_parents(path)
                    continue
            raise self._error(answer, path)
        took = int(time.monotonic() - begun) + 2
        moment = epoch_of(answer.headers.get("date")) or int(time.time())
        return answer, sent, (moment - took, moment + took)

    def _with_mtime(self, entry: Entry, url: str, mtime_ns: int | None, window: tuple[int, int], subject: str) -> Entry:
        """Keep the modification time of the file that was just stored at ``url``, where a PUT alone does not."""
        if mtime_ns is None:
            return entry
        if self._server().own_mtime:
            return replace(entry, mtime_ns=mtime_ns // _SECOND * _SECOND)
        if self.capabilities.mtime_precision_ns is None:
            return entry
        self._keep_mtime(url, mtime_ns, entry.size or 0, window, subject)
        return replace(entry, mtime_ns=mtime_ns)

    def _keep_mtime(self, url: str, mtime_ns: int, size: int, window: tuple[int, int], subject: str) -> None:
        # The property outlives the content when another client overwrites the file, so it says which content it is of.
        value = f"{mtime_ns} {size} {window[0]} {window[1]}"
        if not self._proppatch(url, f"<v:mtime>{value}</v:mtime>", subject):
            raise Unavailable(subject, "the service did not keep the modification time")

    def _move_into_place(
        self,
        source: str,
        path: str,
        mode: WriteMode,
        if_match: str | None,
        *,
        destination: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        patience: float | None = None,
    ) -> Answer:
        """MOVE what was stored under another name to its own, never onto a directory."""
        subject = self.location(path)
        target = destination or self._url(path)

        def move(overwrite: str) -> Answer:
            sending = [("Destination", target), ("Overwrite", overwrite), *headers]
            if if_match is not None and self._server().family in ("nextcloud", "apache"):
                sending.append(("If", f'<{target}> (["{bare_etag(if_match)}"])'))
            return self._client.request("MOVE", source, subject, headers=sending, patience=patience)

        # Servers refuse two moves to one place at once (423, 500): let those of this process wait for each other.
        with self._places[hash(path) % len(self._places)]:
            answer = move("F")
            if answer.status == 412:
                if mode == "create":
                    self._refuse_condition(path, mode)
                self._check_condition(path, mode, if_match)
                answer = move("T")
                if answer.status == 412:
                    raise PreconditionFailed(subject)
        if answer.status not in (200, 201, 204):
            if answer.status in _CLIENT_REFUSALS or answer.status in _REDIRECTS or answer.status == 500:
                self._refuse_write(path)
            raise self._error(answer, path)
        return answer

    def _check_condition(self, path: str, mode: WriteMode, if_match: str | None) -> None:
        """Raise where what is at ``path`` now forbids the write."""
        try:
            entry = self.stat(path)
        except NotFound:
            if if_match is not None:
                raise PreconditionFailed(self.location(path), "the file is not there any longer") from None
            return
        if entry.is_directory:
            raise IsADirectory(self.location(path))
        if mode == "create":
            raise AlreadyExists(self.location(path))
        if if_match is not None and entry.etag != bare_etag(if_match):
            raise PreconditionFailed(self.location(path))

    def _refuse_condition(self, path: str, mode: WriteMode) -> None:
        """Raise what a 412 means."""
        with suppress(NotFound):
            if self.stat(path).is_directory:
                raise IsADirectory(self.location(path))
        if mode == "create":
            raise AlreadyExists(self.location(path))
        raise PreconditionFailed(self.location(path))

    def _refuse_write(self, path: str) -> None:
        """Raise where a directory at ``path`` or a file among its parents is why a write was refused."""
        with suppress(NotFound):
            if self.stat(path).is_directory:
                raise IsADirectory(self.location(path))
        if self._below_file(path):
            raise NotADirectory(self.location(path), "a parent of it is a file")

    def _discard(self, url: str) -> None:
        """Remove a temporary file, as far as that can be done.

        The server may notice only after our DELETE that an upload has broken off, and make the file then: ask again
        until the file was there and is gone, for a second at most.
        """
        seen = False
        with suppress(StorageError):
            for wait in (0.0, 0.05, 0.1, 0.2, 0.4):
                time.sleep(wait)
                status = self._client.request("DELETE", url, self.name).status
                if status == 404 and seen:
                    return
                seen = seen or 200 <= status < 300

    # ---- directories ------------------------------------------------------------------------------------------------

    def make_dir(self, path: str) -> None:
        self.check_path(path)
        self._server()
        if self._make_directory(path):
            return
        # Something is there already, or claims to be.
        try:
            entry = self.stat(path)
        except NotFound:
            raise NotADirectory(self.location(path), "a parent of it is a file") from None
        if not entry.is_directory:
            raise NotADirectory(self.location(path))

    def _make_parents(self, path: str) -> None:
        parent = paths.parent(path)
        if parent not in self._directories:
            self._make_directory(parent)

    def _make_directory(self, path: str) -> bool:
        """Make a directory and its parents; False where something is there already."""
        subject = self.location(path)
        if not path:
            made = self._make_root()
        else:
            answer = self._mkcol(self._url(path), subject)
            if answer.status in (404, 409) and not self._below_file(path):
                self._make_directory(paths.parent(path))
                answer = self._mkcol(self._url(path), subject)
            made = self._made(answer, path)
        self._directories.add(path)
        return made

    def _made(self, answer: Answer, path: str) -> bool:
        if answer.status == 201:
            return True
        if answer.status in (405, 301):
            return False
        # Others may have made it at the same time, which servers answer in many ways.
        with suppress(NotFound):
            if self.stat(path).is_directory:
                return False
            raise NotADirectory(self.location(path))
        if path and self._below_file(path):
            raise NotADirectory(self.location(path), "a parent of it is a file")
        raise self._error(answer, path)

    def _make_root(self) -> bool:
        """Make the directories between the configured url, which must be there, and the root."""
        parts = self._root[len(self._base) :].split("/")[1:]
        made = False
        for count in range(1, len(parts) + 1):
            url = self._base + "".join("/" + part for part in parts[:count])
            answer = self._mkcol(url, self.location(""))
            made = answer.status == 201
            refused = not made and answer.status not in (405, 301) and count == len(parts)
            # An account may be allowed to use a directory but not to try to make it.
            if refused and self._propfind(url + "/", "0", self.location(""))[0].status != 207:
                raise self._error(answer, "")
        return made

    def _mkcol(self, url: str, subject: str) -> Answer:
        return self._client.request("MKCOL", url + "/", subject)

    def remove(self, path: str) -> None:
        # A DELETE takes a directory with all that it holds, so look first. A directory that takes a file's place
        # between the two requests would be lost; WebDAV has no way to prevent that.
        if self.stat(path).is_directory:
            raise IsADirectory(self.location(path))
        self._delete(path, self._url(path))

    def remove_dir(self, path: str) -> None:
        # A file that another client adds between the two requests is lost with the directory; see `remove`.
        subject = self.location(path)
        if not path:
            raise Refused(subject, "the root of a service is not removed")
        if self._list(path):
            raise DirectoryNotEmpty(subject)
        self._delete(path, self._url(path) + "/")

    def _delete(self, path: str, url: str) -> None:
        self._forget(path)
        answer = self._client.request("DELETE", url, self.location(path))
        if answer.status == 207:  # a part of it could not be removed
            inner = [r.status for r in _parse(answer.body, self.location(path)) if r.status is not None]
            raise error_for(inner[0] if inner else 500, {}, b"", self.location(path))
        if not 200 <= answer.status < 300:
            raise self._error(answer, path)

    def _forget(self, path: str) -> None:
        """Forget that ``path`` and what is below it was seen as a directory."""
        for known in [d for d in tuple(self._directories) if d == path or d.startswith(path + "/")]:
            self._directories.discard(known)

    # ---- within the service -----------------------------------------------------------------------------------------

    def copy_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> Entry:
        self.check_path(destination)
        entry = self.stat(source)
        subject = self.location(source)
        if entry.is_directory:
            raise IsADirectory(subject)
        if source == destination:
            return entry
        if not destination:
            raise IsADirectory(self.location(destination))
        if mode == "create":
            self._check_condition(destination, mode, None)
        self._make_parents(destination)
        if not self._moves_faithfully(destination):
            with self.open_read(source) as reader:
                return self.write(destination, Content.of_stream(reader, entry.size, entry.mtime_ns), mode=mode)
        temporary = self._temporary(destination)
        begun = time.monotonic()
        try:
            headers = [("Destination", temporary), ("Overwrite", "T"), ("Depth", "0")]
            answer = self._client.request("COPY", self._url(source), subject, headers=headers)
            if not 200 <= answer.status < 300 or answer.status == 207:
                self._refuse_write(destination)
                raise self._error(answer, source)
            took = int(time.monotonic() - begun) + 2
            moment = epoch_of(answer.headers.get("date")) or int(time.time())
            self._copy_mtime(temporary, entry, (moment - took, moment + took), subject)
            self._move_into_place(temporary, destination, mode, None)
        except BaseException:
            self._discard(temporary)
            raise
        return replace(entry, path=destination, etag=None, changed_ns=None)

    def _copy_mtime(self, url: str, entry: Entry, window: tuple[int, int], subject: str) -> None:
        """Give a fresh copy its original's modification time where the service did not."""
        if entry.mtime_ns is None:
            return
        if self._server().own_mtime:
            _, found = self._propfind(url, "0", subject)
            if found and _entry("", found[0].props, self._server()).mtime_ns != entry.mtime_ns:
                self._proppatch(url, f"<d:lastmodified>{entry.mtime_ns // _SECOND}</d:lastmodified>", subject)
        else:
            self._keep_mtime(url, entry.mtime_ns, entry.size or 0, window, subject)

    def move_within(self, source: str, destination: str, *, mode: WriteMode = "overwrite") -> None:
        self.check_path(destination)
        entry = self.stat(source)
        if source == destination:
            return
        if entry.is_directory and (not source or not destination or destination.startswith(source + "/")):
            raise Refused(self.location(source), "a directory cannot be moved into itself")
        if not destination:
            raise IsADirectory(self.location(destination))
        self._make_parents(destination)
        if not self._moves_faithfully(destination):
            if entry.is_directory:
                raise Unsupported(self.location(source), "this server cannot give a directory such a name")
            self.copy_within(source, destination, mode=mode)
            self.remove(source)
            return
        if entry.is_directory:
            self._forget(source)
            headers = [("Destination", self._url(destination) + "/"), ("Overwrite", "F")]
            answer = self._client.request("MOVE", self._url(source) + "/", self.location(source), headers=headers)
            if answer.status == 412:
                raise AlreadyExists(self.location(destination))
            if answer.status not in (200, 201, 204):
                self._refuse_write(destination)
                raise self._error(answer, source)
            return
        self._move_into_place(self._url(source), destination, mode, None)

    def set_mtime(self, path: str, mtime_ns: int) -> None:
        subject = self.location(path)
        if not self.capabilities.set_mtime:
            raise Unsupported(subject, "this service cannot change a modification time")
        entry = self.stat(path)
        if entry.is_directory:
            raise IsADirectory(subject)
        if self._server().own_mtime:
            if not self._proppatch(self._url(path), f"<d:lastmodified>{mtime_ns // _SECOND}</d:lastmodified>", subject):
                raise PermissionDenied(subject, "the service did not change the modification time")
            return
        changed = (entry.changed_ns or 0) // _SECOND
        self._keep_mtime(self._url(path), mtime_ns, entry.size or 0, (changed, changed), subject)

    def usage(self) -> Usage:
        subject = self.location("")
        self._server()
        for url in (self._root, self._base):
            answer, found = self._propfind(url + "/", "0", subject, body=_SERVICE_PROPS)
            if answer.status == 207 and found:
                break
        else:
            raise self._error(answer, "")
        free, used = (_count(found[0].props.get(f"{_DAV}quota-{name}-bytes")) for name in ("available", "used"))
        if free is None and used is None:
            raise Unsupported(self.name, "this service does not tell how much room there is")
        return Usage(total=None if free is None or used is None else free + used, used=used, free=free)

    def probe(self) -> None:
        self._known = self._connect()

    def close(self) -> None:
        self._client.close()

    # ---- requests ---------------------------------------------------------------------------------------------------

    def _below(self, path: str) -> str:
        if ".." in path and ".." in path.split("/"):
            raise InvalidName(self.location(path), "a path cannot hold '..'")
        return "".join("/" + quote(part, safe="") for part in _parts(path))

    def _url(self, path: str) -> str:
        return self._root + self._below(path)

    def _temporary(self, path: str) -> str:
        """Return the address of a new temporary file beside ``path``."""
        return f"{self._url(paths.parent(path))}/{TEMPORARY_PREFIX}{uuid.uuid4().hex}"

    def _error(self, answer: Answer, path: str) -> StorageError:
        return error_for(answer.status, answer.headers, answer.body, self.location(path))

    def _propfind(
        self,
        url: str,
        depth: str,
        subject: str,
        take: Callable[[Response], None] | None = None,
        *,
        body: bytes = _ENTRY_PROPS,
    ) -> tuple[Answer, list[Response]]:
        """Ask for properties; responses go to ``take`` as they come, or into the list."""
        found: list[Response] = []
        parser = MultistatusParser(take or found.append)

        def sink(status: int, piece: bytes) -> None:
            if status == 207:
                parser.feed(piece)

        try:
            answer = self._client.request(
                "PROPFIND",
                url,
                subject,
                headers=[("Depth", depth), _XML_TYPE],
                body=self._body_class.of_bytes(body),
                sink=sink,
            )
            if answer.status == 207:
                parser.close()
        except MultistatusError as error:
            raise _Unsettled(subject, str(error)) from None
        return answer, found

    def _proppatch(self, url: str, prop: str, subject: str, *, remove: bool = False) -> bool:
        """Set (or remove) a property; False where the service refuses that.

        Raises:
            StorageError: the service cannot be asked, or refuses for a reason that has nothing to do with the property.
        """
        verb = "remove" if remove else "set"
        xml = (
            f'{_XML}<d:propertyupdate xmlns:d="DAV:" xmlns:v="{escape(_OURS)}"><d:{verb}><d:prop>{prop}</d:prop>'
            f"</d:{verb}></d:propertyupdate>"
        )
        body: Body = self._body_class.of_bytes(xml.encode())
        answer = self._client.request("PROPPATCH", url, subject, headers=[_XML_TYPE], body=body)
        if answer.status == 207:
            found = _parse(answer.body, subject)
            return all(r.status in (None, 200) and not r.refused for r in found)
        if answer.status in (403, 404, 405, 409, 501):
            return False
        if 200 <= answer.status < 300:
            return True
        raise error_for(answer.status, answer.headers, answer.body, subject)


def _text(settings: ServiceSettings, key: str) -> str | None:
    value = settings.credentials.get(key)
    return None if value is None or value == "" else str(value)


def _base_url(name: str, url: str | None) -> str:
    """Return the configured address, checked, percent-encoded and without a slash at its end."""
    if url is None:
        raise ConfigError(name, "has no url", "set credentials.url")
    hint = "check credentials.url"
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(name, "the url cannot be read", hint) from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(name, "the url must begin with https:// or http:// and name a host", hint)
    if parts.username is not None:
        raise ConfigError(name, "the url holds a user name", "set credentials.username and password instead")
    if parts.query or parts.fragment:
        raise ConfigError(name, "the url holds a '?' or '#'", hint)
    path = re.sub("/+", "/", parts.path).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{quote(path, safe='/%:@!$&()*+,;=~' + chr(39))}"


def _parts(path: str) -> list[str]:
    return path.split("/") if path else []


def _parse(body: bytes, subject: str) -> list[Response]:
    found: list[Response] = []
    parser = MultistatusParser(found.append)
    try:
        parser.feed(body)
        parser.close()
    except MultistatusError as error:
        raise Unavailable(subject, str(error)) from None
    return found


def _entry(path: str, props: Mapping[str, str], server: _Server) -> Entry:
    """Return the entry that a resource's properties describe."""
    if _COLLECTION in props:
        return Entry(path, is_directory=True)
    size = _count(props.get(_DAV + "getcontentlength"))
    changed = epoch_of(props.get(_DAV + "getlastmodified"))
    changed_ns = None if changed is None else changed * _SECOND
    hashes = hashes_of(props[_CHECKSUM]) if props.get(_CHECKSUM) else NO_HASHES
    etag = bare_etag(props.get(_DAV + "getetag"))
    if server.own_mtime:
        return Entry(path, size=size, mtime_ns=changed_ns, etag=etag, hashes=hashes)
    mtime_ns = _kept_mtime(props.get(_MTIME), size, changed)
    return Entry(path, size=size, mtime_ns=mtime_ns, changed_ns=changed_ns, etag=etag, hashes=hashes)


def _kept_mtime(value: str | None, size: int | None, changed: int | None) -> int | None:
    """Return the modification time that our property holds, if it is of the content that is there now."""
    fields = value.split() if value else []
    try:
        mtime_ns, kept_size, first, last = (int(field) for field in fields)
    except ValueError:
        return None
    return mtime_ns if kept_size == size and changed is not None and first <= changed <= last else None


def _entry_of_headers(path: str, headers: Mapping[str, str], size: int | None, server: _Server) -> Entry:
    changed = epoch_of(headers.get("last-modified"))
    changed_ns = None if changed is None else changed * _SECOND
    etag = bare_etag(headers.get("etag") or headers.get("oc-etag"))
    hashes = hashes_of(headers.get("oc-checksum", "")) or NO_HASHES
    if server.own_mtime:
        return Entry(path, size=size, mtime_ns=changed_ns, etag=etag, hashes=hashes)
    return Entry(path, size=size, changed_ns=changed_ns, etag=etag)


def _count(text: str | None) -> int | None:
    """Return a number of bytes; None where the service gives none (or a negative one: not known, no limit)."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _range(start: int, length: int | None) -> list[tuple[str, str]]:
    if start < 0:
        return [("Range", f"bytes={start}")]
    if start == 0 and length is None:
        return []
    return [("Range", f"bytes={start}-{'' if length is None else start + length - 1}")]


def _extent(status: int, headers: Mapping[str, str], start: int, subject: str) -> tuple[int | None, int | None]:
    """Return the whole file's size and, where the answer is a part, its first byte."""
    if status == 200:
        return _count(headers.get("content-length")), None
    match = re.match(r"bytes (\d+)-(-?\d+)/(\d+|\*)\Z", headers.get("content-range", ""))
    if match is None:
        raise Unavailable(subject, "the service does not tell which part of the file it sends")
    first, size = int(match[1]), _count(match[3])
    expected = start if start >= 0 or size is None else max(0, size + start)
    if first != expected and start >= 0:
        raise Unavailable(subject, "the service sends another part of the file than was asked for")
    return size, first


def _cut(pieces: Iterable[bytes], skip: int, length: int | None, end: Callable[[], None]) -> Iterator[bytes]:
    """Yield ``length`` bytes after the first ``skip``, then let go of the connection."""
    try:
        for piece in pieces:
            if skip:
                if skip >= len(piece):
                    skip -= len(piece)
                    continue
                piece, skip = piece[skip:], 0
            if length is not None:
                if len(piece) >= length:
                    yield piece[:length]
                    return
                length -= len(piece)
            yield piece
    finally:
        end()


def _answer_of(status: int, headers: Mapping[str, str], pieces: Iterable[bytes]) -> Answer:
    from cloudmesh.storage.providers.webdav.http import Answer

    return Answer(status, headers, b"".join(islice(pieces, 4)))


def _mtime_header(mtime_ns: int | None) -> list[tuple[str, str]]:
    return [] if mtime_ns is None else [("X-OC-Mtime", str(mtime_ns // _SECOND))]


def _checksum_before(content: Content) -> str | None:
    """Return the OC-Checksum of a content that can be read twice cheaply."""
    if content.size is None or not content.replayable or (content.path is None and content.size > _HASHED_BEFORE):
        return None
    digest = hashlib.sha1(usedforsecurity=False)
    for piece in content.open():
        digest.update(piece)
    return f"SHA1:{digest.hexdigest()}"
