"""What `minilm train --model glove` does, and what the other verbs say of its checkpoints."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from minilm.classical.glove_config import GloveConfig
from minilm.cli.options import make_config
from minilm.cli.run_folder import new_run

RUN = {"data", "model", "out", "tokenizer", "seed", "config", "json", "device", "plain", "threads", "help_all"}
Say = Callable[[str], None]


def refuse_vectors(path: str, model: Any) -> None:
    """ValueError for a checkpoint of word vectors, where a model is needed that predicts tokens or labels."""
    if getattr(model, "kind", None) == "glove":
        raise ValueError(
            f"{path} holds word vectors, which know what is alike and predict nothing: try minilm vectors {path} --near the"
        )


def chosen_settings(chosen: dict[str, Any]) -> tuple[GloveConfig, int]:
    """The config and the seed; ValueError for what word vectors do not have, or a value out of its range."""
    fields = {field.name for field in dataclasses.fields(GloveConfig)}
    if wrong := sorted(set(chosen) - RUN - fields):
        known = ", ".join(sorted(fields))
        raise ValueError(f"{wrong[0]} is no option of word vectors: leave it out; they have {known}")
    if chosen.get("device", "cpu") not in ("auto", "cpu"):
        raise ValueError(f"device is {chosen['device']!r}: word vectors are trained on the CPU, leave it out")
    seed = chosen.get("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed!r}: it must be a whole number from 0 to {2**32 - 1}")
    return make_config(GloveConfig, chosen), seed


def train_vectors(chosen: dict[str, Any], say: Say, as_json: bool) -> int:
    """Learn vectors of the words of a corpus (with --tokenizer: of its tokens) and save them in a run's folder."""
    config, seed = chosen_settings(chosen)

    import numpy as np

    from minilm.classical.glove import train_glove
    from minilm.runtime import minilm_home
    from minilm.text.corpus import load_corpus
    from minilm.training.checkpoint import save_checkpoint

    name = Path(str(chosen["data"])).stem.replace("*", "all") or "text"
    out = Path(chosen.get("out") or minilm_home() / "checkpoints" / f"{name}-glove")
    history: list[float] = []

    def on_epoch(epoch: int, objective: float) -> None:
        history.append(objective)
        if epoch == 1 or epoch % max(1, config.epochs // 5) == 0:
            say(f"epoch {epoch} of {config.epochs}: half the weighted squared error of a pair is {objective:.4f}")

    with new_run(out):
        corpus = load_corpus(chosen["data"], progress=say)
        tokenizer, cut = tokenizer_and_cut(chosen.get("tokenizer"), corpus, chosen.get("vocab_size", 1024))
        started = time.perf_counter()
        model = train_glove(corpus.train, config, np.random.default_rng(seed), cut, on_epoch)
        seconds = time.perf_counter() - started
        state = {"data": str(chosen["data"]), "objective": history, "seconds": seconds, "seed": seed}
        save_checkpoint(out, model, tokenizer, state=state)
    V, D = model.vectors.matrix.shape
    if as_json:
        last = {"objective": history[-1], "seconds": seconds}
        print(json.dumps({"out": str(out), "kind": "glove", "words": V, "dimensions": D, **last}))
    say(f"{V:,} vectors of {D} numbers in {seconds:.1f} s")
    say(f"the run lies in {out}; now try: minilm vectors {out} --near {model.words[min(50, V - 1)]}")
    return 0


def tokenizer_and_cut(how: str | None, corpus: Any, vocab_size: int) -> tuple[Any, Callable[[str], Sequence[str]]]:
    """The tokenizer for the checkpoint, and what cuts a text: into words, or into the names of that tokenizer's tokens.

    A checkpoint needs a tokenizer; with words, which no tokenizer of the house cuts, it is that of bytes.
    """
    from minilm.classical.bag_of_ngrams import words
    from minilm.models.start_vectors import names_as_tokens
    from minilm.text.tokenizer import ByteTokenizer
    from minilm.text.tokenizer_formats import load_any
    from minilm.training.prepare import train_tokenizer

    if how is None:
        return ByteTokenizer(), words
    tokenizer = train_tokenizer(how, corpus, vocab_size) if how in ("bpe", "char", "byte") else load_any(how)
    names = names_as_tokens(tokenizer.token_bytes)
    return tokenizer, lambda text: [names[i] for i in tokenizer.encode(text)]


def take_vectors(kind: str, chosen: dict[str, Any]) -> None:
    """Read the vectors that --vectors names, and let the model be as wide as they are, unless its width was chosen too."""
    from minilm.cli.counted import COUNTED
    from minilm.cli.vectors import load_vectors

    if "vectors" not in chosen:
        return
    if kind in COUNTED:
        raise ValueError(f"vectors is no option of model {kind}, which has no embeddings: leave it out")
    source = chosen["vectors"]
    chosen["vectors"] = source, load_vectors(source)
    chosen.setdefault("d_model", chosen["vectors"][1].matrix.shape[1])


def start_with(named: tuple[str, Any], model: Any, tokenizer: Any, say: Say) -> None:
    """Let the model's embeddings start from these vectors, of words or of its tokens, whichever are known there."""
    from minilm.models.start_vectors import names_as_tokens, names_as_words, start_with_vectors

    source, vectors = named
    both: list[Sequence[str | None]] = [names_as_words(tokenizer.token_bytes), names_as_tokens(tokenizer.token_bytes)]
    names = max(both, key=lambda names: sum(name in vectors.index for name in names))
    try:
        found = start_with_vectors(model, names, vectors)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    say(f"{found:,} of {len(names):,} tokens start with a vector of {source}")
