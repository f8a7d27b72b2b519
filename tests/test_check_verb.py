"""`minilm check`: a student's file is judged in a process of its own, whatever it does to that process."""

import json
from pathlib import Path

import pytest

from minilm.checks.exercises import EXERCISES
from minilm.checks.grade import judge_names, names_of
from minilm.checks.results import read_results
from minilm.cli.main import main

LESSONS = Path(__file__).resolve().parents[1] / "lessons"
RIGHT = """import torch
def causal_mask(n_queries, n_keys):
    return torch.ones(n_queries, n_keys).tril(n_keys - n_queries).bool()
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINILM_HOME", str(tmp_path / "home"))


@pytest.fixture
def judged(tmp_path, capsys):
    """Judge the text of a file; the exit code and the verdicts by exercise."""

    def judge(text, *options, name="mine.py"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        code = main(["check", str(path), "--json", *options])
        out = capsys.readouterr()
        return code, {row["exercise"]: row for row in json.loads(out.out)} if out.out else out.err

    return judge


def notebook(*cells):
    return json.dumps({"cells": [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]})


def test_a_file_with_one_of_each(judged):
    code, verdicts = judged(
        "import torch\n"
        "from minilm.layers.attention import split_heads\n"
        "print(open(__file__).name)\n"
        "def causal_mask(n_queries, n_keys):\n    return torch.ones(n_queries, n_keys).tril().bool()\n"
        "def scaled_dot_product_attention(q, k, v, mask=None):\n    raise NotImplementedError\n"
    )
    assert code == 1 and list(verdicts) == ["causal_mask", "split_heads", "scaled_dot_product_attention"]
    assert verdicts["causal_mask"]["mistake"] == "upper left"
    assert verdicts["scaled_dot_product_attention"]["status"] == "not started"
    assert "comes from minilm" in verdicts["split_heads"]["message"]
    assert set(read_results()) == {"causal_mask", "split_heads"}


def test_a_right_file_and_what_is_recorded(judged):
    code, verdicts = judged(RIGHT, "--no-record")
    assert code == 0 and verdicts["causal_mask"]["status"] == "passed" and read_results() == {}
    assert judged(RIGHT)[0] == 0 and read_results()["causal_mask"]["passed"]


def test_a_notebook_is_read_without_running_it(judged):
    code, verdicts = judged(
        notebook(
            "%matplotlib inline\nimport torch\nfrom minilm.metrics import perplexity\nraise SystemError('must not run')",
            RIGHT + "causal_mask = check('causal_mask', causal_mask)",
            "split_heads = lambda x, n_heads: x.unflatten(-1, (n_heads, -1)).transpose(1, 2)",
        ),
        name="mine.ipynb",
    )
    assert code == 0 and {row["status"] for row in verdicts.values()} == {"passed"} and len(verdicts) == 2


@pytest.mark.parametrize("path", sorted(LESSONS.glob("[0-9][0-9]_*.ipynb")), ids=lambda path: path.stem)
def test_every_blank_lesson_is_judged(path):
    """Each statement that is kept can do without those that are not; lesson 06, say, sets `k = v = x` for an x left out."""
    verdicts = {name: verdict for name, verdict in judge_names(names_of(path)) if verdict is not None}
    named = json.loads(path.read_text(encoding="utf-8"))["metadata"]["minilm"]["exercises"]
    assert sorted(verdicts) == sorted(named)
    assert {verdict.status for verdict in verdicts.values()} == {"not started"}


def test_what_a_function_needs_is_kept_and_what_needs_the_rest_is_not(judged):
    code, verdicts = judged(
        notebook(
            "import torch\nx = torch.ones(3)\nk = v = x\nwirings = dict()\nwirings['mine'] = lambda x: x\nn = x.shape",
            "def triangle(n, places=x):\n    return places\n" + RIGHT.replace("tril(n_keys", "tril(ZERO + n_keys"),
            "ZERO = 0",
        ),
        name="mine.ipynb",
    )
    assert code == 0 and verdicts["causal_mask"]["status"] == "passed"


def test_an_exercise_that_cannot_be_defined_is_told(judged):
    code, error = judged(notebook("def causal_mask(n_queries, n_keys=size):\n    return None"), name="mine.ipynb")
    assert code == 2 and "name 'size' is not defined" in error


def test_a_cell_that_cannot_be_read_spoils_its_own_function_only(judged):
    code, verdicts = judged(
        notebook("import torch\n", "def split_heads(x, n_heads)\n    return x", RIGHT), name="mine.ipynb"
    )
    assert code == 1 and verdicts["causal_mask"]["status"] == "passed"
    assert "cell 2, line 1 of your code (def split_heads(x, n_heads))" in verdicts["split_heads"]["message"]


def test_the_library_stands_in_for_what_did_not_pass(judged):
    """A right function that uses a wrong one is right."""
    own = (
        "def merge_pair(ids, pair, token):\n    return ids\n"
        "def encode_piece(piece, merges):\n"
        "    ids = list(piece)\n"
        "    for i, pair in enumerate(merges):\n        ids = merge_pair(ids, pair, 256 + i)\n"
        "    return ids\n"
    )
    _, verdicts = judged(own)
    assert verdicts["merge_pair"]["status"] == "wrong" and verdicts["encode_piece"]["status"] == "passed"


def test_a_tool_of_the_library_with_the_name_of_an_exercise_is_no_answer(judged):
    """Lesson 15 uses `draw` of minilm.decoding; lesson 03 asks for another `draw`."""
    own = (
        "from minilm.decoding.sampling import draw\n"
        "def split_heads(x, n_heads):\n    return draw\n"  # wrong, and it must not be told of any `draw` but the imported one
    )
    _, verdicts = judged(own)
    assert verdicts.keys() == {"split_heads"} and verdicts["split_heads"]["status"] == "wrong"


ENDS = "def split_heads(x, n_heads):\n    import os\n    os._exit(3)\n"
FORGES = (
    "import json, sys\n"
    "print(json.dumps({'exercise': 'causal_mask', 'status': 'passed'}))\n"
    "def causal_mask(n_queries, n_keys):\n    print('passed')\n    return None\n"
)


def test_a_process_that_ends_is_no_pass_and_what_came_before_counts(judged):
    code, verdicts = judged(RIGHT + ENDS)
    assert code == 1 and verdicts["causal_mask"]["status"] == "passed"
    assert verdicts["split_heads"]["status"] == "wrong" and "ended the process" in verdicts["split_heads"]["message"]


def test_printing_a_verdict_is_no_verdict(judged):
    code, verdicts = judged(FORGES)
    assert code == 1 and verdicts["causal_mask"]["status"] == "wrong"


def test_memory_is_limited(judged):
    code, verdicts = judged(
        "import torch\ndef causal_mask(n_queries, n_keys):\n    return torch.ones(2**33, dtype=torch.uint8)\n"
    )
    assert code == 1 and "causal_mask" in verdicts
    assert "memory" in verdicts["causal_mask"]["message"] or "alloc" in verdicts["causal_mask"]["message"].lower()


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("x = 1\ndef causal_mask(:\n", "broken.py", "line 2 of your code (def causal_mask(:): SyntaxError"),
        ("\n1 / 0\n", "divides.py", "line 2 of your code (1 / 0): ZeroDivisionError"),
        ("x = 1\n", "empty.py", "none of the exercises"),
        ("import os\nos._exit(7)\n", "exits.py", "7"),
        ("{}", "odd.ipynb", "no notebook"),
        ("no json", "odd.ipynb", "no notebook"),
    ],
)
def test_a_file_that_cannot_be_judged_is_one_line(judged, text, name, said):
    code, error = judged(text, name=name)
    assert code == 2 and error.startswith("minilm: check:") and said in error and error.count("\n") == 1


def test_no_file(capsys, tmp_path):
    assert main(["check"]) == 2 and main(["check", str(tmp_path / "none.py")]) == 2
    assert main(["check", "--hint", "dragons"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_the_list_the_hint_and_what_is_passed(judged, capsys):
    judged(RIGHT)
    assert main(["check", "--list", "--json"]) == 0
    rows = {row["exercise"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(EXERCISES) and rows["causal_mask"]["status"] == "passed"
    assert rows["split_heads"]["status"] == "-" and rows["split_heads"]["lesson"].startswith("05 ")
    for name in EXERCISES:
        assert main(["check", "--hint", name]) == 0
        assert EXERCISES[name].start in capsys.readouterr().out
    assert main(["lesson", "--json"]) == 0
    lessons = {row["number"]: row for row in json.loads(capsys.readouterr().out)}
    assert lessons[5]["passed"] == ["causal_mask"]
    assert main(["lesson"]) == 0
    assert "1 of 3 exercises" in capsys.readouterr().out


def test_the_report(capsys):
    assert main(["check", "--report", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["exercise"] for row in rows] == list(EXERCISES)
    for row in rows:
        assert row["mistakes"] == row["rejected"] == row["rightly_named"] >= 4
        assert row["alternatives"] == row["accepted"] >= 3


def test_the_table_of_gradients(capsys):
    assert main(["check", "--gradients", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) >= 30 and len({row["function"] for row in rows}) == len(rows)
    assert all(0 <= row["error"] <= 1e-7 for row in rows)
