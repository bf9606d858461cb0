"""What a job does: a call of a method of an API, as it stands in the job's row, and doing it.

The row names the class as ``module:Class``, so that floors above this one have jobs too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from cloudmesh.storage.binding import constructor_parameters, load, method_parameters
from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import StorageError, in_words
from cloudmesh.storage.jobs.running import FAILURES, Running
from cloudmesh.storage.json_values import from_json, to_json
from cloudmesh.storage.limited import LimitedServices
from cloudmesh.storage.output import plain
from cloudmesh.storage.records import Job
from cloudmesh.storage.services import Services
from cloudmesh.storage.transfer.report import Report


@dataclass(frozen=True, slots=True)
class JobCall:
    """A call as data.

    Attributes:
        api: the class, as ``module:Class``.
        method: its name.
        made_with: what the class is made with, as JSON holds it.
        values: what the method takes, as JSON holds it.
        services: names of those that it may use, whoever does it; None = all.
    """

    api: str
    method: str
    made_with: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    services: Sequence[str] | None = None

    @classmethod
    def of(
        cls,
        api: str,
        method: str,
        made_with: Mapping[str, Any],
        values: Mapping[str, Any],
        services: Collection[str] | None = None,
    ) -> JobCall:
        """Return the call with these typed values."""
        owner = load(api)
        makers, takers = constructor_parameters(owner), method_parameters(getattr(owner, method))
        return cls(
            api,
            method,
            {name: to_json(makers[name].annotation, value) for name, value in made_with.items()},
            {name: to_json(takers[name].annotation, value) for name, value in values.items()},
            None if services is None else sorted(services),
        )

    @classmethod
    def of_job(cls, job: Job, call: Mapping[str, Any] | None) -> JobCall:
        """Return what a job does; one whose row holds no call is a sync."""
        if call is not None:
            return cls(**call)
        return cls(
            "cloudmesh.storage.api:Storage",
            "sync",
            {"storage": job.storage or None, "parallel": job.parallel},
            {"source": job.source, "destination": job.destination, "options": job.options},
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as the row holds it."""
        return {
            "api": self.api,
            "method": self.method,
            "made_with": dict(self.made_with),
            "values": dict(self.values),
            "services": self.services,
        }

    def method_of(self, stack: ExitStack, **shared: Any) -> Callable[[], Any]:
        """Return the call, of an object that ``stack`` closes and that is made with ``shared``, too."""
        owner = load(self.api)
        makers = constructor_parameters(owner)
        made_with = {name: from_json(name, makers[name].annotation, one) for name, one in self.made_with.items()}
        api = stack.enter_context(owner(**made_with, **{name: one for name, one in shared.items() if name in makers}))
        method = getattr(api, self.method)
        takers = method_parameters(getattr(owner, self.method))
        values = {name: from_json(name, takers[name].annotation, one) for name, one in self.values.items()}
        return lambda: method(**values)


def perform(running: Running, services: Services | None = None, database: Database | None = None) -> Any:
    """Do a job whose lease this process holds, write into its row how it ends, and return what it returned.

    Args:
        running: the job.
        services: opened services to share with other work; the job's own where None.
        database: likewise.

    Raises:
        StorageError: what the work raises; Refused where another process has taken the job over.
    """
    with running.kept(), ExitStack() as stack:
        job_call = JobCall.of_job(running.lease.job, running.lease.call)
        if job_call.services is not None:
            if services is None:
                services = Services()
                stack.callback(services.close)
            services = LimitedServices(services, job_call.services)
        shared = {"services": services, "database": database}
        call = job_call.method_of(stack, observer=running.observe, stop=running.stop, **shared)
        try:
            running.report = call()
        except StorageError as error:
            running.result = {"error": in_words(error)}
            raise
        told = running.report
        if isinstance(told, Report):  # a row of the database holds few of what may be a million
            told = replace(told, failures=told.failures[:FAILURES])
        running.result = {"returned": plain(told)}
    return running.report
