"""Requests made from the OpenAPI document, good and bad: no server error, no answer that the document does not tell.

What was found in this way is a test of its own in ``test_found.py``. To look for more, ask for more examples::

    PYTHONPATH=. schemathesis --config-file tests/cdir/service/schemathesis.toml \\
        run URL/api/v1/openapi.json -H 'Authorization: Bearer …' --max-examples=500
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cloudmesh.cdir.service.security.principal import SCOPES, Scope
from tests.cdir.service.conftest import Start, new_token

ROOT = Path(__file__).parents[3]
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.mark.parametrize(
    ("scopes", "phases", "examples"),
    [(SCOPES, "coverage,fuzzing,stateful", 3), (("read",), "fuzzing", 2)],
    ids=["everything", "reading"],
)
def test_the_service_is_as_its_document_says(
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scopes: tuple[Scope, ...],
    phases: str,
    examples: int,
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path / "work")  # relative paths of the service's computer are here
    client = start(CDIR_SERVICE_STRANGERS_PER_S="10000")  # many come without a token
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION)),
            *("run", f"{client.base_url}/api/v1/openapi.json", f"--phases={phases}", f"--max-examples={examples}"),
            *("-H", f"Authorization: Bearer {new_token(scopes)}"),
            *("--seed=1", "--continue-on-failure", "--no-shrink", "--no-color", "--request-timeout=60"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,  # where it keeps what it learns
    )
    assert done.returncode == 0, done.stdout + done.stderr
