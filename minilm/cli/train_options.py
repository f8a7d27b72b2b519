"""The flags of `minilm train`: those of the run, and one for every field of the configs of models and training."""

import argparse

from minilm.classical.config import HMMConfig, HMMTraining, NgramConfig, OneDiscount
from minilm.classical.glove_config import GloveConfig
from minilm.cli.counted import COUNTED
from minilm.cli.model_options import CONFIGS, defaults_of, names_of, options_of
from minilm.cli.options import Parser, seed
from minilm.cli.watching import Watch
from minilm.models.config import GPTConfig, SpeedrunConfig
from minilm.models.rnn_config import CELLS, RNNConfig
from minilm.training.config import TrainConfig
from minilm.training.recipes import RECIPES

MODELS = ("speedrun", "gpt", "llama", *CELLS, "ngram", "hmm", "glove")
# The options of the run itself, which are no fields of a config.
TYPES = {
    "data": str,
    "model": str,
    "out": str,
    "tokenizer": str,
    "recipe": str,
    "vectors": str,
    "device": str,
    "plain": bool,
    "shard": bool,
    "json": bool,
}
SHOWN = ("minutes", "steps", "context_length", "n_layers", "d_model")


def parser_of_train(kind: str = "speedrun") -> Parser:
    """The flags: those of the run, and one for every field of the models' and the training's configs.

    The help shows those of one kind of model, with what is taken for it.
    """
    parser = Parser(
        "train",
        "Train a model on a text. Everything about the run lies in the folder --out. What is said here of a model holds for "
        f"{kind};\nminilm train --model KIND --help-all shows the options of another kind. --minutes chooses a shape that fits.",
        "minilm train --data my-novel.txt --minutes 2 --out checkpoints/novel",
    )
    parser.option("--data", metavar="TEXT", help="shakespeare, stories, or a file, folder, glob, .gz or .jsonl")
    parser.option(
        "--model",
        choices=MODELS,
        help="speedrun (learns most in minutes), gpt (GPT-2), llama, lstm, gru, rnn (recurrent), ngram, hmm (hidden states) "
        "or glove (word vectors); default: speedrun",
    )
    parser.option("--out", metavar="DIR", help="folder of the run (default: checkpoints/<corpus>-<model>)")
    parser.option("--resume", metavar="DIR", help="go on with the run in this folder, by its own plan")
    parser.option("--seed", type=seed, help="seed of weights, dropout and batches (default: 0)")
    parser.option(
        "--tokenizer", rare=True, metavar="KIND", help="bpe, char, byte, or a saved tokenizer's file (default: bpe)"
    )
    parser.option(
        "--recipe",
        rare=True,
        choices=tuple(RECIPES),
        help="the optimizer, rates and schedule of this kind of model (default: those of the model's own kind)"
        if "recipe" in options_of(kind)
        else argparse.SUPPRESS,
    )
    parser.option("--config", rare=True, metavar="FILE", help="TOML file of options; flags win over it")
    parser.option(
        "--vectors",
        rare=True,
        metavar="SOURCE",
        help="let the embeddings start from word vectors, of a run of --model glove or of a file; d_model becomes their width",
    )
    parser.option("--device", rare=True, help="auto, cpu, cuda or mps (default: auto)")
    parser.option(
        "--plain",
        rare=True,
        action="store_true",
        default=None,
        help="only the readable parts of the model, no fused kernel",
    )
    parser.option(
        "--shard",
        rare=True,
        action="store_true",
        default=None,
        help="under torchrun: each process holds only a part of the model (also with --resume)",
    )
    parser.option(
        "--json", rare=True, action="store_true", default=None, help="one JSON object at the end, no progress bar"
    )
    own = (CONFIGS[kind], TrainConfig) if kind == "glove" else (TrainConfig, CONFIGS[kind])
    every = (*own, GPTConfig, SpeedrunConfig, RNNConfig, NgramConfig, OneDiscount, HMMConfig, HMMTraining, GloveConfig)
    hidden = set().union(*map(names_of, every)) - options_of(kind)
    for config in every:  # a flag that two have is the first one's
        parser.add_config(config, SHOWN, ("discounts", "seed", "cell"), defaults_of(kind), hidden)
    parser.add_config(Watch, hidden=names_of(Watch) if kind in (*COUNTED, "glove") else ())
    return parser
