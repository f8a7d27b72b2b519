"""The house is as its rules say (tests/house.py), and each rule can fail."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import (
    HOUSE_RULES,
    PACKAGE_RULES,
    PYTHON_RULES,
    ROOT,
    TEST_RULES,
    TEXT_RULES,
    config_fields,
    core_size,
    docstring,
    empty_init,
    file_size,
    finished,
    forbidden_calls,
    hand_written,
    import_packages,
    import_rooms,
    import_style,
    imports,
    makes_claims,
    no_private_places,
    no_side_effects,
    parse,
    verbs_are_files,
)
from house_law import CORE, EXCEPTIONS, MAY_IMPORT, SKIPS

TEXTS = {".py", ".md", ".toml", ".txt", ".html", ".js", ""}


def read(*patterns: str) -> dict[str, str]:
    """{path from the root: text} of the files that match."""
    found = sorted(path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file())
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in found if path.suffix in TEXTS
    }


PACKAGE = read("minilm/**/*.py")
TESTS = read("tests/**/*.py")
PYTHON = PACKAGE | TESTS | read("run.py")
EVERYTHING = PYTHON | read("*", ".ci/*", "minilm/**/*", "lessons/*", "lessons/src/*", "docs/*")


JUDGED = [(PACKAGE_RULES, PACKAGE), (PYTHON_RULES, PYTHON), (TEST_RULES, TESTS), (TEXT_RULES, EVERYTHING)]
PAIRS = [(rule, files) for rules, files in JUDGED for rule in rules]


@pytest.mark.parametrize(("rule", "files"), PAIRS, ids=[rule.__name__ for rule, _ in PAIRS])
def test_files(rule, files):
    assert files
    assert [f"{path}:{problem}" for path, text in files.items() for problem in rule(path, text)] == []


@pytest.mark.parametrize("rule", HOUSE_RULES)
def test_house(rule):
    assert list(rule(PACKAGE)) == []


def test_run_py_is_read_in_one_sitting():
    assert list(file_size("run.py", PYTHON["run.py"])) == []


def test_every_room_of_the_table_is_reached():
    """A room whose name is misspelt in the table would be judged by nobody."""
    rooms = {Path(path).parts[1].removesuffix(".py") for path in PACKAGE}
    assert rooms <= set(MAY_IMPORT)
    assert {"text", "classical", "layers", "models", "training", "decoding", "evaluation", "cli"} <= rooms


def test_exceptions_are_needed():
    """An exception that nobody uses any more is deleted, as soon as its file exists."""
    for path, what in EXCEPTIONS:
        if path in PACKAGE and what != "*":
            assert any(name.startswith(f"minilm.{what}") for _, name in imports(parse(PACKAGE[path]))), (path, what)
    assert set(SKIPS) <= set(TESTS)


@pytest.mark.parametrize("arguments", [["--help"], ["--help-all"], ["--version"], ["train", "--help"], ["nonsense"]])
def test_help_imports_no_torch(arguments, subprocess_env):
    """`--help` answers in a blink: it imports neither torch (1.7 s) nor matplotlib (0.6 s) nor numpy."""
    code = (
        "import sys\nfrom minilm.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('imported', [m for m in ('torch', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=subprocess_env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported []"


# ---- each rule can fail: (rule, path, a text that breaks it, what it says); and a text that does not

BAD = [
    (import_rooms, "minilm/text/bpe.py", "from minilm.models.gpt import GPT", "1: text may not"),
    (import_rooms, "minilm/text/bpe.py", "def f():\n    import minilm.layers.basic", "2: text may not"),
    (import_rooms, "minilm/models/registry.py", "KINDS = {'a': 'minilm.training.loop:train'}", "1: models may not"),
    (import_rooms, "minilm/models/gpt.py", "from minilm.fast.attention import fused", "1: models may not"),
    (import_rooms, "minilm/training/loop.py", "from minilm.decoding.generate import generate", "1: training may not"),
    (import_rooms, "minilm/decoding/generate.py", "from minilm.training.loss import x", "1: decoding may not"),
    (import_rooms, "minilm/decoding/generate.py", "from minilm.models.gpt import GPT", "1: decoding may not"),
    (import_rooms, "minilm/metrics.py", "from minilm.text.bpe import BPETokenizer", "1: metrics may not"),
    (import_rooms, "minilm/analysis/bias.py", "from minilm.tasks.tagging import tags", "1: analysis may not"),
    (import_rooms, "minilm/serving/server.py", "from minilm.training.loop import train", "1: serving may not"),
    (import_rooms, "minilm/checks/attention.py", "from minilm.layers.masks import window", "1: checks may not"),
    (import_rooms, "minilm/checks/attention.py", "from minilm.checks.exercises import EXERCISES", "1: checks may not"),
    (import_rooms, "minilm/cli/train.py", "from minilm.checks.compare import compare", "1: cli may not"),
    (import_rooms, "minilm/bench/speed.py", "from minilm.cli.main import main", "1: bench may not"),
    (import_rooms, "minilm/utils/misc.py", "", "1: the house has no room 'utils'"),
    (import_style, "minilm/text/bpe.py", "from .tokenizer import Tokenizer", "1: relative"),
    (import_style, "minilm/text/bpe.py", "from minilm.text.tokenizer import *", "1: star"),
    (import_style, "minilm/text/bpe.py", "from minilm import GPT", "1: import from the file"),
    (import_style, "minilm/text/bpe.py", "from minilm.text import tokenizer", "1: import from a file of"),
    (import_packages, "minilm/cli/ladder.py", "def f():\n    import matplotlib.pyplot as plt", "2: only plots"),
    (import_packages, "minilm/models/gpt.py", "from transformers import GPT2LMHeadModel", "1: only bench"),
    (import_packages, "minilm/bench/peers.py", "from transformers import GPT2LMHeadModel", "1: only bench"),
    (import_packages, "minilm/classical/ngram.py", "from torch import Tensor", "1: classical does without"),
    (import_packages, "minilm/models/config.py", "import numpy as np", "1: a config needs"),
    (no_side_effects, "minilm/runtime.py", "import torch\ntorch.set_num_threads(1)", "2: an import would run"),
    (no_side_effects, "minilm/runtime.py", "for _ in range(3):\n    pass", "1: an import would run"),
    (empty_init, "minilm/text/__init__.py", '"""Text."""', "1: not empty"),
    (hand_written, "minilm/models/gpt.py", "from torch import nn\nx = nn.Linear(2, 3)", "2: torch.nn.Linear"),
    (hand_written, "minilm/models/gpt.py", "import torch\nx = torch.nn.Embedding(2, 3)", "2: torch.nn.Embedding"),
    (hand_written, "minilm/models/gpt.py", "from torch.nn import LayerNorm as L", "1: torch.nn.LayerNorm"),
    (hand_written, "minilm/models/gpt.py", "import torch.nn.functional as F\nx = F.softmax", "1: torch.nn.functional"),
    (hand_written, "minilm/training/optim.py", "import torch\nx = torch.optim.AdamW", "2: torch.optim"),
    (hand_written, "minilm/layers/basic.py", "import torch\nx = torch.softmax(1, 0)", "2: torch.softmax"),
    (docstring, "minilm/runtime.py", "x = 1", "1: no docstring"),
    (file_size, "minilm/runtime.py", "x = 1\n" * 301, "301: more than"),
    (forbidden_calls, "minilm/a.py", "import pickle", "1: pickle"),
    (forbidden_calls, "minilm/a.py", "import torch as t\nt.load('x', weights_only=True)", "2: torch.load"),
    (forbidden_calls, "minilm/a.py", "from torch import save", "1: torch.save"),
    (forbidden_calls, "minilm/a.py", "import numpy as np\nnp.load('x', allow_pickle=True)", "2: allow_pickle"),
    (forbidden_calls, "minilm/a.py", "eval('1')", "1: eval"),
    (forbidden_calls, "minilm/a.py", "exec('1')", "1: exec"),
    (forbidden_calls, "minilm/a.py", "import os\nos.system('ls')", "2: os.system"),
    (forbidden_calls, "minilm/a.py", "import subprocess\nsubprocess.run('ls', shell=True)", "2: shell"),
    (forbidden_calls, "minilm/a.py", "from yaml import load", "1: yaml.load"),
    (makes_claims, "tests/test_a.py", "x == 1", "1: a comparison"),
    (makes_claims, "tests/test_a.py", "import pytest\n@pytest.mark.skip\ndef test_a():\n    assert f()", "2: pytest"),
    (makes_claims, "tests/test_a.py", "import pytest\ntorch = pytest.importorskip('torch')", "2: pytest.import"),
    (makes_claims, "tests/test_a.py", "def test_a():\n    print(f())", "1: test_a asserts nothing"),
    (finished, "README.md", "x\nTO" "DO: y", "2: unfinished"),
    (no_private_places, "README.md", "see files.python" "hosted.org", "1: names a host"),
]  # fmt: skip
GOOD = [
    (import_rooms, "minilm/text/bpe.py", "from minilm.text.tokenizer import Tokenizer\nimport minilm.runtime"),
    (import_rooms, "minilm/serving/server.py", "from minilm.training.checkpoint import load_checkpoint"),
    (import_rooms, "minilm/checks/attention.py", "from minilm.checks.compare import compare"),
    (import_rooms, "minilm/checks/exercises.py", "from minilm.layers.attention import split_heads"),
    (import_rooms, "minilm/cli/check.py", "from minilm.checks.exercises import EXERCISES"),
    (import_packages, "minilm/bench/peers.py", "def f():\n    import transformers"),
    (import_packages, "minilm/plots/ladder.py", "import matplotlib.pyplot as plt"),
    (no_side_effects, "minilm/runtime.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
    (hand_written, "minilm/models/gpt.py", "from torch import nn\nx = nn.Module, nn.Parameter, nn.ModuleList"),
    (hand_written, "minilm/models/gpt.py", "from minilm.layers.basic import softmax\nsoftmax(1, 0)"),
    (hand_written, "minilm/fast/attention.py", "import torch.nn.functional as F"),
    (file_size, "minilm/runtime.py", "x = 1\n" * 300),
    (forbidden_calls, "minilm/a.py", "import numpy as np\nnp.load('x', allow_pickle=False)\nmodel.eval()"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "path", "text", "says"), BAD, ids=[f"{case[0].__name__}-{n}" for n, case in enumerate(BAD)]
)
def test_rule_can_fail(rule, path, text, says):
    problems = list(rule(path, text))
    assert problems
    assert problems[0].startswith(says)


@pytest.mark.parametrize(("rule", "path", "text"), GOOD, ids=[f"{case[0].__name__}-{n}" for n, case in enumerate(GOOD)])
def test_rule_lets_pass(rule, path, text):
    assert list(rule(path, text)) == []


def test_every_rule_is_proved():
    proved = {case[0] for case in BAD}
    assert proved == set(PACKAGE_RULES + PYTHON_RULES + TEST_RULES + TEXT_RULES)


def fields(count: int) -> dict[str, str]:
    return {"minilm/models/config.py": "class GPTConfig:\n" + "".join(f"    f{n}: int = 0\n" for n in range(count))}


@pytest.mark.parametrize(
    ("problems", "count"),
    [
        (core_size({}), 9),
        (core_size({f"minilm/{name}": "\n" * 166 for name in CORE}), 0),
        (core_size({f"minilm/{name}": "\n" * 167 for name in CORE}), 1),
        (config_fields(fields(14)), 0),
        (config_fields(fields(15)), 1),
        (config_fields({"minilm/models/config.py": ""}), 1),
        (verbs_are_files({"minilm/cli/main.py": "VERBS = {'train': ''}", "minilm/cli/train.py": ""}), 0),
        (verbs_are_files({"minilm/cli/main.py": "VERBS = {'train': ''}"}), 1),
        (verbs_are_files({"minilm/cli/main.py": "VERBS = {}", "minilm/cli/helpers.py": ""}), 1),
    ],
)
def test_rule_of_the_house_can_fail(problems: Iterator[str], count: int):
    assert len(list(problems)) == count
