"""What the user may ask of a `put` beyond where from and where to."""

from __future__ import annotations

from dataclasses import dataclass

from cloudmesh.storage.local_files import Links
from cloudmesh.storage.transfer.options import Selection, check_links


@dataclass(frozen=True, slots=True)
class PutOptions(Selection):
    """The options of `put`: those of everything that moves files, and what only the user's own disk has.

    Attributes:
        links: symbolic links: those that stay ``inside`` the tree, ``follow`` all, ``skip`` all.

    Raises:
        UsageError: as `Selection`.
    """

    links: Links = "inside"

    def __post_init__(self) -> None:
        Selection.__post_init__(self)  # super() does not know a class with slots
        check_links(self.links)


PUT_ALL = PutOptions()
"""All files, as fast as it goes."""
