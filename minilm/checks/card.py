"""How a verdict is told: a card in a notebook, which never stops the run; a line in a script, where wrong code raises."""

import html
import sys

from minilm.checks.verdict import Verdict

COLOURS = {"passed": "#2e7d32", "wrong": "#c62828", "not started": "#7b8794"}
SIGNS = {"passed": "✓", "wrong": "✗", "not started": "○"}
UNTIL = "Until it passes, {name} is the library's version: run your own cell again before you try it by hand."
AFTER = {"passed": "From here on your own code runs.", "wrong": UNTIL, "not started": UNTIL}


class CheckFailed(AssertionError):
    """A student's function is wrong; the text says what and, where the mistake is a known one, gives its hint."""


class Card:
    """A verdict that a notebook draws and a terminal prints."""

    def __init__(self, name: str, verdict: Verdict) -> None:
        self.name, self.verdict = name, verdict

    def lines(self) -> list[str]:
        """What happened, the hint, what runs from here on."""
        verdict = self.verdict
        hint = [f"hint: {verdict.hint}"] if verdict.hint else []
        return [
            f"{self.name}: {verdict.status}: {verdict.message}",
            *hint,
            AFTER[verdict.status].format(name=self.name),
        ]

    def __repr__(self) -> str:
        first, *rest = self.lines()
        printed = f"\n  your code printed:\n{self.verdict.printed}" if self.verdict.printed else ""
        return "\n  ".join([f"{SIGNS[self.verdict.status]} {first}", *rest]) + printed

    def _repr_html_(self) -> str:
        colour = COLOURS[self.verdict.status]
        first, *rest = (html.escape(line) for line in self.lines())
        printed = f"your code printed:<pre>{html.escape(self.verdict.printed)}</pre>" if self.verdict.printed else ""
        return (
            f'<div style="border-left:4px solid {colour};padding:2px 12px"><b style="color:{colour}">'
            f"{SIGNS[self.verdict.status]}</b> {first}{''.join(f'<br>{line}' for line in rest)}</div>{printed}"
        )


def show(name: str, verdict: Verdict) -> None:
    """Draw the card in a notebook; elsewhere print it, and raise CheckFailed where the code is wrong."""
    card = Card(name, verdict)
    if in_notebook():
        from IPython.display import display

        display(card)
        return
    if verdict.status == "wrong":
        raise CheckFailed("\n  ".join(card.lines()[:-1]))
    print(card)


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
