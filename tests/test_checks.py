"""The checks cannot be fooled: references and other right solutions pass, every mistake is rejected with its own hint."""

import json
import subprocess
import sys

import pytest
import torch

from minilm.checks import exercises
from minilm.checks.compare import judge
from minilm.checks.exercises import EXERCISES, check, reveal, solution
from minilm.cli.main import main

MISTAKES = [(name, mistake) for name, exercise in EXERCISES.items() for mistake in exercise.mistakes]
ALTERNATIVES = [(name, i) for name, exercise in EXERCISES.items() for i in range(len(exercise.alternatives))]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_library_passes_and_is_short(name):
    assert judge(EXERCISES[name], solution(name)).passed
    assert solution(name).__code__.co_code and len(EXERCISES[name].mistakes) >= 4
    assert len(EXERCISES[name].alternatives) >= 3


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=[f"{name}-{mistake.name}" for name, mistake in MISTAKES])
def test_every_mistake_is_rejected_with_its_own_hint(name, mistake):
    verdict = judge(EXERCISES[name], mistake.function)
    assert (verdict.status, verdict.mistake, verdict.hint) == ("wrong", mistake.name, mistake.hint)


@pytest.mark.parametrize(("name", "number"), ALTERNATIVES)
def test_other_right_solutions_are_accepted(name, number):
    assert judge(EXERCISES[name], EXERCISES[name].alternatives[number]).passed


def test_hints_are_different():
    for exercise in EXERCISES.values():
        assert len({mistake.hint for mistake in exercise.mistakes}) >= len(exercise.mistakes) - 1


def stub(*arguments):
    raise NotImplementedError


def test_a_stub_is_not_started(capsys):
    for name in EXERCISES:
        assert check(name, stub) is solution(name)
        assert "not started" in capsys.readouterr().out


def test_a_pass_hands_the_student_their_own_function(capsys):
    own = EXERCISES["split_heads"].alternatives[1]
    assert check("split_heads", own) is own
    assert "your own code runs" in capsys.readouterr().out


def test_the_source_is_shown_after_a_pass_only(capsys, monkeypatch):
    monkeypatch.setattr(exercises, "PASSED", set())
    reveal("causal_mask")
    assert "def causal_mask" not in capsys.readouterr().out
    reveal("causal_mask", give_up=True)
    assert "def causal_mask" in capsys.readouterr().out


def overwrites(x, n_heads):
    x *= 1.0
    x[0, 0, 0] += 1.0
    return solution("split_heads")(x, n_heads)


def draws(x, n_heads):
    torch.rand(1)
    return solution("split_heads")(x, n_heads)


def crashes(x, n_heads):
    return x.view(7, 7, 7)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (overwrites, "changes its arguments"),
        (draws, "random numbers"),
        (crashes, "RuntimeError"),
        (lambda x, n: x.numpy(), "not a tensor"),
        (lambda x, n: solution("split_heads")(x, n).float(), "dtype"),
        (lambda x, n: x, "shape"),
        (lambda x, n: solution("split_heads")(x, n) * float("nan"), "index"),
    ],
)
def test_what_a_careful_examiner_sees(function, said):
    verdict = judge(EXERCISES["split_heads"], function)
    assert verdict.status == "wrong" and said in verdict.message


def test_unknown_exercise():
    with pytest.raises(ValueError, match="there is no exercise"):
        check("dragons", stub)


def test_check_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n"
        "from minilm.layers.attention import split_heads\n"
        "def causal_mask(t, s):\n    return torch.ones(t, s).tril().bool()\n"
        "def scaled_dot_product_attention(q, k, v, mask=None):\n    raise NotImplementedError\n",
        encoding="utf-8",
    )
    assert main(["check", str(path), "--json"]) == 1
    verdicts = {row["exercise"]: row for row in json.loads(capsys.readouterr().out)}
    assert verdicts["causal_mask"]["mistake"] == "upper left"
    assert verdicts["scaled_dot_product_attention"]["status"] == "not started"
    assert "comes from minilm" in verdicts["split_heads"]["message"]


def test_a_file_that_breaks_is_one_line(tmp_path, capsys):
    path = tmp_path / "broken.py"
    path.write_text("def causal_mask(:\n", encoding="utf-8")
    assert main(["check", str(path)]) == 2
    assert main(["check", str(tmp_path / "none.py")]) == 2
    assert main(["check"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("minilm: check:") for line in lines)


def test_the_report(capsys):
    assert main(["check", "--report", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["exercise"] for row in rows] == list(EXERCISES)
    for row in rows:
        assert (
            row["mistakes"] == row["rejected"] == row["rightly_named"] and row["alternatives"] == row["accepted"] >= 3
        )


def test_checks_do_not_import_the_library(subprocess_env):
    code = "import sys, minilm.checks.attention; print([m for m in sys.modules if m.startswith('minilm.layers')])"
    done = subprocess.run([sys.executable, "-c", code], env=subprocess_env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
