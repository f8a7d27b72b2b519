"""`minilm chat`: what the model gets to read, when an answer ends, what is remembered, and what the terminal does to it.

The models are actors: they say lines that the test has given them, whatever they read, and note what they have read.
"""

import io
import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minilm.cli import talk as talk_module
from minilm.cli.chat import converse
from minilm.cli.main import VERBS, help_text, main
from minilm.cli.talk import Talk
from minilm.decoding.config import SampleConfig
from minilm.decoding.generate import generate
from minilm.decoding.reading import Reader, generate_on
from minilm.decoding.sampling import Sampler
from minilm.models.config import GPTConfig, SpeedrunConfig
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.text.bpe import BPETokenizer
from minilm.text.chat import CHAT_TOKENS, ROLES, dialogue
from minilm.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from minilm.training.checkpoint import save_checkpoint

Capture = pytest.CaptureFixture[str]
CHAT = BPETokenizer([], CHAT_TOKENS)
BYTES = ByteTokenizer()
GREEDY = SampleConfig(temperature=0)
END = CHAT.special_tokens["<|end|>"]


@dataclass(frozen=True)
class Shape:
    vocab_size: int
    context_length: int | None = None


class Actor:
    """ids (1, T) -> logits (1, T, V): after a prompt it has not seen before comes the next of its lines, then <|endoftext|>."""

    def __init__(self, tokenizer: Tokenizer, *lines: str | list[int], context_length: int | None = None) -> None:
        self.config = Shape(tokenizer.vocab_size, context_length)
        coded = [tokenizer.encode(line) if isinstance(line, str) else line for line in lines]
        self.lines = itertools.cycle([[*line, tokenizer.end_of_text] for line in coded])
        self.read: list[list[int]] = []  # the prompts
        self.rest: list[int] = []

    def __call__(self, ids: Tensor) -> Tensor:
        text = ids[0].tolist()
        if not self.read or text[:-1] != self.last:
            self.read.append(text)
            self.rest = list(next(self.lines))
        self.last = text
        logits = torch.zeros(1, len(text), self.config.vocab_size)
        logits[0, -1, self.rest.pop(0)] = 9.0
        return logits


def talk_of(model: object, tokenizer: Tokenizer = BYTES, system: str = "", n: int = 40) -> Talk:
    return Talk(model, tokenizer, system, GREEDY, seed=0, max_new_tokens=n)


def answer(talk: Talk, text: str) -> str:
    pieces: list[str] = []
    talk.hear(text)
    talk.answer(pieces.append)
    return "".join(pieces)


def listen(monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))


# ---- what the model reads


def test_a_dialogue_in_plain_text() -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "And?"},
    ]
    assert dialogue(messages) == "Be kind.\n\nUser: Hi\nAssistant: Ho\nUser: And?\nAssistant:"


def test_history_and_system_prompt_are_read() -> None:
    """The second time the model reads what was said the first time, its own answer included."""
    actor = Actor(BYTES, " Ho", " Ha")
    talk = talk_of(actor, system="Be kind.")
    assert [answer(talk, "Hi"), answer(talk, "And?")] == ["Ho", "Ha"]
    assert [BYTES.decode(ids[1:]) for ids in actor.read] == [
        "Be kind.\n\nUser: Hi\nAssistant:",
        "Be kind.\n\nUser: Hi\nAssistant: Ho\nUser: And?\nAssistant:",
    ]
    assert all(ids[0] == BYTES.end_of_text for ids in actor.read)


def test_a_model_that_was_taught_reads_special_tokens() -> None:
    actor = Actor(CHAT, [*b"Ho", END])
    talk = talk_of(actor, CHAT, system="S")
    assert [answer(talk, "Hi"), answer(talk, "So")] == ["Ho", "Ho"]
    text, system, user, assistant, end = (CHAT.special_tokens[name] for name in CHAT_TOKENS)
    first = [text, system, *b"S", end, user, *b"Hi", end, assistant]
    assert actor.read == [first, [*first, *b"Ho", end, user, *b"So", end, assistant]]


@pytest.mark.parametrize("tokenizer", [CHAT, BYTES], ids=["taught", "plain"])
def test_nobody_writes_a_special_token(tokenizer: Tokenizer) -> None:
    """Row 66 of PITFALLS: 1,000 messages out of pieces of the markers, as user and as system; the signals stay the same."""
    pieces = [*CHAT_TOKENS, "<|", "|>", "<", "|", "end", "user", "im_end", "\u200b", "\\", " ", "\n", "</s>", "é"]
    draw = random.Random(0)
    special = set(tokenizer.special_tokens.values())

    def signals(user: str, system: str) -> list[int]:
        talk = talk_of(Actor(tokenizer, "x"), tokenizer, system)
        talk.hear(user)
        return [token for token in talk.ids if token in special]

    expected = signals("Hi", "Be kind.")
    for _ in range(1000):
        user, system = ("".join(draw.choices(pieces, k=draw.randint(1, 6))) for _ in range(2))
        assert signals(user, system) == expected


# ---- when an answer ends


@pytest.mark.parametrize("marker", ["\nUser:", "\nAssistant:"])
def test_an_answer_ends_at_the_next_turn(marker: str) -> None:
    talk = talk_of(Actor(BYTES, f" Well\nUsed 🌙{marker} and so on"))
    assert answer(talk, "Hi") == "Well\nUsed 🌙"
    assert talk.turns[-1] == {"role": "assistant", "content": "Well\nUsed 🌙"}


@pytest.mark.parametrize("name", CHAT_TOKENS)
def test_an_answer_ends_at_any_signal(name: str) -> None:
    talk = talk_of(Actor(CHAT, [*b"Well", CHAT.special_tokens[name], *b"more"]), CHAT)
    assert answer(talk, "Hi") == "Well"


def test_an_answer_has_a_longest_length() -> None:
    assert answer(talk_of(Actor(BYTES, "x" * 90), n=7), "Hi") == "x" * 7


def test_an_answer_comes_in_whole_characters() -> None:
    """Row 61: a token is a byte. A last character that is not whole is replaced, once, at the end."""
    pieces: list[str] = []
    talk = talk_of(Actor(BYTES, [*"né🌙".encode(), 0xF0, 0x9F]))
    talk.hear("Hi")
    talk.answer(pieces.append)
    assert [piece for piece in pieces if piece] == ["n", "é", "🌙", "\ufffd"]


# ---- what is remembered


def test_the_oldest_turns_are_forgotten_when_the_context_is_full() -> None:
    """Message and answer go together, the system prompt and the newest message stay, and an answer always has room."""
    actor = Actor(BYTES, " yes" * 4, context_length=120)
    talk = talk_of(actor, system="Be kind.", n=20)
    forgotten = []
    for i in range(9):
        forgotten.append(talk.hear(f"Question {i}"))
        talk.answer(lambda piece: None)
    assert forgotten[0] == 0 and forgotten[-1] == 2 and set(forgotten) == {0, 2}
    for i, ids in enumerate(actor.read):
        text = BYTES.decode(ids[1:])
        assert len(ids) + 20 <= 120
        assert text.startswith("Be kind.\n\nUser: ") and text.endswith(f"User: Question {i}\nAssistant:")
        assert text.count("User:") == text.count("Assistant:")
    assert "Question 7" in BYTES.decode(actor.read[8][1:]) and "Question 3" not in BYTES.decode(actor.read[8][1:])


def test_what_cannot_be_read_is_not_remembered() -> None:
    talk = talk_of(Actor(BYTES, " yes", context_length=60), n=30)
    answer(talk, "Hi")
    before = list(talk.turns)
    with pytest.raises(ValueError, match=r"^that is .* room for 30"):
        talk.hear("x" * 50)
    assert talk.turns == before
    assert answer(talk, "Ho") == "yes"


def test_a_beginning_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^--system takes .* shorten"):
        talk_of(Actor(BYTES, "x", context_length=60), system="x" * 60)
    with pytest.raises(ValueError, match="reads 16 tokens at a time, which are too few"):
        talk_of(Actor(BYTES, "x", context_length=16))
    with pytest.raises(ValueError, match="not in the training text"):
        talk_of(Actor(CharTokenizer("ab"), "a"), CharTokenizer("ab"))


# ---- what is not read again


def reread(reader: Reader, text: list[int], sampler: Sampler, n: int, stops: frozenset[int]) -> Iterator[int]:
    """As it was: the whole conversation is read anew for each answer."""
    return generate(reader.model, text, sampler, n, stop_tokens=stops)


LETTERS = CharTokenizer.train(["User: Assistant:\n Bekind.abcdefgh?"])
CONVERSATION = ["a?", "be", "bed head", "", "cage?", "dead end", "f", "abcdefgh" * 3, "each", "hen"]


def spoken(
    model: Any, tokenizer: Tokenizer, config: SampleConfig, patch: pytest.MonkeyPatch, how: Any, broken: int = -1
) -> tuple[list[Any], list[int]]:
    """A conversation -> turns and ids after each answer, and how many tokens each call of the model has read.

    In one of the calls Ctrl-C is pressed, when all has been read and nothing is said.
    """
    read, plain = list[int](), model.hidden

    def hidden(ids: Tensor, cache: Any = None) -> Tensor:
        found = plain(ids, cache)
        read.append(ids.shape[1])
        if len(read) - 1 == broken:
            raise KeyboardInterrupt
        return found

    patch.setattr(talk_module, "generate_on", how)
    patch.setattr(model, "hidden", hidden)
    talk, history = Talk(model, tokenizer, "Be kind.", config, seed=3, max_new_tokens=14), []
    for number, text in enumerate(CONVERSATION):
        if number == 6:
            talk.reset()
        forgotten = talk.hear(text)
        talk.answer(lambda piece: None)
        history.append((forgotten, list(talk.turns), list(talk.ids)))
    patch.undo()
    return history, read


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("temperature", [0, 1.3])
@pytest.mark.parametrize("kind", ["learned", "rotary", "speedrun"])
def test_answers_are_those_of_rereading(
    kind: str, temperature: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten turns, a reset, a context that is too short for them, so that history is cut; and Ctrl-C at some moments.

    With bytes most answers are no text: they are read again as something else than what was written.
    """
    cut = False
    for tokenizer, context, moments in ((LETTERS, 110, (0, 17)), (BYTES, 150, (-1,))):
        model = small_talker(kind, tokenizer.vocab_size, context).to(dtype)
        for broken in moments:
            kept, read = spoken(model, tokenizer, SampleConfig(temperature), monkeypatch, generate_on, broken)
            anew, read_anew = spoken(model, tokenizer, SampleConfig(temperature), monkeypatch, reread, broken)
            assert kept == anew
            assert len(read) == len(read_anew) and sum(read) < sum(read_anew)
        cut |= any(forgotten for forgotten, *_ in kept)
    assert cut and len({turns[-1]["content"] for _, turns, _ in kept}) > 3


def small_talker(kind: str, size: int, context: int) -> Any:
    torch.manual_seed(5)
    if kind == "speedrun":
        model: Any = SpeedrunGPT(SpeedrunConfig(size, context_length=context, d_model=24, n_layers=2, n_heads=3))
    else:
        rope = 100.0 if kind == "rotary" else None
        model = GPT(
            GPTConfig(size, context_length=context, d_model=24, n_layers=2, n_heads=3, dropout=0.3, rope_theta=rope)
        )
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape) * 0.3)
    return model


def test_what_was_read_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as nothing is cut: of the last text, each token is read once, but for the first of an answer's end."""
    model = small_talker("learned", CHAT.vocab_size, 1000)
    history, read = spoken(model, CHAT, SampleConfig(0), monkeypatch, generate_on)
    assert not any(forgotten for forgotten, *_ in history)
    _, read_anew = spoken(model, CHAT, SampleConfig(0), monkeypatch, reread)
    prompts = [n for n in read if n > 1]
    assert len(prompts) == 10 and max(prompts) < 120 and sum(read) < 0.6 * sum(read_anew)


# ---- the terminal


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints with random weights: one with the tokens of a chat, and one without."""
    room = tmp_path_factory.mktemp("room")
    torch.manual_seed(3)
    for name, tokenizer in (("taught", CHAT), ("plain", BYTES)):
        model = GPT(GPTConfig(tokenizer.vocab_size, context_length=90, d_model=16, n_layers=1, n_heads=2))
        save_checkpoint(room / name, model, tokenizer)
    return room


def chat(room: Path, name: str, capsys: Capture, *flags: str) -> tuple[str, str]:
    assert main(["chat", str(room / name), "--max-new-tokens", "8", *flags]) == 0
    shown = capsys.readouterr()
    return shown.out, shown.err


def test_a_conversation_is_its_seed(room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after /reset, which begins anew; another seed and another system prompt give another."""
    found = {}
    for name, flags in {"a": [], "b": [], "seed": ["--seed", "1"], "system": ["--system", "Be kind."]}.items():
        listen(monkeypatch, "Hi\nSo?\n")
        found[name], _ = chat(room, "plain", capsys, *flags)
    assert found["a"] == found["b"] and len({found["a"], found["seed"], found["system"]}) == 3
    listen(monkeypatch, "Hi\nSo?\n/reset\nHi\nSo?\n/exit\nnever read\n")
    out, err = chat(room, "plain", capsys)
    assert out == found["a"] * 2 and "(all forgotten)" in err


def test_who_was_not_taught_is_said_so(room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plain", "taught"):
        listen(monkeypatch, "")
        out, err = chat(room, name, capsys)
        assert out == ""
        assert ("has no chat tokens" in err) == (name == "plain")


def test_lines_that_are_no_message(room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    listen(monkeypatch, "\n   \n/help me\n\udce9\n" + "x" * 200 + "\n")
    out, err = chat(room, "taught", capsys)
    assert out == ""
    notices = err.splitlines()
    assert [
        word
        for notice, word in zip(notices, ("/help is no", "not valid UTF-8", "shorten"), strict=True)
        if word in notice
    ]
    assert all(notice.startswith("(") and notice.endswith(")") for notice in notices)


def test_forgetting_is_said(room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    listen(monkeypatch, f"{'x' * 30}\n{'y' * 30}\n{'z' * 30}\n")
    _, err = chat(room, "taught", capsys)
    assert "the oldest 2 messages are forgotten" in err


def interrupted(after: int) -> Callable[..., Iterator[int]]:
    """`generate_on`, in whose first stream Ctrl-C is pressed after some tokens."""
    plain, streams = talk_module.generate_on, itertools.count()

    def stream(*arguments: object, **settings: object) -> Iterator[int]:
        first = next(streams) == 0
        for n, token in enumerate(plain(*arguments, **settings)):  # type: ignore[arg-type]
            if first and n == after:
                raise KeyboardInterrupt
            yield token

    return stream


def test_ctrl_c_stops_the_answer_and_not_the_program(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has been said of the answer is remembered."""
    actor = Actor(BYTES, " abcdef", " second")
    monkeypatch.setattr(talk_module, "generate_on", interrupted(after=4))
    listen(monkeypatch, "Hi\nAnd?\n")
    converse(talk_of(actor))
    assert capsys.readouterr().out == "abc ...\nsecond\n"
    assert BYTES.decode(actor.read[1][1:]) == "User: Hi\nAssistant: abc\nUser: And?\nAssistant:"


def test_ctrl_c_while_waiting_says_how_to_leave(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    presses = iter([KeyboardInterrupt, "Hi", EOFError])

    def next_line(prompt: str) -> str:
        found = next(presses)
        if isinstance(found, str):
            return found
        raise found

    monkeypatch.setattr("builtins.input", next_line)
    converse(talk_of(Actor(BYTES, " yes")))
    shown = capsys.readouterr()
    assert shown.out == "yes\n" and "/exit" in shown.err


BAD = [
    ("no model", [], "checkpoint"),
    ("no such model", ["{room}/missing"], "missing"),
    ("no tokens", ["{room}/plain", "--max-new-tokens", "0"], "--max-new-tokens"),
    ("temperature", ["{room}/plain", "--temperature", "nan"], "temperature"),
    ("half a character", ["{room}/plain", "--system", "\udce9"], "--system"),
    ("a system prompt too long", ["{room}/plain", "--system", "x" * 90], "shorten"),
    ("a device", ["{room}/plain", "--device", "tpu"], "tpu"),
]


@pytest.mark.parametrize(("flags", "named"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_refused(flags: list[str], named: str, room: Path, capsys: Capture) -> None:
    assert main(["chat", *(word.replace("{room}", str(room)) for word in flags)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and named in shown.err


def test_standard_input_that_is_closed(room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["chat", str(room / "plain")]) == 2
    assert "standard input is closed" in capsys.readouterr().err


def test_bytes_through_pipes(room: Path, subprocess_env: dict[str, str]) -> None:
    """As a process: a line that is no UTF-8 is left out, an answer comes as UTF-8, and a reader that leaves is no error."""
    command = [sys.executable, "-m", "minilm", "chat", str(room / "taught"), "--max-new-tokens", "5"]
    env = {**subprocess_env, "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(command, input=b"caf\xe9\ncaf\xc3\xa9\n", capture_output=True, env=env, check=False)
    assert done.returncode == 0 and done.stderr.count(b"\n") == 1 and b"not valid UTF-8" in done.stderr
    assert done.stdout.decode().endswith("\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, input=b"Hi\n", stdout=writer, stderr=subprocess.PIPE, env=env, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_chat_is_a_verb_of_help_all() -> None:
    assert "chat" in VERBS
    assert "  chat " in help_text(everything=True) and "  chat " not in help_text(everything=False)
    assert set(ROLES) == {"system", "user", "assistant"}
