"""Watching a training: what the model writes by now, and event files for TensorBoard.

Both only look on, after a step and outside of its seconds. They draw from generators of their own, and leave the model and
torch's random numbers as they were: a run ends with the same bits whether it is watched or not. What is watched stands in each
checkpoint, so that a run that goes on is watched as before.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minilm.cli.options import make_config
from minilm.runtime import option, whole_file

SAMPLES, EVENTS = "samples.jsonl", "tensorboard"  # a file and a folder in the folder of the run
WATCHED = "watch"  # its name in a checkpoint's state
TAGS = {
    "loss": "training/nats_per_token",
    "validation": "validation/bits_per_byte",
    "learning_rate": "training/learning_rate",
    "gradient_norm": "training/gradient_norm",
}

Look = Callable[[int, Any, Mapping[str, Any]], None]  # step, model, record


@dataclass(frozen=True)
class Watch:
    """What is looked at during a training. ValueError for a number out of its range."""

    sample_every: int = option(0, "steps between two samples of what the model writes; 0 = none")
    sample_prompt: str = option("", "what each sample begins with (default: nothing)")
    sample_tokens: int = option(60, "tokens of a sample")
    tensorboard: bool = option(False, "event files for TensorBoard, in the folder of the run")

    def __post_init__(self) -> None:
        for name, least in (("sample_every", 0), ("sample_tokens", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least {least}")


def read_watch(chosen: Mapping[str, Any], trained: bool) -> Watch:
    """What the options ask for; ValueError where nothing could come of it. `trained`: the model learns in steps."""
    watch = make_config(Watch, dict(chosen))
    if watch != Watch() and not trained:
        raise ValueError(f"{chosen['model']} is not trained in steps: leave out --sample-every and --tensorboard")
    if not watch.sample_every and (watch.sample_prompt or "sample_tokens" in chosen):
        raise ValueError("--sample-prompt and --sample-tokens are for --sample-every: say after how many steps")
    try:
        watch.sample_prompt.encode()
    except UnicodeEncodeError:
        raise ValueError("--sample-prompt is not valid UTF-8") from None
    if watch.tensorboard and summary_writer() is None:
        raise ValueError(
            "--tensorboard needs the package tensorboard, which is not installed: pip install 'minilm[track]', or leave it out"
        )
    return watch


def recall_watch(state: Mapping[str, Any]) -> Watch:
    """What a checkpoint's state says; nothing where it is silent."""
    saved = state.get(WATCHED, {})
    if not isinstance(saved, dict):
        raise ValueError(f"the checkpoint's {WATCHED} is {saved!r}: it must be a table of options")
    watch = make_config(Watch, saved)
    if watch.tensorboard and summary_writer() is None:
        print("minilm: train: tensorboard is not installed here: going on without event files", file=sys.stderr)
        return make_config(Watch, saved, tensorboard=False)
    return watch


@contextmanager
def watching(
    watch: Watch, run: Path, model: Any, tokenizer: Any, *, seed: int, start: int = 0, quiet: bool = False
) -> Iterator[Look | None]:
    """The `on_step` of a training in the folder `run` that goes on after step `start`; None if there is nothing to do.

    quiet: samples are not printed. ValueError if the tokenizer cannot read the prompt.
    """
    looks: list[Look] = []
    with ExitStack() as stack:
        writer = stack.enter_context(events(run, start)) if watch.tensorboard else None
        if writer is not None:
            looks.append(lambda step, model, record: add_record(writer, record))
        if watch.sample_every:
            samples = Samples(watch, run / SAMPLES, tokenizer, seed, writer, quiet)
            samples.go_on(start, model)
            looks.append(samples)

        def on_step(step: int, model: Any, record: Mapping[str, Any]) -> None:
            for look in looks:
                look(step, model, record)

        yield on_step if looks else None


# ---- samples


class Samples:
    """Writes a sample at each multiple of `sample_every`, always drawn with the same seed: what changes is the model."""

    def __init__(self, watch: Watch, file: Path, tokenizer: Any, seed: int, writer: Any, quiet: bool) -> None:
        from minilm.cli.writing import document

        document(tokenizer, watch.sample_prompt)  # complains before anything slow begins
        self.watch, self.file, self.tokenizer, self.seed = watch, file, tokenizer, seed
        self.writer, self.quiet = writer, quiet

    def __call__(self, step: int, model: Any, record: Mapping[str, Any]) -> None:
        if step % self.watch.sample_every == 0:
            self.take(step, model)

    def go_on(self, start: int, model: Any) -> None:
        """Keep the samples up to step `start`, and take the one of `start` if the run died before it could."""
        from minilm.training.run_log import read_records

        kept = [sample for sample in read_records(self.file) if 0 < sample["step"] <= start]
        with whole_file(self.file) as unfinished:
            unfinished.write_text("".join(map(line_of, kept)), encoding="utf-8")
        if start and start % self.watch.sample_every == 0 and all(sample["step"] != start for sample in kept):
            self.take(start, model)

    def take(self, step: int, model: Any) -> None:
        """One sample, to the file, to the terminal and to TensorBoard."""
        from tqdm import tqdm

        from minilm.cli.writing import stream_text
        from minilm.evaluation.ladder import one_line

        prompt = self.watch.sample_prompt
        more = "".join(stream_text(model, self.tokenizer, prompt, self.watch.sample_tokens, seed=self.seed))
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(line_of({"step": step, "prompt": prompt, "text": prompt + more}))
        if not self.quiet:
            tqdm.write(f"step {step:,}: {one_line(prompt + more)}")  # above the bar, which it would otherwise tear
        if self.writer is not None:
            self.writer.add_text("sample", prompt + more, step)


def line_of(sample: Mapping[str, Any]) -> str:
    return json.dumps(dict(sample), ensure_ascii=False) + "\n"


# ---- TensorBoard


def summary_writer() -> Any:
    """torch's writer of event files, None where the package tensorboard is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter


@contextmanager
def events(run: Path, start: int) -> Iterator[Any]:
    """A writer of event files. A run that goes on after `start` writes another file, which takes back what came after."""
    writer = summary_writer()(run / EVENTS, purge_step=start + 1 if start else None, flush_secs=10)
    try:
        yield writer
    finally:
        writer.close()


def add_record(writer: Any, record: Mapping[str, Any]) -> None:
    """The numbers of one step."""
    for name, tag in TAGS.items():
        if name in record:
            writer.add_scalar(tag, record[name], record["step"])
