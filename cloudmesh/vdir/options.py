"""What the user may ask of a verb beyond where from and where to."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated

from cloudmesh.storage.binding import Reads
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


@dataclass(frozen=True, slots=True)
class Sample:
    """How much is looked at: a share of the files, or a number of them.

    Attributes:
        share: more than 0, at most 1; None where ``count`` is given.
        count: files.
    """

    share: Decimal | None = None
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> Sample:
        """Return what ``10%``, ``0.1`` or ``500`` means; a whole number is one of files.

        Raises:
            ValueError: it is no sample.
        """
        try:
            number = Decimal(text.removesuffix("%").strip())
        except InvalidOperation:
            raise ValueError(text) from None
        if not number.is_finite() or number <= 0:
            raise ValueError(text)
        if text.endswith("%"):
            number /= 100
        elif "." not in text:
            return cls(count=int(number))
        if number > 1:
            raise ValueError(text)
        return cls(share=number)

    def __str__(self) -> str:
        return str(self.count) if self.share is None else f"{self.share.normalize():f}"


SampleText = Annotated[Sample, Reads(Sample.parse, "a share such as 10% or 0.1, or a number of files")]
"""A `Sample`, as it is typed."""
