"""Reads a WebDAV multistatus document (RFC 4918, 13) as it comes, one response at a time.

Entities are how XML attacks its reader; they need a DOCTYPE, which WebDAV never has, so one is refused outright.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from cloudmesh.storage.errors import Unavailable

_MULTISTATUS, _RESPONSE, _PROPSTAT, _PROP, _STATUS, _HREF = (
    f"DAV: {name}" for name in ("multistatus", "response", "propstat", "prop", "status", "href")
)
_MAX_TEXT = 1024 * 1024


@dataclass(slots=True)
class Response:
    """What the service says of one resource.

    Attributes:
        href: as sent, percent-encoded.
        status: of the resource as a whole; None where each property has its own.
        props: properties that are there, by ``namespace name``, to their text; an element inside a property is kept as
            ``property/element`` with both names in that form.
        refused: names of properties with another status than 2xx, to that status.
    """

    href: str = ""
    status: int | None = None
    props: dict[str, str] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)


class MultistatusError(ValueError):
    """The document is not what it should be."""


class MultistatusParser:
    """Feed it the document's bytes; it calls ``on_response`` for each response when that is complete."""

    def __init__(self, on_response: Callable[[Response], None]) -> None:
        self._on_response = on_response
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._path: list[str] = []
        self._response: Response | None = None
        self._found: dict[str, str] = {}
        self._status: int | None = None
        self._buffer: list[str] = []
        self._length = 0
        self._complete = False

    def feed(self, data: bytes) -> None:
        """Take the next piece.

        Raises:
            MultistatusError: it is not XML, or XML that we do not read.
        """
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError as error:
            raise MultistatusError(f"the service's XML cannot be read ({error})") from None

    def close(self) -> None:
        """End the document.

        Raises:
            MultistatusError: it is not complete.
        """
        try:
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise MultistatusError(f"the service's XML cannot be read ({error})") from None
        if not self._complete:
            raise MultistatusError("the service's answer is no WebDAV multistatus")

    def _doctype(self, *_: object) -> None:
        raise MultistatusError("the service's XML holds a DOCTYPE, which is refused")

    # Called for each of the dozen elements that every file of a listing has, so they do nothing twice.

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        path = self._path
        path.append(name)
        depth = len(path)
        if depth == 1:
            self._complete = name == _MULTISTATUS
        elif depth == 2 and name == _RESPONSE:
            self._response = Response()
        elif depth == 3 and name == _PROPSTAT:
            self._found, self._status = {}, None
        elif depth > 32:
            raise MultistatusError("the service's XML is nested too deeply")
        if self._length:
            self._buffer.clear()
            self._length = 0

    def _text(self, data: str) -> None:
        self._length += len(data)
        if self._length > _MAX_TEXT:
            raise MultistatusError("a text in the service's XML is far too long")
        self._buffer.append(data)

    def _end(self, name: str) -> None:
        path = self._path
        depth = len(path)
        text = ""
        if self._length:
            text = "".join(self._buffer)
            self._buffer.clear()
            self._length = 0
        response = self._response
        if response is not None:
            if depth >= 5:
                if path[3] == _PROP and path[2] == _PROPSTAT:
                    # An element's text is its own only where it holds no others; those were kept when they ended.
                    self._found[name if depth == 5 else "/".join(path[4:])] = text
            elif depth == 4:
                if name == _STATUS:
                    self._status = _status(text)
            elif depth == 3:
                if name == _HREF:
                    response.href = text.strip()
                elif name == _STATUS:
                    response.status = _status(text)
                elif name == _PROPSTAT:
                    self._end_propstat(response)
            elif depth == 2:
                self._response = None
                self._on_response(response)
        path.pop()

    def _end_propstat(self, response: Response) -> None:
        if self._status is None or 200 <= self._status < 300:
            response.props.update(self._found)
        else:
            for name in self._found:
                response.refused[name] = self._status


def _status(line: str) -> int | None:
    parts = line.split()
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


def read_multistatus(body: bytes, subject: str) -> list[Response]:
    """Return the responses of a whole document.

    Raises:
        Unavailable: it is not what it should be.
    """
    found: list[Response] = []
    parser = MultistatusParser(found.append)
    try:
        parser.feed(body)
        parser.close()
    except MultistatusError as error:
        raise Unavailable(subject, str(error)) from None
    return found
