"""Normalise text: one sign for one thing, so that a model need not learn five kinds of line ends or two ways to write é.

Each step is a function text -> text, named by its switch; `normalise` takes those that are wanted, again and again until
none has anything left to do, so that what comes out is stable: normalising it once more changes nothing.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping


def repair_mojibake(text: str) -> str:
    """UTF-8 that was read as Latin-1 or Windows-1252: "Ã¤" -> "ä", "â€™" -> "’".

    What looks like the bytes of a character, and is one, becomes that character. A text that really says "Ã¤" suffers.
    """
    return MOJIBAKE.sub(lambda match: _reread(match[0]), text)


def _reread(signs: str) -> str:
    try:
        return bytes(WINDOWS.get(sign, ord(sign)) for sign in signs).decode("utf-8")
    except UnicodeDecodeError:
        return signs


def to_newlines(text: str) -> str:
    """CR LF, CR, vertical tabs, form feeds and Unicode's line and paragraph separators become LF."""
    return re.sub("\r\n|[\r\v\f\u2028\u2029]", "\n", text)


def drop_controls(text: str) -> str:
    """Take out ASCII control characters, which no one sees, and byte order marks; tabs and line ends stay."""
    return re.sub("[\0-\x08\x0e-\x1f\x7f\ufeff]", "", text)


def compose(text: str) -> str:
    """Unicode NFC: a letter and its mark become one code where there is one. It looks the same and takes fewer tokens."""
    return unicodedata.normalize("NFC", text)


def squeeze_blanks(text: str) -> str:
    """Runs of blanks and tabs become one blank, none stays at a line end, and at most one line in a row is empty."""
    return re.sub("\n{3,}", "\n\n", re.sub(r" (?=\n|\Z)", "", re.sub("[ \t]+", " ", text)))


# Windows-1252 has printable signs at most places from 0x80 to 0x9F, where Latin-1 has control characters.
WINDOWS = {bytes([i]).decode("cp1252"): i for i in range(0x80, 0xA0) if i not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
_MORE = "[\x80-\xbf" + re.escape("".join(WINDOWS)) + "]"  # the second byte of a character, and those after it
MOJIBAKE = re.compile(f"[\xc2-\xdf]{_MORE}|[\xe0-\xef]{_MORE}{{2}}|[\xf0-\xf4]{_MORE}{{3}}")

STEPS: Mapping[str, Callable[[str], str]] = {
    "mojibake": repair_mojibake,
    "newlines": to_newlines,
    "controls": drop_controls,
    "nfc": compose,
    "blanks": squeeze_blanks,
}


def normalise(text: str, wanted: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The text after the wanted steps, and the names of those that changed it."""
    changed: dict[str, None] = {}
    stable = False
    while not stable:
        before = text
        for name, step in STEPS.items():
            if name in wanted and (after := step(text)) != text:
                text = after
                changed[name] = None
        stable = text == before
    return text, tuple(changed)
