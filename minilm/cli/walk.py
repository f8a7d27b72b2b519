"""`minilm walk`, the main job: a text, a tokenizer, an n-gram, a GPT, the ladder on which both stand, and what both write."""

import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from minilm.cli.options import Parser, as_started, make_config
from minilm.cli.run_folder import TOKENS
from minilm.models.config import SpeedrunConfig
from minilm.training.config import TrainConfig
from minilm.training.recipes import RECIPES, SHAPES

PROMPT = "My lord, "
LOOK_EVERY = 20.0  # seconds of training between two samples
LOOK_BYTES = 40_000  # validation text scored at each look


def run(arguments: list[str]) -> int:
    """Parse the flags and walk."""
    parser = Parser("walk", "The main job, from a text to a trained model and back to text.", "minilm walk --minutes 3")
    parser.option("--data", default="shakespeare", metavar="TEXT", help="a corpus or path (default: shakespeare)")
    parser.option("--minutes", type=float, default=3.0, metavar="M", help="minutes of training (default: 3)")
    parser.option("--prompt", default=PROMPT, metavar="TEXT", help=f"what the samples begin with (default: {PROMPT!r})")
    parser.option("--seed", type=int, default=0, metavar="S", help="seed of weights, batches and samples (default: 0)")
    parser.option("--out", metavar="DIR", help="folder of the run (default: the next free checkpoints/walk-N)")
    parser.option("--json", action="store_true", rare=True, help="the ladder as one JSON object at the end")
    options = parser.read(arguments)
    config = make_config(
        TrainConfig,
        RECIPES["speedrun"],
        {"minutes": options.minutes, "seed": options.seed, "eval_every": 0, "save_every": 0},
    )
    walk = Walk(options, config)
    try:
        walk.text()
        walk.count()
        walk.train()
        walk.mix()
    except KeyboardInterrupt:
        print("\nstopped: here is what stands so far")
    walk.report()
    return 0


class Walk:
    """The steps of the main job, in order. `rungs` grows as models are done; `report` shows whatever there is."""

    def __init__(self, options: Any, config: TrainConfig) -> None:
        from minilm.runtime import minilm_home

        self.options, self.config = options, config
        self.out = Path(options.out) if options.out else next_free(minilm_home() / "checkpoints")
        self.rungs: list[Any] = []
        self.models: dict[str, Any] = {}

    def say(self, message: str) -> None:
        """Progress for a person, on stderr with --json, so that a program reads only JSON."""
        tqdm.write(message, file=sys.stderr if self.options.json else sys.stdout)

    def write(self, model: Any, n_tokens: int = 24) -> str:
        """What a model writes after the prompt, at temperature 0.8, always with the same random numbers."""
        from minilm.cli.writing import stream_text

        return "".join(stream_text(model, self.tokenizer, self.options.prompt, n_tokens, seed=self.options.seed))

    def text(self) -> None:
        """The corpus, cut into tokens; both sides of the split."""
        from minilm.text.corpus import load_corpus
        from minilm.training.prepare import prepare, train_tokenizer

        corpus = load_corpus(self.options.data, progress=self.say)
        self.tokenizer = train_tokenizer("bpe", corpus, 1024)
        self.prepared = prepare(corpus, self.tokenizer, self.out / "gpt")
        train, validation = self.prepared.train, self.prepared.validation
        per_token = train.n_bytes / max(1, train.n_tokens - train.n_documents)
        self.say(
            f"text: {corpus.name}, {train.n_bytes:,} bytes to learn from; {validation.n_bytes:,} bytes are kept aside, and every\n"
            f"      model is measured on them. Tokens: {self.tokenizer.vocab_size:,} different ones, {per_token:.1f} bytes each."
        )

    def count(self) -> None:
        """The rungs that only count. The n-gram's order and discounts are chosen on training text."""
        from minilm.classical.config import NgramConfig
        from minilm.classical.tuning import tune_ngram
        from minilm.evaluation.ladder import counted_rungs, uniform_rung
        from minilm.training.checkpoint import save_checkpoint

        train, validation, tokenizer = self.prepared.train, self.prepared.validation, self.tokenizer
        self.rungs.append(uniform_rung(validation, tokenizer))
        base = NgramConfig(vocab_size=tokenizer.vocab_size)
        self.ngram_config = tune_ngram(base, train.ids, tokenizer.end_of_text, orders=(4, 5, 6), scales=(1.1,))
        for rung, model in counted_rungs(train, validation, tokenizer, self.ngram_config, write=self.write):
            self.rungs.append(rung)
            self.models["n-gram"] = model
        self.bar = self.rungs[-1].bits_per_byte
        save_checkpoint(self.out / "ngram", model, tokenizer, validation=self.bar, state={"data": self.options.data})
        self.say(f"\n{self.ladder()}\n\nThe n-gram needs {self.bar:.3f} bits for each byte. Can a GPT do with less?\n")

    def train(self) -> None:
        """The GPT, with a look at it every 20 seconds."""
        from minilm.cli.doctor import refuse_wrong_device
        from minilm.evaluation.evaluate import evaluate
        from minilm.evaluation.ladder import model_rung, one_line
        from minilm.fast.choose import attention_part, loss_part, with_kernels
        from minilm.models.registry import build_model
        from minilm.plots.loss import plot_loss
        from minilm.runtime import pick_device, set_seed
        from minilm.training.run import run_training
        from minilm.training.verify import describe_files

        set_seed(self.options.seed)
        shape = SpeedrunConfig(vocab_size=self.tokenizer.vocab_size, **SHAPES["speedrun"])
        device = pick_device()
        refuse_wrong_device(device)
        part = attention_part(False, device, shape.context_length)
        model = with_kernels(False, build_model("speedrun", dataclasses.asdict(shape), **part).to(device))
        looked = 0.0

        def look(step: int, model: Any, record: dict[str, Any]) -> None:
            nonlocal looked
            if record["seconds"] < looked + LOOK_EVERY or record["seconds"] >= 60 * self.options.minutes:
                return
            looked = record["seconds"]
            bits = evaluate(model, self.prepared.validation, self.tokenizer, max_bytes=LOOK_BYTES).bits_per_byte
            record["validation"] = bits  # a point on the loss picture
            self.say(
                f"{looked:4.0f} s  {distance(bits, self.bar)}\n        {one_line(self.options.prompt + self.write(model))}"
            )

        files = describe_files(self.out / "gpt", TOKENS)
        history = run_training(
            model, self.prepared, self.config, self.out / "gpt",
            about={"data": self.options.data, "device": "auto", "files": files}, on_step=look, say=self.say,
            progress=not self.options.json, eval_bytes=LOOK_BYTES, **loss_part(False, self.config.compile, model),
        )  # fmt: skip
        self.models["GPT"] = model
        plot_loss(history, self.out / "loss.png")
        self.say("measuring the GPT on the whole text kept aside ...")
        seconds = history[-1]["seconds"]
        self.rungs.append(model_rung("GPT", model, self.prepared.validation, self.tokenizer, seconds, write=self.write))

    def mix(self) -> None:
        """GPT and n-gram together."""
        from minilm.evaluation.ladder import model_rung
        from minilm.evaluation.mix import mix
        from minilm.training.checkpoint import save_checkpoint

        started, prepared, tokenizer = time.perf_counter(), self.prepared, self.tokenizer
        gpt, ngram = self.models["GPT"], self.models["n-gram"]
        mixture = mix(gpt, ngram, prepared.learned, prepared.held_out, tokenizer.end_of_text)
        self.models["GPT + n-gram"] = mixture
        seconds = self.rungs[-1].train_seconds + self.rungs[-2].train_seconds + time.perf_counter() - started
        name = "GPT + n-gram"
        self.rungs.append(model_rung(name, mixture, prepared.validation, tokenizer, seconds, write=self.write))
        bits = self.rungs[-1].bits_per_byte
        save_checkpoint(self.out / "mixture", mixture, tokenizer, validation=bits, state={"data": self.options.data})

    def ladder(self) -> str:
        """The rungs so far as a table."""
        from minilm.evaluation.ladder import format_ladder

        return format_ladder(self.rungs)

    def report(self) -> None:
        """The ladder as a table, a picture and JSON, the verdict, longer samples, and what to try next."""
        from minilm.evaluation.ladder import floor_rung, ladder_to_dict
        from minilm.plots.ladder import plot_ladder

        if not self.rungs:
            self.say("no model was finished")
            return
        if floor := floor_rung(self.prepared.validation, self.tokenizer, seed=self.options.seed):
            self.rungs.append(floor)
        self.out.mkdir(parents=True, exist_ok=True)
        ladder = ladder_to_dict(self.rungs)
        (self.out / "ladder.json").write_text(json.dumps(ladder, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        plot_ladder(self.rungs, self.out / "ladder.png")
        self.say(f"\n{self.ladder()}\n")
        if "GPT" in self.models:
            self.say(verdict({rung.name: rung.bits_per_byte for rung in self.rungs}, self.bar))
        for name, model in self.models.items():
            self.say(f"\n--- {name} writes, at temperature 0.8 ---\n{self.options.prompt}{self.write(model, 120)}")
        self.say(f"\nThe ladder as a picture: {self.out / 'ladder.png'}\nTry next:")
        folder = self.out / ("gpt" if "GPT" in self.models else "ngram")
        for command in (
            f"generate {folder} --prompt 'O Romeo' --temperature 0.5",
            "train --data stories --minutes 2",
            "lesson 1",
        ):
            self.say(f"  {as_started(f'minilm {command}')}")
        if self.options.json:
            print(json.dumps(ladder, ensure_ascii=False))


def distance(bits: float, bar: float) -> str:
    """How far the GPT is from the n-gram, as a bar: full means level with it, 2 bits behind it is the empty bar."""
    done = min(1.0, max(0.0, 1 - (bits - bar) / 2))
    width = 30
    blocks = "#" * round(width * done) + "." * (width - round(width * done))
    gap = f"{bits - bar:.3f} above the n-gram" if bits > bar else f"{bar - bits:.3f} below the n-gram"
    return f"[{blocks}] about {bits:.3f} bits per byte, {gap}"


def verdict(bits: dict[str, float], bar: float) -> str:
    """Who won and by how much, in words; honest whoever it was."""
    gpt, lines = bits["GPT"], []
    if gpt < bar:
        lines.append(
            f"The GPT needs {gpt:.3f} bits per byte, the n-gram {bar:.3f}: it beats the n-gram by {1 - gpt / bar:.1%}."
        )
    else:
        lines.append(
            f"The n-gram wins: {bar:.3f} bits per byte against the GPT's {gpt:.3f}. "
            "Counting is done; the GPT goes on learning (--minutes 10)."
        )
    if "GPT + n-gram" in bits:
        both = bits["GPT + n-gram"]
        better = (
            f"{1 - both / min(gpt, bar):.1%} less than the better of the two"
            if both < min(gpt, bar)
            else "no less than the better"
        )
        lines.append(f"Asked together they need {both:.3f}, {better}: they err on different tokens.")
    lines.append(
        "(Bits per byte: how many yes-or-no questions each letter still costs. 8 = no idea, 0 = knows the text by heart.)"
    )
    return "\n".join(lines)


def next_free(checkpoints: Path) -> Path:
    """checkpoints/walk-1, or the next number that is not taken: no run overwrites another."""
    return next(path for n in range(1, 10**6) if not (path := checkpoints / f"walk-{n}").exists())
