"""The front door as its users meet it: what each verb promises, and that whatever is wrong is one line and exit code 2.

Everything runs in this process through `main`, on a text of a few kilobytes and models of a few thousand weights, but
for what only a process shows: what `--help` imports, and what a closed pipe does.
"""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from minilm.classical.config import HMMTraining, OneDiscount
from minilm.cli.main import VERBS, main
from minilm.cli.model_options import CONFIGS, names_of, options_of
from minilm.cli.options import as_started, flag_of
from minilm.cli.train_options import MODELS
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.text.tokenizer import ByteTokenizer, CharTokenizer
from minilm.training.checkpoint import load_checkpoint, save_checkpoint
from minilm.training.config import TrainConfig
from minilm.training.recipes import RECIPES
from minilm.training.storage import MANIFEST

Capture = pytest.CaptureFixture[str]
LINE = "The {} went to the {} and said: where is my {}?\n"
WORDS = ("cat", "moon", "river", "old man", "spoon", "fox", "letter")
TEXT = "".join(LINE.format(a, b, c) for a in WORDS for b in WORDS for c in WORDS)[:6000]
SHAPE = ["--model", "gpt", "--d-model", "16", "--n-layers", "1", "--n-heads", "2", "--context-length", "16"]
STEPS = 6
ANY = ["--tokenizer", "byte", "--json"]  # flags for any kind of model
SMALL = [*SHAPE, *ANY, "--batch-size", "3", "--threads", "1", "--dtype", "float32", "--steps", str(STEPS)]


def train(data: object, out: object, *more: str) -> int:
    flags = ANY if "ngram" in more else SMALL
    return main(["train", "--data", str(data), "--out", str(out), *flags, *more])


def listing(folder: Path) -> dict[str, int]:
    """Every path under the folder with its size: what must be the same after a command that failed."""
    return {str(path.relative_to(folder)): path.stat().st_size if path.is_file() else -1 for path in folder.rglob("*")}


def complaint(capsys: Capture) -> str:
    """The one line that a failed command left on stderr."""
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 1, shown.err
    assert lines[0].startswith("minilm: ") and len(lines[0]) <= 400  # a path may be long
    assert "Traceback" not in shown.out + shown.err
    return lines[0]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, good and bad, two trained models, and copies of one that something happened to."""
    room = tmp_path_factory.mktemp("room")
    (room / "text.txt").write_text(TEXT, encoding="utf-8")
    (room / "empty.txt").touch()
    (room / "short.txt").write_text("Too short.\n", encoding="utf-8")
    (room / "zeros.bin").write_bytes(bytes(range(256)) * 8)
    (room / "latin.txt").write_bytes("café au lait\n".encode("latin-1") * 50)
    (room / "umlauts.txt").write_text("ünderneath the moon\n" * 30, encoding="utf-8")
    (room / "false.gz").write_bytes(b"this was never packed" * 30)
    (room / "lines.jsonl").write_text('{"text": "fine"}\n{"words": 3}\n', encoding="utf-8")
    (room / "full").mkdir()
    (room / "full" / "thesis.doc").write_text("precious", encoding="utf-8")
    (room / "list.json").write_text("[1, 2]", encoding="utf-8")
    for name, toml in TOML.items():
        (room / f"{name}.toml").write_text(toml, encoding="utf-8")
    CharTokenizer("abc").save(room / "abc.json")

    assert train(room / "text.txt", room / "gpt") == 0
    assert train(room / "text.txt", room / "ngram", "--model", "ngram", "--order", "3") == 0
    model = GPT(GPTConfig(vocab_size=300, context_length=16, d_model=16, n_layers=1, n_heads=2))
    characters = CharTokenizer.train([TEXT])
    small = GPT(GPTConfig(characters.vocab_size, context_length=16, d_model=16, n_layers=1, n_heads=2))
    save_checkpoint(room / "char", small, characters)
    save_checkpoint(room / "mismatch", model, ByteTokenizer())

    step = f"step-{STEPS:06d}"
    for name in ("flipped", "cut", "unlisted", "nothing", "mixed", "tokens", "garbage"):
        shutil.copytree(room / "gpt", room / name)
    weights = room / "flipped" / step / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    weights = room / "cut" / step / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    (room / "unlisted" / step / MANIFEST).unlink()
    (room / "nothing" / step / "weights.safetensors").unlink()
    CharTokenizer("abc").save(room / "mixed" / step / "tokenizer.json")
    (room / "garbage" / step / MANIFEST).write_bytes(b"\xff{")
    shutil.copy(room / "ngram" / "train.tokens", room / "tokens")
    foreign = bytearray((room / "tokens" / "train.tokens").read_bytes())
    at = foreign.index(b'"fingerprint": "') + 20
    foreign[at] = ord("0") if foreign[at] != ord("0") else ord("1")
    (room / "tokens" / "train.tokens").write_bytes(foreign)
    return room


TOML = {
    "broken": "steps = = 3\n",
    "unknown": "stepz = 3\n",
    "string": 'd_model = "big"\n',
    "fraction": "n_layers = 1.5\n",
    "flag": 'plain = "no"\n',
    "number": "out = 3\n",
    "device": "device = 1\n",
    "tokenizer": "tokenizer = 5\n",
    "list": "data = ['a', 'b']\n",
    "table": "[model]\nd_model = 16\n",
    "vocabulary": "vocab_size = true\n",
    "range": "dropout = 1.0\n",
    "recipe": "recipe = 'ngram'\n",
}
GOOD = "--data {room}/text.txt --out {room}/new"
TRY = f"train {GOOD} {' '.join(SMALL)} --steps 2"

# name of the case, command, what the line must name
BAD = [
    # ---- which command
    ("no such verb", "trane --data x", "trane"),
    ("no such flag", "train --dada {room}/text.txt", "--dada"),
    ("abbreviated flag", "generate {room}/gpt --max-new 3", "--max-new"),
    ("flag without value", "train --data", "--data"),
    ("two words", "data {room}/text.txt and more", "and more"),
    ("a flag of many lines", "data {room}/text.txt one\ntwo", "one two"),
    ("no checkpoint named", "generate", "checkpoint"),
    ("no data named", "train --model gpt", "--data"),
    ("no tokenizer named", "tokenizer --text a", "--data"),
    ("both tokenizers", "tokenizer --data {room}/text.txt --load {room}/abc.json", "--load"),
    # ---- values
    ("no such model", "train --data stories --model bert", "bert"),
    ("steps not a number", f"{TRY} --steps many", "--steps"),
    ("seed not an integer", "generate {room}/gpt --seed 1.5", "--seed"),
    ("negative seed", f"{TRY} --seed -1", "seed"),
    ("giant seed", "generate {room}/gpt --seed 99999999999999999999999", "seed"),
    ("giant seed of a corpus", "data stories:20 --seed -7", "seed"),
    ("no steps", f"{TRY} --steps 0", "--steps is 0"),
    ("minutes not a number", f"{TRY} --minutes nan", "minutes"),
    ("heads", f"{TRY} --n-heads 3", "--n-heads 3"),
    ("huge width", f"{TRY} --d-model 4000000000000", "--d-model"),
    ("huge depth", f"{TRY} --n-layers 100000000000", "--n-layers"),
    ("huge context", f"{TRY} --context-length 999999999999", "--context-length"),
    ("huge MLP", f"{TRY} --d-ff 99999999999999", "--d-ff"),
    ("huge batch", f"{TRY} --batch-size 99999999999", "--batch-size"),
    ("huge vocabulary", f"{TRY} --vocab-size 99999999999", "--vocab-size"),
    ("no context", f"{TRY} --context-length 0", "--context-length"),
    ("vocabulary below 257", f"train {GOOD} --vocab-size 100 --steps 2", "--vocab-size"),
    ("order", f"train {GOOD} --model ngram --order 0", "--order is 0"),
    ("smoothing", f"train {GOOD} --model ngram --smoothing magic", "--smoothing is"),
    ("vocabulary of bytes", f"{TRY} --vocab-size 300", "--vocab-size"),
    ("recipe", f"{TRY} --recipe magic", "--recipe"),
    ("recipe in TOML", f"{TRY} --config {{room}}/recipe.toml", "recipe 'ngram' is unknown"),
    ("recipe of a count", f"train {GOOD} --model ngram --recipe gpt", "--recipe"),
    ("optimizer", f"{TRY} --optimizer lion", "--optimizer is"),
    ("temperature not a number", "generate {room}/gpt --temperature nan", "temperature"),
    ("negative temperature", "generate {room}/gpt --temperature -1", "--temperature is -1"),
    ("infinite temperature", "generate {room}/gpt --temperature inf", "temperature"),
    ("warm temperature", "generate {room}/gpt --temperature warm", "--temperature"),
    ("top-p 0", "generate {room}/gpt --top-p 0", "--top-p is 0"),
    ("top-p 2", "generate {room}/gpt --top-p 2", "--top-p is 2"),
    ("top-k 0", "generate {room}/gpt --top-k 0", "--top-k is 0"),
    ("no tokens", "generate {room}/gpt --max-new-tokens 0", "--max-new-tokens"),
    ("fewer than no tokens", "generate {room}/gpt --max-new-tokens -5", "--max-new-tokens"),
    ("overflow", "generate {room}/gpt --overflow wrap", "--overflow"),
    ("no bytes", "evaluate {room}/gpt --max-bytes 0", "--max-bytes"),
    ("no such device", "generate {room}/gpt --device tpu", "tpu"),
    ("no such device to train on", f"{TRY} --device tpu", "tpu"),
    ("no such device to evaluate on", "evaluate {room}/gpt --device meta", "meta"),
    ("stories of a wrong number", "data stories:many", "stories:many"),
    ("no stories", "train --data stories:0 --out {room}/new", "stories:0"),
    ("kind of tokenizer", "tokenizer --data {room}/text.txt --kind word", "--kind"),
    ("vocabulary of a tokenizer", "tokenizer --data {room}/text.txt --vocab-size -3 --out {room}/new", "--vocab-size"),
    # ---- texts
    ("no such text", "train --data {room}/missing.txt --out {room}/new", "missing.txt"),
    ("empty text", "train --data {room}/empty.txt --out {room}/new", "empty.txt"),
    ("short text", "train --data {room}/short.txt --out {room}/new", "short.txt"),
    ("text of zeros", "train --data {room}/zeros.bin --out {room}/new", "zeros.bin"),
    ("latin-1", "data {room}/latin.txt", "latin.txt"),
    ("not gzip", "data {room}/false.gz", "false.gz"),
    ("JSON without text", "data {room}/lines.jsonl", "line 2"),
    ("folder without texts", "data {room}/full", "full"),
    ("glob without matches", "data {room}/*.rst", "*.rst"),
    ("NUL in a path", "data {room}/a\0b", "a\\x00b"),
    ("NUL in a folder", "generate {room}/a\0b", "a"),
    ("NUL in --out", "train --data {room}/text.txt --out {room}/a\0b", "zero byte"),
    ("a name too long", "data {room}/" + "x" * 3000, "xxx"),
    ("unknown text to evaluate", "evaluate {room}/gpt --data {room}/missing.txt", "missing.txt"),
    ("empty text to evaluate", "evaluate {room}/gpt --data {room}/empty.txt", "empty.txt"),
    ("unknown character", "generate {room}/char --prompt caf\u00e9", "\u00e9"),
    ("unknown character to evaluate", "evaluate {room}/char --data {room}/umlauts.txt", "\u00fc"),
    ("half a character", "generate {room}/gpt --prompt \udce9", "--prompt"),
    ("too little text for a window", f"{TRY} --context-length 6000", "--context-length"),
    # ---- where to write
    ("--out not empty", "train --data {room}/text.txt --out {room}/full", "--out"),
    ("--out is a file", "train --data {room}/text.txt --out {room}/text.txt", "--out"),
    ("--out in a file", f"{TRY} --out {{room}}/text.txt/new", "text.txt"),
    ("tokenizer into a folder", "tokenizer --data {room}/text.txt --kind byte --out {room}/full", "full"),
    ("tokenizer into nowhere", "tokenizer --data {room}/text.txt --kind byte --out {room}/no/t.json", "no"),
    # ---- cleaning
    ("cleaning without --clean", "data {room}/text.txt --out {room}/new.jsonl", "--clean"),
    ("a filter without --clean", "data {room}/text.txt --near 0.8", "--clean"),
    ("a share above one", "data {room}/text.txt --clean --near 8", "near is 8.0"),
    ("no such alphabet", "data {room}/text.txt --clean --alphabet elvish", "elvish"),
    ("cleaned into a file that is there", "data {room}/text.txt --clean --out {room}/lines.jsonl", "lines.jsonl"),
    ("cleaned into no .jsonl", "data {room}/text.txt --clean --out {room}/new.txt", ".jsonl"),
    ("cleaned into nowhere", "data {room}/text.txt --clean --out {room}/no/new.jsonl", "no folder"),
    ("nothing left", "data {room}/text.txt --clean --min-characters 9999 --out {room}/new.jsonl", "too short"),
    # ---- TOML
    ("no such TOML", "train --config {room}/missing.toml", "missing.toml"),
    ("TOML is a folder", "train --config {room}/full", "full"),
    ("TOML is no UTF-8", "train --config {room}/latin.txt", "latin.txt"),
    ("broken TOML", f"{TRY} --config {{room}}/broken.toml", "broken.toml"),
    ("unknown key", f"{TRY} --config {{room}}/unknown.toml", "stepz"),
    ("table in TOML", f"train {GOOD} --config {{room}}/table.toml", "model"),
    ("width as a string", f"train {GOOD} --config {{room}}/string.toml", "d_model"),
    ("fraction of a layer", f"train {GOOD} --config {{room}}/fraction.toml", "n_layers"),
    ("flag as a string", f"{TRY} --config {{room}}/flag.toml", "plain"),
    ("folder as a number", "train --data {room}/text.txt --config {room}/number.toml", "out"),
    ("device as a number", f"{TRY} --config {{room}}/device.toml", "device"),
    ("tokenizer as a number", f"train {GOOD} --config {{room}}/tokenizer.toml", "tokenizer"),
    ("two texts", "train --out {room}/new --config {room}/list.toml", "data"),
    ("vocabulary as a bool", f"train {GOOD} --config {{room}}/vocabulary.toml", "vocab_size"),
    ("out of range", f"{TRY} --config {{room}}/range.toml", "dropout"),
    # ---- tokenizers and checkpoints
    ("no such tokenizer", f"train {GOOD} --tokenizer {{room}}/missing.json", "missing.json"),
    ("text as a tokenizer", f"train {GOOD} --tokenizer {{room}}/text.txt", "text.txt"),
    ("bytes as a tokenizer", "tokenizer --load {room}/zeros.bin", "zeros.bin"),
    ("JSON as a tokenizer", "tokenizer --load {room}/list.json", "list.json"),
    ("folder as a tokenizer", "tokenizer --load {room}/full", "full"),
    ("tokenizer of another text", f"train {GOOD} --tokenizer {{room}}/abc.json --steps 2", "character"),
    ("a file as a checkpoint", "generate {room}/text.txt", "text.txt"),
    ("no such checkpoint", "evaluate {room}/missing", "missing"),
    ("a folder as a checkpoint", "generate {room}/full", "full"),
    ("a bit flipped", "generate {room}/flipped", "weights.safetensors"),
    ("a bit flipped, evaluated", "evaluate {room}/flipped", "weights.safetensors"),
    ("weights cut off", "generate {room}/cut", "weights.safetensors"),
    ("weights missing", "generate {room}/nothing", "weights.safetensors"),
    ("no manifest", "generate {room}/unlisted", MANIFEST),
    ("damaged manifest", "generate {room}/garbage", MANIFEST),
    ("tokenizer exchanged", "generate {room}/mixed", "tokenizer.json"),
    ("fewer tokens than the model", "generate {room}/mismatch", "tokenizer"),
    ("a device that is none", "generate {room}/full --device cpu:abc", "cpu:abc"),
    ("nothing to resume", "train --resume {room}/full", "full"),
    ("resume of nothing", "train --resume {room}/missing", "missing"),
    ("resume of a count", "train --resume {room}/ngram", "ngram"),
    ("resume without optimizer", "train --resume {room}/char", "char"),
    ("resume with other tokens", "train --resume {room}/tokens", "train.tokens"),
    ("resume of damage", "train --resume {room}/flipped", "weights.safetensors"),
]


@pytest.mark.parametrize(("command", "named"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_one_line(
    command: str, named: str, room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, one line that names what is wrong, and not a file more or less than before."""
    monkeypatch.setenv("MINILM_HOME", str(room / "home"))
    before = listing(room)
    code = main([word.format(room=room) for word in command.split(" ")])
    line = complaint(capsys)
    assert code == 2, line
    assert named in line
    assert listing(room) == before


# ---- what the machine does to a command


def test_a_file_that_may_not_be_read(room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """For root, chmod forbids nothing, so the refusal comes from the call that opens the file."""

    def refuse(path: Path, *arguments: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert main(["data", str(room / "text.txt")]) == 2
    line = complaint(capsys)
    assert "text.txt" in line and "Permission denied" in line


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """No file may grow beyond 4,000 bytes, by order of the operating system, as on a disk that is full."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files_only")
@pytest.mark.parametrize("model", ["gpt", "ngram"] if os.name == "posix" else [])  # Windows has no such limits
def test_a_full_disk_leaves_nothing(model: str, room: Path, capsys: Capture) -> None:
    before = listing(room)
    assert train(room / "text.txt", room / "new", "--model", model) == 2
    assert "too large" in complaint(capsys)
    assert listing(room) == before


@pytest.mark.parametrize(
    ("verb", "call"),
    [("train", "fsync"), ("train", "replace"), ("tokenizer", "replace")],
)
def test_a_disk_that_fills_up_late(
    verb: str, call: str, room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last calls before a file is safe may fail too: the sync, and the rename."""

    def no_space(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = listing(room)
    monkeypatch.setattr(os, call, no_space)
    if verb == "train":
        code = train(room / "text.txt", room / "new")
    else:
        code = main(["tokenizer", "--data", str(room / "text.txt"), "--kind", "byte", "--out", str(room / "new.json")])
    assert code == 2
    assert "No space left" in complaint(capsys)
    assert listing(room) == before


def test_no_network(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(command: list[str], **settings: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, 1, b"", b"WARNING: connection broken\nERROR: no match\n")

    monkeypatch.setenv("MINILM_HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", no_answer)
    assert main(["data", "shakespeare", "--json"]) == 2
    line = complaint(capsys)
    assert "cannot be reached" in line and "stories" in line
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def test_not_enough_memory(room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*arguments: object, **settings: object) -> None:
        raise MemoryError

    monkeypatch.setattr("minilm.text.corpus.load_corpus", too_much)
    assert main(["data", str(room / "text.txt")]) == 2
    assert "not enough memory" in complaint(capsys)


def test_ctrl_c_before_training(room: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    before = listing(room)
    monkeypatch.setattr("minilm.training.run.plan", interrupted)
    command = ["train", "--data", str(room / "text.txt"), "--out", str(room / "new"), "--minutes", "1", *SMALL]
    assert main(command) == 130
    assert capsys.readouterr().err.split() == ["minilm:", "interrupted"]
    assert listing(room) == before


@pytest.mark.parametrize("context", [["--context-length", "16"], ["--context-length", "260"]], ids=["short", "long"])
def test_ctrl_c_in_training_and_resume(
    context: list[str], room: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is finished and saved, and the resumed run ends with the very weights of one that nobody disturbed.

    In a long context the attention is the fused kernel, whose last bits differ from those of the readable one.
    """
    from minilm.training import loop

    clip, calls = loop.clip_grad_norm, []

    def clip_and_interrupt(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return clip(*arguments)  # type: ignore[arg-type]

    assert train(room / "text.txt", tmp_path / "undisturbed", *context) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "clip_grad_norm", clip_and_interrupt)
        assert train(room / "text.txt", tmp_path / "run", *context) == 130
    line = complaint(capsys)
    assert f"--resume {tmp_path / 'run'}" in line
    assert [path.name for path in (tmp_path / "run").glob("step-*")] == ["step-000003"]

    assert main(["train", "--resume", str(tmp_path / "run"), "--json"]) == 0
    step = Path(f"step-{STEPS:06d}") / "weights.safetensors"
    assert (tmp_path / "run" / step).read_bytes() == (tmp_path / "undisturbed" / step).read_bytes()
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, STEPS + 1))
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert f"all {STEPS} steps" in capsys.readouterr().out


def test_a_reader_that_leaves(room: Path, subprocess_env: dict[str, str]) -> None:
    """`minilm data text | head -0`: nothing is said and nothing is wrong."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "minilm", "data", str(room / "text.txt")]
    env = {**subprocess_env, "PYTHONUNBUFFERED": ""}  # buffered, the output meets the closed pipe only at the end
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=env, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("device", [path for path in ["/dev/full"] if Path(path).exists()])  # Linux has it
def test_output_into_a_full_disk(device: str, subprocess_env: dict[str, str]) -> None:
    env = {**subprocess_env, "PYTHONUNBUFFERED": ""}
    with open(device, "w") as full:
        command = [sys.executable, "-m", "minilm", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=env, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "No space left" in done.stderr


def test_help_needs_no_torch(subprocess_env: dict[str, str]) -> None:
    code = (
        "import sys\nfrom minilm.cli.main import main\n"
        "for words in (['--help'], ['--help-all'], ['--version'], *([verb, '--help'] for verb in sys.argv[1:])):\n"
        "    try:\n        main(words)\n    except SystemExit as end:\n        assert not end.code\n"
        "print(*(name for name in ('torch', 'numpy', 'matplotlib') if name in sys.modules), 'end')\n"
    )
    verbs = ["train", "generate", "evaluate", "data", "tokenizer", "walk"]
    done = subprocess.run([sys.executable, "-c", code, *verbs], capture_output=True, text=True, env=subprocess_env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "end"
    assert all(f"minilm {verb}" in done.stdout for verb in verbs)


# ---- what the verbs promise


def test_help_shows_four_verbs_and_help_all_the_rest(capsys: Capture) -> None:
    assert main([]) == main(["--help"]) == 0
    short = capsys.readouterr().out
    assert main(["--help-all"]) == 0
    long = capsys.readouterr().out
    assert [verb for verb in VERBS if f"  {verb} " in short] == ["train", "generate", "ladder", "lesson"]
    assert all(f"  {verb} " in long for verb in VERBS)


def test_rare_flags_are_in_help_all_only(capsys: Capture) -> None:
    shown = {}
    for flag in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as end:
            main(["train", flag])
        assert not end.value.code
        shown[flag] = capsys.readouterr().out
    assert "--minutes" in shown["--help"] and "--beta2" not in shown["--help"]
    assert "--beta2" in shown["--help-all"] and "==SUPPRESS==" not in shown["--help-all"]


@pytest.mark.parametrize("kind", MODELS)
def test_the_help_of_a_kind_shows_its_options_and_what_is_taken(kind: str, capsys: Capture) -> None:
    """None that `refuse_foreign` would refuse, and all that it would not."""
    with pytest.raises(SystemExit):
        main(["train", "--model", kind, "--help-all"])
    text = " ".join(capsys.readouterr().out.split())
    no_flag = {"discounts", "cell", "no_token", "seed"}  # set by what else is chosen, or a flag of every kind
    names = set().union(*map(names_of, (TrainConfig, HMMTraining, OneDiscount, *CONFIGS.values()))) - no_flag | {
        "recipe"
    }
    assert {name for name in names if f"[{flag_of(name)} " in text} == options_of(kind) - no_flag
    rates = {"speedrun": "0.01", "gpt": "0.002", "llama": "0.002", "lstm": "0.01", "glove": "0.05"}
    if kind in rates:
        assert f"(default: {rates[kind]})" in text[text.index("--learning-rate FLOAT ") :][:120]
    for absent in ("None", "SUPPRESS"):
        assert absent not in text


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["tran", "--data", "x"], "train"),
        (["train", "--mintues", "3"], "--minutes"),
        (["generate", "x", "--promt", "y"], "--prompt"),
    ],
)
def test_a_slip_of_the_keyboard_is_named(words: list[str], meant: str, capsys: Capture) -> None:
    assert main(words) == 2
    assert f"; did you mean {meant}?" in complaint(capsys)


def test_nothing_is_suggested_for_what_is_like_nothing(capsys: Capture) -> None:
    assert main(["zzz"]) == main(["train", "--zzzzz"]) == 2
    assert "did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "flag"), [("ngram", "--steps"), ("ngram", "--minutes"), ("hmm", "--learning-rate")])
def test_what_counts_refuses_the_options_of_gradients(kind: str, flag: str, room: Path, capsys: Capture) -> None:
    assert main(["train", "--data", str(room / "text.txt"), "--model", kind, flag, "1"]) == 2
    assert f"{flag} is no option of model {kind}" in complaint(capsys)


def generated(capsys: Capture, folder: Path, *more: str) -> str:
    capsys.readouterr()
    assert main(["generate", str(folder), "--prompt", "The cat", "--max-new-tokens", "40", *more]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


@pytest.mark.parametrize("model", ["gpt", "ngram"])
def test_generate_is_its_seed(model: str, room: Path, capsys: Capture) -> None:
    """Same seed, same text, with or without the cache and beyond the context of 16; another seed, another text."""
    first = generated(capsys, room / model, "--temperature", "0.9", "--seed", "7")
    assert first.startswith("The cat") and len(first.encode()) >= len("The cat") + 20
    assert generated(capsys, room / model, "--temperature", "0.9", "--seed", "7") == first
    assert generated(capsys, room / model, "--temperature", "0.9", "--seed", "7", "--no-cache") == first
    assert generated(capsys, room / model, "--temperature", "0.9", "--seed", "8") != first


def test_more_choices_than_tokens_is_no_limit(room: Path, capsys: Capture) -> None:
    free = generated(capsys, room / "gpt", "--seed", "3")
    assert generated(capsys, room / "gpt", "--seed", "3", "--top-k", "100000") == free
    assert generated(capsys, room / "gpt", "--seed", "3", "--top-p", "1") == free


def test_greedy_needs_no_seed_and_top_k_1_is_greedy(room: Path, capsys: Capture) -> None:
    greedy = generated(capsys, room / "ngram", "--temperature", "0", "--seed", "1")
    assert generated(capsys, room / "ngram", "--temperature", "0", "--seed", "2") == greedy
    assert generated(capsys, room / "ngram", "--top-k", "1", "--seed", "3") == greedy


def test_generate_json(room: Path, capsys: Capture) -> None:
    plain = generated(capsys, room / "gpt", "--seed", "5")
    table = json.loads(generated(capsys, room / "gpt", "--seed", "5", "--json"))
    assert plain == table["prompt"] + table["text"] + "\n"
    assert 20 < table["tokens"] <= 40 and table["seconds"] > 0


@pytest.mark.parametrize("model", ["gpt", "ngram"])
def test_evaluate_json_is_consistent(model: str, room: Path, capsys: Capture) -> None:
    """The figures imply each other; bytes are those of the file, and a byte tokenizer has a token for each."""
    assert main(["evaluate", str(room / model), "--data", str(room / "text.txt"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["bytes"] == figures["tokens"] == len(TEXT.encode())
    bits = figures["nats_per_token"] * figures["tokens"] / np.log(2) / figures["bytes"]
    assert figures["bits_per_byte"] == pytest.approx(bits, rel=1e-9)
    assert figures["perplexity"] == pytest.approx(np.exp(figures["nats_per_token"]), rel=1e-9)
    assert 0 < figures["bits_per_byte"] < (9 if model == "gpt" else 3)


def test_evaluate_reads_the_validation_split_by_default(room: Path, capsys: Capture) -> None:
    assert main(["evaluate", str(room / "gpt"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert main(["data", str(room / "text.txt"), "--json"]) == 0
    corpus = json.loads(capsys.readouterr().out)
    assert figures["bytes"] == corpus["validation"]["bytes"] < corpus["train"]["bytes"]
    assert corpus["validation"]["bytes"] + corpus["train"]["bytes"] == len(TEXT.encode())
    assert main(["evaluate", str(room / "gpt"), "--max-bytes", "100"]) == 0
    assert "100 bytes of text" in capsys.readouterr().out


def test_a_corpus_is_cleaned_into_a_new_file(tmp_path: Path, capsys: Capture) -> None:
    """What is written is a corpus, clean and without leaks; the figures are those of the report."""
    texts = [f"{i} " + LINE.format(*random.Random(i).choices(WORDS, k=3)) * 3 + "x y" * i for i in range(40)]
    dirty = tmp_path / "dirty.jsonl"
    lines = [json.dumps({"text": text}) for text in [*texts, *texts[:7], texts[8].replace("\n", "\r\n"), "", " "]]
    dirty.write_text("\n".join(lines))
    kept = dirty.read_bytes()
    out = tmp_path / "clean.jsonl"
    assert main(["data", str(dirty), "--clean", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["clean"]
    assert report["dropped"] == {"exact duplicate": 8, "empty or too short": 1}  # a document of no characters is none
    assert [json.loads(line)["text"] for line in out.read_text().splitlines()] == texts
    assert dirty.read_bytes() == kept and sorted(path.name for path in tmp_path.iterdir()) == [out.name, dirty.name]
    assert main(["data", str(out), "--clean", "--near", "0.9"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"documents, nearly the same +\d+ +\d+", shown) and re.search("found +40 ", shown)


STRANGERS = {
    "Chinese": "從前有一隻貓，牠住在河邊的小屋裡。每天早上牠都去看月亮。\n" * 30,
    "emoji": "The 👩‍👩‍👧 saw a 🦊 and a 🌙, naïve and 🇫🇷!\n" * 40,
    "CR LF": TEXT[:2400].replace("\n", "\r\n"),
}


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_texts(name: str, tokenizer: str, tmp_path: Path, capsys: Capture) -> None:
    """A text in any script and with any line end is learned from, not a byte of it lost, and written."""
    (tmp_path / "text.txt").write_bytes(STRANGERS[name].encode())
    assert train(tmp_path / "text.txt", tmp_path / "run", "--tokenizer", tokenizer, "--steps", "2") == 0
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "text.txt"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["bytes"] == len(STRANGERS[name].encode())
    assert figures["tokens"] == len(STRANGERS[name].encode() if tokenizer == "byte" else STRANGERS[name])
    prompt = STRANGERS[name][:5]
    assert main(["generate", str(tmp_path / "run"), "--prompt", prompt, "--max-new-tokens", "12"]) == 0
    assert capsys.readouterr().out.startswith(prompt)


@pytest.mark.parametrize("model", ["llama", "speedrun"])
def test_other_models_are_siblings(model: str, room: Path, tmp_path: Path, capsys: Capture) -> None:
    assert train(room / "text.txt", tmp_path / "run", "--model", model) == 0
    table = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert table["step"] == STEPS and table["bits_per_byte"] < 8.5
    assert generated(capsys, tmp_path / "run", "--seed", "1") == generated(
        capsys, tmp_path / "run", "--seed", "1", "--no-cache"
    )


def test_plain_attention_computes_the_same(room: Path, tmp_path: Path, capsys: Capture) -> None:
    assert train(room / "text.txt", tmp_path / "run", "--plain") == 0
    scores = []
    for folder in (room / "gpt", tmp_path / "run"):
        capsys.readouterr()
        assert main(["evaluate", str(folder), "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out)["bits_per_byte"])
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_toml_and_flags_make_the_same_run(room: Path, tmp_path: Path) -> None:
    """A key of the file is a flag; where both speak, the flag wins."""
    lines = [f"data = '{room / 'text.txt'}'", "steps = 99", "tokenizer = 'byte'", "batch-size = 3", "dtype = 'float32'"]
    lines += ["d_model = 16", "n_layers = 1", "n_heads = 2", "context-length = 16", "threads = 1", "model = 'gpt'"]
    (tmp_path / "run.toml").write_text("\n".join(lines), encoding="utf-8")
    command = ["train", "--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run"), "--json"]
    assert main([*command, "--steps", str(STEPS)]) == 0
    step = Path(f"step-{STEPS:06d}") / "weights.safetensors"
    assert (tmp_path / "run" / step).read_bytes() == (room / "gpt" / step).read_bytes()


def test_a_model_is_trained_by_the_recipe_of_another(room: Path, tmp_path: Path) -> None:
    """--recipe speedrun: its optimizer, rates and schedule; what is given besides wins, and the model is the chosen one."""
    given = ("--recipe", "speedrun", "--learning-rate", "0.003")
    assert train(room / "text.txt", tmp_path / "run", *given, "--steps", "1") == 0
    checkpoint = load_checkpoint(tmp_path / "run")
    expected = TrainConfig(**RECIPES["speedrun"] | {"learning_rate": 0.003, "batch_size": 3, "steps": 1, "threads": 1})
    assert checkpoint.model.kind == "gpt" and expected.optimizer == "muon"
    assert checkpoint.state["train"] == asdict(expected) | {"dtype": "float32"}


@pytest.mark.parametrize("called", [None, "python3 run.py"])
def test_what_to_type_next_is_what_was_typed(called: str | None, room: Path, capsys: Capture, monkeypatch) -> None:
    if called:
        monkeypatch.setenv("MINILM_COMMAND", called)
    assert main(["convert", str(room / "gpt"), "--int8", "--out", str(room / f"int8-{called}")]) == 0
    assert f"now try: {called or 'minilm'} generate {room}" in capsys.readouterr().out
    assert as_started("minilm minilm") == f"{called or 'minilm'} minilm" and as_started("say minilm") == "say minilm"
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert f"example: {called or 'minilm'} train --data" in capsys.readouterr().out


def test_a_saved_tokenizer_is_used(room: Path, tmp_path: Path, capsys: Capture) -> None:
    path = str(tmp_path / "bpe.json")
    assert main(["tokenizer", "--data", str(room / "text.txt"), "--vocab-size", "280", "--out", path, "--json"]) == 0
    saved = json.loads(capsys.readouterr().out)
    assert saved["vocab_size"] == 280
    assert train(room / "text.txt", tmp_path / "run", "--tokenizer", path, "--steps", "1") == 0
    config = json.loads((tmp_path / "run" / "step-000001" / "config.json").read_text())
    assert config["config"]["vocab_size"] == 280
    capsys.readouterr()
    assert main(["tokenizer", "--load", path, "--text", "the moon 🌙", "--json"]) == 0
    cut = json.loads(capsys.readouterr().out)
    assert cut["fingerprint"] == saved["fingerprint"]
    assert len(cut["ids"]) == len(cut["pieces"]) < len("the moon 🌙".encode())
