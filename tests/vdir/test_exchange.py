from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudmesh.storage.database import Database
from cloudmesh.storage.errors import ConfigError
from cloudmesh.vdir import versions
from cloudmesh.vdir.catalogue import Catalogue
from cloudmesh.vdir.exchange import export_lines, import_lines
from cloudmesh.vdir.exchange_line import FORMAT, VERSION
from cloudmesh.vdir.nodes import NewFile, Replica
from cloudmesh.vdir.records import Imported
from cloudmesh.vdir.versions import Kept

HEADER = json.dumps({"format": FORMAT, "version": VERSION})


def fill(catalogue: Catalogue) -> None:
    replica = Replica("aws", "x/ü", "missing", 5, 1, 2, '"e"', {"md5": "ab", "crc32c": "cd"}, "1" * 64, 1, 9)
    catalogue.register(
        [
            NewFile("a/b/ü\u2028\n.csv", 5, 17, "f" * 64, (replica, Replica("box", "y"))),
            NewFile("a-b", replicas=(Replica("box", "z"),)),
        ]
    )
    catalogue.make_dir("empty/日本", parents=True)
    catalogue.prefer("", ["nas"])
    catalogue.prefer("a/b", ["box", "aws"])
    catalogue.prefer("a-b", ["box"])
    node = catalogue.lookup("a-b")
    catalogue.set_content(node.id, version=4, size=3, mtime_ns=2, sha256=None, origin="box")
    path = ".cdir-versions/a-b~v1-2"
    catalogue.add_versions(
        [
            Kept(node.id, 3, 9, 8, "e" * 64, "aws", 7, "box", "z", "id of box"),
            Kept(node.id, 1, None, None, None, "", 5, "box", path),
        ]
    )


def test_round_trip_to_another_catalogue(catalogue: Catalogue, tmp_path: Path) -> None:
    fill(catalogue)
    lines = list(export_lines(catalogue))
    with Database(f"sqlite:///{tmp_path}/other.db") as database:
        other = Catalogue(database)
        assert import_lines(other, lines) == Imported(6, 1, 0)
        assert list(export_lines(other)) == lines


def test_file_is_sorted_text_of_one_line_a_name(catalogue: Catalogue) -> None:
    fill(catalogue)
    text = "".join(export_lines(catalogue))
    records = [json.loads(line) for line in text.split("\n")[:-1]]
    assert records[0] == {"format": FORMAT, "version": VERSION}
    assert [record["path"] for record in records[1:]] == [
        "/",
        "/a-b",
        "/a",
        "/a/b",
        "/a/b/ü\u2028\n.csv",
        "/empty",
        "/empty/日本",
    ]
    assert "日本" in text


def test_part_of_the_catalogue(catalogue: Catalogue) -> None:
    fill(catalogue)
    records = [json.loads(line) for line in export_lines(catalogue, "empty")]
    assert [record.get("path") for record in records] == [None, "/empty", "/empty/日本"]


def test_import_again_changes_nothing(catalogue: Catalogue) -> None:
    fill(catalogue)
    lines = list(export_lines(catalogue))
    assert import_lines(catalogue, lines) == Imported(0, 7, 0)
    assert list(export_lines(catalogue)) == lines


def test_files_of_earlier_formats_are_read(catalogue: Catalogue, tmp_path: Path) -> None:
    fill(catalogue)
    records = [json.loads(line) for line in export_lines(catalogue)]
    older = [{key: one[key] for key in one if key not in ("versions", "origin")} for one in records]
    lines = [json.dumps(one | ({"version": 2} if "format" in one else {})) for one in older]
    before = list(export_lines(catalogue, "a"))
    with Database(f"sqlite:///{tmp_path}/other.db") as database:
        other = Catalogue(database)
        import_lines(other, lines)
        assert list(export_lines(other, "a")) == before
        assert not versions.of(database, [other.lookup("a-b").id])


def test_newer_content_is_kept_and_older_replaced(catalogue: Catalogue) -> None:
    catalogue.register(
        [NewFile("newer", 1), NewFile("older", 1, replicas=(Replica("aws", "older"),)), NewFile("other")]
    )
    node = catalogue.lookup("newer")
    catalogue.set_content(node.id, version=3, size=9, mtime_ns=9, sha256=None)
    lines = [
        HEADER,
        '{"path": "/newer", "type": "file", "size": 2, "version": 2}',
        '{"path": "/older", "type": "file", "size": 2, "version": 2,'
        ' "replicas": [{"service": "box", "path": "o", "state": "available", "version": 2}]}',
    ]
    assert import_lines(catalogue, lines) == Imported(0, 1, 1)
    assert catalogue.lookup("newer").size == 9
    older = catalogue.lookup("older")
    assert (older.size, older.version) == (2, 2)
    assert [(r.service, r.state) for r in catalogue.replicas_of([older])[older.id]] == [
        ("aws", "stale"),
        ("box", "available"),
    ]
    assert catalogue.lookup("other").version == 1


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "1",
        '{"path": "/x"}',
        '{"type": "file"}',
        '{"path": "x", "type": "file"}',
        '{"path": "/", "type": "file"}',
        '{"path": "//x", "type": "file"}',
        '{"path": "/../x", "type": "file"}',
        '{"path": "/a\\u0000b", "type": "file"}',
        '{"path": "/\\ud800", "type": "file"}',
        '{"path": "/x", "type": "link"}',
        '{"path": "/x", "type": "file", "size": -1}',
        '{"path": "/x", "type": "file", "size": true}',
        '{"path": "/x", "type": "file", "size": 9223372036854775808}',
        '{"path": "/x", "type": "file", "mtime_ns": 1.5}',
        '{"path": "/x", "type": "file", "sha256": "ab"}',
        '{"path": "/x", "type": "file", "version": 0}',
        '{"path": "/x", "type": "file", "unknown": 0}',
        '{"path": "/x", "type": "directory", "size": 0}',
        '{"path": "/x", "type": "file", "preferred": "aws"}',
        '{"path": "/x", "type": "file", "replicas": [{"service": "aws"}]}',
        '{"path": "/x", "type": "file", "replicas": [{"service": "aws", "path": "x", "state": "odd", "version": 1}]}',
        '{"path": "/x", "type": "file", "replicas": [1]}',
        '{"path": "/there/x", "type": "file"}',
        '{"path": "/there/x/y", "type": "directory"}',
        '{"path": "/folder", "type": "file"}',
        '{"path": "/x", "type": "file", "origin": ""}',
        '{"path": "/x", "type": "file", "versions": [{"version": 1, "service": "aws", "path": "x"}]}',
        '{"path": "/x", "type": "file", "versions": [{"version": 0, "replaced_ns": 1, "service": "aws", "path": "x"}]}',
        '{"path": "/x", "type": "directory", "versions": []}',
    ],
)
def test_bad_line_is_named_and_nothing_changes(catalogue: Catalogue, line: str) -> None:
    catalogue.register([NewFile("there"), NewFile("folder/file")])
    before = list(export_lines(catalogue))
    good = [json.dumps({"path": f"/new/{i}", "type": "file"}) for i in range(2500)]
    with pytest.raises(ConfigError) as caught:
        import_lines(catalogue, [HEADER, *good, line, '{"path": "/z", "type": "file"}'], "saved.jsonl")
    assert caught.value.subject == "saved.jsonl: line 2502"
    assert "\n" not in str(caught.value)
    assert list(export_lines(catalogue)) == before


@pytest.mark.parametrize(
    "header", [[], ["{}"], ['{"path": "/x", "type": "file"}'], [HEADER.replace(str(VERSION), "99")]]
)
def test_other_files_are_refused(catalogue: Catalogue, header: list[str]) -> None:
    with pytest.raises(ConfigError, match="line 1"):
        import_lines(catalogue, header)


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(NAMES.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4), max_size=8))
def test_any_unicode_survives(tmp_path_factory: pytest.TempPathFactory, names: list[list[str]]) -> None:
    folder = tmp_path_factory.mktemp("any")
    with Database(f"sqlite:///{folder}/a.db") as one, Database(f"sqlite:///{folder}/b.db") as two:
        for parts in names:
            Catalogue(one).make_dir("/".join(parts), parents=True, exist_ok=True)
        exported = folder / "saved.jsonl"
        exported.write_text("".join(export_lines(Catalogue(one))), encoding="utf-8", newline="\n")
        with exported.open(encoding="utf-8", newline="\n") as lines:
            import_lines(Catalogue(two), lines)
        assert "".join(export_lines(Catalogue(two))) == exported.read_bytes().decode()


def test_file_that_is_no_text(catalogue: Catalogue, tmp_path: Path) -> None:
    file = tmp_path / "saved.jsonl"
    file.write_bytes(HEADER.encode() + b"\n\xff\xfe\n")
    with file.open(encoding="utf-8") as lines, pytest.raises(ConfigError, match="UTF-8"):
        import_lines(catalogue, lines, str(file))
    with pytest.raises(ConfigError, match="line 2"):
        import_lines(catalogue, [HEADER, "[" * 100_000])
    assert list(catalogue.walk("")) == []
