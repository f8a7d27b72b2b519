"""The lessons: fresh, within their budget, without answers in them; every one runs, blank and solved, and three in a kernel."""

import datetime
import importlib.util
import json
import re
import runpy
import types
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from minilm.checks.exercises import EXERCISES, SOLUTIONS, solution
from minilm.checks.results import read_results
from minilm.cli import lesson
from minilm.cli.main import main

LESSONS = Path(__file__).resolve().parents[1] / "lessons"
NOTEBOOKS = sorted(LESSONS.glob("[0-9][0-9]_*.ipynb"))
SPEC = importlib.util.spec_from_file_location("build", LESSONS / "build.py")
assert SPEC is not None and SPEC.loader is not None
BUILD = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(BUILD)
every_lesson = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def read(path: Path):
    return nbformat.read(path, as_version=4)


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", [])


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


# ---- what lies in lessons/


def test_every_source_has_its_notebook_and_every_exercise_its_lesson():
    assert [path.stem for path in NOTEBOOKS] == [source.stem for source in BUILD.sources()]
    named = [name for path in NOTEBOOKS for name in read(path).metadata["minilm"]["exercises"]]
    assert sorted(named) == sorted(EXERCISES) == sorted(SOLUTIONS)


def test_all_is_fresh_and_within_its_budget():
    assert BUILD.judge() == []


@every_lesson
def test_the_budget_can_be_missed(path):
    notebook = read(path)
    assert list(BUILD.budget(notebook, path.stat().st_size)) == []
    notebook.cells[1].source = "x = 1\n" * 200
    problems = " ".join(BUILD.budget(notebook, 500_000))
    assert "lines of code" in problems and "longest code cell" in problems and "500000 bytes" in problems
    notebook.cells = notebook.cells[:10]
    assert "10 cells" in " ".join(BUILD.budget(notebook, 1))


@every_lesson
def test_it_has_run_and_gives_nothing_away(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        assert not any(output.output_type == "error" for output in cell.outputs)
        assert not any(output.get("name") == "stderr" for output in cell.outputs), cell.outputs
        if tagged(cell, "exercise"):
            assert "raise NotImplementedError" in cell.source
            name = re.search(r"^def (\w+)", cell.source, re.M)[1]
            assert tagged(following, "check") and "".join(following.source.split()) == f'{name}=check("{name}",{name})'
        if tagged(cell, "check"):
            assert not cell.outputs


@every_lesson
def test_its_cells_have_names_of_their_own_and_what_it_needs_comes_before(path):
    notebook = read(path)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert [cell.id for cell in notebook.cells[:3]] == ["title", "parameters", "setup"]
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", cell.id) for cell in notebook.cells)
    numbers = [int(other.name[:2]) for other in NOTEBOOKS]
    needs = notebook.metadata["minilm"]["needs"]
    assert all(need in numbers and need < int(path.name[:2]) for need in needs)


# ---- every lesson runs


def script(path: Path, folder: Path, solved: bool) -> Path:
    """The lesson as a script in quick mode; `solved` puts OWN[name], the library's code as if it were the student's, in
    the place of each exercise."""
    parts = []
    for cell in code_cells(path):
        source = cell.source
        if tagged(cell, "parameters"):
            source = source.replace("QUICK = False", "QUICK = True")
            assert "QUICK = True" in source
        if solved and tagged(cell, "exercise"):
            name = re.search(r"^def (\w+)", source, re.M)[1]
            source = f"{name} = OWN[{name!r}]"
        parts.append(source)
    file = folder / f"{path.stem}.py"
    file.write_text("\n\n".join(parts), encoding="utf-8")
    return file


def own(name: str):
    """The library's solution as a function of the student's: the same code, but not the same code object."""
    given = solution(name)
    code = given.__code__.replace(co_filename="mine.py")
    mine = types.FunctionType(code, given.__globals__, name, given.__defaults__, given.__closure__)
    mine.__kwdefaults__ = given.__kwdefaults__
    return mine


@every_lesson
def test_a_blank_lesson_runs_and_scores_nothing(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINILM_HOME", str(tmp_path))
    runpy.run_path(str(script(path, tmp_path, solved=False)))
    exercises = read(path).metadata["minilm"]["exercises"]
    assert capsys.readouterr().out.count("not started") == len(exercises)
    assert read_results() == {}


@every_lesson
def test_a_solved_lesson_runs_on_the_students_own_code_and_scores_full(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINILM_HOME", str(tmp_path))
    exercises = read(path).metadata["minilm"]["exercises"]
    functions = {name: own(name) for name in exercises}
    ended = runpy.run_path(str(script(path, tmp_path, solved=True)), init_globals={"OWN": functions})
    assert capsys.readouterr().out.count("From here on your own code runs") == len(exercises)
    assert {name for name, found in read_results().items() if found["passed"]} == set(exercises)
    assert all(ended[name] is functions[name] for name in exercises)


def in_rotation(n: int) -> list[Path]:
    """n lessons, others every day."""
    start = datetime.date.today().toordinal() * n
    return [NOTEBOOKS[(start + i) % len(NOTEBOOKS)] for i in range(min(n, len(NOTEBOOKS)))]


def cards_in_kernel(path, environment, monkeypatch):
    """Run a lesson, blank and in quick mode, in a real kernel, which stops at an error; the cards that its checks showed."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    notebook = read(path)
    for cell in notebook.cells:
        if tagged(cell, "parameters"):
            cell.source = cell.source.replace("QUICK = False", "QUICK = True")
    NotebookClient(notebook, timeout=200, kernel_name="python3").execute()
    checks = [cell for cell in notebook.cells if tagged(cell, "check") and "check(" in cell.source]
    return [output.data["text/html"] for cell in checks for output in cell.outputs]


@pytest.mark.parametrize("number", range(3))
def test_three_lessons_run_in_a_real_kernel_and_show_cards(number, subprocess_env, monkeypatch):
    path = in_rotation(3)[number]
    cards = cards_in_kernel(path, subprocess_env, monkeypatch)
    assert len(cards) == len(read(path).metadata["minilm"]["exercises"])
    assert all("not started" in card for card in cards)


@pytest.mark.nightly
@every_lesson
def test_every_lesson_runs_in_a_real_kernel(path, subprocess_env, monkeypatch):
    assert all("not started" in card for card in cards_in_kernel(path, subprocess_env, monkeypatch))


# ---- the verb


def test_the_verb_copies_a_lesson_and_never_overwrites(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINILM_HOME", str(tmp_path))
    assert main(["lesson", "--json"]) == 0
    assert [row["number"] for row in json.loads(capsys.readouterr().out)] == [int(path.name[:2]) for path in NOTEBOOKS]
    assert main(["lesson", "5", "--no-open"]) == 0
    copy = Path(capsys.readouterr().out.split(": ", 1)[1].strip())
    mine, theirs = read(copy), read(LESSONS / copy.name)
    assert [cell.source for cell in mine.cells] == [cell.source for cell in theirs.cells]
    assert not any(cell.get("outputs") for cell in mine.cells) and copy.parent == tmp_path / "my"
    copy.write_text("mine", encoding="utf-8")
    assert main(["lesson", "5", "--no-open"]) == 0
    assert copy.read_text(encoding="utf-8") == "mine"
    assert main(["lesson", "99"]) == 2


@pytest.mark.parametrize(
    ("checkout", "opens", "installs"),
    [(True, "python3 run.py lesson", "run.py lesson 5 installs"), (False, "minilm lesson", "'minilm[notebooks]'")],
)
def test_a_lesson_is_opened_as_this_minilm_was_set_up(checkout, opens, installs, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINILM_HOME", str(tmp_path))
    monkeypatch.setattr(lesson, "in_checkout", lambda: checkout)
    monkeypatch.setattr(lesson, "lesson_folder", lambda: LESSONS)
    monkeypatch.setattr(lesson.importlib.util, "find_spec", lambda name: None)
    assert main(["lesson"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: {opens} 1"
    assert main(["lesson", "5"]) == 2
    said = capsys.readouterr().err
    assert "Jupyter is not installed" in said and installs in said
