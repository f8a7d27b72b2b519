"""Our byte-pair encoding beside the engines people use, on the same text in the same run.

The text is prose-like, and made here: invented words whose frequencies fall as in a language (Zipf: the n-th word occurs
1/n as often as the first), in sentences with capitals, commas, quotes and numbers.
"""

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from random import Random
from typing import Any

from minilm.runtime import n_cores
from minilm.text.bpe import GPT2_PATTERN, BPETokenizer

Contests = dict[str, tuple[Callable[[], object], Callable[[], object]]]
ONSETS = ["b", "c", "ch", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "st", "t", "th", "w", "", ""]
NUCLEI = ["a", "e", "i", "o", "u", "ea", "y"]
CODAS = ["", "", "", "", "n", "r", "s", "t", "nd", "ll"]
ENDS = [". ", ". ", ". ", ".\n\n", "!\n", "? ", ';" ', ", and 27 "]


def contests() -> Contests:
    """What is compared -> (ours, the peer's): training on 1.1 MB, encoding 4.5 MB, as much as Shakespeare wrote.

    A peer that is not installed is named on stderr, and left out.
    """
    documents = prose(1_100_000, seed=0)
    found: Contests = {}
    for vocab_size in (512, 4096):
        found |= trainings(documents, vocab_size, "1.1 MB")
    text = "".join(prose(4_500_000, seed=1))
    tokenizer = BPETokenizer.train(documents, 1024)
    peer = partial(tokenizer.engine.encode_ordinary, text)

    def cold() -> list[int]:
        tokenizer.cache.clear()
        return tokenizer.encode_readable(text)

    found["encode / tiktoken's engine"] = (partial(tokenizer.encode, text), peer)
    found["readable encoder, nothing remembered / tiktoken's engine"] = (cold, peer)
    found["readable encoder, warm / tiktoken's engine"] = (partial(tokenizer.encode_readable, text), peer)
    return found


def large_contests() -> Contests:
    """Training on 50 MB, which takes some ten seconds a run; ours counts in as many processes as there are cores."""
    return trainings(prose(50_000_000, seed=2), 4096, "50 MB")


def trainings(documents: list[str], vocab_size: int, size: str) -> Contests:
    """Ours and each peer that is installed, learning from the same documents."""
    ours = partial(BPETokenizer.train, documents, vocab_size, processes=n_cores())
    found: Contests = {}
    for package, name, peer in (
        ("tokenizers", "Hugging Face tokenizers", huggingface_training),
        ("rustbpe", "rustbpe", rustbpe_training),
    ):
        if importlib.util.find_spec(package) is None:
            print(
                f"{package} is not installed: its row is left out (pip install 'minilm[test,bench]')", file=sys.stderr
            )
        else:
            found[f"BPE training, {size} to {vocab_size:,} tokens / {name}"] = (
                ours,
                partial(peer, documents, vocab_size),
            )
    return found


def huggingface_training(documents: list[str], vocab_size: int) -> Any:
    """The Rust trainer of `tokenizers`, with as many merges as ours."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    peer = Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False)
    peer.train_from_iterator(documents, trainer)
    return peer


def rustbpe_training(documents: list[str], vocab_size: int) -> Any:
    """The Rust trainer that nanochat uses, with as many merges as ours."""
    import rustbpe

    peer = rustbpe.Tokenizer()
    peer.train_from_iterator(iter(documents), vocab_size - 1, pattern=GPT2_PATTERN)
    return peer


def prose(size: int, seed: int) -> list[str]:
    """Documents of about two thousand characters, together `size` or a little more; the words are the same for every seed."""
    makers = Random("words")
    syllables = [onset + nucleus + coda for onset in ONSETS for nucleus in NUCLEI for coda in CODAS]
    lengths = (1 if rank < 400 else 2 if rank < 4000 else 3 for rank in range(12_000))  # frequent words are short
    words = ["".join(makers.choices(syllables, k=length)) for length in lengths]
    chances = list(accumulate(1 / (rank + 1) for rank in range(len(words))))
    rng = Random(seed)
    documents: list[str] = []
    length = 0
    while length < size:
        parts: list[str] = []
        for _ in range(30):
            sentence = " ".join(rng.choices(words, cum_weights=chances, k=rng.randrange(4, 22))).capitalize()
            parts.append(sentence.replace(" the", ", the") + rng.choice(ENDS))
        documents.append("".join(parts))
        length += len(documents[-1])
    return documents
