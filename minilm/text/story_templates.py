"""Templates of the story world: text with slots, cut into pieces, and the weights of what may fill a slot."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple


class Slot(NamedTuple):
    """A hole in a template: `{Hero.he}` is Slot("hero", "he", capital=True), `{hero}` has the form "name"."""

    name: str
    form: str
    capital: bool


Piece = str | Slot


@cache
def pieces(template: str, capital: bool = False) -> tuple[Piece, ...]:
    """Cut a template into text and slots, last piece first: "So {hero.he} ran." -> (" ran.", Slot(hero, he), "So ")."""
    parts: list[Piece] = []
    for i, part in enumerate(re.split(r"\{(.*?)\}", template)):
        if i % 2 == 1:
            name, _, form = part.partition(".")
            parts.append(Slot(name.lower(), form or "name", name[0].isupper()))
        elif part:
            parts.append(part)
    if capital and parts:
        first = parts[0]
        parts[0] = first[0].upper() + first[1:] if isinstance(first, str) else first._replace(capital=True)
    return tuple(reversed(parts))


def probabilities(options: Sequence[Any]) -> list[float]:
    """The probabilities of options, which are as likely as their weights say; without a weight, alike."""
    weights = [getattr(option, "weight", 1.0) for option in options]
    total = sum(weights)
    return [weight / total for weight in weights]
