"""Flags and TOML keys from the fields of frozen dataclasses: an option is written once, where it is used."""

import argparse
import dataclasses
import difflib
import os
import re
import shutil
import sys
import tomllib
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from minilm.training.lock import LOCK

Config = TypeVar("Config")


class Parser(argparse.ArgumentParser):
    """argparse that raises one clear error instead of printing usage, and keeps rare flags for `--help-all`."""

    def __init__(self, verb: str, description: str, example: str) -> None:
        super().__init__(
            prog=f"minilm {verb}",
            description=description,
            epilog=f"example: {as_started(example)}",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.rare: list[tuple[argparse.Action, str]] = []
        self.add_argument("--help-all", action="store_true", help="show every option")

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", message)
        raise argparse.ArgumentError(
            None, message + (did_you_mean(unknown[1], self._option_string_actions) if unknown else "")
        )

    def option(self, *names: str, rare: bool = False, help: str, **settings: Any) -> None:
        """Add a flag; a rare one is left out of `--help`."""
        action = self.add_argument(*names, help=argparse.SUPPRESS if rare else help, **settings)
        if rare:
            self.rare.append((action, help))

    def add_config(
        self,
        config: type,
        shown: Sequence[str] = (),
        skip: Sequence[str] = (),
        defaults: Mapping[str, Any] | None = None,
        hidden: Collection[str] = (),
    ) -> None:
        """A flag for each `option` of the dataclass: `context_length` becomes --context-length, a bool also --no-...

        `defaults` are what the verb takes instead of the fields' own, for the help to say. Hidden flags are read, and no help
        shows them.
        """
        hints, own = typing.get_type_hints(config), defaults or {}
        for field in dataclasses.fields(config):
            flag = flag_of(field.name)
            if not field.metadata or field.name in skip or flag in self._option_string_actions:
                continue
            base = next(
                part for part in (typing.get_args(hints[field.name]) or (hints[field.name],)) if part is not type(None)
            )
            help, default = field.metadata["help"], own.get(field.name, field.default)
            if default not in (None, ""):  # else the sentence says what is taken
                help = f"{help.partition(' (default')[0]} (default: {default})"
            choices = field.metadata.get("choices")
            settings: dict[str, Any] = {
                "dest": field.name,
                "default": None,
                "rare": field.name not in shown and field.name not in hidden,
                "help": argparse.SUPPRESS if field.name in hidden else help,
            }
            if base is bool:
                self.option(flag, action=argparse.BooleanOptionalAction, **settings)
            else:
                metavar = f"{{{','.join(choices)}}}" if choices else base.__name__.upper()
                self.option(flag, type=base, metavar=metavar, **settings)

    def read(self, arguments: Sequence[str], intermixed: bool = False) -> argparse.Namespace:
        """Parse; `--help-all` prints the long help and ends. Intermixed: flags may stand between texts."""
        for argument in arguments:
            if "\0" in argument:
                self.error(f"{argument!r} holds a zero byte: no path and no text may")
        if "--help-all" in arguments:
            for action, help in self.rare:
                action.help = help.replace("%", "%%")
            self.print_help()
            sys.exit(0)
        return self.parse_intermixed_args(arguments) if intermixed else self.parse_args(arguments)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What an error about an unknown word adds, if a known one is much like it."""
    return "".join(f"; did you mean {name}?" for name in difflib.get_close_matches(word, list(known), n=1))


def as_started(command: str) -> str:
    """`minilm VERB ...` as whoever reads it must type it: run.py says its own name, for there may be no `minilm` on the path."""
    return re.sub(r"^minilm\b", lambda _: os.environ.get("MINILM_COMMAND", "minilm"), command)


def flag_of(name: str) -> str:
    """d_model -> --d-model."""
    return "--" + name.replace("_", "-")


def as_typed(message: str, arguments: Sequence[str]) -> str:
    """What an error says of an option, in the words of whoever typed a flag: what was not typed stands in a file, by its key.

    >>> as_typed("d_model 30 must be a multiple of n_heads 4", ["gpt", "--d-model", "30"])
    '--d-model 30 must be a multiple of n_heads 4'

    A name of one word may be a word like others: it is one only where the message begins with it and its value follows.
    """
    for flag in {found[0] for word in arguments if (found := re.match("--[a-z][a-z0-9-]*", word))}:
        name = flag.removeprefix("--").replace("-", "_")
        place = rf"(?<![\w./-]){re.escape(name)}(?![\w./-])"
        if "_" not in name:
            place = rf"^{re.escape(name)}(?= (is\b|must\b|'|-?\d))"
        message = re.sub(place, flag, message)
    return message


def seed(text: str) -> int:
    """The value of --seed, as every generator takes it."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 0 to {2**32 - 1}")
    return int(text)


def read_toml(path: str | None) -> dict[str, Any]:
    """The flat table of a TOML file: keys are the options' names. {} without a path."""
    if path is None:
        return {}
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None
    return {key.replace("-", "_"): value for key, value in table.items()}


def read_options(
    parser: Parser, arguments: Sequence[str], beside_resume: Collection[str] = ("shard",)
) -> dict[str, Any]:
    """What was chosen, by the names of the options: in the TOML file of --config, or by flags, which win over it.

    ValueError for what a run that goes on has its own plan for: all but `beside_resume`.
    """
    options = vars(parser.read(arguments))
    table = read_toml(options["config"])
    refuse_unknown(table, set(options) - {"config", "resume", "help_all"}, options["config"])
    chosen = {**table, **{name: value for name, value in options.items() if value is not None}}
    beside = sorted(set(chosen) - {"resume", "json", "config", "help_all", *beside_resume})
    if chosen.get("resume") and beside:
        raise ValueError(f"--resume goes on by the plan of that run: leave out {beside[0]}")
    return chosen


def make_config(config: type[Config], *sources: dict[str, Any], **fixed: Any) -> Config:
    """The dataclass from several tables, later ones winning; None means "not said". Types are checked."""
    return config(**typed_values(config, *sources, **fixed))


def typed_values(config: type, *sources: dict[str, Any], **fixed: Any) -> dict[str, Any]:
    """What the tables say about the fields of the dataclass, with types checked: 1 is also a float, but true no int."""
    hints = typing.get_type_hints(config)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        for source in (*sources, fixed):
            value = source.get(field.name)
            if value is None:
                continue
            allowed = typing.get_args(hints[field.name]) or (hints[field.name],)
            if float in allowed and type(value) is int:
                value = float(value)
            if type(value) not in allowed:
                wanted = allowed[0].__name__
                raise ValueError(f"{field.name} is {value!r}: it must be of type {wanted}")
            values[field.name] = value
    return values


def refuse_unknown(table: dict[str, Any], known: set[str], path: str | None) -> None:
    """A misspelt key in a TOML file is an error, not a default."""
    for key in table:
        if key not in known:
            raise ValueError(f"{path}: unknown option {key!r}; minilm VERB --help-all lists the options")


def fresh_directory(path: str, otherwise: str = ", or go on with --resume") -> Path:
    """A place for a new run: it must not exist, or be empty, and its parent must be writable. Nothing is ever overwritten."""
    directory = Path(path)
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"--out {path} is a file: name a folder that does not exist yet")
    if directory.is_dir() and any(path.name != LOCK for path in directory.iterdir()):
        raise ValueError(f"--out {path} is not empty: name another folder{otherwise}")
    parent = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    if not os.access(parent, os.W_OK):
        raise ValueError(f"--out {path}: no permission to write in {parent}")
    return directory


@contextmanager
def whole_or_nothing(directory: Path, kept: str = "step-*") -> Iterator[None]:
    """After an error, take away what a new run has written, unless it holds a checkpoint, or what else is `kept`, to go on from."""
    existed = directory.exists()
    try:
        yield
    except BaseException:
        if not any(directory.glob(kept)):
            shutil.rmtree(directory, ignore_errors=True)
            if existed:
                directory.mkdir()
        raise
