"""Prompts and answers from a file, to learn from by supervised fine-tuning.

    {"prompt": "Name a colour.", "answer": "Blue."}                                     JSON lines, CSV or TSV
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}   JSON lines

In a table the columns may have other usual names (question, response ...), or none at all where there are just two. In those
of Alpaca, instruction, input and output, the prompt is the instruction, and behind a blank line the input, if there is one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minilm.tasks.labelled import Say, find_column, text_of
from minilm.tasks.tables import Table, read_table
from minilm.text.chat import ROLES

PROMPT_NAMES = ("prompt", "instruction", "question", "source", "input")
ANSWER_NAMES = ("answer", "response", "completion", "output", "target")

Message = dict[str, str]


class Pair(NamedTuple):
    prompt: str
    answer: str


def load_pairs(path: str | Path, prompt: str | None = None, answer: str | None = None) -> list[Pair]:
    """The pairs of a file; the arguments name columns. Of "messages" each must be one user's and one assistant's, for a pair
    has no place for more: `load_conversations` reads them all. ValueError for what is no such data."""
    named = None if prompt is None and answer is None else True
    table = read_table(Path(path), PROMPT_NAMES + ANSWER_NAMES, named)
    if "messages" in table.names and prompt is None and answer is None:
        return [pair_of(messages, place) for messages, place in conversations(table)]
    i, j = pick_columns(table, prompt, answer)
    more = further_column(table, i, j) if prompt is None else None
    pairs = []
    for row, place in zip(table.rows, table.places, strict=True):
        for what, cell in (("prompt", row[i]), ("answer", row[j])):
            if not isinstance(cell, str) or not cell.strip():
                raise ValueError(f"{place} has no text for its {what}: fill it in, or delete the row")
        further = "" if more is None else text_of(row[more], place)
        pairs.append(Pair(row[i].strip() + (f"\n\n{further}" if further else ""), row[j].strip()))
    if not pairs:
        raise ValueError(f"{table.source} has a header and no row under it: give a row for each pair")
    return pairs


def load_conversations(path: str | Path, say: Say | None = None) -> list[list[Message]]:
    """The conversations of a file, as lists of {"role", "content"}; a pair is one of two messages. `say` gets one line about
    where they were found."""
    path = Path(path)
    table = read_table(path, PROMPT_NAMES + ANSWER_NAMES)
    if say is not None:
        say(f"{table.source}: {len(table.rows)} rows, {where_found(table)}")
    if "messages" in table.names:
        return [messages for messages, _ in conversations(table)]
    return [
        [{"role": "user", "content": pair.prompt}, {"role": "assistant", "content": pair.answer}]
        for pair in load_pairs(path)
    ]


def where_found(table: Table) -> str:
    """Which columns hold what, in words."""
    if "messages" in table.names:
        return "conversations from 'messages'"
    i, j = pick_columns(table, None, None)
    if not table.names:
        return f"its first row is no header: prompt from column {i + 1}, answer from column {j + 1}"
    more = further_column(table, i, j)
    further = "" if more is None else f" and, where it is not empty, {table.names[more]!r}"
    return f"prompt from column {table.names[i]!r}{further}, answer from column {table.names[j]!r}"


def pick_columns(table: Table, prompt: str | None, answer: str | None) -> tuple[int, int]:
    """Where prompts and answers stand: as named, else under a usual name, else the first and the second of two columns."""
    i, j = find_column(table, prompt, PROMPT_NAMES), find_column(table, answer, ANSWER_NAMES)
    if len(table.names or table.rows[0]) == 2:
        i = i if i is not None else 0 if j is None else 1 - j
        j = j if j is not None else 1 - i
    if i is None or j is None or i == j:
        there = ", ".join(map(repr, table.names or table.rows[0]))
        raise ValueError(
            f"{table.source} has the columns {there[:200]}: call two of them prompt and answer, in the first row"
        )
    return i, j


def further_column(table: Table, prompt: int, answer: int) -> int | None:
    """The column `input` beside that of `instruction`, as Alpaca has it: what is to be done, and with what."""
    if not table.names or table.names[prompt].casefold() != "instruction":
        return None
    found = find_column(table, None, ("input",))
    return None if found == answer else found


def conversations(table: Table) -> list[tuple[list[Message], str]]:
    """(messages, place) of each row. ValueError for one that no model could learn from."""
    at = table.names.index("messages")
    return [(checked(row[at], place), place) for row, place in zip(table.rows, table.places, strict=True)]


def checked(messages: Any, place: str) -> list[Message]:
    """Messages with role and content, the last one the assistant's; what else they hold is left out."""
    if not isinstance(messages, list) or not messages:
        raise ValueError(f'{place}: "messages" is no list of messages: write [{{"role": ..., "content": ...}}, ...]')
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise ValueError(f'{place}: a message is {str(message)[:40]!r}: write {{"role": ..., "content": ...}}')
        if message["role"] not in ROLES:
            raise ValueError(f"{place}: the role {message['role']!r} is unknown: choose one of {', '.join(ROLES)}")
        if not message["content"].strip():
            raise ValueError(f"{place}: a message of the {message['role']} is empty: fill it in, or delete the line")
    if messages[-1]["role"] != "assistant":
        raise ValueError(f"{place}: the last message is not the assistant's: there would be no answer to learn")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def pair_of(messages: Sequence[Message], place: str) -> Pair:
    """The pair that two messages are."""
    if [message["role"] for message in messages] != ["user", "assistant"]:
        raise ValueError(
            f"{place} has {len(messages)} messages, a pair needs one of user and one of assistant: load conversations"
        )
    return Pair(messages[0]["content"].strip(), messages[1]["content"].strip())
