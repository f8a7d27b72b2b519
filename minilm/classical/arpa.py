r"""n-gram models as ARPA files: the text format in which KenLM, SRILM and many other tools keep theirs.

    \data\
    ngram 1=2205                      how many n-grams of each length there are
    \1-grams:
    -1.9013356	was	-0.99309945       log10 of the probability, the words, log10 of the back-off weight (0 if left out)
    \end\

However the probabilities were smoothed, all files are read in one way:

    p(w | context) = the probability in the file                      if it has the n-gram (context w)
                     weight(context) * p(w | context but its first)   else; the weight of an unseen context is 1

So Kneser-Ney, which interpolates, writes for each n-gram the whole sum, share + leftover * p of the shorter context, and for
each context its leftover: what ngram.py computes and what the file says are the same numbers.

<|endoftext|> becomes two words, `<s>` where it opens a context and `</s>` where it is predicted. `<unk>` stands for all
words without an id of their own. Our models know every id, so a file has `<unk>` only if one id was set apart for it.
A word is the token's bytes with %20 for a blank, and so on for `%`, `<` and all that is not printable ASCII; a
token without bytes is the word %.
"""

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import Level, NgramLM
from minilm.runtime import whole_file

BEGIN, END, UNKNOWN, END_OF_TEXT = b"<s>", b"</s>", b"<unk>", b"<|endoftext|>"
PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in "%<")
ZERO = -99.0  # the logarithm that stands for a probability of 0, here and below


class ArpaLM(NgramLM):
    """An n-gram model that was read from a file: it has probabilities, but no counts. names[id] is what an id stands for."""

    def __init__(self, config: NgramConfig, names: list[bytes], end_of_text: int, unknown: int | None) -> None:
        super().__init__(config)
        self.names, self.end_of_text, self.unknown = names, end_of_text, unknown

    def encode(self, words: Iterable[bytes]) -> np.ndarray:
        """Words -> ids (N,); a word that the file does not know is `<unk>`, and a ValueError where it has none."""
        known = {name: token for token, name in enumerate(self.names)}
        ids = [known.get(word, -1 if self.unknown is None else self.unknown) for word in words]
        if -1 in ids:
            raise ValueError("a word is not in the ARPA file, which has no <unk>: use words that it knows")
        return np.array(ids, dtype=np.int64)

    def arrays(self) -> dict[str, np.ndarray]:
        raise ValueError("a model from an ARPA file has no counts for a checkpoint: keep the file, or fit a model")


def to_word(name: bytes) -> str:
    """Any bytes as a word without blanks: b" a%" -> %20a%25."""
    return quote_from_bytes(name, safe=PRINTABLE) or "%"


def from_word(word: bytes) -> bytes:
    """The bytes that `to_word` wrote so."""
    return b"" if word == b"%" else unquote_to_bytes(word)


def write_arpa(model: NgramLM, path: str | Path, names: Sequence[bytes], unknown: int | None = None) -> None:
    """Write a model whose tokens have these names, a tokenizer's token_bytes; `unknown` is the id that becomes `<unk>`.

    The file appears whole or not at all. ValueError for a model without counts, for add-k, which does not back off, and
    for names that do not fit.
    """
    V = model.config.vocab_size
    if not model.levels:
        raise ValueError("this n-gram model has no counts: call fit(ids, end_of_text) first")
    if model.config.smoothing == "add-k":
        raise ValueError("add-k spreads what it takes evenly and never backs off: choose a Kneser-Ney smoothing")
    words = [to_word(name) for name in names]
    if len(words) != V or not (unknown is None or 0 <= unknown < V) or unknown == model.end_of_text:
        raise ValueError(f"{len(words)} names and unknown = {unknown} for {V} tokens: give each token a name")
    words[model.end_of_text] = END.decode()
    if unknown is not None:
        words[unknown] = UNKNOWN.decode()
    if len(set(words)) < V:
        twice = next(word for word, other in pairwise(sorted(words)) if word == other)
        raise ValueError(f"two tokens are named {twice}: an ARPA file needs a different name for each")
    with whole_file(path) as unfinished, open(unfinished, "w", encoding="ascii", newline="\n") as file:
        file.writelines(lines_of(model, words))


def lines_of(model: NgramLM, words: list[str]) -> Iterator[str]:
    """The lines of the file, the shortest n-grams first. n-grams of a length that the text never reached are left out."""
    levels = [level for level in model.levels if len(level.counts)]
    yield "\\data\\\n"
    for n, level in enumerate(levels, start=1):
        yield f"ngram {n}={len(level.counts) + (n == 1)}\n"  # among the single words is also <s>
    grams, texts = np.empty((1, 0), dtype=np.int64), [""]  # of the contexts: ids (contexts, n - 1), and in words
    for n, level in enumerate(levels, start=1):
        context, token = np.divmod(level.keys[:-1], model.config.vocab_size)
        grams = np.column_stack([grams[context], token])
        texts = [f"{texts[c]} {words[t]}".lstrip() for c, t in zip(context.tolist(), token.tolist(), strict=True)]
        p = to_log10(np.exp(np.minimum(last_log_probs(model, grams), 0)))
        weights = to_log10(levels[n].leftover[:-1]) if n < len(levels) else np.zeros(len(p))
        yield f"\n\\{n}-grams:\n"
        if n == 1:
            yield line_of(ZERO, BEGIN.decode(), weights[model.end_of_text])
            weights[model.end_of_text] = 0
        yield from map(line_of, p.tolist(), texts, weights.tolist())
        if n == 1:
            texts[model.end_of_text] = BEGIN.decode()
    yield "\n\\end\\\n"


def line_of(p: float, text: str, weight: float) -> str:
    return f"{p:.9g}\t{text}\t{weight:.9g}\n" if weight else f"{p:.9g}\t{text}\n"


def last_log_probs(model: NgramLM, grams: np.ndarray) -> np.ndarray:
    """log p(the last token of each row | those before it), in nats: (R, n) -> (R,)."""
    n, parts = grams.shape[1], np.array_split(grams, grams.size // 2**20 + 1)
    return np.concatenate([model.token_log_probs(part.ravel(), np.arange(part.size) % n)[n - 1 :: n] for part in parts])


def to_log10(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log10(p), ZERO)


def from_log10(logs: np.ndarray) -> np.ndarray:
    return np.where(logs > ZERO, 10.0**logs, 0.0)


def read_arpa(path: str | Path) -> ArpaLM:
    """The model in this file. The ids are the places of the words in the file's list of single words, without `<s>`.

    ValueError in one line for a file that is cut, or is no ARPA file at all.
    """
    with open(path, "rb") as file:  # words are bytes: a file may be in any encoding
        lines = (stripped for line in file if (stripped := line.strip()))
        try:
            return parse(lines)
        except ValueError as error:
            raise ValueError(f"{path} is not a whole ARPA file: {error}") from None


def parse(lines: Iterator[bytes]) -> ArpaLM:
    """The lines of a file, without the empty ones -> its model."""
    sizes, lines = announced(lines)
    singles = {word: [p, weight] for (word,), p, weight in entries(lines, 1, sizes[0])}
    begin = singles.pop(BEGIN, None)
    if begin is None or END not in singles or len(singles) < sizes[0] - 1:
        raise ValueError("its single words must differ, and <s> and </s> be among them")
    singles[END][1] = begin[1]  # only <s> is ever a context
    ids = {word: token for token, word in enumerate(singles)}
    names = [END_OF_TEXT if word == END else from_word(word) for word in ids]
    model = ArpaLM(NgramConfig(len(ids), len(sizes)), names, ids[END], ids.get(UNKNOWN))
    left = add_level(model, np.arange(len(ids))[:, None], from_log10(np.array(list(singles.values()))), np.zeros(1))
    inside = {word: token for word, token in ids.items() if word != END}
    for order, size in enumerate(sizes[1:], start=2):
        tables = [inside | {BEGIN: ids[END]}, *[inside] * (order - 2), ids]  # which words may stand at each place
        tokens, logs = array("q"), array("d")
        for words, p, weight in entries(lines, order, size):
            try:
                tokens.extend([table[word] for table, word in zip(tables, words, strict=True)])
            except KeyError as error:
                raise ValueError(f"{error.args[0][:60]!r} is not among its words, or must not stand there") from None
            logs.extend((p, weight))
        grams, numbers = np.array(tokens).reshape(-1, order), np.array(logs).reshape(-1, 2)
        left = add_level(model, grams, from_log10(numbers), left)
    if (line := next(lines, b"")) != b"\\end\\":
        raise ValueError(f"\\end\\ is due, not {line[:60]!r}")
    return model


def announced(lines: Iterator[bytes]) -> tuple[list[int], Iterator[bytes]]:
    """How many n-grams of each length the file says it has, and the lines that follow."""
    if b"\\data\\" not in lines:  # reads up to it: what stands before is a comment
        raise ValueError("it has no line \\data\\")
    sizes: list[int] = []
    while (line := next(lines, b"")).startswith(b"ngram "):
        size = re.fullmatch(rb"ngram +%d *= *([1-9]\d{0,17})" % (len(sizes) + 1), line)
        if size is None:
            raise ValueError(f"{line[:60]!r} does not say how many {len(sizes) + 1}-grams there are")
        sizes.append(int(size[1]))
    if not sizes:
        raise ValueError("it does not say how many n-grams there are")
    return sizes, chain([line], lines)


def entries(lines: Iterator[bytes], n: int, size: int) -> Iterator[tuple[list[bytes], float, float]]:
    """The next section: of each of its `size` n-grams the words and, as log10, the probability and the weight."""
    if (line := next(lines, b"")) != b"\\%d-grams:" % n:
        raise ValueError(f"\\{n}-grams: is due, not {line[:60]!r}")
    for line in islice(lines, size):
        first, *fields = line.split()
        words, last = fields[:n], fields[n:] or [b"0"]
        try:
            p, weight = (float(number) for number in (first, *last))
            if len(words) < n:
                raise ValueError
        except ValueError:
            raise ValueError(f"{line[:60]!r} is no {n}-gram with a logarithm before and perhaps one behind") from None
        if not (p <= 0 and weight <= 10):  # NaN is neither
            raise ValueError(f"{line[:60]!r} has a logarithm that is not at most 0, or a weight's that is above 10")
        yield words, p, weight


def add_level(model: ArpaLM, grams: np.ndarray, numbers: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Put n-grams (R, n) with their probabilities and weights (R, 2) on top of the model; -> the sorted weights (R,).

    `left` (contexts,) is what this returned for the contexts: their leftover. The share of an n-gram is what its
    probability has beyond its part of the leftover.
    """
    context = np.zeros(len(grams), dtype=np.int64)
    for level, token in zip(model.levels, grams.T, strict=False):
        context = level.find(context * model.config.vocab_size + token)
    keys = context * model.config.vocab_size + grams[:, -1]
    rows = np.argsort(keys)
    if context.min() < 0 or not np.diff(keys[rows]).all():
        raise ValueError(
            f"one of its {grams.shape[1]}-grams is there twice, or begins with an n-gram that is not there"
        )
    shorter = np.exp(last_log_probs(model, grams[:, 1:])) if model.levels else np.zeros(len(grams))
    spread = left[context] * shorter
    # Less than a billionth of what backing off would give is lost in rounding: the sum must not fall below 0.
    share = np.maximum(numbers[:, 0], 1e-9 * spread) - spread
    model.levels.append(Level.of(model.config.vocab_size, keys[rows], np.ones_like(keys), share[rows], left))
    return numbers[rows, 1]
