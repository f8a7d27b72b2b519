"""Topics that measure one side at length: a list of jobs, each a row, written down as soon as it is measured."""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from minilm.runtime import whole_file

Row = dict[str, Any]
START = '{"row": '  # how each line of a file of rows begins
TO_TARGET = "seconds_to_target"  # the column that is empty where a run never got there


@dataclass(frozen=True)
class Request:
    """What a table is to be measured on, and how long: the flags of the verb."""

    data: str | None = None  # a file, or stories:N; without it the text of the topic
    split: float = 0.9  # fraction of a file that is for training
    tune: bool = False  # score on the last third of the training side, train on the rest
    seconds: tuple[float, ...] = ()  # of training; without them those of the topic
    steps: int | None = None  # of training, instead of seconds
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields of our recipe that differ
    runs: int = 5  # timed runs of each side, where two sides are timed
    seeds: tuple[int, ...] = (0,)
    # (plain, device, context_length, compiled) -> the attention to build a model with, as `minilm train` chooses it
    attention: Callable[..., Mapping[str, Any]] = field(default=lambda *_: {}, compare=False)

    def limits(self, default: Sequence[float]) -> list["Limit"]:
        """How long to train, as asked for: each of the seconds, or a number of steps; else the default seconds."""
        if self.steps is not None:
            return [Limit(f"{self.steps:,} steps", {"steps": self.steps}, 0.06 * self.steps)]
        return [Limit(f"{seconds:g} s", {"seconds": seconds}, seconds) for seconds in self.seconds or default]

    def settings(self, topic: str) -> dict[str, Any]:
        """What two rows must have in common to be the same measurement, as JSON holds it."""
        about = {name: value for name, value in vars(self).items() if name not in ("attention", "seeds", "seconds")}
        return json.loads(json.dumps({"topic": topic, **about}))

    def ignored(self, data: str | None) -> tuple[str, ...]:
        """The settings that change nothing in a training on this text: the timed runs, and where to cut a text that is cut."""
        return ("runs", "split") if data and data.split(":")[0] == "stories" else ("runs",)


class Limit(NamedTuple):
    """The end of a training: its name in a row, what `train_recipe` is told, and about how many seconds it is."""

    name: str
    how: Mapping[str, Any]
    expected: float


class Job(NamedTuple):
    """One row to measure: its name and seed, about how many seconds it takes, how, and the settings that do not matter to it.

    Where `reads` is true, `measure` is given the rows before it.
    """

    name: str
    seed: int
    seconds: float
    measure: Callable[..., Row]
    ignored: Sequence[str] = ()
    reads: bool = False


def measure(
    jobs: Sequence[Job], settings: Mapping[str, Any], out: Path | None = None, progress: bool = True
) -> Iterator[Row]:
    """The rows of all jobs, in order, each as soon as it is there.

    With `out`, a JSONL file, rows that it holds are taken from there, others added to it. A row is known by its name, its
    seed and the settings that matter to it, so that one file may hold several tables.
    """
    known = {row_key(row): row for row in (read_rows(out) if out else [])}
    if out:
        out.open("a").close()  # a place where nothing can be written is better known before anything is measured
    before: list[Row] = []
    bar = tqdm(total=round(sum(job.seconds for job in jobs)), unit="s", disable=not progress, dynamic_ncols=True)
    with bar:
        for job in jobs:
            bar.set_description_str(f"{job.name}, seed {job.seed}")
            matter = {name: value for name, value in settings.items() if name not in job.ignored}
            row: Row = {"row": job.name, "seed": job.seed, "settings": matter}
            if (key := row_key(row)) in known:
                bar.total -= round(job.seconds)
                before.append(known[key])
                yield known[key]
                continue
            row |= job.measure(before) if job.reads else job.measure()
            bar.update(round(job.seconds))
            if out:
                with open(out, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            before.append(row)
            yield row


def row_key(row: Row) -> tuple[str, int, str]:
    return row["row"], row["seed"], json.dumps(row["settings"], sort_keys=True)


def read_rows(path: Path) -> list[Row]:
    """The rows of a JSONL file, none if it does not exist. A row that a crash cut off at the end is taken out of the file.

    ValueError if the file holds something else, which is left as it is.
    """
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8")
        whole, _, rest = text.rpartition("\n")
        rows = [json.loads(line) for line in whole.splitlines()]
        if not all(row_key(row) for row in rows) or not START.startswith(rest[: len(START)]):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} holds no rows of a bench: name another file with --out") from None
    if rest:
        with whole_file(path) as unfinished:
            unfinished.write_text(text[: len(text) - len(rest)], encoding="utf-8")
    return rows


def medians(rows: Iterable[Row]) -> list[Row]:
    """One row a name: the median of each number over its seeds, how many there are, and the spread of the first number.

    A training that failed has no numbers; of several seeds, how many failed is a column.

    >>> medians([{"row": "a", "seed": s, "settings": {}, "nats": n} for s, n in enumerate((1.5, 1.75, 1.25))])
    [{'row': 'a', 'nats': 1.5, 'nats from': 1.25, 'nats to': 1.75, 'seeds': 3}]
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["row"], []).append(row)
    return [{"row": name, **median_of(group)} for name, group in groups.items()]


def median_of(group: Sequence[Row]) -> Row:
    """The columns of one name: numbers as medians, words as they stand in the first row that has them."""
    columns = dict.fromkeys(name for row in group for name in row if name not in ("row", "seed", "settings"))
    found: Row = {}
    spread: Row = {}
    for column in columns:
        values = [row[column] for row in group if row.get(column) is not None]
        if column == TO_TARGET:
            median = median_to_target(group)
            found[column] = median if math.isfinite(median) else "not reached"
        elif column == "failed" and len(group) > 1:
            found[column] = f"{len(values)} of {len(group)}"
        elif not all(isinstance(value, int | float) for value in values):
            found[column] = values[0]
        else:
            found[column] = statistics.median(values) if values else None
            if len(group) > 1 and values and not spread:
                spread = {f"{column} from": min(values), f"{column} to": max(values)}
                found |= spread
    return {**found, **({"seeds": len(group)} if len(group) > 1 else {})}


def median_to_target(rows: Iterable[Row]) -> float:
    """Median seconds to the target; a run that never got there, or failed, counts as infinite.

    >>> median_to_target([{"seconds_to_target": seconds} for seconds in (40.0, None, 44.0)])
    44.0
    """
    seconds = (row.get(TO_TARGET) for row in rows)
    return statistics.median(math.inf if value is None else value for value in seconds)


def format_table(rows: Sequence[Row]) -> str:
    """Rows as aligned text, a line each under the names of the columns; what a row lacks is a dash."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([shown(row.get(column)) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *numbers in cells:
        others = (cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *others]).rstrip())
    return "\n".join(lines)


def shown(value: Any) -> str:
    """A number with the digits that matter: 1.5165, 16,200, 122.3."""
    if value is None:
        return "-"
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or value.is_integer():
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"
