r"""Regular expressions: from their text to a tree, by recursive descent, one method for each rule of the grammar.

    choice     = sequence ("|" sequence)*
    sequence   = repetition*
    repetition = atom ("*" | "+" | "?" | "{m}" | "{m,}" | "{,n}" | "{m,n}")?
    atom       = "(" choice ")" | "(?:" choice ")" | "[" class "]" | "." | "\" escape | any other character

The whole text must match, as with `re.fullmatch`, and what is accepted here means what it means to Python's `re` with the
flag `re.ASCII`: `\d` is 0-9, `\w` is A-Z, a-z, 0-9 and _, `\s` is space and \t \n \r \f \v; `.` is every character but the
line feed; `[^a]` is every character but a. The other escapes are \n \t \r \f \v \xHH \uHHHH \UHHHHHHHH and a backslash
before a sign, which then means itself: what `re.escape` writes can be read.

Not supported, with an error that says where: anchors (`^` `$` `\b` `\A` `\Z`: the whole text matches anyway), look-around,
back-references and named groups (not regular, or without a use here), flags, lazy and possessive repetition, and a bare
`{` that is no repetition.
"""

from minilm.decoding.automaton import Automaton
from minilm.decoding.expressions import (
    LAST,
    SURROGATES,
    Characters,
    Choice,
    Node,
    Repeat,
    Sequence,
    characters,
    complement,
)

ANY = complement(characters())
DOT = complement(characters((10, 10)))
DIGITS = characters((48, 57))
WORD = characters((48, 57), (65, 90), (95, 95), (97, 122))
SPACE = characters((9, 13), (32, 32))
SETS = {"d": DIGITS, "w": WORD, "s": SPACE, "D": complement(DIGITS), "W": complement(WORD), "S": complement(SPACE)}
CONTROLS = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11}
HEXADECIMAL = {"x": 2, "u": 4, "U": 8}  # how many digits follow
MAX_DEPTH = 100  # of groups in groups
MAX_REPEAT = 10_000
ALL_MATCH = "the whole text always matches: leave it out"


def compile_pattern(pattern: str) -> Automaton:
    r"""The minimal automaton of a regular expression; ValueError if it cannot be read or is too large.

    >>> compile_pattern(r"-?\d+").matches(b"-12")
    True
    """
    return Automaton.of(parse(pattern))


def parse(pattern: str) -> Node:
    """The tree of a regular expression; ValueError that says what cannot be read, and where."""
    parser = Parser(pattern)
    tree = parser.choice()
    if parser.at < len(pattern):
        raise parser.error("this ) closes no group: write \\)")
    return tree


class Parser:
    """Reads `pattern` from left to right; `at` is the place of the next character."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.at, self.depth = pattern, 0, 0

    def error(self, problem: str, at: int | None = None) -> ValueError:
        """The problem, for the caller to raise. Places count from 0, as in Python."""
        return ValueError(f"pattern {self.pattern!r:.80}, at {self.at if at is None else at}: {problem}")

    def next_is(self, *texts: str) -> bool:
        """Does one of these texts come next?"""
        return self.pattern.startswith(texts, self.at)

    def take(self, what: str) -> str:
        """The next character. `what` is expected, and named in the error if the pattern is at its end."""
        if self.at == len(self.pattern):
            raise self.error(f"the pattern ends where {what} should follow")
        self.at += 1
        return self.pattern[self.at - 1]

    def choice(self) -> Node:
        options = [self.sequence()]
        while self.next_is("|"):
            self.at += 1
            options.append(self.sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def sequence(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.pattern) and not self.next_is("|", ")"):
            parts.append(self.repetition())
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def repetition(self) -> Node:
        atom = self.atom()
        if not self.next_is("*", "+", "?", "{"):
            return atom
        low, high = self.bounds()
        if self.next_is("?"):
            raise self.error("lazy repetition is not supported: it matches the same texts, leave out the ?")
        if self.next_is("+"):
            raise self.error("possessive repetition is not supported")
        if self.next_is("*", "{"):
            raise self.error("a repetition of a repetition: put the first in a group, as in (a*)*")
        return Repeat(atom, low, high)

    def bounds(self) -> tuple[int, int | None]:
        """The repetition that comes next -> at least, at most."""
        start, sign = self.at, self.take("a repetition")
        if sign != "{":
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        low, comma, high = self.take_until("}").partition(",")
        if not all((number.isascii() and number.isdigit()) or number == "" for number in (low, high)) or not low + high:
            raise self.error("repetitions are {m}, {m,}, {,n} or {m,n}; for the sign itself write \\{", start)
        if max(len(low), len(high)) > 9 or max(int(low or 0), int(high or 0)) > MAX_REPEAT:
            raise self.error(f"a repetition counts to at most {MAX_REPEAT:,}", start)
        at_least = int(low or 0)
        at_most = at_least if not comma else int(high) if high else None
        if at_most is not None and at_most < at_least:
            raise self.error(f"at least {at_least}, at most {at_most}: the first must not be larger", start)
        return at_least, at_most

    def take_until(self, closing: str) -> str:
        """What stands before the closing sign, which is read too."""
        end = self.pattern.find(closing, self.at)
        if end == -1:
            raise self.error(f"no {closing} follows; for the sign itself write it with a backslash")
        found, self.at = self.pattern[self.at : end], end + 1
        return found

    def atom(self) -> Node:
        at, sign = self.at, self.take("a character")
        match sign:
            case "(":
                return self.group(at)
            case "[":
                return self.character_class(at)
            case ".":
                return DOT
            case "\\":
                return self.escape()
            case "^" | "$":
                raise self.error(f"the anchor {sign} is not supported: {ALL_MATCH}, or write \\{sign}", at)
            case "*" | "+" | "?":
                raise self.error(f"nothing to repeat before {sign}: for the sign itself write \\{sign}", at)
            case "{":
                raise self.error("nothing to repeat before {: for the sign itself write \\{", at)
        return self.single(ord(sign), at)

    def single(self, code: int, at: int) -> Characters:
        """The node of one character."""
        if code > LAST or SURROGATES[0] <= code <= SURROGATES[1]:
            raise self.error(f"U+{code:04X} is not a character", at)
        return characters((code, code))

    def group(self, at: int) -> Node:
        if self.next_is("?:"):
            self.at += 2
        elif self.next_is("?"):
            raise self.error("of the groups that begin with (? only (?: ) is supported", at)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} groups in one another", at)
        tree = self.choice()
        if not self.next_is(")"):
            raise self.error("this group is not closed: ) is missing", at)
        self.at += 1
        self.depth -= 1
        return tree

    def escape(self) -> Characters:
        """What follows a backslash."""
        at, sign = self.at - 1, self.take("an escaped character")
        if sign in SETS:
            return SETS[sign]
        if sign in CONTROLS:
            return self.single(CONTROLS[sign], at)
        if sign in HEXADECIMAL:
            digits = self.pattern[self.at : self.at + HEXADECIMAL[sign]]
            if len(digits) < HEXADECIMAL[sign] or not set(digits) <= set("0123456789abcdefABCDEF"):
                raise self.error(f"\\{sign} takes {HEXADECIMAL[sign]} hexadecimal digits", at)
            self.at += len(digits)
            return self.single(int(digits, 16), at)
        if sign in "bBAZ":
            raise self.error(f"the anchor \\{sign} is not supported: {ALL_MATCH}", at)
        if sign.isascii() and sign.isdigit():
            raise self.error(f"back-references and octal codes (\\{sign}) are not supported", at)
        if sign.isascii() and sign.isalpha():
            raise self.error(f"the escape \\{sign} is unknown", at)
        return self.single(ord(sign), at)

    def character_class(self, at: int) -> Characters:
        """What follows a [. As in Python, a ] that comes first is a character, and so is a - at either end."""
        negated = self.next_is("^")
        self.at += negated
        first, ranges = self.at, list[tuple[int, int]]()
        while self.at == first or not self.next_is("]"):
            ranges += self.class_range(at).ranges
        self.at += 1
        found = characters(*ranges)
        return complement(found) if negated else found

    def class_range(self, at: int) -> Characters:
        """One member of a class, or the two ends of a range."""
        start, low = self.at, self.class_member(at)
        if not self.next_is("-") or self.next_is("-]"):
            return low
        self.at += 1
        high = self.class_member(at)
        if not low.is_single() or not high.is_single() or low.ranges > high.ranges:
            raise self.error("a range goes from a character to a later one; for the sign itself write \\-", start)
        return characters((low.ranges[0][0], high.ranges[0][0]))

    def class_member(self, at: int) -> Characters:
        if self.at == len(self.pattern):
            raise self.error("this class is not closed: ] is missing", at)
        place, sign = self.at, self.take("a member")
        return self.escape() if sign == "\\" else self.single(ord(sign), place)
