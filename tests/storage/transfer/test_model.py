"""Random trees, brought to each other under random rules, compared with a model that is a few lines long."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudmesh.storage.errors import Refused
from cloudmesh.storage.transfer.journal import FOLDER
from cloudmesh.storage.transfer.report import Report
from tests.places import read_tree
from tests.storage.transfer.places import Heard, disk, leftovers, odd, run

OLD_NS, NEW_NS = 10**18, 10**18 + 10**13

names = st.sampled_from(["a", "b.x", "a-", "d/a", "d/b.x", "d/e/a", "d.x/c", "e/a", "e/f.x", "z"])
# content and age: of one length, so that sizes alone tell nothing
trees = st.dictionaries(names, st.tuples(st.sampled_from([b"11", b"22", b"333"]), st.sampled_from([OLD_NS, NEW_NS])))
rules = st.fixed_dictionaries(
    {
        "delete": st.booleans(),
        "update": st.booleans(),
        "immutable": st.booleans(),
        "exclude": st.sampled_from([(), ("*.x",), ("d/**",)]),
        "backup": st.booleans(),
        "max_delete": st.sampled_from(["50%", "100%", "1"]),
    }
)

Tree = dict[str, tuple[bytes, int]]
SAME: Tree = {"0": (b"0", OLD_NS)}
"""Always on both sides, as a run that does nothing but fail in one file raises its error."""


def concerns(exclude: tuple[str, ...], name: str) -> bool:
    return not (("*.x" in exclude and name.endswith(".x")) or ("d/**" in exclude and name.startswith("d/")))


def expected(one: Tree, two: Tree, rule: dict[str, Any]) -> tuple[Tree, Tree, int, bool]:
    """Return what is at the destination afterwards, what is in the backup, how many fail, and whether it is refused."""
    result, backup, failed = dict(two), Tree(), 0
    for name, (data, age) in one.items():
        if not concerns(rule["exclude"], name):
            continue
        there = two.get(name)
        if there is not None:
            same = len(there[0]) == len(data) and there[1] == age
            if same or (rule["update"] and there[1] > age):
                continue
            if rule["immutable"]:
                failed += 1
                continue
            if rule["backup"]:
                backup[name] = there
        result[name] = (data, age)
    refused = False
    if rule["delete"]:
        concerned = {name for name in two if concerns(rule["exclude"], name)}
        gone = concerned - one.keys()
        sources = [name for name in one if concerns(rule["exclude"], name)]
        limit = rule["max_delete"]
        most = len(concerned) * int(limit[:-1]) / 100 if limit.endswith("%") else int(limit)
        refused = bool(gone) and (not sources or len(gone) > most)
        if not refused and not failed:
            for name in gone:
                there = result.pop(name)
                if rule["backup"]:
                    backup[name] = there
    return result, backup, failed, refused


def write(root: Path, tree: Tree) -> None:
    root.mkdir(parents=True)
    for name, (data, age) in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(age, age))


def look(root: Path) -> Tree:
    return {name: (data, (root / name).stat().st_mtime_ns) for name, data in read_tree(root).items()}


@pytest.mark.parametrize("native", [True, False], ids=["small files in one thread", "each side waited for"])
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=trees, two=trees, rule=rules, known=st.booleans())
def test_plan_and_engine_do_what_the_model_says(
    tmp_path_factory: pytest.TempPathFactory, home: Path, native: bool,
    one: Tree, two: Tree, rule: dict[str, Any], known: bool,
) -> None:  # fmt: skip
    root = tmp_path_factory.mktemp("model")
    one, two = one | SAME, two | SAME
    write(root / "one", one)
    write(root / "two/top", two)
    source = disk(root / "one") if native else odd("one", root / "one")
    target = disk(root / "two") if native else odd(root.name, root / "two")
    options = {name: rule[name] for name in ("update", "immutable", "exclude")}
    if rule["delete"]:
        options |= {"delete": True, "max_delete": rule["max_delete"]}
    if rule["backup"]:
        options |= {"backup_dir": "backup"}
    result, backup, failed, refused = expected(one, two, rule)

    def act(**more: Any) -> Report | None:
        try:
            report = run(source, target, "top", **options, **more)
        except Refused:
            return None
        return None if any("would be removed" in failure.error for failure in report.failures) else report

    heard = Heard()
    dry = act(dryrun=True)
    assert look(root / "two/top") == two
    real = act(observer=heard)
    assert (real is None) == (dry is None) == refused
    if real is not None and dry is not None:
        assert (real.errors, dry.errors) == (failed, failed)
        assert (real.files, real.bytes, real.skipped, real.removed) == (dry.files, dry.bytes, dry.skipped, dry.removed)
    heard.check()
    assert look(root / "one") == one
    assert look(root / "two/top") == result
    assert (look(root / "two/backup") if (root / "two/backup").exists() else {}) == backup
    assert not leftovers(root)
    if not known:
        shutil.rmtree(home / FOLDER)
    again = act()
    if not refused:  # what was too much of few files may be little of more
        assert again is not None
        assert (again.files, again.removed, again.errors) == (0, 0, failed)
        assert look(root / "two/top") == result
    shutil.rmtree(root)
