"""What the README says is true: its Python runs, its tree and its nine files exist, its commands are verbs."""

import re
import runpy
from pathlib import Path

from minilm.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_quick_start_runs_and_prints_text(capsys, tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.S).group(1)
    assert len(code.splitlines()) <= 16
    script = tmp_path / "quick_start.py"
    script.write_text(code.replace("steps=50", "steps=12"), encoding="utf-8")
    runpy.run_path(str(script))
    printed = capsys.readouterr().out
    assert len(printed.strip()) > 20


def test_the_files_it_names_exist():
    nine = re.findall(r"^\d\. `([^`]+)`", README, re.M)
    assert len(nine) == 9
    rooms = [f"minilm/{name}" for name in re.findall(r"^  (\w+/) ", README, re.M)]
    assert len(rooms) >= 10
    named = re.findall(r"`([A-Z]+\.md)`", README) + re.findall(r"\]\((docs/[^)]+)\)", README)
    assert named
    for path in [*nine, *rooms, *named]:
        assert (ROOT / path).exists(), path


def test_the_commands_are_verbs():
    verbs = re.findall(r"python3 run\.py (\w+)", README)
    assert {"train", "generate", "evaluate", "ladder", "lesson", "test"} <= set(verbs)
    assert set(verbs) - {"test"} <= set(VERBS)


def test_it_says_what_this_is_not():
    assert "not Microsoft's MiniLM" in README
