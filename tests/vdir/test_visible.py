"""Names as somebody sees them who may use only some services, on both databases."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from cloudmesh.vdir.catalogue import PAGE, Catalogue
from cloudmesh.vdir.nodes import NewFile, Node, Replica
from cloudmesh.vdir.visible import VisibleCatalogue


def replicas(*services: str) -> tuple[Replica, ...]:
    return tuple(Replica(one, "f", "available") for one in services)


@pytest.fixture
def filled(catalogue: Catalogue) -> Catalogue:
    """Below ``/d``, and below many directories in it, one name on each of ``aws`` and ``box``, on both, and on none."""
    kinds = {"aws": replicas("aws"), "both": replicas("aws", "box"), "box": replicas("box"), "none": ()}
    directories = ["d", *(f"d/{number:02}" for number in range(70))]
    catalogue.register(NewFile(f"{one}/{name}", replicas=found) for one in directories for name, found in kinds.items())
    return catalogue


def names(nodes: Iterable[Node]) -> set[str]:
    return {node.name for node in nodes if not node.is_directory}


@pytest.mark.parametrize(
    ("services", "seen"),
    [(["aws"], {"aws", "both", "none"}), (["box", "other"], {"box", "both", "none"}), ([], {"none"})],
)
def test_listings_leave_out_what_lies_on_services_of_others(
    filled: Catalogue, services: list[str], seen: set[str]
) -> None:
    visible = VisibleCatalogue(filled.database, services)
    assert names(visible.children("d")) == seen
    assert names(visible.walk("")) == seen
    assert len(list(visible.walk(""))) == 71 * (len(seen) + 1)
    assert names(visible.search("", "*o*")) == {"both", "none", "box"} & seen
    assert names(visible.search("d", "*o*", recursive=False)) == {"both", "none", "box"} & seen
    assert visible.lookup_many(["d/aws", "d/box", "d/none"]).keys() == {f"d/{one}" for one in seen - {"both"}}
    assert visible.totals("d").files == 71 * len(seen)


def test_a_page_that_is_all_hidden_does_not_end_a_listing(catalogue: Catalogue) -> None:
    catalogue.register(NewFile(f"{number:05}", replicas=replicas("box")) for number in range(3 * PAGE))
    catalogue.register([NewFile("last", replicas=replicas("aws"))])
    assert names(VisibleCatalogue(catalogue.database, ["aws"]).children("")) == {"last"}
