"""JSON schemas: what the automaton writes is read by `json` and judged by a validator of its own, written from the standard.

Random schemas, and from each automaton random texts, by a walk that at every byte takes any that is allowed.
"""

import doctest
import json
import random
import re
from typing import Any

import numpy as np
import pytest

from minilm.decoding import json_schema
from minilm.decoding.automaton import Automaton
from minilm.decoding.json_schema import compile_schema
from minilm.decoding.regular import compile_pattern

PATTERNS = [
    r"^[a-c]{1,3}$",
    r"^\d+(é|😀)?$",
    r'^["\\/\n\x01]{0,4}$',
    "b+",
    "^x",
    r"z\$$",
    r"z\$",
    r"c\\$",
    r"^(ab|c\\)$",
    r"^[^a-z]$",
]
VALUES = ["a", "é\n", 'q"\\', "", 0, -1, 2.5, 1e300, True, False, None, [1, "x", []], {"k": {"l": None}, "": []}]


def is_valid(value: Any, schema: dict[str, Any]) -> bool:
    """JSON schema for the keywords of the subset: a value, as json gives it, against a schema."""
    if "anyOf" in schema:
        return any(is_valid(value, option) for option in schema["anyOf"])
    if "type" in schema:
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        tests = {
            "string": isinstance(value, str),
            "number": number,
            "integer": number and value == int(value),
            "boolean": value is True or value is False,
            "null": value is None,
            "array": isinstance(value, list),
            "object": isinstance(value, dict),
        }
        if not any(tests[kind] for kind in kinds):
            return False
    same = [json.dumps(allowed) == json.dumps(value) for allowed in [*schema.get("enum", []), *one(schema, "const")]]
    if same and not any(same):
        return False
    if isinstance(value, str):
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return fits and ("pattern" not in schema or python(schema["pattern"]).search(value) is not None)
    if isinstance(value, list):
        fits = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return fits and all(is_valid(item, schema["items"]) for item in value if "items" in schema)
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        complete = set(schema.get("required", [])) <= set(value) <= set(known)
        return complete and all(is_valid(item, known[name]) for name, item in value.items())
    return True


def python(pattern: str) -> re.Pattern[str]:
    """Python's $ lets a line feed follow, that of the standard is the end."""
    return re.compile(re.sub(r"(?<!\\)((\\\\)*)\$$", r"\1\\Z", pattern), re.ASCII)


def one(schema: dict[str, Any], keyword: str) -> list[Any]:
    return [schema[keyword]] if keyword in schema else []


def random_schema(draw: random.Random, depth: int) -> dict[str, Any]:
    kind = draw.choice(["object", "array"] * (depth > 0) + ["string", "scalar", "listed", "any"])
    if kind == "object":
        names = draw.sample(["name", "a b", 'q"', "é", "n\n"], k=draw.randint(0, 4))
        required = draw.sample(names, k=draw.choice([0, 0, len(names) // 2, len(names)]))
        properties = {name: random_schema(draw, depth - 1) for name in names}
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    if kind == "array":
        low = draw.randint(0, 2)
        bounds = {"minItems": low, "maxItems": low + draw.randint(0, 2)} if draw.random() < 0.7 else {"minItems": low}
        return {"type": "array", "items": random_schema(draw, depth - 1), **bounds, "title": "a list"}
    if kind == "string":
        bounds = {"minLength": draw.randint(0, 2), "maxLength": draw.randint(2, 5)}
        return {"type": "string", **draw.choice([{}, bounds, {"pattern": draw.choice(PATTERNS)}, {"maxLength": 1}])}
    if kind == "scalar":
        return {
            "type": draw.choice(["integer", "number", "boolean", "null", ["integer", "null"], ["string", "boolean"]])
        }
    if kind == "listed":
        return draw.choice([{"enum": draw.sample(VALUES, k=3)}, {"const": draw.choice(VALUES)}])
    return {"anyOf": [random_schema(draw, 0) for _ in range(2)]}


def shortest_ways(found: Automaton) -> np.ndarray:
    """The number of bytes from each state to an end."""
    distances = np.where(found.accepting, 0, 10**6)
    while True:
        ahead = np.where(found.table >= 0, distances[found.table], 10**6).min(1) + 1
        if (np.minimum(distances, ahead) == distances).all():
            return distances
        distances = np.minimum(distances, ahead)


def random_text(found: Automaton, distances: np.ndarray, draw: random.Random) -> bytes:
    """A walk to an end. With every step it becomes likelier that it takes the shortest way."""
    state, data = 0, bytearray()
    while not (found.accepting[state] and (draw.random() < 0.3 or (found.table[state] < 0).all())):
        ways = np.flatnonzero(found.table[state] >= 0)
        if draw.random() < len(data) / 100:
            ahead = distances[found.table[state][ways]]
            ways = ways[ahead == ahead.min()]
        else:  # a target is drawn, then a byte: else nearly all bytes are those of ever longer strings
            targets = found.table[state][ways]
            ways = ways[targets == draw.choice(sorted(set(targets.tolist())))]
        data.append(int(draw.choice(ways)))
        state = int(found.table[state][data[-1]])
    return bytes(data)


def test_the_examples_in_the_docstrings() -> None:
    assert doctest.testmod(json_schema).failed == 0


def test_what_is_written_is_valid_for_the_schema() -> None:
    """100 random schemas, 30 texts of each: 3,000 texts that `json` reads and the validator finds valid, in one spelling."""
    draw, seen = random.Random(21), set()
    for _ in range(100):
        schema = random_schema(draw, 2)
        found = compile_schema(schema)
        distances = shortest_ways(found)
        for _ in range(30):
            text = random_text(found, distances, draw).decode("utf-8")
            value = json.loads(text)
            assert is_valid(value, schema), (text, schema)
            if not re.search(r"\d[.e]|-0", text):  # numbers have several spellings
                assert json.dumps(value, ensure_ascii=False) == text
            seen.add(text)
    assert len(seen) > 1_000


def valid_value(schema: dict[str, Any], draw: random.Random) -> Any:
    """A value that is valid, built from the schema and not from the automaton. Patterns are left out."""
    if "anyOf" in schema:
        return valid_value(draw.choice(schema["anyOf"]), draw)
    if "enum" in schema or "const" in schema:
        return draw.choice([*schema.get("enum", []), *one(schema, "const")])
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    match draw.choice(kinds):
        case "object":
            chosen = [name for name in schema["properties"] if name in schema["required"] or draw.random() < 0.5]
            return {name: valid_value(schema["properties"][name], draw) for name in chosen}
        case "array":
            n = draw.randint(schema["minItems"], schema.get("maxItems", 4))
            return [valid_value(schema["items"], draw) for _ in range(n)]
        case "string":
            n = draw.randint(schema.get("minLength", 0), schema.get("maxLength", 6))
            return "".join(draw.choices('ab"\\/\n\x00\x1f\x7fé€😀\u2028', k=n))
        case "integer":
            return draw.choice([0, 7, -1, 10**15 - 1, -(10**14)])
        case "number":
            return draw.choice([0, -3, 0.5, -12.25, 1.5e-07, 1e-99])
        case "boolean":
            return draw.random() < 0.5
    return None


def test_valid_values_can_be_written() -> None:
    """Values made from 150 random schemas: each is accepted as `json.dumps` writes it. If it is still accepted with one character
    changed, then it is a valid value still."""
    draw, accepted = random.Random(22), [0, 0]
    for _ in range(150):
        schema = random_schema(draw, 2)
        if "pattern" in json.dumps(schema):
            continue
        found = compile_schema(schema)
        for _ in range(20):
            text = json.dumps(valid_value(schema, draw), ensure_ascii=False)
            assert found.matches(text.encode()), (text, schema)
            accepted[0] += 1
            place = draw.randrange(len(text))
            spoilt = (
                text[:place] + draw.choice(['"', ",", "0", "]", "}", "-", " ", "", "\\", "e", "\n"]) + text[place + 1 :]
            )
            if found.matches(spoilt.encode()):
                accepted[1] += 1
                assert is_valid(json.loads(spoilt), schema)
    assert accepted[0] > 1_500
    assert 100 < accepted[1] < accepted[0]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_speak_of_the_value_and_not_of_its_spelling(pattern: str) -> None:
    """3,000 strings: accepted exactly if `re.search` finds the pattern in the value."""
    found, draw = compile_schema({"type": "string", "pattern": pattern}), random.Random(4)
    values = ["".join(draw.choices('abcxz0$"\\/\n\x01é😀', k=draw.randint(0, 4))) for _ in range(3_000)]
    hits = [value for value in values if python(pattern).search(value)]
    assert hits
    assert [value for value in values if found.matches(json.dumps(value, ensure_ascii=False).encode())] == hits


OBJECT = {
    "type": "object",
    "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}, "d": {"const": 4}},
}


@pytest.mark.parametrize("required", [[], ["a"], ["c"], ["d"], ["b", "d"], ["d", "b"], ["a", "b", "c", "d"]])
def test_commas_of_optional_properties(required: list[str]) -> None:
    """All 16 sets of properties, in order: accepted exactly if all that are required are there."""
    found = compile_schema({**OBJECT, "required": required})
    for bits in range(16):
        value = {name: i + 1 for i, name in enumerate("abcd") if bits >> i & 1}
        assert found.matches(json.dumps(value).encode()) == (set(required) <= set(value)), value
    for text in [
        '{, "a": 1}',
        '{"a": 1, }',
        '{"a": 1 "b": 2, "d": 4}',
        '{"b": 2, "a": 1, "c": 3, "d": 4}',
        "{,}",
        '{"a": 1,"b": 2}',
    ]:
        assert not found.matches(text.encode())


@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        ({"type": "integer"}, "0 -1 10 999999999999999", "-0 01 1.0 1e3 +1 1000000000000000 - true"),
        ({"type": "number"}, "0 -0.50 1e5 1e-99 1.5e0", "1. .5 1e 1e+5 1E5 01 1e100 NaN Infinity"),
        ({"type": "boolean"}, "true false", "True 1 null"),
        ({"type": ["null", "integer"]}, "null 3", "None nul"),
        (
            {"type": "string", "maxLength": 2},
            '"" "é😀" "\\n\\"" "\\u001f" "\x7f"',
            '"abc" "\n" "\\u00e9" "\\/" "\\x" "',
        ),
        ({"type": "string", "minLength": 2, "maxLength": 2}, '"ab" "😀😀" "\\\\\\\\"', '"" "a" "\\\\" "abc"'),
        ({"type": "array", "items": {"const": 0}, "maxItems": 0}, "[]", "[0]"),
        ({"type": "array", "items": {"const": 0}}, "[] [0] [0,_0]", "[,_0] [0,] [0,0]"),
        ({"type": "array", "items": {"const": 0}, "minItems": 2}, "[0,_0] [0,_0,_0]", "[] [0] [0,0] [0,_0,]"),
        ({"type": "array", "maxItems": 0}, "[]", "[0]"),
        ({"type": "object", "properties": {}}, "{}", '{"a":_1}'),
        ({"enum": [1, "1", True, None, [1, 2]]}, '1 "1" true null [1,_2]', "[1,2] 2 false"),
        ({"const": {"a": 1, "b": "é"}}, '{"a":_1,_"b":_"é"}', '{"b":_"é",_"a":_1}'),
        ({"type": "integer", "enum": [1, 2.0]}, "1 2.0", "2 1.0"),
        ({"anyOf": [{"const": "a"}, {"type": "null"}], "title": "x"}, '"a" null', "a"),
    ],
)
def test_each_type_by_hand(schema: dict[str, Any], yes: str, no: str) -> None:
    found = compile_schema(schema)
    for text in yes.split(" "):
        assert found.matches(text.replace("_", " ").encode()), text
    for text in no.split(" "):
        assert not found.matches(text.replace("_", " ").encode()), text


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (True, "schema is True: only schemas that are objects"),
        ({}, "needs one of type, enum, const, anyOf"),
        ({"type": "text"}, "schema.type is 'text': choose among object, array"),
        ({"type": ["string", 3]}, "schema.type is"),
        ({"$ref": "#"}, "needs one of type"),
        ({"type": "object", "properties": {"a": {"$ref": "#", "type": "null"}}}, "schema.properties.a: the keyword '$ref'"),
        ({"type": "string", "format": "date"}, "the keyword 'format' is not supported here"),
        ({"type": "integer", "minimum": 3}, "the keyword 'minimum'"),
        ({"type": "integer", "maxLength": 3}, "the keyword 'maxLength'"),
        ({"type": "array", "items": {"type": "null"}, "uniqueItems": True}, "the keyword 'uniqueItems'"),
        ({"type": "array", "items": {"enum": [1], "not": {}}}, "schema.items: the keyword 'not'"),
        ({"anyOf": [{"type": "null"}, {"oneOf": []}]}, "schema.anyOf[1] needs one of"),
        ({"anyOf": [], "type": "null"}, "the keyword 'type'"),
        ({"anyOf": []}, "schema.anyOf is []: it must be a list with at least one entry"),
        ({"enum": []}, "schema.enum is []"),
        ({"enum": [1], "const": 1}, "the keyword 'const'"),
        ({"type": "string", "enum": ["a", 1]}, "schema.enum: 1 is not of type string"),
        ({"type": "integer", "const": True}, "True is not of type integer"),
        ({"const": float("nan")}, "schema.const: nan cannot be written as JSON"),
        ({"const": "\ud800"}, "cannot be written as JSON"),
        ({"const": {1, 2}}, "cannot be written as JSON"),
        ({"type": "array"}, "schema needs items"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2}, "minItems is 3 and maxItems is 2"),
        ({"type": "array", "items": {"type": "null"}, "minItems": -1}, "schema.minItems is -1"),
        ({"type": "array", "items": {"type": "null"}, "maxItems": True}, "schema.maxItems is True"),
        ({"type": "string", "maxLength": None}, "schema.maxLength is None"),
        ({"type": "string", "maxLength": 10**6}, "schema.maxLength is 1000000"),
        ({"type": "string", "maxLength": 10_000}, "more than"),
        ({"type": "string", "pattern": "a", "maxLength": 2}, "pattern cannot be joined"),
        ({"type": "string", "pattern": 3}, "schema.pattern is 3"),
        ({"type": "string", "pattern": "a(?=b)"}, "schema.pattern: pattern 'a(?=b)', at 1"),
        ({"type": "string", "pattern": "^a|b$"}, "the anchor belongs to one option only"),
        ({"type": "string", "pattern": "a|b$"}, "the anchor belongs to one option only"),
        ({"type": "string", "pattern": "(^a)b"}, "the anchor ^ is not supported"),
        ({"type": "object"}, "schema needs properties"),
        ({"type": "object", "properties": [1]}, "schema needs properties"),
        ({**OBJECT, "required": ["e"]}, "schema.required is ['e']"),
        ({**OBJECT, "required": "a"}, "schema.required is 'a'"),
        ({"type": "object", "properties": {"1": {}}, "required": [1]}, "schema.required is [1]"),
        ({**OBJECT, "additionalProperties": True}, "additionalProperties can only be false"),
        ({**OBJECT, "patternProperties": {}}, "the keyword 'patternProperties'"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(schema: Any, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        compile_schema(schema)
    assert "\n" not in str(caught.value)


def test_schemas_can_be_nested_but_not_without_end() -> None:
    def nested(depth: int) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "null"}
        for _ in range(depth):
            schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": 1}
        return schema

    assert compile_schema(nested(30)).matches(b"[" * 30 + b"null" + b"]" * 30)
    with pytest.raises(ValueError, match="more than 30 schemas in one another"):
        compile_schema(nested(5000))


def test_a_pattern_tied_to_both_ends_is_the_regular_expression_in_quotes() -> None:
    schema = compile_schema({"type": "string", "pattern": "^(a|bc)*$"})
    assert np.array_equal(schema.table, compile_pattern('"(a|bc)*"').table)
