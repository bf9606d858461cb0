"""Filters choose the files that rclone chooses, and say what is wrong with a rule."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudmesh.storage.abc import Entry
from cloudmesh.storage.disk import Disk
from cloudmesh.storage.errors import UsageError
from cloudmesh.storage.transfer.filters import Filter
from cloudmesh.storage.transfer.options import TransferOptions, parse_moment
from cloudmesh.storage.transfer.rules import MOST, read_rules
from tests.places import write_tree

RCLONE = Path(sys.executable).with_name("rclone")
NAMES = [
    "a", "b", "ab", "aab", "a.b", "-", "9", "!", "^", "[a]", "{a,b}", "*", "+", "a b", "#c", "ä",
    "a1.txt", "A1.TXT", "file.jpg", "file.jpeg", "file.png", "secret1.jpg", "a\\b",
    "dir/a", "dir/b", "dir/ab", "dir/file.jpg", "dir/x.jpg/a", "dir/dir/a", "dir/dir/b.txt", "dir/Trash/a.jpg",
    "b.a/a/b", "b.a/b", "b.a/a/b.a/ab", "aa/b/aa", "aa/bb/a/b/a", "other/dir/file.png", "other/.hidden/a", "x y/z",
]  # fmt: skip


def chosen(root: Path, options: TransferOptions) -> list[str]:
    """The files below ``root`` that our filter lets through, in a transfer's own way: a recursive scan."""
    rules = Filter(options)
    found = (one for one in Disk(str(root)).scan(recursive=True) if not one.is_directory)
    return [one.path for one in found if rules.includes(one.path, one)]


def chosen_by_rclone(root: Path, arguments: Sequence[str]) -> list[str]:
    """Those that rclone lists."""
    command = [str(RCLONE), "lsf", "-R", "--files-only", "--config", os.devnull, *arguments, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise ValueError(done.stderr)
    return sorted(done.stdout.splitlines(), key=str.encode)


def by_both(root: Path, options: TransferOptions, file: Path | None = None) -> tuple[list[str], list[str]]:
    """Those of the options, and of a file of rules."""
    arguments = [f"--include={one}" for one in options.include] + [f"--exclude={one}" for one in options.exclude]
    if file is not None:
        arguments.append(f"--filter-from={file}")
        options = replace(options, filter_from=read_rules(file))
    return chosen(root, options), chosen_by_rclone(root, arguments)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("filters"), dict.fromkeys(NAMES, b""))


PATTERNS = [
    "a", "/a", "dir/a", "/dir/a", "*", "**", "/*", "/**", "*/*", "/*/*", "**/a", "/**/a", "dir/**", "/dir/**", "dir**",
    "**a", "a**", "**.jpg", "d*r/*", "?", "??", "/??", "*.jpg", "*.{jpg,png}", "*.{jpg,{jpe,pn}g}", "{a,}b",
    "{dir,aa}/**",
    "{dir/,}a", "[ab]", "[a-z]", "[^a-z]", "[^a]", "a[^x]b", "[[:alpha:]]*", "[[:^alpha:]]*", "[^[:alpha:][:digit:]]*",
    "*[\\d]*", "*\\d*", "\\D", "[\\D]", "[^\\D]", "[\\Da]", "[^\\Da]", "\\[a\\]", "\\{a,b\\}", "\\*", "[-a]", "[a-]",
    "[*?]", "[\\!]", "[\\^]", "^", "+", "{{a|b}}", "/{{a|b}}", "*.{{jpe?g}}", "*.{{(?i)txt}}", "{{[^/]*\\.jpe?g}}",
    "/{{.*\\.jpe?g}}", "{{a{1,2}}}b", "dir/{{.}}", "a b", "x y/*", "#c", "ä", "[ä]", "a\\\\b", "**/dir/**",
    "/aa/b*/**/a", "dir/", "/dir/", "/other/.*/", "*/", "//a", "dir//a", "/", "other/**/*.png", "b.a/**b",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pattern_chooses_what_rclone_chooses(tree: Path, pattern: str) -> None:
    for options in (TransferOptions(include=(pattern,)), TransferOptions(exclude=(pattern,))):
        ours, theirs = by_both(tree, options)
        assert ours == theirs, options


RULES = {
    "order": "- secret*.jpg\n+ *.jpg\n+ *.png\n- *\n",
    "comments and blanks": "# first\n\n; second\n  + *.jpg  \n- *\n",
    "reset": "+ *.jpg\n- *\n!\n- dir/**\n",
    "directory out, file in": "- dir/\n+ *.jpg\n- **\n",
    "file in, directory out": "+ *.jpg\n- dir/\n- **\n",
    "directory in": "+ /dir/\n- *.jpg\n",
    "directory in, rest out": "+ dir/\n- *\n",
    "only one directory": "+ /dir/*.jpg\n- *\n",
    "trash": "- /dir/Trash/**\n+ /dir/**\n- *\n",
    "out of what is out": "- *\n+ *.jpg\n",
    "one level": "- /*/**\n",
    "every way in": "+ **/b/\n+ /aa/**/a\n- **\n",
    "windows": "- *.jpg\r\n+ dir/**\r\n- **\r\n",
    "none": "",
}


@pytest.mark.parametrize("rules", RULES.values(), ids=list(RULES))
@pytest.mark.parametrize(
    "more", [TransferOptions(), TransferOptions(include=("a", "*.png")), TransferOptions(exclude=("/dir/a", "b"))]
)
def test_rules_of_a_file_choose_what_rclone_chooses(
    tree: Path, tmp_path: Path, rules: str, more: TransferOptions
) -> None:
    (tmp_path / "rules").write_text(rules, "utf-8")
    ours, theirs = by_both(tree, more, tmp_path / "rules")
    assert ours == theirs


def test_include_comes_before_exclude_and_says_so(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = by_both(tree, TransferOptions(include=("*.jpg", "*.png"), exclude=("secret*", "dir/")))
    assert ours == theirs
    assert "secret1.jpg" in ours
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "--include comes before --exclude" in caplog.text


pieces = st.sampled_from(["a", "b", "/", "*", "**", "?", "[ab]", "[^a]", "{a,b}", "{a,}", "{a/b,b}", ".", "{{a+}}"])
patterns = st.builds(
    lambda start, rest: start + "".join(rest), st.sampled_from(["", "/"]), st.lists(pieces, min_size=1)
)
rules = st.builds("{} {}".format, st.sampled_from("+-"), patterns.filter(lambda text: "***" not in text))
small_tree = [
    "a", "b", "aab", "bab", "ba", "a.b", ".a", "cc", "a.a/a", "a.a/b", "c/a", "c/b/a", "c/b/ab",
    "aa/a", "aa/b", "aa/c", "aa/aa/b", "ab/a/a/a", "ab/a/b/b", "ab/b/a", "ab/b/c/a", "bb/bb/bb",
]  # fmt: skip


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(rules | st.just("!"), min_size=1, max_size=5))
def test_generated_rules_choose_what_rclone_chooses(tmp_path: Path, lines: list[str]) -> None:
    root = tmp_path / "tree"
    if not root.exists():
        write_tree(root, dict.fromkeys(small_tree, b""))
    (tmp_path / "rules").write_text("\n".join(lines), "utf-8")
    ours, theirs = by_both(root, TransferOptions(), tmp_path / "rules")
    assert ours == theirs


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(rules, min_size=1, max_size=5))
def test_what_is_in_a_directory_not_entered_is_not_concerned(lines: list[str]) -> None:
    chosen_rules = Filter(TransferOptions(filter_from=tuple(lines)))
    assert chosen_rules.enters("")
    for name in small_tree:
        parents = [name[:end] for end, sign in enumerate(name) if sign == "/"]
        if chosen_rules.includes(name, Entry(name)):
            assert all(chosen_rules.enters(parent) for parent in parents)
        for above, below in pairwise(parents):
            assert chosen_rules.enters(above) or not chosen_rules.enters(below)


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("***", "more than two stars in a row"),
        ("[a", "'[' without ']'"),
        ("[", "'[' without ']'"),
        ("[a-", "'[' without ']'"),
        ("[\\", "nothing follows the backslash at its end"),
        ("a]", "']' without '['"),
        ("[]", "an empty class []"),
        ("[z-a]", "a range in [] runs backwards or ends in a class"),
        ("[a-\\d]", "a range in [] runs backwards or ends in a class"),
        ("[[:nope:]]", "there is no class [:nope:]"),
        ("[a[b]", "write \\[ for a bracket in a class"),
        ("[!a]", "write [^…] for all but these characters, [\\!…] for an exclamation mark"),
        ("{a", "'{' without '}'"),
        ("{a,", "'{' without '}'"),
        ("a}", "'}' without '{'"),
        ("{{a", "'{{' without '}}'"),
        ("{{a}", "'{{' without '}}'"),
        ("{{(}}", "its regular expression is wrong: missing ), unterminated subpattern"),
        ("a\\", "nothing follows the backslash at its end"),
        ("\\q", "'\\q' has no meaning"),
    ],
)
def test_wrong_pattern_is_named(pattern: str, why: str, tmp_path: Path) -> None:
    for options, subject in (
        (TransferOptions(include=(pattern,)), f"--include={pattern}"),
        (TransferOptions(exclude=("a", pattern)), f"--exclude={pattern}"),
    ):
        with pytest.raises(UsageError) as caught:
            Filter(options)
        assert (caught.value.subject, caught.value.why) == (subject, why)
    (tmp_path / "rules").write_text(f"# rules\n- {pattern}\n", "utf-8")
    with pytest.raises(UsageError) as caught:
        read_rules(tmp_path / "rules")
    assert (caught.value.subject, caught.value.why) == (f"{tmp_path}/rules, line 2", why)
    with pytest.raises(UsageError) as caught:
        Filter(TransferOptions(filter_from=("!", "+ a", f"- {pattern}")))
    assert (caught.value.subject, caught.value.why) == ("--filter-from, rule 3", why)


@pytest.mark.parametrize("line", ["*.jpg", "+*.jpg", "-", "!a", "include a"])
def test_wrong_rule_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "rules").write_text(f"- a\n{line}\n", "utf-8")
    with pytest.raises(UsageError, match="is no rule: it begins with") as caught:
        read_rules(tmp_path / "rules")
    assert caught.value.subject == f"{tmp_path}/rules, line 2"


def test_unreadable_file_of_rules_is_named(tmp_path: Path) -> None:
    (tmp_path / "most").write_bytes(b"- a\n" * (MOST // 4))
    assert len(read_rules(tmp_path / "most")) == MOST // 4
    (tmp_path / "more").write_bytes(b"- a\n" * (MOST // 4) + b"#")
    for path, why in (
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "more", "has more than 256 KiB"),
    ):
        with pytest.raises(UsageError) as caught:
            read_rules(path)
        assert (caught.value.subject, caught.value.why) == (f"--filter-from={path}", why)


def test_names_that_are_no_text_are_matched() -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    assert Filter(TransferOptions(include=("caf?.txt",))).includes(name, Entry(name))
    assert not Filter(TransferOptions(exclude=("*\n*", "**.txt"))).includes("a\nb/c.txt", Entry("a\nb/c.txt"))


def test_sizes_and_ages_are_those_of_rclone(tmp_path: Path) -> None:
    for size in (0, 1, 1023, 1024, 1025, 4096):
        (tmp_path / f"{size:04}").write_bytes(bytes(size))
        os.utime(tmp_path / f"{size:04}", (time.time(), 1_600_000_000 + size))
    for options, arguments in (
        (TransferOptions(max_size=1024), ["--max-size=1024B"]),
        (TransferOptions(min_size=1024), ["--min-size=1024B"]),
        (TransferOptions(min_size=1, max_size=1024), ["--min-size=1B", "--max-size=1024B"]),
        (TransferOptions(newer="2020-09-13T12:43:44.5Z"), ["--max-age=2020-09-13T12:43:44.5Z"]),
        (
            TransferOptions(newer="2020-09-13 14:43:44.500+02:00", include=("1*",)),
            ["--max-age=2020-09-13T12:43:44.5Z", "--include=1*"],
        ),
    ):
        found = chosen(tmp_path, options)
        assert found == chosen_by_rclone(tmp_path, arguments)
        assert 0 < len(found) < 6


def test_what_is_not_known_leaves_nothing_out() -> None:
    day = 86_400 * 1_000_000_000
    rules = Filter(TransferOptions(min_size=1, newer="2d"), now_ns=10 * day)
    assert rules.includes("a", Entry("a"))
    assert not rules.includes("a", Entry("a", size=0))
    assert not rules.includes("a", Entry("a", mtime_ns=7 * day, changed_ns=9 * day))
    assert rules.includes("a", Entry("a", mtime_ns=8 * day))
    assert rules.includes("a", Entry("a", changed_ns=9 * day))
    assert not rules.includes("a", Entry("a", changed_ns=7 * day))


def test_a_filter_is_made_only_where_one_is_asked_for() -> None:
    assert Filter.from_options(TransferOptions(checksum=True, delete=True)) is None
    assert read_rules(os.devnull) == ()
    for options in (
        TransferOptions(include=("a",)), TransferOptions(exclude=("a",)), TransferOptions(filter_from=("- a",)),
        TransferOptions(max_size=0), TransferOptions(min_size=0), TransferOptions(newer="1d"),
    ):  # fmt: skip
        assert Filter.from_options(options) is not None


def test_dates_are_local_where_they_name_no_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        now = 1_800_000_000_000_000_000
        assert parse_moment("2026-01-31T05:30", now) == parse_moment("2026-01-31T00:00Z", now) == 1_769_817_600 * 10**9
        assert parse_moment("2026-01-31", now) == parse_moment("2026-01-30T18:30Z", now)
        assert parse_moment("36h", now) == now - 36 * 3600 * 10**9
        assert parse_moment("7d", now) == now - 7 * 86400 * 10**9
        assert parse_moment("2026-01-31T00:00:00.123456Z", now) % 10**9 == 123_456_000
    finally:
        monkeypatch.undo()
        time.tzset()
    for text in ("soon", "", "2026-13-01", "1y", "-1d", "9" * 400 + "d d"):
        with pytest.raises(UsageError, match="--newer: "):
            parse_moment(text, 0)
