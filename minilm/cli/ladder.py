"""`minilm ladder`: trained models and counted ones on the same held-out text, as a table and a picture."""

import json
from pathlib import Path
from typing import Any

from minilm.cli.options import Parser, seed


def run(arguments: list[str]) -> int:
    """Parse the flags, count the lower rungs, load the upper ones, print and draw."""
    parser = Parser(
        "ladder",
        "Compare models on text that none of them has seen, in bits per byte: uniform, unigram, a hidden\n"
        "Markov model, bigram, Kneser-Ney, the runs you name, and the last of them mixed with the n-gram. Without a run, the\n"
        "counted models alone. On built-in stories also the true floor: what the world that wrote them needs.",
        "minilm ladder checkpoints/my-gpt --plot ladder.png",
    )
    parser.option("runs", nargs="*", help="folders of runs, all trained on the same corpus with the same tokenizer")
    parser.option("--data", default="shakespeare", metavar="TEXT", help="the corpus, if no run is named")
    parser.option(
        "--max-bytes", type=int, metavar="N", help="read only the first N bytes of the held-out text (default: all)"
    )
    parser.option("--plot", metavar="FILE", help="draw the ladder into this .png, .svg or .pdf")
    parser.option(
        "--prompt", default="The ", metavar="TEXT", help="what each model's line begins with (default: 'The ')"
    )
    parser.option(
        "--seed", type=seed, default=0, metavar="S", help="seed of the lines that the models write (default: 0)"
    )
    parser.option("--json", action="store_true", help="one JSON object")
    options = parser.read(arguments)
    if options.max_bytes is not None and options.max_bytes < 1:
        raise ValueError(f"--max-bytes is {options.max_bytes}: it must be at least 1")

    from tqdm import tqdm

    from minilm.classical.config import NgramConfig
    from minilm.classical.hmm_train import Round
    from minilm.classical.tuning import tune_ngram
    from minilm.cli.writing import load_language_model, stream_text
    from minilm.evaluation.hmm_rung import TRAINING, hmm_rung
    from minilm.evaluation.ladder import (
        counted_rungs,
        floor_rung,
        format_ladder,
        ladder_to_dict,
        model_rung,
        uniform_rung,
    )
    from minilm.evaluation.mix import mix
    from minilm.plots.ladder import plot_ladder
    from minilm.text.corpus import load_corpus
    from minilm.text.token_file import encode_corpus
    from minilm.training.prepare import Prepared, train_tokenizer

    checkpoints = [load_language_model(folder) for folder in options.runs]
    for folder, checkpoint in zip(options.runs, checkpoints, strict=True):
        if checkpoint.state.get("data") != checkpoints[0].state.get("data"):
            raise ValueError(
                f"{folder} was trained on {checkpoint.state.get('data')}, {options.runs[0]} on "
                f"{checkpoints[0].state.get('data')}: one ladder needs one text"
            )
        if checkpoint.tokenizer.fingerprint != checkpoints[0].tokenizer.fingerprint:
            raise ValueError(
                f"{folder} and {options.runs[0]} have different tokenizers: one ladder needs one vocabulary, train the second "
                f"with --tokenizer {checkpoints[0].path / 'tokenizer.json'}"
            )
    corpus = load_corpus((checkpoints and checkpoints[0].state.get("data")) or options.data)
    tokenizer = checkpoints[0].tokenizer if checkpoints else train_tokenizer("bpe", corpus, 1024)
    sides = (encode_corpus(documents, tokenizer) for documents in (corpus.train, corpus.validation))
    prepared = Prepared(tokenizer, *sides)
    held_out, end = prepared.validation, tokenizer.end_of_text

    def write(model: Any) -> str:
        return "".join(stream_text(model, tokenizer, options.prompt, 24, seed=options.seed))

    how = {"write": write, "max_bytes": options.max_bytes}
    config = tune_ngram(NgramConfig(vocab_size=tokenizer.vocab_size), prepared.train.ids, end)
    rungs = [uniform_rung(held_out, tokenizer, max_bytes=options.max_bytes)]
    counted = list(counted_rungs(prepared.train, held_out, tokenizer, config, **how))
    rounds = {"total": TRAINING.iterations, "desc": "hidden Markov model", "unit": "round", "leave": False}
    with tqdm(**rounds, disable=options.json, dynamic_ncols=True) as bar:  # its learning takes a minute

        def on_round(done: Round) -> None:
            bar.update(min(done.number, 1))  # the first is the guess

        hidden, _ = hmm_rung(prepared.train, held_out, tokenizer, on_round=on_round, **how)
    rungs += sorted([*(rung for rung, _ in counted[:-1]), hidden], key=lambda rung: -rung.bits_per_byte)
    rungs.append(counted[-1][0])
    for folder, checkpoint in zip(options.runs, checkpoints, strict=True):
        seconds = checkpoint.state.get("seconds", 0.0)
        rungs.append(model_rung(Path(folder).name, checkpoint.model, held_out, tokenizer, seconds, **how))
    neural = [checkpoint for checkpoint in checkpoints if checkpoint.model.kind in ("gpt", "speedrun", "rnn")]
    if neural:
        mixture = mix(neural[-1].model, counted[-1][1], prepared.learned, prepared.held_out, end)
        rungs.append(
            model_rung("with n-gram", mixture, held_out, tokenizer, neural[-1].state.get("seconds", 0.0), **how)
        )
    if floor := floor_rung(held_out, tokenizer, seed=options.seed, max_bytes=options.max_bytes):
        rungs.append(floor)
    if options.plot:
        plot_ladder(rungs, options.plot)
    print(json.dumps(ladder_to_dict(rungs), ensure_ascii=False) if options.json else format_ladder(rungs))
    return 0
