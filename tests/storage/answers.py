"""A person at the terminal whose answers the test knows beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cloudmesh.storage.errors import UsageError


@dataclass
class Answers:
    """Gives the answer of the first key that stands in a question; keeps the questions."""

    answers: Mapping[str, str] = field(default_factory=dict)
    person: bool = True
    pipe: str | None = None
    asked: list[str] = field(default_factory=list)

    def can_ask(self) -> bool:
        return self.person

    def ask(self, text: str, *, instead: str, default: str = "") -> str:
        if not self.person:
            raise UsageError(text, "cannot be asked", f"use {instead}")
        self.asked.append(text)
        return next((answer for key, answer in self.answers.items() if key in text), default)

    def secret(self, text: str, *, instead: str) -> str:
        return self.ask(text, instead=instead)

    def confirm(self, text: str, *, instead: str) -> bool:
        return self.ask(text, instead=instead) == "yes"

    def piped(self) -> str | None:
        return self.pipe


NOBODY = Answers(person=False)
