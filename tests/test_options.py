"""Options: from the fields of dataclasses to flags and TOML keys, with types checked on the way."""

import argparse
import doctest
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import minilm.cli.options
from minilm.cli.options import (
    Parser,
    as_typed,
    fresh_directory,
    make_config,
    read_toml,
    refuse_unknown,
    seed,
    whole_or_nothing,
)
from minilm.runtime import option


@dataclass(frozen=True)
class Soup:
    """One field of each kind that a config has."""

    n_carrots: int = option(3, "how many")
    salt: float = option(0.5, "grams, about 1 % of the water")
    kind: str = option("leek", "what it is")
    hot: bool = option(True, "serve it hot")
    bowls: int | None = option(None, "how many bowls, if any")


def parsed(*arguments: str) -> Soup:
    parser = Parser("soup", "Cook.", "minilm soup")
    parser.add_config(Soup, shown=("n_carrots",))
    return make_config(Soup, vars(parser.read(arguments)))


def test_nothing_said_is_the_defaults() -> None:
    assert parsed() == Soup() == make_config(Soup) == make_config(Soup, {"salt": None}, {})


def test_flags_have_the_types_of_their_fields() -> None:
    words = ["--n-carrots", "7", "--salt", "2", "--kind", "pea", "--no-hot", "--bowls", "4"]
    assert parsed(*words) == Soup(7, 2.0, "pea", False, 4)
    assert parsed("--hot") == Soup(hot=True)
    assert type(parsed("--salt", "2").salt) is float


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("--n-carrots 2.5", "--n-carrots"),
        ("--salt much", "--salt"),
        ("--bowls", "--bowls"),
        ("--n-carrot 1", "--n-carrot 1"),  # an abbreviation would change its meaning when a flag is added
        ("--hot no", "no"),
        ("a\0b", "zero byte"),
    ],
)
def test_a_wrong_flag_is_one_error(command: str, named: str) -> None:
    with pytest.raises(argparse.ArgumentError) as error:
        parsed(*command.split(" "))
    assert named in str(error.value) and "\n" not in str(error.value)


def test_later_tables_win_but_none_says_nothing() -> None:
    assert make_config(Soup, {"n_carrots": 1, "kind": "pea"}, {"n_carrots": 2, "kind": None}) == Soup(2, kind="pea")
    assert make_config(Soup, {"n_carrots": 1}, n_carrots=9) == Soup(9)
    assert make_config(Soup, {"potatoes": 5}) == Soup()  # the table of another config's options, too


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ({"n_carrots": 2.0}, "int"),
        ({"n_carrots": True}, "int"),  # for Python a bool is an int; here it is a mistake
        ({"n_carrots": "2"}, "int"),
        ({"salt": "0.5"}, "float"),
        ({"salt": False}, "float"),
        ({"kind": 3}, "str"),
        ({"kind": ["leek"]}, "str"),
        ({"hot": 1}, "bool"),
        ({"hot": "yes"}, "bool"),
        ({"bowls": 1.0}, "int"),
    ],
)
def test_a_wrong_type_names_field_value_and_type(table: dict[str, Any], wanted: str) -> None:
    name, value = next(iter(table.items()))
    with pytest.raises(ValueError, match=f"^{name} is {re.escape(repr(value))}: .*{wanted}$"):
        make_config(Soup, table)


def test_a_whole_number_is_a_float_too() -> None:
    salt = make_config(Soup, {"salt": 2}).salt
    assert (salt, type(salt)) == (2.0, float)


def test_toml_keys_are_names_or_flags(tmp_path: Path) -> None:
    path = tmp_path / "soup.toml"
    path.write_text("n-carrots = 4\nsalt = 1\nhot = false\nkind = 'pea'\n", encoding="utf-8")
    table = read_toml(str(path))
    assert table == {"n_carrots": 4, "salt": 1, "hot": False, "kind": "pea"}
    assert make_config(Soup, table) == Soup(4, 1.0, "pea", False)
    assert read_toml(None) == {}


@pytest.mark.parametrize("content", [b"n = = 1", b"n = 1\nn = 2", b"\xff\xfe", b"[soup"])
def test_broken_toml_names_the_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "soup.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"soup\.toml is not valid TOML"):
        read_toml(str(tmp_path / "soup.toml"))


def test_unknown_keys_are_refused() -> None:
    refuse_unknown({"salt": 1}, {"salt", "hot"}, "soup.toml")
    with pytest.raises(ValueError, match=r"soup\.toml: unknown option 'sallt'"):
        refuse_unknown({"salt": 1, "sallt": 1}, {"salt", "hot"}, "soup.toml")


def test_rare_flags_show_in_the_long_help_only(capsys: pytest.CaptureFixture[str]) -> None:
    shown = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            parsed(flag)
        shown[flag] = capsys.readouterr().out
    assert "--n-carrots" in shown["--help"] and "--salt" not in shown["--help"]
    assert all(
        word in shown["--help-all"] for word in ("--n-carrots", "--salt", "--no-hot", "1 % of", "(default: leek)")
    )


def test_seeds() -> None:
    assert (seed("0"), seed("4294967295")) == (0, 2**32 - 1)
    for text in ("-1", "1.5", "4294967296", "", "one", "1e3"):
        with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 4294967295"):
            seed(text)


def test_a_run_never_lands_on_something(tmp_path: Path) -> None:
    assert fresh_directory(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert fresh_directory(str(tmp_path)) == tmp_path  # empty
    (tmp_path / "file").touch()
    for path, reason in ((tmp_path, "not empty"), (tmp_path / "file", "is a file")):
        with pytest.raises(ValueError, match=f"--out .*{reason}"):
            fresh_directory(str(path))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_an_error_leaves_all_or_nothing(existed: bool, checkpoint: bool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    if existed:
        run.mkdir()
    with pytest.raises(KeyboardInterrupt), whole_or_nothing(run):
        run.mkdir(exist_ok=True)
        (run / "train.tokens").touch()
        if checkpoint:
            (run / "step-000003").mkdir()
        raise KeyboardInterrupt
    left = {path.name for path in tmp_path.rglob("*")}
    assert left == ({"run", "train.tokens", "step-000003"} if checkpoint else {"run"} if existed else set())


# ---- what a flag is called, and what the help says of it


@dataclass(frozen=True)
class Menu:
    """An option with choices, and a field that is no option."""

    course: str = option("soup", "what comes first", choices=("soup", "salad"))
    n_guests: int = option(4, "how many", low=1)
    table: int | None = None


def test_the_help_shows_choices_and_the_defaults_of_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("eat", "Eat.", "minilm eat")
    parser.add_config(Menu, shown=("course", "n_guests"), defaults={"n_guests": "as many as come"})
    with pytest.raises(SystemExit):
        parser.read(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--course {soup,salad} what comes first (default: soup)" in said
    assert "--n-guests INT how many (default: as many as come)" in said
    assert "--table" not in said
    assert parser.read(["--course", "cake"]).course == "cake"  # the config judges it, for TOML files too
    with pytest.raises(argparse.ArgumentError, match="--table"):
        parser.read(["--table", "7"])


@pytest.mark.parametrize(
    ("message", "typed", "expected"),
    [
        ("n_guests is 0: it must be at least 1", ["--n-guests", "0"], "--n-guests is 0: it must be at least 1"),
        ("n_guests is 0: it must be at least 1", ["--n-guests=0"], "--n-guests is 0: it must be at least 1"),
        ("n_guests is 0: it must be at least 1", ["--config", "menu.toml"], None),  # the key stands in that file
        ("learning_rate is 20", ["--matrix-learning-rate", "1"], None),
        ("matrix_learning_rate is 20", ["--learning-rate", "1"], None),
        (
            "d_model 30 must be a multiple of n_heads 4",
            ["--n-heads", "4"],
            "d_model 30 must be a multiple of --n-heads 4",
        ),
        ("rank is 0: it must be at least 1", ["--rank", "0"], "--rank is 0: it must be at least 1"),
        ("optimizer is 'x': choose", ["--optimizer", "x"], "--optimizer is 'x': choose"),
        ("device 'x' is not available", ["--device", "x"], "--device 'x' is not available"),
        ("the rank is 0", ["--rank", "0"], None),  # a word like others
        ("data of the run are gone", ["--data", "x"], None),
        ("data island is no corpus", ["--data", "x"], None),
        ("make batch_size or top_k smaller", ["--top-k", "5"], "make batch_size or --top-k smaller"),
        ("my_top_k.csv: top_k.csv and a/top_k/b are gone", ["--top-k", "5"], None),
        ("a line (context_length)", ["--context-length", "9"], "a line (--context-length)"),
        ("rank is 0", ["--", "-rank", "--Rank", "rank"], None),
    ],
)
def test_an_error_names_the_flag_that_was_typed(message: str, typed: list[str], expected: str | None) -> None:
    assert as_typed(message, ["a", *typed]) == (expected or message)


def test_all_flags_of_a_message_and_the_example() -> None:
    words = ["--d-model", "30", "--n-heads", "4"]
    assert (
        as_typed("d_model 30 must be a multiple of n_heads 4", words)
        == "--d-model 30 must be a multiple of --n-heads 4"
    )
    assert doctest.testmod(minilm.cli.options).failed == 0
