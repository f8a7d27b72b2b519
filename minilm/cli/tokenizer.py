"""`minilm tokenizer`: train a tokenizer, see how one cuts a text, or write it in another format."""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from minilm.cli.options import Parser, seed
from minilm.runtime import n_cores

if TYPE_CHECKING:
    from minilm.text.bpe_train import Merge
    from minilm.text.tokenizer import Tokenizer

KINDS = ("bpe", "char", "byte")
FORMATS = ("minilm", "tiktoken", "huggingface")


def run(arguments: list[str]) -> int:
    """Train with --data, or read one with --load; then write it, or cut --text with it."""
    options = read_options(arguments)

    from minilm.text.corpus import load_corpus
    from minilm.text.tokenizer_formats import load_any
    from minilm.training.prepare import train_tokenizer

    trace: list[Merge] = []
    started = time.perf_counter()
    if options.load:
        tokenizer = load_any(options.load)
    else:
        how = {"min_frequency": options.min_frequency, "processes": n_cores(), "on_merge": trace.append}
        tokenizer = train_tokenizer(options.kind, load_corpus(options.data), options.vocab_size, **how)
    seconds = time.perf_counter() - started
    if options.out:
        save(tokenizer, options.out, options.format)
    shown = trace[: options.trace]
    ids = tokenizer.encode(options.text) if options.text is not None else []
    pieces = [readable(tokenizer.token_bytes[i]) for i in ids]
    if options.json:
        figures = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}
        merges = [[merge.token, *map(readable, merge.parts), merge.count] for merge in shown]
        figures |= {"seconds": round(seconds, 3), "ids": ids, "pieces": pieces, "merges": merges}
        print(json.dumps(figures, ensure_ascii=False))
        return 0
    done = "loaded" if options.load else f"trained in {seconds:.1f} s"
    saved = f", saved as {options.out}" if options.out else ""
    print(f"{tokenizer.kind} tokenizer, {tokenizer.vocab_size:,} tokens, {done}{saved}")
    if shown:
        print("\n".join(table(shown)))
    if options.text is not None:
        print(" ".join(f"[{piece}]" for piece in pieces))
        print(f"{len(ids)} tokens for {len(options.text.encode())} bytes: {ids}")
    return 0


def read_options(arguments: list[str]) -> argparse.Namespace:
    """The flags, checked as far as that goes without reading a file."""
    parser = Parser(
        "tokenizer",
        "Train a tokenizer on a corpus, show how one cuts a text into tokens, or write it in another format.",
        "minilm tokenizer --data stories --vocab-size 512 --out tokenizer.json --text 'Once upon a time'",
    )
    parser.option("--data", metavar="TEXT", help="train on this corpus or path")
    parser.option("--kind", choices=KINDS, default="bpe", help="bpe, char or byte (default: bpe)")
    parser.option(
        "--vocab-size", type=int, default=1024, metavar="V", help="256 bytes + merges + specials (default: 1024)"
    )
    parser.option(
        "--min-frequency", type=int, default=1, metavar="N", help="merge no pair that occurs less often (default: 1)"
    )
    parser.option("--trace", type=int, default=0, metavar="N", help="show the first N merges of the training")
    parser.option("--out", metavar="FILE", help="write the tokenizer here")
    parser.option("--format", choices=FORMATS, default="minilm", help="of --out (default: minilm)")
    parser.option("--load", metavar="FILE", help="use this one: ours, *.tiktoken, or Hugging Face's tokenizer.json")
    parser.option("--text", metavar="TEXT", help="cut this text into tokens")
    parser.option("--seed", type=seed, default=0, rare=True, help="accepted everywhere; training draws nothing")
    parser.option("--json", action="store_true", help="one JSON object")
    options = parser.read(arguments)
    if (options.data is None) == (options.load is None):
        raise ValueError("say either --data TEXT (train a tokenizer) or --load FILE (use one)")
    if options.trace < 0:
        raise ValueError(f"--trace is {options.trace}: it must be at least 0")
    if options.min_frequency < 1:
        raise ValueError(f"--min-frequency is {options.min_frequency}: it must be at least 1")
    if options.trace and (options.load or options.kind != "bpe"):
        raise ValueError("--trace shows the training of a bpe tokenizer: say --data TEXT, and no other --kind")
    if options.format != "minilm" and not options.out:
        raise ValueError(f"--format {options.format} says how to write: add --out FILE")
    if options.out and (Path(options.out).is_dir() or not Path(options.out).parent.is_dir()):
        raise ValueError(f"--out {options.out}: name a file in a folder that exists")
    return options


def save(tokenizer: "Tokenizer", path: str, format: str) -> None:
    """Write the tokenizer in one of FORMATS."""
    from minilm.text.tokenizer_formats import save_huggingface, save_tiktoken

    if format == "minilm":
        tokenizer.save(path)
    else:
        {"tiktoken": save_tiktoken, "huggingface": save_huggingface}[format](tokenizer, path)


def readable(piece: bytes) -> str:
    """What a token stands for, with a backslash for the bytes of an unfinished character."""
    return piece.decode("utf-8", errors="backslashreplace")


def table(merges: "list[Merge]") -> list[str]:
    """A line for each merge: its token, how often the pair occurred, and what became what."""
    rows = [("token", "count", "merge")]
    for merge in merges:
        left, right, both = (repr(readable(piece)) for piece in (*merge.parts, b"".join(merge.parts)))
        rows.append((str(merge.token), f"{merge.count:,}", f"{left} + {right} -> {both}"))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return [f"{token:>{widths[0]}}  {count:>{widths[1]}}  {merge}" for token, count, merge in rows]
