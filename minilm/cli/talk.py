"""A conversation with a model: how it becomes ids, what of it still fits, and the answers. The terminal is in `chat.py`.

What somebody writes is encoded as ordinary text: it can never become one of the tokens that say who speaks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from minilm.cli.writing import StopDecoder
from minilm.decoding.config import SampleConfig
from minilm.decoding.reading import Reader, generate_on
from minilm.decoding.sampling import Sampler
from minilm.text.chat import CHAT_TOKENS, NAMES, encode_prompt
from minilm.text.tokenizer import Tokenizer

Message = dict[str, str]  # role, content: as `text/chat.py` has them


@dataclass(frozen=True)
class Form:
    """How a conversation becomes ids, and before which texts an answer ends."""

    encode: Callable[[Sequence[Message]], list[int]]
    stops: tuple[str, ...]
    taught: bool


def form_of(tokenizer: Tokenizer) -> Form:
    """The special tokens of a chat where the tokenizer has them; else a dialogue in plain text."""
    taught = set(CHAT_TOKENS) <= set(tokenizer.special_tokens)
    stops = () if taught else tuple(f"\n{name}:" for name in NAMES.values())
    return Form(lambda messages: encode_prompt(messages, tokenizer), stops, taught)


class Talk:
    """A conversation: what was said, and the model that answers. ValueError if not even its beginning can be read."""

    def __init__(
        self, model: Any, tokenizer: Tokenizer, system: str, config: SampleConfig, seed: int, max_new_tokens: int
    ) -> None:
        self.tokenizer, self.config = tokenizer, config
        self.seed, self.max_new_tokens = seed, max_new_tokens
        self.form = form_of(tokenizer)
        self.system: list[Message] = [{"role": "system", "content": system}] if system else []
        self.limit: int | None = getattr(model.config, "context_length", None)
        self.reader = Reader(model, self.limit)  # what it has read of a conversation it does not read again
        self.reset()
        self.hear("")
        self.reset()

    def reset(self) -> None:
        """Begin anew, with the seed too."""
        self.turns: list[Message] = []  # of user and assistant, in turn
        self.ids: list[int] = []
        self.sampler = Sampler(self.config, torch.Generator().manual_seed(self.seed))

    def hear(self, text: str) -> int:
        """Add a message of the user -> how many of the oldest messages had to be forgotten, so that an answer has room.

        ValueError, and nothing is added, if the model cannot read it.
        """
        turns, dropped = [*self.turns, {"role": "user", "content": text}], 0
        ids = self.form.encode([*self.system, *turns])
        while self.limit is not None and len(ids) + min(self.max_new_tokens, self.limit // 2) > self.limit:
            if len(turns) <= 2:  # only the new message is left
                most = self.limit - min(self.max_new_tokens, self.limit // 2)
                if not text and not self.system:
                    raise ValueError(f"the model reads {self.limit} tokens at a time, which are too few to talk in")
                what = "that is" if text else "--system takes"
                raise ValueError(
                    f"{what} {len(ids)} tokens with what goes before it, there is room for {most}: shorten it"
                )
            turns, dropped = turns[2:], dropped + 2
            ids = self.form.encode([*self.system, *turns])
        self.turns, self.ids = turns, ids
        return dropped

    def answer(self, show: Callable[[str], None]) -> None:
        """Let the model answer what it has heard; pieces of text are shown as they come. Ctrl-C ends the answer."""
        decoder, text = StopDecoder(self.tokenizer, self.form.stops), ""
        signals = frozenset(self.tokenizer.special_tokens.values())
        self.turns.append({"role": "assistant", "content": text})
        try:
            for token in generate_on(self.reader, self.ids, self.sampler, self.max_new_tokens, signals):
                text = self.add(text, decoder.feed(token), show)
                if decoder.stopped:
                    break
            self.add(text, decoder.flush(), show)
        except KeyboardInterrupt:
            show(" ...")

    def add(self, text: str, piece: str, show: Callable[[str], None]) -> str:
        """Show a piece and keep it. A dialogue in plain text has a space before the answer, which is not part of it."""
        piece = piece if text or self.form.taught else piece.lstrip()
        self.turns[-1]["content"] = text + piece
        show(piece)
        return text + piece
