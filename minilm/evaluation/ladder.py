"""The ladder: every model on the same held-out text, from pure chance to the best. One rung is one row of the table.

Bits per byte can be compared across the rungs: 8 is what the file itself takes, so a model with 2 bits per byte would
compress the text to 25 %. The n-gram is the honest bar: it counts for a second, and many a small transformer needs more
bits.
"""

import math
import random
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.evaluation.evaluate import Evaluation, evaluate, summary, text_ids
from minilm.models.counted import CountedLM
from minilm.models.log_linear import LogLinear
from minilm.models.mixture import Mixture, Pair
from minilm.models.residual import Residual
from minilm.text.stories import StoryWorld, story_floor
from minilm.text.token_file import TokenFile
from minilm.text.tokenizer import Tokenizer

Writer = Callable[[Any], str]  # a model -> a line of text that it wrote


@dataclass(frozen=True)
class Rung:
    """A model on the ladder: how good it is, what it took, what it does in a sentence, and a line of its own."""

    name: str
    evaluation: Evaluation
    train_seconds: float
    parameters: int  # weights, or different n-grams counted
    sentence: str
    sample: str = ""

    @property
    def bits_per_byte(self) -> float:
        return self.evaluation.bits_per_byte

    @property
    def compresses_to(self) -> float:
        """The fraction of its size to which the model would compress the text."""
        return self.bits_per_byte / 8

    def to_dict(self) -> dict[str, Any]:
        """Flat and ready for JSON."""
        row = asdict(self)
        figures = row.pop("evaluation")
        figures["evaluation_seconds"] = figures.pop("seconds")
        return {"model": row.pop("name"), **figures, "compresses_to": self.compresses_to, **row}


def uniform_rung(validation: TokenFile, tokenizer: Tokenizer, *, seed: int = 0, max_bytes: int | None = None) -> Rung:
    """The floor: all 256 bytes are equally likely, so each costs 8 bits."""
    ids, n_bytes = text_ids(validation, tokenizer, max_bytes)
    tokens = int(np.count_nonzero(ids != tokenizer.end_of_text))
    noise = np.random.default_rng(seed).bytes(60).decode("utf-8", errors="replace")
    evaluation = summary(n_bytes * 8 * math.log(2), tokens, n_bytes, seconds=0.0)
    return Rung("uniform", evaluation, 0.0, 0, "knows nothing: all 256 bytes are equally likely", noise)


def floor_rung(
    validation: TokenFile, tokenizer: Tokenizer, *, seed: int = 0, max_bytes: int | None = None
) -> Rung | None:
    """What the text costs under the story world that wrote it; None if any document is no built-in story.

    Nobody knows the stories better than the world itself, so over many documents no model needs less. On a few it may,
    by chance: these documents cost more or less than the average, the entropy, which stands in the sentence.
    """
    ids, n_bytes = text_ids(validation, tokenizer, max_bytes)
    started, world, nats = time.perf_counter(), StoryWorld(), 0.0
    begins = np.flatnonzero(ids == tokenizer.end_of_text)
    for begin, end in pairwise([*begins.tolist(), len(ids)]):
        cut = end == len(ids) < len(validation.ids)  # max_bytes may end in the middle of a story
        try:
            nats -= world.log_prob(tokenizer.decode(ids[begin + 1 : end].tolist()), cut)
        except ValueError:
            return None
    evaluation = summary(nats, len(ids) - len(begins), n_bytes, time.perf_counter() - started)
    about = f"the story world itself: no model can do better; its entropy is {story_floor().bits_per_byte:.4f}"
    return Rung("true floor", evaluation, 0.0, 0, about, world.render(world.sample(random.Random(seed))))


def model_rung(
    name: str,
    model: Any,
    validation: TokenFile,
    tokenizer: Tokenizer,
    train_seconds: float,
    *,
    write: Writer | None = None,
    max_bytes: int | None = None,
) -> Rung:
    """Evaluate a trained model of any kind; `write` lets it write its line."""
    evaluation = evaluate(model, validation, tokenizer, max_bytes=max_bytes)
    sample = write(model) if write else ""
    return Rung(name, evaluation, train_seconds, n_parameters(model), sentence(model), sample)


def counted_rungs(
    train: TokenFile,
    validation: TokenFile,
    tokenizer: Tokenizer,
    config: NgramConfig,
    *,
    write: Writer | None = None,
    max_bytes: int | None = None,
) -> Iterator[tuple[Rung, CountedLM]]:
    """Unigram, bigram and the n-gram of `config`, counted on `train`, each with its model and as soon as it stands."""
    shorter = replace(config, discounts=())  # discounts are given for one order only; here they are estimated
    models = {"unigram": replace(shorter, order=1), "bigram": replace(shorter, order=2), ngram_name(config): config}
    for name, settings in models.items():
        started = time.perf_counter()
        model = CountedLM(NgramLM(settings).fit(train.ids, tokenizer.end_of_text))
        seconds = time.perf_counter() - started
        yield model_rung(name, model, validation, tokenizer, seconds, write=write, max_bytes=max_bytes), model


def ngram_name(config: NgramConfig) -> str:
    """What the strongest n-gram is called: Kneser-Ney where that is its smoothing."""
    return "Kneser-Ney" if config.is_kneser_ney else f"{config.order}-gram"


def n_parameters(model: Any) -> int:
    """How many numbers the model has learned: weights, or different n-grams."""
    if isinstance(model, Pair):
        return n_parameters(model.neural) + n_parameters(model.counted)
    if hasattr(model, "n_parameters"):
        return model.n_parameters
    return sum(weight.numel() for weight in model.parameters())


def sentence(model: Any) -> str:
    """What the model does, for someone who has never heard of it."""
    if isinstance(model, Mixture):
        return f"asks both and averages: {model.config.weight:.0%} the GPT, the rest the n-gram"
    if isinstance(model, LogLinear):
        return "lets both vote: a token is likely if both find it so"
    if isinstance(model, Residual):
        return "starts from the n-gram's answer and corrects it"
    if hasattr(model.config, "n_states"):
        return f"remembers one of {model.config.n_states} hidden states, and which of them usually come next"
    if hasattr(model.config, "cell"):
        kept = model.config.n_layers * model.config.d_model * (2 if model.config.cell == "lstm" else 1)
        return f"reads token by token; all that it remembers are {kept:,} numbers"
    order = getattr(model.config, "order", None)
    if order is None:
        return f"weighs up to {model.config.context_length} tokens before the next one against each other"
    if order == 1:
        return "knows how often each token occurs, and nothing of its neighbours"
    if order == 2:
        return "looks up what followed the last token"
    return f"looks up the last {order - 1} tokens, backs off to fewer when unseen"


def format_ladder(rungs: Iterable[Rung], width: int = 100) -> str:
    """The table, at most `width` columns wide: two lines a rung, its figures and its sentence."""
    rungs = list(rungs)
    heads = ("compresses to", "bits per byte", "seconds")
    first = min(24, max(len("model"), *(display_width(rung.name) for rung in rungs))) if rungs else len("model")
    room = width - first - 2 - sum(len(head) + 2 for head in heads)

    def line(name: str, sample: str, figures: Iterable[str]) -> str:
        cells = (f"{figure:>{len(head)}}" for figure, head in zip(figures, heads, strict=True))
        return "  ".join((clip(name, first), clip(sample, room), *cells))

    lines = [line("model", "writes", heads), "-" * width]
    for rung in rungs:
        percent = f"{100 * rung.compresses_to:.1f} %"
        figures = (percent, f"{rung.bits_per_byte:.3f}", f"{rung.train_seconds:,.1f}")
        lines.append(line(rung.name, one_line(rung.sample), figures))
        lines.append(f"{'':{first}}  {clip(rung.sentence, width - first - 2).rstrip()}")
    return "\n".join(lines)


def ladder_to_dict(rungs: Iterable[Rung]) -> dict[str, Any]:
    """The ladder for JSON, lowest rung first."""
    return {"unit": "bits per byte of the original UTF-8 text", "rungs": [rung.to_dict() for rung in rungs]}


def one_line(text: str) -> str:
    """Line breaks and other white space become one blank, what cannot be printed a dot."""
    return "".join(c if c.isprintable() else "·" for c in " ".join(text.split()))


def display_width(text: str) -> int:
    """How many columns of a terminal the text takes: Chinese and emoji take two, accents that combine none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def clip(text: str, width: int) -> str:
    """The text in exactly `width` columns: cut with an ellipsis, or filled up with blanks."""
    if display_width(text) > width:
        while text and display_width(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - display_width(text))
