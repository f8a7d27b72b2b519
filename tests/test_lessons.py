"""The lessons: fresh, within their budget, without answers in them, and every one runs."""

import importlib.util
import json
import re
import statistics
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from minilm.cli.main import main

LESSONS = Path(__file__).resolve().parents[1] / "lessons"
NOTEBOOKS = sorted(LESSONS.glob("[0-9][0-9]_*.ipynb"))
SPEC = importlib.util.spec_from_file_location("build", LESSONS / "build.py")
assert SPEC is not None and SPEC.loader is not None
BUILD = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(BUILD)

pytestmark = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def read(path: Path):
    return nbformat.read(path, as_version=4)


def test_the_notebook_belongs_to_its_source(path):
    source = LESSONS / "src" / f"{path.stem}.py"
    assert read(path).metadata["minilm"]["source_sha256"] == BUILD.source_hash(source)


def test_budget(path):
    notebook = read(path)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    sizes = [len(source.splitlines()) for source in code]
    assert 25 <= len(notebook.cells) <= 50
    assert 900 <= len(prose.split()) <= 2000
    assert statistics.median(sizes) <= 6 and max(sizes) <= 25 and sum(sizes) <= 160
    assert path.stat().st_size <= 400_000
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert re.search(r"^needs: ", re.sub(r"^# ?", "", notebook.cells[0].source, flags=re.M), re.M)


def test_it_has_run_and_gives_nothing_away(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    tags = [cell.metadata.get("tags", []) for cell in cells]
    assert sum("exercise" in tag for tag in tags) in (2, 3, 4, 5)
    for cell, tag in zip(cells, tags, strict=True):
        assert not any(output.output_type == "error" for output in cell.outputs)
        if "exercise" in tag:
            assert "raise NotImplementedError" in cell.source
        if "check" in tag:
            assert not cell.outputs
    pictures = sum("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert 2 <= pictures <= 4


def test_it_runs_in_a_kernel_in_quick_mode(path, subprocess_env, monkeypatch):
    for name, value in subprocess_env.items():
        monkeypatch.setenv(name, value)
    notebook = read(path)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = cell.source.replace("QUICK = False", "QUICK = True")
    NotebookClient(notebook, timeout=200, kernel_name="python3").execute()
    assert not any(o.output_type == "error" for cell in notebook.cells for o in cell.get("outputs", []))


def test_the_verb_copies_it_and_never_overwrites(path, capsys):
    number = str(int(path.name[:2]))
    assert main(["lesson", "--json"]) == 0
    assert number in {str(row["number"]) for row in json.loads(capsys.readouterr().out)}
    assert main(["lesson", number, "--no-open"]) == 0
    copy = Path(capsys.readouterr().out.split(": ", 1)[1].strip())
    copy.write_text("mine", encoding="utf-8")
    assert main(["lesson", number, "--no-open"]) == 0
    assert copy.read_text(encoding="utf-8") == "mine"
    assert main(["lesson", "99"]) == 2
