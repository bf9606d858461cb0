"""What the services are estimated to charge for what a dry run would do."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from cloudmesh.storage.abc import StorageABC
from cloudmesh.storage.errors import ConfigError
from cloudmesh.storage.transfer.prices import estimate, monthly, price_of
from cloudmesh.storage.transfer.report import Report
from cloudmesh.vdir.kept import Keeping
from cloudmesh.vdir.work import Work


class Bill:
    """Counts copies, and prices them; a figure that is not known leaves the sum that needs it unknown.

    Args:
        work: opens the services.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._counts: dict[tuple[str, str], tuple[StorageABC, int, int]] = {}

    def add(self, source: StorageABC, service: str, size: int) -> None:
        """Count a copy of so many bytes from one service to another."""
        _, files, total = self._counts.get((source.name, service), (source, 0, 0))
        self._counts[source.name, service] = (source, files + 1, total + size)

    def keep(self, keeping: Keeping) -> None:
        """Count the copy that keeps an old content on its service, unless that keeps old contents by itself."""
        service = keeping.replica.service
        if keeping.required and not self._work.keeps_versions(service):
            self.add(self._work.target(service), service, keeping.node.size or 0)

    def write(self, report: Report) -> None:
        """Write what was counted into the report of the dry run; nothing where a service cannot be opened."""
        try:
            services = {service: self._work.target(service) for _, service in self._counts}
        except ConfigError:
            return
        report.cost_usd = _sum(
            estimate(source, services[service], files, total, 0)
            for (_, service), (source, files, total) in self._counts.items()
        )
        report.monthly_usd = _sum(
            monthly(price_of(services[service].settings), total) for (_, service), (_, _, total) in self._counts.items()
        )


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    known = Decimal(0)
    for one in amounts:
        if one is None:
            return None
        known += one
    return known
