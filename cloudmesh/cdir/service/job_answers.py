"""How jobs are answered with: where one is, and what it came to."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from cloudmesh.cdir import urls
from cloudmesh.cdir.service.problems import problem
from cloudmesh.storage import errors
from cloudmesh.storage.output import json_text
from cloudmesh.storage.records import JobDetails

EVENTS = "text/event-stream"


def accepted(job: JobDetails) -> Response:
    """Return the answer to what has become a job."""
    return Response(json_text(job), 202, {"Location": urls.filled(urls.JOB, name=job.name)}, "application/json")


def answer_of(result: Any, name: str) -> Response:
    """Return the answer that holds what a job's operation returned, or how it failed."""
    if not result:
        raise errors.Refused(name, "the job has no result", "storage jobs resume goes on with it")
    if (told := result.get("error")) is not None:
        return problem(errors.from_words(**told))
    return Response(json_text(result["returned"]), media_type="application/json")
