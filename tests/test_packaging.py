"""What the code imports is what setup.py asks for, and importing a command costs little."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

from deploy.version import raised

TOP = Path(__file__).parent.parent


def imported(folder: Path) -> set[str]:
    """The top-level names of all modules imported below ``folder``, those of functions too."""
    names: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(extra: str | None) -> set[str]:
    """The distributions that the package asks for, by itself or with an extra."""
    found = set()
    for text in requires("cloudmesh-vdir") or []:
        requirement, _, marker = text.partition(";")
        wanted = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if (wanted.group(1) if wanted else None) == extra:
            found.add(canonical(re.match(r"[\w.-]+", requirement).group()))  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize(
    ("folder", "extras"),
    [
        ("cloudmesh", ["all"]),
        ("deploy", ["all", "servers"]),
        ("benchmarks", ["all", "bench"]),
        ("tests", ["all", "test"]),
    ],
)
def test_everything_that_is_imported_is_asked_for(folder: str, extras: list[str]) -> None:
    distributions = packages_distributions()
    asked = required(None).union(*map(required, extras))
    for name in imported(TOP / folder) - {"cloudmesh", "tests", "deploy", "benchmarks"}:
        candidates = {canonical(found) for found in distributions.get(name, [name])}
        assert candidates & asked, f"{name} is imported, but setup.py does not ask for it"


def test_everything_that_is_asked_for_is_imported() -> None:
    distributions = packages_distributions()
    used = {canonical(found) for name in imported(TOP / "cloudmesh") for found in distributions.get(name, [])}
    # SQLAlchemy imports it by the URL, uvicorn where it is there
    drivers = {"psycopg", "httptools", "uvloop"}
    assert required(None) | required("all") <= used | drivers


@pytest.mark.parametrize("module", ["storage.command.storage", "vdir.command.vdir", "cdir.command.cdir", "cdir.main"])
def test_command_modules_import_nothing_heavy(module: str) -> None:
    heavy = ["sqlalchemy", "alembic", "rich", "ruamel", "yaml", "pyrage", "botocore", "obstore", "pycurl", "ssh"]
    program = f"import sys, cloudmesh.{module}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # cmd5 itself brings some along where a plugin is imported
    base = "import sys, cloudmesh.shell.command; print(*[name for name in sys.modules])"
    with_cmd5 = subprocess.run([sys.executable, "-c", base], capture_output=True, text=True, check=True).stdout.split()
    allowed = set() if module == "cdir.main" else set(with_cmd5)
    assert set(done.stdout.split()) - allowed == set()


def test_a_start_without_byte_code_warns_of_nothing(tmp_path: Path) -> None:
    # as after an installer that compiles nothing, or where the byte code cannot be written
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", "cloudmesh.cdir.main", "--version"],
        env=os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_what_the_readme_points_to_is_in_the_source_distribution() -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", (TOP / "README.md").read_text("utf-8"))
    packed = {word for line in (TOP / "MANIFEST.in").read_text("utf-8").splitlines() for word in line.split()[1:]}
    assert links
    assert {Path(link).parts[0] for link in links} <= packed
    assert not any(fnmatchcase("servers.cpython-313.pyc", pattern) for pattern in packed), "byte code would be packed"


@pytest.mark.parametrize(
    ("part", "expected"), [("patch", "5.1.10"), ("minor", "5.2.0"), ("major", "6.0.0")], ids=lambda value: value
)
def test_a_version_is_raised(part: str, expected: str) -> None:
    assert raised("5.1.9", part) == expected


@pytest.mark.parametrize(("version", "part"), [("5.1", "patch"), ("5.1.0", "micro"), ("5.1.0rc1", "patch")])
def test_a_version_that_cannot_be_raised_is_refused(version: str, part: str) -> None:
    with pytest.raises(ValueError, match=r"three|not in|invalid"):
        raised(version, part)


def test_system_packages_are_looked_up_once_installed() -> None:
    done = subprocess.run([TOP / "deploy/install-system-packages", "dpkg"], capture_output=True, text=True, check=True)
    assert done.stdout == "system packages: all there (dpkg)\n"
