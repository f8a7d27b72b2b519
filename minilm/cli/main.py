"""The front door: reads the verb, shows the help, turns errors into one line. It imports a verb's file when that verb is used."""

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minilm import __version__
from minilm.cli.crew import Unheard, after_the_first, one_voice, refuse_several
from minilm.cli.options import as_typed, did_you_mean

# verb -> what `--help` says of it. The first four are all that a beginner needs; `--help-all` shows the rest.
VERBS = {
    "train": "train a model on a text: minilm train --data stories --minutes 2 --out checkpoints/my-gpt",
    "generate": "let a trained model write: minilm generate checkpoints/my-gpt --prompt 'Once'",
    "ladder": "compare models on the same text, in bits per byte: minilm ladder checkpoints/my-gpt",
    "lesson": "list the lessons, or open one: minilm lesson 1",
    "chat": "talk with a trained model in the terminal: minilm chat checkpoints/my-gpt",
    "finetune": "teach a trained model a skill: minilm finetune checkpoints/my-gpt --task classify --data reviews.csv",
    "predict": "labels for texts, from a model that was taught them: minilm predict checkpoints/my-critic 'Not bad at all.'",
    "walk": "the main job: corpus, tokenizer, n-gram, GPT, ladder, samples",
    "search": "which options are best, and by more than chance: minilm search --data stories --grid n_layers=2,4 --seeds 3",
    "mix": "join a trained model and an n-gram into one: minilm mix checkpoints/my-gpt --out checkpoints/both",
    "evaluate": "how well a model predicts a text: minilm evaluate checkpoints/my-gpt --data file.txt",
    "convert": "an adapter merged, or weights rounded to int8: minilm convert checkpoints/my-gpt --int8 --out checkpoints/small",
    "plot": "compare runs in a picture, also while they train: minilm plot checkpoints/gpt checkpoints/llama --out runs.png",
    "verify": "whether the files of a run are what was saved: minilm verify checkpoints/my-gpt",
    "data": "what a corpus holds and how it is split: minilm data shakespeare",
    "tokenizer": "train or try a tokenizer: minilm tokenizer --data stories --vocab-size 1024 --out tokenizer.json",
    "check": "check your solution of an exercise: minilm check my_file.py",
    "describe": "what a model costs, in parameters, FLOPs and bytes: minilm describe gpt --d-model 128 --n-layers 4",
    "doctor": "whether this machine computes right, and what it offers: minilm doctor",
    "vectors": "neighbours and analogies of word vectors: minilm vectors checkpoints/stories-glove --near river",
    "bench": "measure speed as ratios in one run: minilm bench training",
}
FIRST = 4


def help_text(everything: bool) -> str:
    """The page that `minilm --help` (or --help-all) prints."""
    shown = list(VERBS)[: None if everything else FIRST]
    lines = [
        "minilm: language models, from scratch.",
        "",
        "  minilm VERB [options]      (minilm VERB --help says more)",
        "",
    ]
    lines += [f"  {verb:<10} {VERBS[verb]}" for verb in shown]
    more = [] if everything else ["", "minilm --help-all lists every verb; minilm --version the version."]
    return "\n".join(lines + more)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 wrong use or data, 3 training failed, 128 + n ended by signal n."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    with one_voice():
        return run_and_report(arguments[0] if arguments else "--help", arguments)


def run_and_report(verb: str, arguments: list[str]) -> int:
    """Run the verb; what goes wrong becomes one line, and the exit code."""
    try:
        with stoppable():
            code = run_verb(verb, arguments[1:])
        flush_output()
        return code
    except argparse.ArgumentError as error:
        return complain(f"{verb}: {error} (see minilm {verb} --help)")
    except BrokenPipeError:  # `minilm ... | head` has read enough
        drop_output()
        return 0
    except Stopped as stop:
        return complain(f"{verb}: ended by {stop.name}", code=stop.exit_code)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return complain("interrupted", code=130)
    except MemoryError:
        return complain(f"{verb}: not enough memory: try a smaller model, batch or text")
    except RuntimeError as error:  # torch has no class for it on the CPU
        if "memory" not in str(error):
            raise
        return complain(f"{verb}: not enough memory: try a smaller model, batch or text")
    except (ValueError, OSError) as error:
        return complain(f"{verb}: {as_typed(explain(error), arguments)}", code=getattr(error, "exit_code", 2))


class Stopped(SystemExit):
    """A signal asked this process to end. No KeyboardInterrupt, after which chat, walk and bench go on."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name, self.exit_code = signal.Signals(number).name, 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a closed terminal, end what runs inside as an error would: what is half-written is taken away."""

    def stop(number: int, frame: Any) -> None:
        raise Stopped(number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    here = threading.current_thread() is threading.main_thread()  # Python hands signals to no other thread
    here = here and not isinstance(sys.stderr, Unheard)  # of several processes one puts things in order
    ours = [number for number in numbers if here and signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def run_verb(verb: str, rest: list[str]) -> int:
    """Run a verb, or what takes the place of one: --help, --help-all, --version."""
    if verb in ("-h", "--help", "--help-all"):
        print(help_text(verb == "--help-all"))
        return 0
    if verb in ("-V", "--version"):
        print(f"minilm {__version__}")
        return 0
    if verb not in VERBS:
        return complain(f"unknown verb {verb!r}: choose one of {', '.join(VERBS)}{did_you_mean(verb, VERBS)}")
    if verb != "train":
        refuse_several(f"{verb} works in one")
    return importlib.import_module(f"minilm.cli.{verb}").run(rest) or 0


def flush_output() -> None:
    """Write what waits in the buffer now: at the end of the process a full disk would be reported by a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        drop_output()
        raise


def drop_output() -> None:
    """Let what is still to be printed go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explain(error: Exception) -> str:
    """The message of an error; for errors of the system, the file and the reason."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def complain(message: str, code: int = 2) -> int:
    """Print one line on stderr, of a long one (a path, a list) its two ends, and return the exit code."""
    after_the_first()
    line = " ".join(f"minilm: {message}".split())
    print(line if len(line) <= 400 else f"{line[:195]} ... {line[-200:]}", file=sys.stderr)
    return code
