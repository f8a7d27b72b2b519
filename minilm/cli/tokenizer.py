"""`minilm tokenizer`: train a tokenizer, or see how one cuts a text."""

import json
import time
from pathlib import Path

from minilm.cli.options import Parser, seed

KINDS = ("bpe", "char", "byte")


def run(arguments: list[str]) -> int:
    """Train with --data and --out, or cut --text with a saved tokenizer."""
    parser = Parser(
        "tokenizer",
        "Train a tokenizer on a corpus, or show how one cuts a text into tokens.",
        "minilm tokenizer --data stories --vocab-size 512 --out tokenizer.json --text 'Once upon a time'",
    )
    parser.option("--data", metavar="TEXT", help="train on this corpus or path")
    parser.option("--kind", choices=KINDS, default="bpe", help="bpe, char or byte (default: bpe)")
    parser.option(
        "--vocab-size", type=int, default=1024, metavar="V", help="256 bytes + merges + specials (default: 1024)"
    )
    parser.option("--out", metavar="FILE", help="write the trained tokenizer here")
    parser.option("--load", metavar="FILE", help="use this tokenizer instead of training one")
    parser.option("--text", metavar="TEXT", help="cut this text into tokens")
    parser.option("--seed", type=seed, default=0, rare=True, help="accepted everywhere; training draws nothing")
    parser.option("--json", action="store_true", help="one JSON object")
    options = parser.read(arguments)
    if (options.data is None) == (options.load is None):
        raise ValueError("say either --data TEXT (train a tokenizer) or --load FILE (use one)")

    from minilm.text.corpus import load_corpus
    from minilm.text.tokenizer import load_tokenizer
    from minilm.training.prepare import train_tokenizer

    if options.out and (Path(options.out).is_dir() or not Path(options.out).parent.is_dir()):
        raise ValueError(f"--out {options.out}: name a file in a folder that exists")
    started = time.perf_counter()
    if options.load:
        tokenizer = load_tokenizer(options.load)
    else:
        tokenizer = train_tokenizer(options.kind, load_corpus(options.data), options.vocab_size)
    seconds = time.perf_counter() - started
    if options.out:
        tokenizer.save(options.out)
    ids = tokenizer.encode(options.text) if options.text is not None else []
    pieces = [tokenizer.token_bytes[i].decode("utf-8", errors="backslashreplace") for i in ids]
    if options.json:
        figures = {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}
        print(json.dumps({**figures, "seconds": round(seconds, 3), "ids": ids, "pieces": pieces}, ensure_ascii=False))
        return 0
    done = "loaded" if options.load else f"trained in {seconds:.1f} s"
    print(
        f"{tokenizer.kind} tokenizer, {tokenizer.vocab_size:,} tokens, {done}"
        + (f", saved as {options.out}" if options.out else "")
    )
    if options.text is not None:
        print(" ".join(f"[{piece}]" for piece in pieces))
        print(f"{len(ids)} tokens for {len(options.text.encode())} bytes: {ids}")
    return 0
