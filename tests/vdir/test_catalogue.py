from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloudmesh.storage import paths
from cloudmesh.storage.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidName,
    IsADirectory,
    NotADirectory,
    NotFound,
    PreconditionFailed,
    Refused,
    StorageError,
)
from cloudmesh.storage.paths import Location
from cloudmesh.vdir.catalogue import BATCH, PAGE, Catalogue
from cloudmesh.vdir.nodes import NewFile, Registered, Replica, ServiceTotal

STRANGE = [
    "a b",
    "it's",
    'q"z',
    "#?%&+",
    ".hidden",
    "-dash",
    "back\\slash",
    "tab\tline\nreturn\r",
    "ü",
    "u\u0308",
    "日本語",
    "\U0001f600",
    "\u2028",
    "\x01\x7f",
    "%_[x]*?",
    "n" * 255,
    "ÿ" * 512,
    "{curly}:colon",
    "NULL",
    "...",
]


def new(path: str, service: str = "aws", size: int = 1, sha256: str | None = None) -> NewFile:
    return NewFile(path, size, 17, sha256, (Replica(service, path, size=size),))


def listed(nodes: Iterator[object]) -> list[str]:
    return [node.path for node in nodes]  # type: ignore[attr-defined]


def test_new_catalogue_is_an_empty_root(catalogue: Catalogue) -> None:
    root = catalogue.lookup("")
    assert (root.path, root.is_directory, root.name) == ("", True, "")
    assert list(catalogue.children("")) == []
    assert list(catalogue.walk("")) == []


def test_registered_file_is_found_with_all_that_is_known(catalogue: Catalogue) -> None:
    replica = Replica(
        "aws", "elsewhere/b.csv", "available", 5, 1234567890123456789, 1000, '"e"', {"md5": "ab"}, "0" * 64, 1, 99
    )
    catalogue.register([NewFile("a/b.csv", 5, -1, "f" * 64, (replica,))])
    node = catalogue.lookup("a/b.csv")
    assert (node.size, node.mtime_ns, node.sha256, node.version, node.is_directory) == (5, -1, "f" * 64, 1, False)
    (found,) = catalogue.replicas_of([node])[node.id]
    assert found == Replica(
        "aws",
        "elsewhere/b.csv",
        "available",
        5,
        1234567890123456789,
        1000,
        '"e"',
        {"md5": "ab"},
        "0" * 64,
        1,
        99,
        node.id,
    )


@pytest.mark.parametrize("name", STRANGE)
def test_any_name(catalogue: Catalogue, name: str) -> None:
    catalogue.register([new(f"{name}/{name}")])
    assert catalogue.lookup(f"{name}/{name}").name == name
    assert listed(catalogue.walk("")) == [name, f"{name}/{name}"]
    assert catalogue.find_by_location([Location("aws", f"{name}/{name}")]) == {
        Location("aws", f"{name}/{name}"): (f"{name}/{name}",)
    }
    catalogue.move(name, "moved")
    assert list(catalogue.lookup_many([f"moved/{name}"])) == [f"moved/{name}"]


@pytest.mark.parametrize("name", ["\udc80", "x\ud800y", "n" * 1025, "ÿ" * 513])
def test_name_that_cannot_be_held(catalogue: Catalogue, name: str) -> None:
    for attempt in (
        lambda: catalogue.register([new(f"a/{name}")]),
        lambda: catalogue.make_dir(name, parents=True),
        lambda: catalogue.lookup(name),
        lambda: catalogue.lookup_many([name]),
    ):
        with pytest.raises(InvalidName):
            attempt()
    assert list(catalogue.walk("")) == []


def test_names_differ_by_bytes(catalogue: Catalogue) -> None:
    names = ["A", "a", "ä", "a\u0308", "Z", "z", "é", "e"]
    catalogue.register(map(new, names))
    assert listed(catalogue.children("")) == sorted(names, key=str.encode)


def test_listing_has_the_order_of_every_scan(catalogue: Catalogue) -> None:
    files = ["a/x", "a-b", "a.b", "a!/y", "a!-", "a0", "a/b/c", "a/b-", "a/b.c/d", "\U0001f600", "\uffff", "b"]
    catalogue.register(map(new, files))
    walked = list(catalogue.walk(""))
    assert walked == sorted(walked, key=lambda node: node.sort_key)
    assert {node.path for node in walked if not node.is_directory} == set(files)
    children = list(catalogue.children(""))
    assert children == sorted(children, key=lambda node: node.sort_key)


def test_pages_of_files_and_directories(catalogue: Catalogue) -> None:
    files = {f"d{i % 7}/{'sub' if i % 3 else 's-'}{i % 300:03}/f{i}" for i in range(3 * PAGE)} | {
        f"d0/{i}" for i in range(PAGE)
    }
    catalogue.register(map(new, sorted(files)))
    walked = list(catalogue.walk(""))
    assert {node.path for node in walked if not node.is_directory} == files
    assert {node.path for node in walked if node.is_directory} == {
        part for file in files for part in (paths.parent(file), paths.parent(paths.parent(file))) if part
    }
    assert [n.sort_key for n in walked] == sorted(n.sort_key for n in walked)


def test_deep_tree(catalogue: Catalogue) -> None:
    path = "/".join(f"d{i}" for i in range(1200))
    catalogue.register([new(f"{path}/file")])
    assert catalogue.lookup(f"{path}/file").name == "file"
    assert sum(1 for _ in catalogue.walk("")) == 1201
    assert catalogue.totals("").directories == 1201
    catalogue.remove("d0", recursive=True)
    assert list(catalogue.walk("")) == []


def test_what_is_not_there_is_named(catalogue: Catalogue) -> None:
    catalogue.register([new("a/file")])
    with pytest.raises(NotFound) as missing:
        catalogue.lookup("a/b/c")
    assert missing.value.subject == "/a/b/c"
    with pytest.raises(NotADirectory) as file:
        catalogue.lookup("a/file/c")
    assert file.value.subject == "/a/file"
    for listing in (catalogue.children, catalogue.walk):
        with pytest.raises(NotADirectory):
            next(listing("a/file"))
        with pytest.raises(NotFound):
            next(listing("x"))


def test_make_dir(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound) as error:
        catalogue.make_dir("a/b")
    assert error.value.subject == "/a"
    made = catalogue.make_dir("a/b", parents=True)
    assert made == catalogue.lookup("a/b")
    with pytest.raises(AlreadyExists):
        catalogue.make_dir("a/b")
    assert catalogue.make_dir("a/b", exist_ok=True) == made
    assert catalogue.make_dir("", exist_ok=True).path == ""
    catalogue.register([new("f")])
    with pytest.raises(AlreadyExists):
        catalogue.make_dir("f", exist_ok=True)
    with pytest.raises(NotADirectory):
        catalogue.make_dir("f/g", parents=True)


def test_registering_again_changes_nothing(catalogue: Catalogue) -> None:
    files = [new(f"d/{i}") for i in range(10)]
    assert catalogue.register(files) == Registered(10, 0, 0)
    before = list(catalogue.with_replicas(catalogue.walk("")))
    assert catalogue.register(files) == Registered(0, 10, 0)
    assert list(catalogue.with_replicas(catalogue.walk(""))) == before


def test_second_replica_joins_the_file(catalogue: Catalogue) -> None:
    catalogue.register([new("f", "aws"), new("f", "box")])
    node = catalogue.lookup("f")
    catalogue.set_content(node.id, version=3, size=1, mtime_ns=1, sha256="a" * 64)
    assert catalogue.register([new("f", "nas", sha256="a" * 64)]) == Registered(0, 1, 0)
    states = [(r.service, r.state, r.version) for r in catalogue.replicas_of([node])[node.id]]
    assert states == [("aws", "stale", 1), ("box", "stale", 1), ("nas", "available", 3)]


@pytest.mark.parametrize("other", [new("f", "box", size=2), new("f", "box", sha256="b" * 64)])
def test_replica_with_other_content_is_stale(catalogue: Catalogue, other: NewFile) -> None:
    catalogue.register([new("f", "aws", sha256="a" * 64)])
    before = catalogue.lookup("f")
    assert catalogue.register([other]) == Registered(0, 1, 1)
    assert catalogue.lookup("f") == before
    states = [(r.service, r.state, r.version) for r in catalogue.replicas_of([before])[before.id]]
    assert states == [("aws", "available", 1), ("box", "stale", 0)]


def test_file_and_directory_in_each_others_way(catalogue: Catalogue) -> None:
    catalogue.register([new("d/f")])
    with pytest.raises(IsADirectory) as directory:
        catalogue.register([new("new"), new("d")])
    assert directory.value.subject == "/d"
    with pytest.raises(NotADirectory) as file:
        catalogue.register([new("new"), new("d/f/g")])
    assert file.value.subject == "/d/f"
    with pytest.raises(IsADirectory):
        catalogue.register([new("new"), new("x"), new("x/y")])
    assert listed(catalogue.walk("")) == ["d", "d/f"]


def test_batches_before_an_error_stay(catalogue: Catalogue) -> None:
    catalogue.make_dir("zz")
    files = [new(f"f{i}") for i in range(BATCH)] + [new("zz")]
    with pytest.raises(IsADirectory):
        catalogue.register(iter(files))
    assert catalogue.totals("").files == BATCH


def test_move_keeps_what_is_below(catalogue: Catalogue) -> None:
    catalogue.register([new("a/b/c"), new("d/e")])
    node = catalogue.lookup("a/b/c")
    catalogue.move("a", "d/z")
    assert listed(catalogue.walk("")) == ["d", "d/e", "d/z", "d/z/b", "d/z/b/c"]
    assert catalogue.lookup("d/z/b/c").id == node.id
    assert catalogue.find_by_location([Location("aws", "a/b/c")]) == {Location("aws", "a/b/c"): ("d/z/b/c",)}


@pytest.mark.parametrize(
    ("source", "destination", "error", "subject"),
    [
        ("a", "a/b/x", Refused, "/a"),
        ("a", "a/x", Refused, "/a"),
        ("", "x", Refused, "/"),
        ("a", "", AlreadyExists, "/"),
        ("a", "d", AlreadyExists, "/d"),
        ("a", "f", AlreadyExists, "/f"),
        ("a", "f/x", NotADirectory, "/f"),
        ("a", "no/x", NotFound, "/no"),
        ("no", "x", NotFound, "/no"),
        ("a/b", "a", AlreadyExists, "/a"),
    ],
)
def test_moves_that_are_refused(
    catalogue: Catalogue, source: str, destination: str, error: type[StorageError], subject: str
) -> None:
    catalogue.register([new("a/b/c"), new("d/e"), new("f")])
    before = list(catalogue.walk(""))
    with pytest.raises(error) as caught:
        catalogue.move(source, destination)
    assert caught.value.subject == subject
    assert list(catalogue.walk("")) == before


def test_move_onto_itself_does_nothing(catalogue: Catalogue) -> None:
    catalogue.register([new("a/b")])
    assert catalogue.move("a/b", "a/b") == catalogue.lookup("a/b")


def test_remove(catalogue: Catalogue) -> None:
    catalogue.register([new("a/b/c"), new("a/d"), new("e")])
    with pytest.raises(DirectoryNotEmpty):
        catalogue.remove("a")
    with pytest.raises(Refused):
        catalogue.remove("", recursive=True)
    with pytest.raises(NotFound):
        catalogue.remove("x", recursive=True)
    catalogue.remove("a", recursive=True)
    assert listed(catalogue.walk("")) == ["e"]
    assert catalogue.find_by_location([Location("aws", "a/d"), Location("aws", "e")]) == {Location("aws", "e"): ("e",)}
    catalogue.remove("e")
    assert catalogue.services_in_use() == []
    with catalogue.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM entry").scalar() == 2


def test_ids_are_never_used_again(catalogue: Catalogue) -> None:
    catalogue.register([new("f")])
    first = catalogue.lookup("f")
    catalogue.remove("f")
    catalogue.register([new("g")])
    assert catalogue.lookup("g").id != first.id
    catalogue.update_replicas([Replica("aws", "f", entry_id=first.id)])
    assert catalogue.find_by_location([Location("aws", "f")]) == {}


def test_preference_is_inherited(catalogue: Catalogue) -> None:
    catalogue.register([new("a/b/c"), new("a/d")])
    catalogue.prefer("a", ["box", "aws"])
    catalogue.prefer("a/b/c", ["nas"])
    assert catalogue.lookup("").preferred == ()
    assert (catalogue.lookup("a/d").preferred, catalogue.lookup("a/d").preferred_from) == (("box", "aws"), "a")
    found = {node.path: (node.preferred, node.preferred_from) for node in catalogue.walk("a")}
    assert found == {
        "a/b": (("box", "aws"), "a"),
        "a/b/c": (("nas",), "a/b/c"),
        "a/d": (("box", "aws"), "a"),
    }
    catalogue.prefer("a", None)
    assert catalogue.lookup("a/d").preferred_from is None


def test_new_content_makes_older_replicas_stale(catalogue: Catalogue) -> None:
    catalogue.register(
        [NewFile("f", 1, 1, None, (Replica("aws", "f"), Replica("box", "f"), Replica("nas", "f", "bad")))]
    )
    node = catalogue.lookup("f")
    catalogue.set_content(
        node.id, version=2, size=7, mtime_ns=8, sha256="c" * 64, replicas=[Replica("box", "f", size=7, version=2)]
    )
    after = catalogue.lookup("f")
    assert (after.size, after.mtime_ns, after.sha256, after.version) == (7, 8, "c" * 64, 2)
    assert [(r.service, r.state) for r in catalogue.replicas_of([node])[node.id]] == [
        ("aws", "stale"),
        ("box", "available"),
        ("nas", "bad"),
    ]
    with pytest.raises(PreconditionFailed):
        catalogue.set_content(node.id, version=1, size=0, mtime_ns=0, sha256=None)
    with pytest.raises(NotFound):
        catalogue.set_content(node.id + 1, version=3, size=0, mtime_ns=0, sha256=None)
    assert catalogue.lookup("f") == after


def test_replicas_are_updated_and_forgotten(catalogue: Catalogue) -> None:
    catalogue.register([new("f"), new("g")])
    node = catalogue.lookup("f")
    catalogue.update_replicas([Replica("box", "x", entry_id=node.id), Replica("aws", "f", "missing", entry_id=node.id)])
    assert [(r.service, r.state) for r in catalogue.replicas_of([node])[node.id]] == [
        ("aws", "missing"),
        ("box", "available"),
    ]
    catalogue.remove_replicas([Replica("aws", "f", entry_id=node.id), Replica("nas", "f", entry_id=node.id)])
    assert [r.service for r in catalogue.replicas_of([node])[node.id]] == ["box"]
    assert catalogue.services_in_use() == ["aws", "box"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.csv", ["a.csv", "d/B.csv", "d/a_c.csv", "d/e/%x.csv"]),
        ("?.csv", ["a.csv", "d/B.csv"]),
        ("[A-Z].csv", ["d/B.csv"]),
        ("[!A-Z].csv", ["a.csv"]),
        ("%*", ["d/e/%x.csv"]),
        ("a_c*", ["d/a_c.csv"]),
        ("d", ["d"]),
        ("[", []),
        ("a\\*", []),
        ("A.CSV", []),
    ],
)
def test_search(catalogue: Catalogue, pattern: str, expected: list[str]) -> None:
    catalogue.register(map(new, ["a.csv", "d/B.csv", "d/a_c.csv", "d/abc.txt", "d/e/%x.csv"]))
    assert sorted(listed(catalogue.search("", pattern))) == expected
    assert listed(catalogue.search("d", pattern, recursive=False)) == [
        path for path in expected if paths.parent(path) == "d"
    ]


def test_totals(catalogue: Catalogue) -> None:
    catalogue.register([new("a/b", size=5), new("a/c/d", "box", size=7), new("e", size=11), new("a/b", "box", size=5)])
    totals = catalogue.totals("a")
    assert (totals.files, totals.directories, totals.bytes) == (2, 2, 12)
    assert totals.services == (ServiceTotal("aws", "available", 1, 5), ServiceTotal("box", "available", 2, 12))
    assert catalogue.totals("e").bytes == 11
    with pytest.raises(NotFound):
        catalogue.totals("x")


def test_locations_longer_than_the_index(catalogue: Catalogue) -> None:
    long = "/".join(["ÿ" * 200] * 8)
    catalogue.register([NewFile(f"f{i}", replicas=(Replica("aws", f"{long}/{i}"),)) for i in range(3)])
    catalogue.register([NewFile("again", replicas=(Replica("aws", f"{long}/1"),))])
    wanted = Location("aws", f"{long}/1")
    assert catalogue.find_by_location([wanted, Location("box", f"{long}/1"), Location("aws", long)]) == {
        wanted: ("f1", "again")
    }


def test_listing_goes_on_while_others_write(catalogue: Catalogue) -> None:
    catalogue.register([new(f"d/{i:05}") for i in range(2 * PAGE + 10)])
    seen = catalogue.children("d")
    first = next(seen)
    catalogue.remove("d/01500")
    catalogue.register([new("d/02500")])
    rest = listed(seen)
    assert first.path == "d/00000"
    assert "d/01500" not in rest
    assert rest[-1] == "d/02500"
    assert len(rest) == 2 * PAGE + 9
