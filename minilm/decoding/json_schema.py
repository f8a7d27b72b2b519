r"""A subset of JSON schema -> the regular expression of texts that are valid for it.

    type        keywords
    object      properties, required, additionalProperties: false
    array       items, minItems, maxItems
    string      minLength, maxLength (up to about 1,000 characters; without it there is no limit), or pattern
    integer     at most 15 digits
    number      at most 15 digits, 15 more after a point, and an exponent of at most two: always finite
    boolean, null
    any         enum, const; anyOf; a list of types; title, description, default, examples and $comment, which say nothing

But for patterns with \S or \W, every text of the language is valid for the schema. The reverse would be too much: what JSON leaves
open is settled, so that **each value has one spelling** (numbers apart: 1, 1.0 and 1e0), and a model chooses among values, not
among spellings.

* White space: one space after each comma and each colon, none elsewhere: what `json.dumps` writes.
* Properties come in the order of the schema. Those that are not required may be left out; others cannot be added.
* A string is written as UTF-8. Only `"`, `\` and the control characters are escaped, as short as possible: \n, \u001f.
* An integer is 0, or has no zero in front. A number may also have a point and an exponent (e, with a minus or no sign).
* Lengths count characters (code points); a pattern is read by `regular.py` and, as the standard says, may lie anywhere in
  the string unless it begins with ^ and ends with $. There \s, \w and \d mean ASCII, so that \S and \W take a few characters
  (spaces beyond ASCII) that the standard's do not.

A schema without a type, recursion ($ref) and every other keyword are refused with an error that names the place.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from minilm.decoding.automaton import Automaton
from minilm.decoding.expressions import (
    Characters,
    Choice,
    Node,
    Repeat,
    Sequence,
    characters,
    complement,
    optional,
    text,
)
from minilm.decoding.regular import ANY, MAX_REPEAT, Parser, parse

MAX_DIGITS = 15  # a double holds that many exactly
MAX_DEPTH = 30  # of schemas in schemas
NOTES = {"title", "description", "default", "examples", "$comment", "$schema", "$id"}
KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern"},
    "integer": set[str](),
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}
LETTERS = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}  # after a backslash
ESCAPES = {sign: "\\" + letter for sign, letter in LETTERS.items()}
ESCAPES |= {chr(code): f"\\u{code:04x}" for code in range(32) if chr(code) not in LETTERS}
COMMA = text(", ")
INTEGER = parse(rf"0|-?[1-9]\d{{0,{MAX_DIGITS - 1}}}")
NUMBER = parse(rf"-?(0|[1-9]\d{{0,{MAX_DIGITS - 1}}})(\.\d{{1,{MAX_DIGITS}}})?(e-?\d{{1,2}})?")

Schema = dict[str, Any]


def compile_schema(schema: Schema) -> Automaton:
    """The minimal automaton of a schema; ValueError that names what is not supported, or if it would be too large.

    >>> compile_schema({"type": "array", "items": {"type": "boolean"}}).matches(b"[true, false]")
    True
    """
    return Automaton.of(expression(schema))


def expression(schema: Schema, where: str = "schema", depth: int = 0) -> Node:
    """The regular expression of a schema. `where` is its place, for errors."""
    if not isinstance(schema, dict):
        raise ValueError(f"{where} is {schema!r}: only schemas that are objects are supported")
    if depth > MAX_DEPTH:
        raise ValueError(f"{where}: more than {MAX_DEPTH} schemas in one another")
    if "anyOf" in schema:
        refuse(schema, {"anyOf"}, where)
        options = filled_list(schema["anyOf"], f"{where}.anyOf")
        return Choice(tuple(expression(option, f"{where}.anyOf[{i}]", depth + 1) for i, option in enumerate(options)))
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if not isinstance(types, list) or not all(isinstance(kind, str) and kind in KEYWORDS for kind in types):
        raise ValueError(f"{where}.type is {schema['type']!r}: choose among {', '.join(KEYWORDS)}")
    if "enum" in schema or "const" in schema:
        return listed(schema, types, where)
    if not types:
        raise ValueError(f"{where} needs one of type, enum, const, anyOf: not every value can be listed")
    refuse(schema, {"type"}.union(*(KEYWORDS[kind] for kind in types)), where)
    return Choice(tuple(BUILDERS[kind](schema, where, depth) for kind in types))


def refuse(schema: Schema, known: set[str], where: str) -> None:
    """ValueError for the first keyword that is not known here."""
    for keyword in schema:
        if keyword not in known | NOTES:
            raise ValueError(
                f"{where}: the keyword {keyword!r} is not supported here; known: {', '.join(sorted(known))}"
            )


def filled_list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where} is {value!r}: it must be a list with at least one entry")
    return value


def count(schema: Schema, keyword: str, where: str) -> int | None:
    """The value of a keyword that counts something; None where it is missing."""
    value = schema.get(keyword)
    if keyword in schema and (type(value) is not int or not 0 <= value <= MAX_REPEAT):
        raise ValueError(f"{where}.{keyword} is {value!r}: it must be a whole number from 0 to {MAX_REPEAT:,}")
    return value


def counts(schema: Schema, low: str, high: str, where: str) -> tuple[int, int | None]:
    """At least, at most."""
    at_least, at_most = count(schema, low, where) or 0, count(schema, high, where)
    if at_most is not None and at_most < at_least:
        raise ValueError(f"{where}: {low} is {at_least} and {high} is {at_most}: the first must not be larger")
    return at_least, at_most


# ---- values that are listed


def listed(schema: Schema, types: list[str], where: str) -> Node:
    """enum and const: each value in its one spelling."""
    keyword = "enum" if "enum" in schema else "const"
    refuse(schema, {"type", keyword}, where)
    values = filled_list(schema["enum"], f"{where}.enum") if keyword == "enum" else [schema["const"]]
    for value in values:
        if types and not any(has_type(value, kind) for kind in types):
            raise ValueError(f"{where}.{keyword}: {value!r} is not of type {' or '.join(types)}")
    return Choice(tuple(spelled(value, f"{where}.{keyword}") for value in values))


def has_type(value: Any, kind: str) -> bool:
    """Is a value, as `json.loads` gives it, of this type? True is no number, 2.0 is an integer too."""
    match value:
        case bool():
            return kind == "boolean"
        case int():
            return kind in ("integer", "number")
        case float():
            return kind == "number" or (kind == "integer" and value.is_integer())
    return {"string": str, "object": dict, "array": list, "null": type(None)}.get(kind) is type(value)


def spelled(value: Any, where: str) -> Sequence:
    """The text of this value."""
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
        written.encode()  # half a surrogate pair is no character
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {value!r:.60} cannot be written as JSON: {error}") from None
    return text(written)


# ---- one builder a type: (schema, where, depth) -> expression


def string(schema: Schema, where: str, depth: int) -> Node:
    low, high = counts(schema, "minLength", "maxLength", where)
    if "pattern" not in schema:
        return quoted(Repeat(ANY, low, high))
    if "minLength" in schema or "maxLength" in schema:
        raise ValueError(
            f"{where}: pattern cannot be joined with minLength or maxLength; repeat {{m,n}} in the pattern"
        )
    return quoted(searched(schema["pattern"], where))


def searched(pattern: Any, where: str) -> Node:
    """The strings in which a pattern is found somewhere; a ^ in front and a $ behind tie it to the ends."""
    if not isinstance(pattern, str):
        raise ValueError(f"{where}.pattern is {pattern!r}: it must be a string")
    tied_front = pattern.startswith("^")
    body = pattern.removeprefix("^").removesuffix("$")
    tied_behind = pattern.endswith("$") and (len(body) - len(body.rstrip("\\"))) % 2 == 0  # else it is an escaped $
    body = body if tied_behind or not pattern.endswith("$") else body + "$"
    try:
        tree = parse(body)
    except ValueError as error:
        raise ValueError(f"{where}.pattern: {error}") from None
    if (tied_front or tied_behind) and has_bare_choice(body):
        raise ValueError(f"{where}.pattern {pattern!r}: the anchor belongs to one option only: put them in a group")
    anything = Repeat(ANY, 0, None)
    return Sequence((*[anything] * (not tied_front), tree, *[anything] * (not tied_behind)))


def has_bare_choice(pattern: str) -> bool:
    """Does a | stand in no group?"""
    parser = Parser(pattern)
    parser.sequence()
    return parser.next_is("|")


def quoted(node: Node) -> Sequence:
    """The JSON strings whose values match the expression."""
    return Sequence((text('"'), escaped(node), text('"')))


def escaped(node: Node) -> Node:
    """An expression for values -> one for how they are written: some characters become several."""
    match node:
        case Characters():
            return escaped_characters(node)
        case Sequence(parts):
            return Sequence(tuple(escaped(part) for part in parts))
        case Choice(options):
            return Choice(tuple(escaped(option) for option in options))
        case Repeat(body, low, high):
            return Repeat(escaped(body), low, high)


def escaped_characters(node: Characters) -> Choice:
    """Those that stand for themselves, and the escapes, in groups that differ in their last sign only."""
    plain = complement(characters(*complement(node).ranges, *((ord(sign), ord(sign)) for sign in ESCAPES)))
    groups: dict[str, list[int]] = defaultdict(list)  # all but the last sign -> the last ones
    for sign, spelling in ESCAPES.items():
        if any(low <= ord(sign) <= high for low, high in node.ranges):
            groups[spelling[:-1]].append(ord(spelling[-1]))
    grouped = (Sequence((text(head), characters(*((end, end) for end in ends)))) for head, ends in groups.items())
    return Choice((plain, *grouped))


def array(schema: Schema, where: str, depth: int) -> Node:
    low, high = counts(schema, "minItems", "maxItems", where)
    if high == 0:
        return text("[]")
    if "items" not in schema:
        raise ValueError(f"{where} needs items, the schema of its entries")
    item = expression(schema["items"], f"{where}.items", depth + 1)
    more = Repeat(Sequence((COMMA, item)), max(low - 1, 0), None if high is None else high - 1)
    return Sequence((text("["), Sequence((item, more)) if low else optional(item, more), text("]")))


def mapping(schema: Schema, where: str, depth: int) -> Node:
    properties, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(properties, dict):
        raise ValueError(f"{where} needs properties, an object of schemas")
    if schema.get("additionalProperties", False) is not False:
        raise ValueError(f"{where}: additionalProperties can only be false: what is not listed cannot be written")
    if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
        raise ValueError(f"{where}.required is {required!r}: it must be a list of names of properties")
    pairs: list[Node] = [
        Sequence((spelled(name, where), text(": "), expression(value, f"{where}.properties.{name}", depth + 1)))
        for name, value in properties.items()
    ]
    needed = [name in required for name in properties]
    return Sequence((text("{"), members(pairs, needed), text("}")))


def members(pairs: list[Node], needed: list[bool]) -> Node:
    """The pairs in this order, with commas between those that are there.

    The first needed pair carries no comma: those before it have one behind them, those after it one in front. Where none is
    needed, each may be the first that is there.
    """
    if True in needed:
        first = needed.index(True)
        before = [optional(pair, COMMA) for pair in pairs[:first]]
        return Sequence((*before, begun(pairs[first:], needed[first:])))
    return optional(Choice(tuple(begun(pairs[i:], needed[i:]) for i in range(len(pairs)))))


def begun(pairs: list[Node], needed: list[bool]) -> Node:
    """The first pair, and each of the others with a comma in front, where it is there."""
    rest = zip(pairs[1:], needed[1:], strict=True)
    return Sequence((pairs[0], *(Sequence((COMMA, pair)) if need else optional(COMMA, pair) for pair, need in rest)))


BUILDERS: dict[str, Callable[[Schema, str, int], Node]] = {
    "object": mapping,
    "array": array,
    "string": string,
    "integer": lambda *_: INTEGER,
    "number": lambda *_: NUMBER,
    "boolean": lambda *_: Choice((text("true"), text("false"))),
    "null": lambda *_: text("null"),
}
