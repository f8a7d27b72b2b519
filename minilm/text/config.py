"""How a corpus is cleaned, as data: a frozen dataclass from which the flags of `minilm data` come."""

from dataclasses import dataclass

from minilm.runtime import option
from minilm.text.normalise import STEPS

ALPHABETS = {  # and how the Unicode names of its letters begin
    **{name: (name.upper(),) for name in ("arabic", "armenian", "bengali", "cyrillic", "devanagari", "georgian")},
    **{name: (name.upper(),) for name in ("greek", "hebrew", "latin", "tamil", "thai")},
    "chinese": ("CJK",),
    "japanese": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"),
    "korean": ("HANGUL", "CJK"),
}


@dataclass(frozen=True)
class CleanConfig:
    """What is done to a corpus. The first five change text, the others drop documents; 0, 1.0 or "" switches those off."""

    newlines: bool = option(True, "CR LF, form feeds and other line ends become LF")
    controls: bool = option(True, "control characters and byte order marks are taken out")
    mojibake: bool = option(False, "repair UTF-8 that was read as Latin-1: 'Ã¤' becomes 'ä'")
    nfc: bool = option(False, "one code for letters with marks: 'a' + '¨' becomes 'ä' (Unicode NFC)")
    blanks: bool = option(False, "runs of blanks become one, none at line ends, at most one empty line")
    min_characters: int = option(1, "drop documents with fewer characters, blanks at both ends not counted")
    max_line: int = option(0, "drop documents with a line of more characters (0: any)")
    lost: bool = option(False, "drop documents that hold U+FFFD, the mark of a character that was lost")
    min_letters: float = option(0.0, "drop documents with a smaller share of letters among what is not blank")
    max_repeated_lines: float = option(1.0, "drop documents with a larger share of lines that stood before")
    max_repeated_words: float = option(
        1.0, "drop documents with a larger share of five words in a row that stood before"
    )
    alphabet: str = option("", f"drop documents with less than 80 % letters of it: {', '.join(ALPHABETS)}")
    duplicates: bool = option(True, "drop documents that are equal to an earlier one")
    near: float = option(0.0, "drop documents at least this similar to another, 0.8 for example (0: none)")

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps of normalising that are switched on."""
        return tuple(name for name in STEPS if getattr(self, name))

    def __post_init__(self) -> None:
        for name in ("min_letters", "max_repeated_lines", "max_repeated_words", "near"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it is a share, from 0 to 1")
        for name in ("min_characters", "max_line"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 0")
        if self.alphabet and self.alphabet not in ALPHABETS:
            raise ValueError(f"alphabet is {self.alphabet!r}: it must be one of {', '.join(ALPHABETS)}, or empty")
