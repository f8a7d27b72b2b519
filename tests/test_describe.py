"""`minilm describe`: the table, the JSON, the picture, and one line for whatever cannot be described."""

import functools
import json
import math
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm.classical.config import NgramConfig
from minilm.classical.ngram import NgramLM
from minilm.cli.describing import short
from minilm.cli.main import main
from minilm.models.accounting import Account, Brick, account
from minilm.models.config import SpeedrunConfig, gpt2_config, llama_config
from minilm.models.counted import CountedLM
from minilm.models.expert_block import expert_block
from minilm.models.gpt import GPT
from minilm.models.mixture import Mixture
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.plots.block import plot_block
from minilm.text.tokenizer import ByteTokenizer
from minilm.training.checkpoint import save_checkpoint

Capture = pytest.CaptureFixture[str]
TEXT = b"the cat saw the other cat and the cat ran. " * 3
TOKENIZER = ByteTokenizer()
V = TOKENIZER.vocab_size
GPT2 = gpt2_config(vocab_size=V, context_length=21, d_model=12, n_layers=2, n_heads=3)
SPEEDRUN = SpeedrunConfig(vocab_size=V, context_length=21, d_model=12, n_layers=3, n_heads=2)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of every kind."""
    room = tmp_path_factory.mktemp("room")
    ids = np.frombuffer(TEXT, dtype=np.uint8).astype(np.int64)
    ngram = CountedLM(NgramLM(NgramConfig(vocab_size=V, order=3)).fit(ids, TOKENIZER.end_of_text))
    models: dict[str, Any] = {"gpt": GPT(GPT2), "speedrun": SpeedrunGPT(SPEEDRUN), "ngram": ngram}
    models["mixture"] = Mixture(models["gpt"], ngram, weight=0.25)
    for name, model in models.items():
        save_checkpoint(room / name, model, TOKENIZER, step=7)
    return room


def describe(capsys: Capture, *words: object) -> str:
    """What the verb prints when all is well."""
    assert main(["describe", *map(str, words)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


def from_json(table: dict[str, Any]) -> Account:
    """The account that a JSON object stands for."""
    bricks = tuple(
        Brick(**{key: tuple(value) if isinstance(value, list) else value for key, value in brick.items()})
        for brick in table["bricks"]
    )
    return Account(**{**table, "bricks": bricks})


# ---- presets


def test_json_is_the_account(capsys: Capture) -> None:
    words = ["--d-model", 20, "--n-layers", 3, "--n-heads", 5, "--context-length", 17, "--vocab-size", 71]
    sizes = {"d_model": 20, "n_layers": 3, "n_heads": 5, "context_length": 17, "vocab_size": 71}
    more: list[tuple[str, list[Any], Any]] = [
        ("gpt", ["--bias", "--no-tie-embeddings", "--d-ff", 33], gpt2_config(**sizes, tie_embeddings=False, d_ff=33)),
        ("llama", ["--n-kv-heads", 1, "--rope-theta", 300], llama_config(**sizes, n_kv_heads=1, rope_theta=300.0)),
        ("speedrun", ["--n-shift", 1], SpeedrunConfig(**sizes, n_shift=1)),
    ]
    for name, flags, config in more:
        out = describe(capsys, name, *words, *flags, "--batch-size", 3, "--dtype", "bfloat16", "--json")
        expected = {**asdict(account(config, 3, dtype="bfloat16")), "kind": name}
        assert json.loads(out) == json.loads(json.dumps(expected))
        assert asdict(from_json(json.loads(out))) == expected


def test_table_of_gpt2(capsys: Capture) -> None:
    """The sums of the columns, and the sentence with the published size of GPT-2."""
    sizes = ["--d-model", 768, "--n-layers", 12, "--n-heads", 12, "--vocab-size", 50257, "--context-length", 1024]
    out = describe(capsys, "gpt", *sizes)
    assert "A 124 M gpt needs 498 MB in float32; to train it on 1 x 1,024 tokens at a time takes 5.07 GB." in out
    assert "73,728 B a token" in out  # 2 x 12 x 768 x 4
    lines = out.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("embedding"))
    last = next(i for i, line in enumerate(lines) if line.startswith("sum"))
    columns = [re.split(r"  +", line) for line in lines[first:last]]
    assert sum(int(row[3].replace(",", "")) for row in columns) == 124_439_808
    assert "124,439,808" in lines[last]
    flops = sum(int(row[4].replace(",", "")) for row in columns)
    assert flops == 284_812_800  # 2 (12 * 12 * 768 ** 2 + 50257 * 768) + 4 * 12 * 1024 * 768
    assert f"{flops:,}" in lines[last]
    assert "minilm train --dtype" not in out
    assert "weights and AdamW are those of float32" in describe(capsys, "gpt", "--dtype", "bfloat16")


def test_share_of_the_scores(capsys: Capture) -> None:
    out = describe(capsys, "gpt", "--n-heads", 2, "--batch-size", 3, "--context-length", 50, "--n-layers", 5)
    whole = account(gpt2_config(n_heads=2, context_length=50, n_layers=5), 3).activations
    share = 100 * (5 * 2 * (3 * 2 * 50 * 50) * 4) / whole
    assert f"scores are {share:.0f}% of the activations" in out


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (497_759_232, "498 MB"),
        (2_500_000_000, "2.5 GB"),
        (7 * 10**12, "7 TB"),
    ],
)
def test_short(number: int, words: str) -> None:
    assert short(number, "B") == words


# ---- checkpoints


@pytest.mark.parametrize(("name", "config"), [("gpt", GPT2), ("speedrun", SPEEDRUN)])
def test_a_run_and_its_checkpoint(name: str, config: Any, room: Path, capsys: Capture) -> None:
    expected = json.loads(json.dumps(asdict(account(config, 2, 13))))
    for folder in (room / name, room / name / "step-000007"):
        out = describe(capsys, folder, "--batch-size", 2, "--context-length", 13, "--json")
        assert json.loads(out) == expected
    assert f"{expected['parameters']:,}" in describe(capsys, room / name)


def test_an_ngram_has_parameters_and_bytes(room: Path, capsys: Capture) -> None:
    """Its bytes are those of its arrays, which the file holds behind a header of 8 bytes and its length."""
    table = json.loads(describe(capsys, room / "ngram", "--json"))
    assert table.keys() == {"kind", "parameters", "weights"} and table["kind"] == "ngram"
    data = (room / "ngram" / "step-000007" / "weights.safetensors").read_bytes()
    assert table["weights"] == len(data) - 8 - int.from_bytes(data[:8], "little")
    counted = {TEXT[i : i + n] for n in (1, 2, 3) for i in range(len(TEXT) - n + 1)}
    assert table["parameters"] == len(counted)
    assert f"{table['parameters']:,} parameters" in describe(capsys, room / "ngram")


def test_a_mixture_is_its_parts(room: Path, capsys: Capture) -> None:
    table = json.loads(describe(capsys, room / "mixture", "--json"))
    gpt, ngram = (json.loads(describe(capsys, room / name, "--json")) for name in ("gpt", "ngram"))
    assert table == {"kind": "mixture", "parameters": gpt["parameters"] + ngram["parameters"], "parts": [gpt, ngram]}
    assert f"as a mixture: {table['parameters']:,} parameters" in describe(capsys, room / "mixture")
    started = json.loads(describe(capsys, room / "mixture", "--json", "--init"))["parts"]
    assert [len(part.get("initialisation", [])) for part in started] == [2 + 2 * 16 + 2, 0]


# ---- the picture


def words_of(figure: Any) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_picture_has_every_shape() -> None:
    """A Llama block with all sizes different: B 3, T 7, D 24, four heads over two, F 10."""
    config = llama_config(vocab_size=5, context_length=7, d_model=24, n_layers=9, n_heads=4, n_kv_heads=2, d_ff=10)
    words = words_of(plot_block(account(config, 3).bricks))
    assert "One of 9 blocks: 2,496 parameters" in words  # 2 * 24 + 2 * 24 * 24 + 2 * 12 * 24 + 3 * 10 * 24
    # The stream, into q, k and v, from q, from the attention, into gate and up; from k and v; the scores; in the MLP.
    for shape, times in {"(3, 7, 24)": 8, "(3, 7, 12)": 2, "(3, 4, 7, 7)": 1, "(3, 7, 10)": 3}.items():
        assert words.count(shape) == times
    for matrix in ("24 × 24\n576 parameters", "12 × 24\n288 parameters", "10 × 24\n240 parameters", "24 × 10\n240 par"):
        assert matrix in words
    assert [words.count(title) for title in ("queries", "keys", "values", "gate", "up", "down", "norm", "+")] == (
        [1, 1, 1, 1, 1, 1, 2, 2]
    )


def test_picture_without_a_gate_or_of_one_block() -> None:
    config = gpt2_config(vocab_size=5, context_length=7, d_model=24, n_layers=1, n_heads=4, dropout=0.1)
    words = words_of(plot_block(account(config).bricks))
    assert "The block: 7,224 parameters" in words  # 2 * 48 + 4 * (576 + 24) + 2 * 24 * 96 + 96 + 24
    assert "gate" not in words and "dropout" not in words
    with pytest.raises(ValueError, match="no brick is named"):
        plot_block([])


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_plot_writes_a_file(ending: str, tmp_path: Path, room: Path, capsys: Capture) -> None:
    path = tmp_path / f"block.{ending}"
    for config in ("speedrun", room / "mixture"):
        assert str(path) in describe(capsys, config, "--plot", path)
        begins = {"png": b"\x89PNG", "svg": b"<?xml"}[ending]
        assert path.read_bytes().startswith(begins)
        assert list(tmp_path.iterdir()) == [path]
        path.unlink()


# ---- experts


def test_how_experts_start(capsys: Capture) -> None:
    """The parameters are those of a real model with such blocks; in the table, 2 blocks of 5 experts share a line."""
    words = ["gpt", "--d-model", 12, "--n-layers", 2, "--n-heads", 3, "--vocab-size", V, "--context-length", 21]
    model = GPT(GPT2, block=functools.partial(expert_block, n_experts=5, k=2))
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    table = json.loads(describe(capsys, *words, "--init", "--experts", 5, "--json"))
    assert {start["name"]: start["shape"] for start in table["initialisation"]} == shapes
    lines = [re.split(r"  +", line) for line in describe(capsys, *words, "--init", "--experts", 5).splitlines()]
    copies = {line[0]: line[2] for line in lines if line[0].startswith("blocks.mlp.experts")}
    assert copies == {
        f"blocks.mlp.experts.{name}": "10" for name in ("up.weight", "up.bias", "down.weight", "down.bias")
    }


def test_a_table_of_ngrams_counts(capsys: Capture) -> None:
    words = ["speedrun", "--max-ngram", 3, "--ngram-rows", 41, "--d-model", 12, "--n-heads", 2, "--vocab-size", 17]
    table = json.loads(describe(capsys, *words, "--init", "--json"))
    model = SpeedrunGPT(SpeedrunConfig(vocab_size=17, d_model=12, n_heads=2, max_ngram=3, ngram_rows=41))
    assert table["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert table["parameters"] == sum(math.prod(start["shape"]) for start in table["initialisation"])
    assert "only the rows that a batch reads have gradients" in describe(capsys, *words)
    assert "only the rows" not in describe(capsys, "speedrun")


def test_help_says_whose_the_defaults_are(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["describe", "--help"])
    assert "The defaults below are those of gpt; llama and speedrun have their own." in capsys.readouterr().out


# ---- errors


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["gpt2"], "'gpt2' is neither gpt (that is GPT-2), llama, speedrun nor the folder of a run: an n-gram has"),
        (["mixture"], "'mixture' is neither"),
        ([], "the following arguments are required: CONFIG"),
        (["gpt", "--n-shift", "2"], "--n-shift is no option of gpt"),
        (["speedrun", "--norm", "rms"], "--norm is no option of speedrun"),
        (["gpt", "--d-model", "30"], "--d-model 30 must be a multiple of n_heads 4"),
        (["gpt", "--n-layers", "0"], "--n-layers is 0: it must be at least 1"),
        (["gpt", "--n-layers", "9" * 30], "--n-layers is too large: it must be at most 1,000,000,000"),
        (["gpt", "--batch-size", "9" * 400], "--batch-size is too large"),
        (["gpt", "--batch-size", "0"], "--batch-size is 0: it must be at least 1"),
        (["gpt", "--dtype", "float16"], "invalid choice: 'float16'"),
        (["gpt", "--plot", "block.tiff"], "--plot block.tiff: the name of a picture ends in .png, .svg or .pdf"),
        (["gpt", "--plot", "no/such/folder/block.png"], "No such file or directory"),
        (["ROOM/gpt", "--d-model", "12"], "--d-model is fixed in a trained model"),
        (["ROOM/gpt", "--context-length", "22"], "a length of 22 tokens: the model reads 1 to 21"),
        (
            ["ROOM/ngram", "--plot", "block.png"],
            "--plot draws a transformer's block, and a model of kind ngram has none",
        ),
        (["ROOM/ngram", "--init"], "--init tells how a transformer starts, and a model of kind ngram has none"),
        (["ROOM"], "is no checkpoint"),
        (["gpt", "--experts", "3"], "--experts goes with --init"),
        (["gpt", "--init", "--experts", "0"], "--experts is 0: give 1 to 1,000"),
        (["gpt", "--init", "--experts", "1001"], "--experts is 1001: give 1 to 1,000"),
        (["speedrun", "--init", "--experts", "2"], "--experts is no option of speedrun: describe gpt or llama with it"),
        (["ROOM/gpt", "--init", "--experts", "2"], "gpt: describe gpt or llama with it"),
    ],
)
def test_one_line_and_exit_2(
    words: list[str], says: str, room: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["describe", *(word.replace("ROOM", str(room)) for word in words)]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and list(tmp_path.iterdir()) == []
    assert shown.err.startswith("minilm: describe: ") and shown.err.count("\n") == 1
    assert says in shown.err


@pytest.mark.parametrize(
    "words", [["--help"], ["--help-all"], ["llama", "--n-layers", "3"], ["gpt", "--json", "--init"]]
)
def test_it_answers_without_torch(words: list[str], subprocess_env: dict[str, str]) -> None:
    """Help and presets are arithmetic: no torch (1.7 s), no matplotlib, no numpy."""
    code = (
        "import sys\nfrom minilm.cli.main import main\n"
        "try:\n    main(['describe', *sys.argv[1:]])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('imported', [m for m in ('torch', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, env=subprocess_env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported []"
    assert len(done.stdout) > 500
