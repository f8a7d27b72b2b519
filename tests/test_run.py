"""run.py without a download: pip, venv and minilm are played by a stage, which keeps what they were asked."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]
PIP_FINE = [
    "Collecting torch",
    "  Downloading torch-2.13.0-cp311.whl (188.2 MB)",
    "Installing collected packages: torch",
]
NO_NETWORK = [
    "WARNING: Retrying after connection broken by NewConnectionError: Temporary failure in name resolution",
    "ERROR: Could not find a version that satisfies the requirement torch>=2.6 (from versions: none)",
]


def load_run():
    spec = importlib.util.spec_from_file_location("run", ROOT / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stage:
    """Plays the module subprocess and os.execv for a run.py whose checkout is a folder of its own."""

    PIPE, STDOUT, DEVNULL = subprocess.PIPE, subprocess.STDOUT, subprocess.DEVNULL

    def __init__(self, run, root: Path):
        self.run_py, self.root = run, root
        self.pip_says, self.pip_code = PIP_FINE, 0
        self.pip_in_venv = True
        self.commands: list[list[str]] = []

    def call(self, command, **_):
        self.commands.append(list(command))
        return 0 if self.pip_in_venv or command[0] != self.run_py.VENV_PYTHON or "pip" not in command else 1

    def run(self, command, **_):
        self.commands.append(list(command))
        assert "venv" in command
        python = Path(self.run_py.VENV_PYTHON)
        python.parent.mkdir(parents=True)
        python.touch()
        return SimpleNamespace(returncode=0, stdout=b"")

    def Popen(self, command, **_):
        self.commands.append(list(command))
        return SimpleNamespace(stdout=self.lines(), wait=lambda: self.pip_code, terminate=lambda: None)

    def lines(self):
        for line in self.pip_says:
            if isinstance(line, BaseException):
                raise line
            yield line.encode() + b"\n"

    def execv(self, path, command):
        self.commands.append(list(command))
        raise SystemExit(0)

    def start(self, *arguments: str) -> int:
        """The exit code of `run.py arguments`; self.commands holds what it started."""
        self.commands.clear()
        try:
            return self.run_py.main(list(arguments))
        except SystemExit as end:
            return end.code

    def installed(self) -> list[str]:
        """What pip was asked to install: [] if pip was not asked."""
        return [word for command in self.commands for word in command if word.startswith(".")]

    def state(self) -> dict:
        return json.loads((self.root / ".venv" / "minilm-setup.json").read_text())


@pytest.fixture
def stage(tmp_path, monkeypatch):
    run = load_run()
    (tmp_path / "pyproject.toml").write_text("[project]")
    (tmp_path / "constraints.txt").write_text("torch==1")
    for name in ("ROOT", "VENV", "OLD_VENV", "VENV_PYTHON"):
        monkeypatch.setattr(run, name, getattr(run, name).replace(str(ROOT), str(tmp_path)))
    stage = Stage(run, tmp_path)
    monkeypatch.setattr(run, "subprocess", stage)
    monkeypatch.setattr(run, "POSIX", True)
    monkeypatch.setattr(run.os, "execv", stage.execv)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**10))
    monkeypatch.setattr(run.sys, "prefix", str(tmp_path / "prefix"))
    (tmp_path / "prefix").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINILM_COMMAND", "")  # what a start sets is gone after the test
    return stage


def one_line(capsys) -> str:
    """The complaint: the last and only line of run.py's own on stderr."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("run.py:")]
    assert len(lines) == 1
    return lines[0]


# ---- old Pythons


def test_an_old_python_can_read_the_file():
    source = (ROOT / "run.py").read_text(encoding="utf-8")
    assert ast.parse(source, feature_version=(3, 6)).body
    with pytest.raises(SyntaxError):
        ast.parse(source + "\nif (n := 1):\n    pass\n", feature_version=(3, 6))


@pytest.mark.parametrize("version", [(3, 6, 9), (3, 8, 10), (3, 10, 0)])
def test_an_old_python_is_told(version, stage, monkeypatch, capsys):
    monkeypatch.setattr(stage.run_py, "sys", SimpleNamespace(version_info=version, stderr=sys.stderr))
    assert stage.start() == 2
    assert stage.commands == []
    assert f"needs Python 3.11 or newer, this is Python {version[0]}.{version[1]}:" in one_line(capsys)


def test_the_version_here_is_the_version_of_the_project():
    assert 'requires-python = ">={}.{}"'.format(*load_run().NEEDS) in (ROOT / "pyproject.toml").read_text()


# ---- what is started


@pytest.mark.parametrize(
    ("arguments", "extra", "command"),
    [
        ([], ".", ["minilm", "walk"]),
        (["generate", "a b", "--seed", "3"], ".", ["minilm", "generate", "a b", "--seed", "3"]),
        (["lesson", "3"], ".[notebooks]", ["minilm", "lesson", "3"]),
        (["test", "-q", "-n", "2"], ".[test]", ["pytest", "-q", "-n", "2"]),
        (["train", "--help"], ".", ["minilm", "train", "--help"]),
    ],
)
def test_first_start(stage, arguments, extra, command):
    assert stage.start(*arguments) == 0
    python = stage.run_py.VENV_PYTHON
    pip = next(command for command in stage.commands if "install" in command)
    assert pip[:3] == [python, "-m", "pip"]
    assert pip[-4:] == ["-e", extra, "-c", "constraints.txt"]
    assert stage.commands[-1] == [python, "-P", "-m", *command]


def test_second_start_is_only_the_command(stage, capsys):
    stage.start("train")
    capsys.readouterr()
    assert stage.start("train") == 0
    assert stage.commands == [[stage.run_py.VENV_PYTHON, "-P", "-m", "minilm", "train"]]
    assert capsys.readouterr() == ("", "")


def test_minilm_is_told_what_it_was_called(stage):
    stage.start("train")
    assert os.environ["MINILM_COMMAND"] == "python3 run.py"


def test_minilm_starts_where_the_user_is_and_pytest_in_the_checkout(stage):
    away = stage.root / "prefix"
    os.chdir(away)
    stage.start("train")
    assert Path.cwd() == away
    stage.start("test")
    assert Path.cwd() == stage.root


def test_lint_runs_all_tools_and_fails_if_one_does(stage, monkeypatch):
    stage.start("lint")
    assert [command[3:] for command in stage.commands[-3:]] == [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "minilm"],
    ]
    assert stage.state()["extras"] == ["dev"]
    monkeypatch.setattr(stage, "call", lambda command, **_: 1 if "--check" in command else 0)
    assert stage.start("lint") == 1


def test_help_needs_no_set_up(stage, capsys):
    assert stage.start("--help") == 0
    assert stage.commands == []
    assert "--here" in capsys.readouterr().out


def test_without_exec_ctrl_c_is_left_to_the_child(stage, monkeypatch):
    """Windows: the parent waits while the child saves and prints its ladder, and hands on its exit code."""
    answers = iter([KeyboardInterrupt(), KeyboardInterrupt(), 130])

    def wait():
        answer = next(answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(stage.run_py, "POSIX", False)
    monkeypatch.setattr(stage, "Popen", lambda command, **_: SimpleNamespace(wait=wait))
    assert stage.run_py.hand_over(["python"]) == 130


# ---- the stamp


def test_extras_accumulate(stage):
    stage.start()
    stage.start("test")
    assert stage.installed() == [".[test]"]
    stage.start("lesson", "1")
    assert stage.installed() == [".[notebooks,test]"]
    stage.start("test")
    assert stage.installed() == []
    assert stage.state()["extras"] == ["notebooks", "test"]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_is_installed_into_the_same_venv(stage, name):
    stage.start("test")
    (stage.root / name).write_text("changed")
    stage.start()
    assert stage.installed() == [".[test]"]
    assert not any("venv" in command for command in stage.commands)


@pytest.mark.parametrize("change", [{"python": [3, 9]}, {"root": "elsewhere"}, {"files": None}])
def test_another_python_a_moved_checkout_or_a_half_made_venv_is_made_anew(stage, change):
    stage.start("test")
    (stage.root / ".venv" / "minilm-setup.json").write_text(json.dumps(stage.state() | change))
    (stage.root / ".venv" / "rubbish").touch()
    assert stage.start() == 0
    assert any("venv" in command for command in stage.commands)
    assert stage.installed() == [".[test]"]
    assert not (stage.root / ".venv" / "rubbish").exists()
    assert not (stage.root / ".venv.old").exists()


def test_a_venv_without_its_python_is_made_anew(stage):
    stage.start()
    Path(stage.run_py.VENV_PYTHON).unlink()
    assert stage.start() == 0
    assert any("venv" in command for command in stage.commands)


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_broken_stamp_is_no_stamp(stage, content):
    """The environment may be the user's own, so it is kept, and brought up to date."""
    stage.start()
    stage.root.joinpath(".venv", "pyvenv.cfg").touch()
    stage.root.joinpath(".venv", "minilm-setup.json").write_text(content)
    assert stage.start() == 0
    assert stage.installed() == ["."]
    assert not any("venv" in command for command in stage.commands)


def test_a_folder_that_is_no_environment_is_left_alone(stage, capsys):
    (stage.root / ".venv").mkdir()
    (stage.root / ".venv" / "diary.txt").touch()
    assert stage.start() == 2
    assert "move it away" in one_line(capsys)
    assert (stage.root / ".venv" / "diary.txt").exists()


# ---- what can go wrong


@pytest.mark.parametrize(
    ("says", "meaning"),
    [
        (NO_NETWORK, "no network"),
        (
            ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
            "the disk is full",
        ),
        (["error: externally-managed-environment"], "omit --here"),
        (["/usr/bin/python3: No module named pip"], "has no pip"),
        (["Collecting a", "ERROR: No matching distribution found for a", "note: x"], "pip failed: ERROR: No matching"),
        (["something else"], "pip failed: something else"),
        ([], "pip failed: it said nothing"),
    ],
)
def test_a_failed_pip_is_one_line_and_a_log(stage, says, meaning, capsys):
    stage.pip_says, stage.pip_code = says, 1
    assert stage.start() == 2
    line = one_line(capsys)
    log = stage.root / ".venv" / "minilm-setup.log"
    assert meaning in line
    assert str(log) in line
    assert log.read_text().splitlines() == says
    assert stage.state()["files"] is None


def test_without_network_the_extra_is_missing_and_the_rest_still_works(stage):
    stage.start()
    stage.pip_says, stage.pip_code = NO_NETWORK, 1
    assert stage.start("test") == 2
    assert stage.start() == 0
    assert stage.installed() == []


def test_what_broke_while_pip_wrote_is_made_anew(stage):
    stage.start()
    stage.pip_code = 1
    assert stage.start("test") == 2
    stage.pip_code = 0
    assert stage.start() == 0
    assert any("venv" in command for command in stage.commands)
    assert stage.installed() == ["."]


def test_ctrl_c_is_130_without_a_traceback(stage, capsys):
    stage.pip_says = ["Collecting torch", KeyboardInterrupt()]
    assert stage.start() == 130
    assert "stopped" in one_line(capsys)
    stage.pip_says = PIP_FINE
    assert stage.start() == 0


def test_a_full_disk_is_said_before_the_download(stage, monkeypatch, capsys):
    monkeypatch.setattr(stage.run_py.shutil, "disk_usage", lambda _: SimpleNamespace(free=12_345_678))
    assert stage.start() == 2
    assert "needs 1,500 MB" in (line := one_line(capsys))
    assert "12 MB are free" in line
    assert stage.commands == []


def test_without_ensurepip_the_outer_pip_installs(stage, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find(name))
    stage.pip_in_venv = False
    assert stage.start() == 0
    python, base = stage.run_py.VENV_PYTHON, stage.run_py.BASE_PYTHON
    assert [base, "-m", "venv", stage.run_py.VENV, "--without-pip"] in stage.commands
    assert any(command[:6] == [base, "-m", "pip", "--python", python, "install"] for command in stage.commands)


def test_without_any_pip(stage, monkeypatch, capsys):
    monkeypatch.setattr(stage, "call", lambda command, **_: 1)
    assert stage.start() == 2
    assert "python3-venv" in one_line(capsys)


def test_venv_fails(stage, monkeypatch, capsys):
    monkeypatch.setattr(stage, "run", lambda command, **_: SimpleNamespace(returncode=1, stdout=b"Error:\n no way\n"))
    assert stage.start() == 2
    assert one_line(capsys).endswith("Error: no way")


# ---- what is said before a download


@pytest.mark.parametrize(
    ("platform", "words"),
    [("linux", ["300 MB", "3,000 MB", "minutes", "CPU", "PIP_EXTRA_INDEX_URL"]), ("darwin", ["300 MB", "minutes"])],
)
def test_size_and_time_are_said_on_stderr(stage, monkeypatch, capsys, platform, words):
    monkeypatch.setattr(stage.run_py.sys, "platform", platform)
    stage.start()
    out, err = capsys.readouterr()
    assert out == ""
    assert all(word in err for word in words)
    assert ("3,000" in err) == (platform == "linux")
    assert "downloading torch 188.2 MB" in err


# ---- --here


@pytest.mark.parametrize("arguments", [["--here", "train"], ["train", "--here"]])
def test_here_uses_this_python_and_keeps_its_torch(stage, monkeypatch, arguments):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert stage.start(*arguments) == 0
    assert stage.commands[-1] == [sys.executable, "-P", "-m", "minilm", "train"]
    assert not any("venv" in command or "-c" in command for command in stage.commands)
    assert not (stage.root / ".venv").exists()
    assert stage.start(*arguments) == 0
    assert len(stage.commands) == 1


def test_here_without_torch_takes_the_pinned_one(stage, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert stage.start("--here") == 0
    assert "300 MB" in capsys.readouterr().err
    assert any(command[-2:] == ["-c", "constraints.txt"] for command in stage.commands)


def test_here_in_a_folder_that_cannot_be_written(stage, monkeypatch):
    monkeypatch.setattr(stage.run_py.os, "access", lambda folder, mode: False)
    monkeypatch.setenv("HOME", str(stage.root / "someone"))
    assert stage.start("--here") == 0
    assert list((stage.root / "someone" / ".cache" / "minilm").glob("*/minilm-setup.json"))
    assert stage.start("--here") == 0
    assert len(stage.commands) == 1


def test_an_error_of_the_system_is_one_line(stage, capsys):
    (stage.root / "constraints.txt").unlink()
    stage.start()
    assert stage.start() == 2
    assert "constraints.txt" in capsys.readouterr().err.splitlines()[-1]
