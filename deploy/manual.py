"""Writes the part of README-vdir.md that the code itself says: the commands, and what each kind of service needs.

python deploy/manual.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from cloudmesh.cdir.manual import OWN  # noqa: E402 - found through the line above
from cloudmesh.storage.manual import STORAGE  # noqa: E402
from cloudmesh.storage.presets import PRESETS  # noqa: E402
from cloudmesh.storage.registry import kinds, provider_class  # noqa: E402
from cloudmesh.vdir.manual import VDIR  # noqa: E402


def generated() -> str:
    """Return the generated part."""
    parts = ["## Commands", ""]
    for command in (VDIR, STORAGE, OWN):
        parts += [f"### {command.name}", "", "```text", command.help().strip("\n"), "```", ""]
    parts += ["## Kinds of services and their keys", ""]
    parts += ["Keys in **bold** are required; those marked *vault* are secrets.", ""]
    for kind in kinds():
        provider = provider_class(kind)
        parts += [f"### {kind}", "", "| key | meaning |", "|---|---|"]
        for key, meaning in provider.keys.items():
            shown = f"**`{key}`**" if key in provider.required else f"`{key}`"
            parts.append(f"| {shown}{' *vault*' if key in provider.secrets else ''} | {meaning} |")
        parts.append("")
    parts += [
        "### Presets for S3-compatible services",
        "",
        "| preset | service | asks for | endpoint |",
        "|---|---|---|---|",
    ]
    for preset in PRESETS.values():
        asks = ", ".join(f"`{one}`" for one in preset.parameters)
        parts.append(f"| `{preset.name}` | {preset.label} | {asks} | {preset.endpoint or 'as the AWS SDK knows it'} |")
    return "\n".join(parts) + "\n"


def main() -> None:
    """Put the generated part into the manual."""
    file = TOP / "README-vdir.md"
    text = file.read_text("utf-8")
    marked = f"<!-- START-MANUAL -->\n{generated()}<!-- STOP-MANUAL -->"
    file.write_text(re.sub(r"<!-- START-MANUAL -->\n.*<!-- STOP-MANUAL -->", lambda _: marked, text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
