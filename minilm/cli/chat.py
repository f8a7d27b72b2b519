"""`minilm chat`: a conversation with a model in the terminal. What is said and remembered is in `talk.py`."""

import sys
from typing import Any

from minilm.cli.generate import add_model_flags
from minilm.cli.options import Parser, make_config, seed
from minilm.decoding.config import SampleConfig

HELP = "/reset forgets what was said, /exit ends (Ctrl-D too), Ctrl-C stops an answer"
UNTAUGHT = "this tokenizer has no chat tokens: the model goes on with a text in which a user and an assistant talk"


def parser_of_chat() -> Parser:
    """The flags."""
    parser = Parser("chat", "Talk with a trained model.", "minilm chat checkpoints/walk/gpt --temperature 0.7")
    parser.option("checkpoint", help="a run's folder (its best checkpoint, else the last) or one checkpoint")
    parser.option("--system", default="", metavar="TEXT", help="what the model is told before the conversation")
    parser.option("--max-new-tokens", type=int, default=200, metavar="N", help="longest answer (default: 200)")
    parser.option("--seed", type=seed, default=0, metavar="S", help="same seed, same answers (default: 0)")
    parser.add_config(SampleConfig, shown=("temperature", "top_k", "top_p"))
    add_model_flags(parser)
    return parser


def run(arguments: list[str]) -> int:
    """Parse the flags, load the model, talk until the end of the input."""
    options = parser_of_chat().read(arguments)
    config = make_config(SampleConfig, vars(options))
    if options.max_new_tokens < 1:
        raise ValueError(f"--max-new-tokens is {options.max_new_tokens}: it must be at least 1")
    if not is_text(options.system):
        raise ValueError("--system is not valid UTF-8")
    if sys.stdin is None:
        raise ValueError("standard input is closed: there is nobody to talk to")

    from minilm.cli.talk import Talk
    from minilm.cli.writing import load_writer

    model, tokenizer = load_writer(options.checkpoint, options.device, options.int8, options.fast, options.base)
    talk = Talk(model, tokenizer, options.system, config, options.seed, options.max_new_tokens)
    if not talk.form.taught:
        say(UNTAUGHT)
    if sys.stdin.isatty():
        say(HELP)
    converse(talk)
    return 0


def converse(talk: Any) -> None:
    """Line after line, until /exit or the end of the input. Ctrl-C stops an answer, and not the program."""
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    while True:
        try:
            line = read_line()
            if line is None or line == "/exit":
                return
            react(talk, line)
        except KeyboardInterrupt:
            say("")
            say(HELP)


def read_line() -> str | None:
    """What the user writes, without spaces around it; None at the end of the input."""
    try:
        return input("> " if sys.stdin.isatty() and sys.stdout.isatty() else "").strip()
    except EOFError:
        return None


def react(talk: Any, line: str) -> None:
    """Obey a command, or answer. A line that the model cannot read is said to be one, and forgotten."""
    if line == "/reset":
        talk.reset()
        say("all forgotten")
    elif line.startswith("/"):
        say(f"{line.split()[0]} is no command: {HELP}")
    elif not is_text(line):
        say("this line is not valid UTF-8: it was left out")
    elif line:
        try:
            forgotten = talk.hear(line)
        except ValueError as error:
            say(str(error))
            return
        if forgotten:
            say(f"the context is full: the oldest {forgotten} messages are forgotten")
        talk.answer(lambda piece: print(piece, end="", flush=True))
        print(flush=True)


def say(notice: str) -> None:
    """A word of the program, not of the model."""
    print(f"({notice})" if notice else "", file=sys.stderr, flush=True)


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: bytes that cannot are surrogates here."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
