"""The outcome of a check. Standard library only: who lists results need not wait for torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """`status` is "passed", "wrong" or "not started"; one line what, and one hint where there is one.

    `mistake` names the known mistake that the code makes, `printed` is what it printed.
    """

    status: str
    message: str
    hint: str = ""
    mistake: str = ""
    printed: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"
