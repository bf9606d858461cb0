"""The house has three floors, and each imports only downward."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
FLOORS = ("storage", "vdir", "cdir")
"""From below to above."""


def imported(module: Path) -> set[str]:
    """Return the modules that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_only_point_down(floor: str) -> None:
    above = tuple(f"cloudmesh.{one}" for one in FLOORS[FLOORS.index(floor) + 1 :])
    modules = sorted((TOP / "cloudmesh" / floor).rglob("*.py"))
    assert modules
    wrong = (
        [f"{module}: {name}" for module in modules for name in imported(module) if name.startswith(above)]
        if above
        else []
    )
    assert wrong == []


@pytest.mark.parametrize("kind", ["awss3", "local", "sftp", "webdav"])
def test_no_provider_knows_another_or_what_stands_above_it(kind: str) -> None:
    folder = TOP / "cloudmesh/storage/providers"
    modules = sorted((folder / kind).rglob("*.py")) or [folder / f"{kind}.py"]
    allowed = (
        "abc",
        "digest",
        "errors",
        "paths",
        "local_files",
        "leftovers",
        "presence",
        "home",
        "http_body",
        "http_multi",
        "http_source",
        "providers",
    )
    for module in modules:
        for name in imported(module):
            if name.startswith("cloudmesh."):
                assert name.startswith("cloudmesh.storage"), f"{module}: {name}"
                part = name.split(".")[2:3]
                assert not part or part[0] in allowed, f"{module}: {name}"
                if part == ["providers"] and len(name.split(".")) > 3:
                    assert name.split(".")[3] == kind, f"{module}: {name}"


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("cloudmesh.cdir.main", ("sqlalchemy", "yaml", "rich", "boto3", "obstore", "pycurl", "ssh", "cloudmesh.shell")),
        ("cloudmesh.storage.command.storage", ("sqlalchemy", "boto3", "obstore", "pycurl", "ssh", "alembic")),
        ("cloudmesh.vdir.command.vdir", ("sqlalchemy", "boto3", "obstore", "pycurl", "ssh", "alembic")),
        ("cloudmesh.vdir.api", ("alembic", "rich", "boto3", "obstore", "pycurl", "ssh", "pyrage", "ruamel")),
        ("cloudmesh.cdir.api", ("fastapi", "uvicorn", "cryptography", "alembic", "rich", "pyrage", "boto3", "ssh")),
        ("cloudmesh.cdir.service.security.tokens", ("fastapi", "uvicorn", "cryptography")),
        ("cloudmesh.cdir.service.security.shares", ("fastapi", "uvicorn", "cryptography", "pyrage")),
        ("cloudmesh.storage.api", ("sqlalchemy", "rich", "boto3", "obstore", "pycurl", "ssh", "pyrage", "ruamel")),
    ],
)
def test_a_module_loads_nothing_that_its_commands_may_not_need(module: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*(name for name in {unwanted!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_nothing_but_the_service_knows_how_it_is_served() -> None:
    for module in sorted((TOP / "cloudmesh").rglob("*.py")):
        if "service" not in module.relative_to(TOP).parts:
            assert not {name.partition(".")[0] for name in imported(module)} & {"fastapi", "uvicorn", "starlette"}, (
                module
            )
