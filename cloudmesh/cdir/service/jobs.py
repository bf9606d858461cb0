"""Jobs by URL: the operations of ``storage jobs`` below ``/api/v1/jobs``, results, and progress as events."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from cloudmesh.cdir import urls
from cloudmesh.cdir.offers import HttpMethod, offers
from cloudmesh.cdir.service import rights, routes
from cloudmesh.cdir.service.answers import JSON
from cloudmesh.cdir.service.job_answers import EVENTS, answer_of
from cloudmesh.cdir.service.problems import RESPONSES
from cloudmesh.cdir.service.security import Principal, require
from cloudmesh.cdir.service.work import Crew
from cloudmesh.storage import errors
from cloudmesh.storage.jobs.running import counts
from cloudmesh.storage.output import json_text
from cloudmesh.storage.records import JobDetails

URLS: Mapping[str, tuple[HttpMethod, str]] = {
    "list": ("GET", urls.JOBS),
    "show": ("GET", urls.JOB),
    "pause": ("POST", urls.JOB + "/pause"),
    "resume": ("POST", urls.JOB + "/resume"),
    "cancel": ("POST", urls.JOB + "/cancel"),
    "remove": ("DELETE", urls.JOB),
    "log": ("GET", urls.JOB + "/log"),
}
"""Where the operations of ``storage jobs`` are, too."""

_Name = Annotated[str, Path(description="of the job")]
_POLL_S = 0.5
_FIRST_POLL_S = 0.05
"""From one look at a job to the next, which is twice as long until it is `_POLL_S`: short work is told of soon."""

_QUIET_S = 15.0
_OPEN = ("waiting", "running")


def install(app: FastAPI) -> None:
    """Add the routes."""
    for offer in offers():
        if offer.command == "storage" and offer.operation.words[0] == "jobs":
            method, path = URLS[offer.operation.words[1]]
            routes.add(app, offer, path, method, tag="jobs")
    named: dict[str, Any] = {"tags": ["jobs"], "response_model": None, "response_class": Response}
    ended: dict[int | str, dict[str, Any]] = {
        200: {"description": "what the operation answers where it is no job", "content": {JSON: {}}},
        **RESPONSES,
    }
    told = {
        200: {
            "description": "server-sent events: progress, failure and end, their data as JSON",
            "content": {EVENTS: {}},
        },
        **RESPONSES,
    }

    @app.get(urls.JOB + "/result", responses=ended, operation_id="jobs_result", **named)
    def result(request: Request, name: _Name, principal: Annotated[Principal, Depends(require("read"))]) -> Response:
        """Return what a job's operation returned, or how it failed. Scope: read."""
        crew: Crew = request.app.state.crew
        rights.check_owner(principal, name, crew.jobs)
        job = crew.jobs.show(name)
        if job.state in _OPEN:
            raise errors.Refused(name, f"the job is {job.state}")
        return answer_of(crew.jobs.result(name), name)

    @app.get(urls.JOB_EVENTS, responses=told, operation_id="jobs_events", **named)
    async def events(
        request: Request,
        name: _Name,
        principal: Annotated[Principal, Depends(require("read"))],
        last_event_id: Annotated[str, Header(description="of the last event that was received")] = "",
    ) -> Response:
        """Tell of a job's progress until it ends: ``progress`` (the job), ``failure`` (a file), ``end`` (the result).

        ``under_way`` tells the large files that are being moved, as long as the process that is asked does the job.

        Scope: read. Each ``progress`` holds all counts, so that who joins again with ``Last-Event-ID`` has missed none.
        """
        crew: Crew = request.app.state.crew
        await run_in_threadpool(rights.check_owner, principal, name, crew.jobs)
        await run_in_threadpool(crew.jobs.show, name)
        stream = _events(crew, name, _Seen.of(last_event_id))
        return StreamingResponse(stream, media_type=EVENTS, headers={"Cache-Control": "no-store"})


@dataclass(slots=True)
class _Seen:
    """What somebody has been told: so many failures, and the counts with this mark."""

    failures: int = 0
    mark: str = ""

    @classmethod
    def of(cls, event_id: str) -> _Seen:
        number, _, mark = event_id.partition("-")
        return cls(int(number), mark) if number.isdigit() else cls()

    def __str__(self) -> str:
        return f"{self.failures}-{self.mark}"


async def _events(crew: Crew, name: str, seen: _Seen) -> AsyncIterator[str]:
    quiet, pause = 0.0, _FIRST_POLL_S
    told: dict[str, Any] = {}
    while not crew.stopping.is_set():
        job = await run_in_threadpool(crew.jobs.show, name)
        said = []
        if (now := crew.snapshot(name)) is not None:
            files = [{"name": one.name, "size": one.size, "bytes_done": one.bytes_done} for one in now.under_way]
            under_way = {"planned_all": now.planned_all, "files": files}
            if under_way != told:
                told = under_way
                said.append(_event("under_way", seen, under_way))  # before the counts: what is in it no more is done
            job = replace(job, **counts(now))  # the row is up to a second older
        said += _news(job, seen)
        for text in said:
            yield text
        if job.state not in _OPEN:
            result = await run_in_threadpool(crew.jobs.result, name)
            yield _event("end", seen, {"job": job, "result": result})
            return
        quiet = 0.0 if said else quiet + pause
        if quiet >= _QUIET_S:
            yield ": still here\n\n"  # so that no proxy between takes the silence for an end
            quiet = 0.0
        await asyncio.sleep(pause)
        pause = min(2 * pause, _POLL_S)


def _news(job: JobDetails, seen: _Seen) -> list[str]:
    found = []
    for failure in job.failures[seen.failures :]:
        seen.failures += 1
        found.append(_event("failure", seen, failure))
    text = json_text(job)
    mark = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    if mark != seen.mark:
        seen.mark = mark
        found.append(_event("progress", seen, job))
    return found


def _event(kind: str, seen: _Seen, data: Any) -> str:
    return f"id: {seen}\nevent: {kind}\ndata: {json_text(data)}\n\n"
