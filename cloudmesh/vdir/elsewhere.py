"""The names that have the same contents as others."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.sql.expression import bindparam, text

from cloudmesh.storage import paths
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.lookup import paths_of
from cloudmesh.vdir.nodes import Node

_PAGE = 1000

_ENOUGH = 3
"""Names that are returned of each content: where the files of one are not as they should be, another may do."""

_SAME = text(
    "SELECT e.id, e.sha256 FROM entry AS e WHERE e.sha256 IN :contents AND e.id > :after ORDER BY e.id LIMIT :limit"
).bindparams(bindparam("contents", expanding=True))


def names_elsewhere(catalogue: Catalogue, contents: Collection[str], directory: str) -> list[Node]:
    """Return names that have one of the contents and are not at or below a virtual path, a few for each content.

    Args:
        catalogue: where to look.
        contents: SHA-256, hex digests.
        directory: virtual path.
    """
    wanted = {bytes.fromhex(one): 0 for one in contents}
    found: list[str] = []
    after = 0
    while wanted:
        with catalogue.database.read() as connection:
            page = {"contents": list(wanted), "after": after, "limit": _PAGE}
            rows = connection.execute(_SAME, page).all()
            names = paths_of(connection, [row[0] for row in rows])
        for entry_id, content in rows:
            path = names.get(entry_id)
            if path is None or content not in wanted or path == directory or paths.is_below(path, directory):
                continue
            found.append(path)
            wanted[content] += 1
            if wanted[content] == _ENOUGH:
                del wanted[content]
        if len(rows) < _PAGE:
            break
        after = rows[-1][0]
    return [node for node in catalogue.lookup_many(sorted(found)).values() if not node.is_directory]
