"""Set minilm up, once, and run it. Needs nothing but Python's standard library; `python3 run.py --help` says more.

A virtual environment `.venv` lies beside this file, and a stamp in it says what it was made from. While the stamp fits,
a start costs nothing; where it does not, pip brings the environment up to date. The stamp becomes "half made" when pip
begins to write, and whole at the end: an environment whose set-up broke off is made anew.

Old Pythons read this file too, so that they can say what is wrong: it holds no syntax newer than Python 3.6.
"""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

NEEDS = (3, 11)
POSIX = os.name == "posix"
ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
OLD_VENV = os.path.join(ROOT, ".venv.old")
VENV_PYTHON = os.path.join(VENV, "bin", "python") if POSIX else os.path.join(VENV, "Scripts", "python.exe")
BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)  # outlives .venv, even where run.py is started from it
DISK_BYTES = 1500 * 10**6  # what .venv takes with a CPU build of torch, and room to unpack
ME = "python3 run.py" if POSIX else "py run.py"

HELP = f"""usage: {ME} [--here] [VERB ...]

  {ME}                 the whole walk: text, an n-gram, a GPT, the ladder, samples of both
  {ME} lesson 1        open a lesson
  {ME} VERB ...        any verb of minilm; {ME} train --help explains one
  {ME} test ...        the tests, with pytest's options
  {ME} lint            ruff and mypy

The first start makes .venv beside run.py and downloads what minilm needs.
--here uses the Python that you started instead: conda, a notebook service, your own environment."""

FIRST_TIME = "Set-up, once: pip downloads about 300 MB, 1 to 5 minutes. Ctrl-C stops it."
FIRST_TIME_LINUX = """Set-up, once: pip downloads about 300 MB, 1 to 5 minutes; or about 3,000 MB, 5 to 30 minutes, if
it picks a GPU build of torch, as usual on Linux. No GPU? Then stop with Ctrl-C, see the install page of PyTorch
(choose pip and CPU), set PIP_EXTRA_INDEX_URL to the index address shown there, and start again."""
UPDATE = "Set-up: pip adds what is missing, usually less than 100 MB and 1 minute. Ctrl-C stops it."

NO_PIP = "this Python has no pip: install it (Debian, Ubuntu: sudo apt install python3-venv), then run this again"
PIP_FAILURES = (  # what pip says, and what that means
    (
        r"no space left on device|errno 28|not enough space on the disk",
        "the disk is full: set-up needs 1,500 MB, and some in the temporary folder; free some, then run this again",
    ),
    (r"externally-managed-environment", "this Python is the operating system's and takes no packages: omit --here"),
    (r"no module named pip\b", NO_PIP),
    (
        r"newconnectionerror|failed to establish|name resolution|getaddrinfo|timed? ?out|proxyerror|connection broken"
        r"|connection refused|connection reset|network is unreachable|max retries|from versions: none",
        "no network: pip cannot reach its package index; check the connection or the proxy, then run this again",
    ),
)


class SetupError(Exception):
    """What stops set-up, and the remedy, in one line."""


def say(text):
    """Print to stderr: stdout belongs to minilm."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def check_version(version):
    if tuple(version[:2]) < NEEDS:
        words = "minilm needs Python {}.{} or newer, this is Python {}.{}: install a newer one and start run.py with it"
        raise SetupError(words.format(*(NEEDS + tuple(version[:2]))))


class Environment:
    """A Python to install into, with the stamp that tells whether it is ready and the log of what pip said."""

    def __init__(self, python, folder):
        self.python = python
        self.stamp = os.path.join(folder, "minilm-setup.json")
        self.log = os.path.join(folder, "minilm-setup.log")

    def read(self):
        """The stamp, or {} where none can be read."""
        try:
            with open(self.stamp, encoding="utf-8") as file:
                content = json.load(file)
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def write(self, extras, files=None):
        """`files` is the hash of what the environment was made from; None says that it is only half made."""
        content = {"python": list(sys.version_info[:2]), "root": ROOT, "extras": sorted(extras), "files": files}
        with open(self.stamp + ".new", "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(self.stamp + ".new", self.stamp)

    def is_whole(self):
        """Made to the end, by this version of Python, for a checkout in this place."""
        stamp = self.read()
        place = (stamp.get("python"), stamp.get("root"))
        return bool(stamp.get("files")) and place == (list(sys.version_info[:2]), ROOT) and os.path.exists(self.python)

    def is_ready(self, extras):
        stamp = self.read()
        return self.is_whole() and stamp["files"] == hash_files() and set(extras) <= set(stamp["extras"])


def hash_files():
    """SHA-256 of the two files that say what to install."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def this_environment():
    """--here. Where the interpreter's folder cannot be written, the stamp lies in the user's cache."""
    folder = sys.prefix
    if not os.access(folder, os.W_OK):
        name = hashlib.sha256(sys.prefix.encode()).hexdigest()[:12]
        folder = os.path.join(os.path.expanduser("~"), ".cache", "minilm", name)
        os.makedirs(folder, exist_ok=True)
    return Environment(sys.executable, folder)


def works(*command):
    """Whether a command runs and ends with 0."""
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def make_venv(environment):
    """Make `.venv` where it is missing, half made, moved or of another Python. One that the user made is taken over."""
    stamp = environment.read()
    if os.path.isdir(VENV) and os.listdir(VENV):
        if not stamp and not os.path.exists(os.path.join(VENV, "pyvenv.cfg")):
            raise SetupError(f"{VENV} is no Python environment: move it away, then run this again")
        enough = f"import sys; sys.exit(sys.version_info < {NEEDS})"
        if (environment.is_whole() or not stamp) and works(environment.python, "-c", enough):
            return
        shutil.rmtree(OLD_VENV, ignore_errors=True)
        os.rename(VENV, OLD_VENV)  # at one stroke: a removal that breaks off leaves no ruin behind
        shutil.rmtree(OLD_VENV, ignore_errors=True)
    free = shutil.disk_usage(ROOT).free
    if free < DISK_BYTES:
        words = "the disk is full: set-up needs {:,} MB in {}, and {:,} MB are free; free some, then run this again"
        raise SetupError(words.format(DISK_BYTES // 10**6, ROOT, free // 10**6))
    os.makedirs(VENV, exist_ok=True)
    environment.write(stamp.get("extras", ()))  # before anything else, so that what breaks off here is known as ours
    command = [BASE_PYTHON, "-m", "venv", VENV]
    if importlib.util.find_spec("ensurepip") is None:  # Debian and Ubuntu without python3-venv
        command.append("--without-pip")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        reason = " ".join(done.stdout.decode(errors="replace").split())[-300:]
        raise SetupError(f"cannot make {VENV}: {reason}")


def pip_command(environment):
    """The environment's own pip, or that of the running Python working on it from outside."""
    if works(environment.python, "-m", "pip", "--version"):
        return [environment.python, "-m", "pip"]
    if works(BASE_PYTHON, "-m", "pip", "--version"):
        return [BASE_PYTHON, "-m", "pip", "--python", environment.python]
    raise SetupError(NO_PIP)


def pip_failure(output):
    """One line out of all that a failed pip has said."""
    for pattern, meaning in PIP_FAILURES:
        if re.search(pattern, output, re.IGNORECASE):
            return meaning
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["it said nothing"]
    errors = [line for line in lines if line.lower().startswith("error")]
    return "pip failed: " + (errors or lines)[-1][:300]


def install(environment, extras, pinned, lock_file):
    """pip install -e .[extras], its words into the log, the large downloads onto the screen."""
    target = ".[{}]".format(",".join(sorted(extras))) if extras else "."
    command = [*pip_command(environment), "install", "--no-input", "--disable-pip-version-check", "-e", target]
    if pinned:
        command += ["-c", "constraints.txt"]
    output = []
    with open(environment.log, "w", encoding="utf-8") as log:
        options = {"pass_fds": [lock_file.fileno()]} if POSIX else {}
        options.update(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        pip = subprocess.Popen(command, cwd=ROOT, **options)
        try:
            for raw in pip.stdout:
                line = raw.decode("utf-8", "replace").rstrip()
                output.append(line)
                log.write(line + "\n")
                log.flush()
                large = re.match(r" *Downloading (\w+)\S* \(([\d.]+ [MG]B)\)", line)
                if large:
                    say("  downloading {} {}".format(*large.groups()))
                if line.startswith("Installing collected packages"):
                    say("  installing")
                    environment.write(environment.read().get("extras", ()))  # until here pip has changed nothing
            code = pip.wait()
        except BaseException:
            pip.terminate()
            pip.wait()
            raise
    if code:
        raise SetupError("{} (all that pip said: {})".format(pip_failure("\n".join(output)), environment.log))
    environment.write(extras, hash_files())


def lock(file):
    """Wait until no other set-up works here. pip shares the lock: one that a killed start left behind counts too."""
    try:
        import fcntl
    except ImportError:  # Windows: there an open file cannot be removed by another start
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another set-up is at work here; waiting for its end.")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # a network folder without locks
        return


def set_up(here, extra):
    """Return the path of a Python that has minilm and, if one is named, the extra. Extras of earlier starts stay."""
    environment = this_environment() if here else Environment(VENV_PYTHON, VENV)
    wanted = {extra} if extra else set()
    if environment.is_ready(wanted):
        return environment.python
    with open(os.path.join(ROOT, ".venv.lock"), "w") as file:
        lock(file)
        if environment.is_ready(wanted):
            return environment.python
        has_torch = importlib.util.find_spec("torch") is not None if here else environment.is_whole()
        if not here:
            make_venv(environment)
        say(UPDATE if has_torch else FIRST_TIME_LINUX if sys.platform.startswith("linux") else FIRST_TIME)
        pinned = not (here and has_torch)  # a torch that is already here, perhaps a GPU build, is not replaced
        install(environment, wanted | set(environment.read().get("extras", ())), pinned, file)
        say("  done")
    return environment.python


def hand_over(command):
    """Become the command, so that signals and the exit code are its own; without exec, wait for it."""
    sys.stdout.flush()
    if POSIX:
        os.execv(command[0], command)
    child = subprocess.Popen(command)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child got it too, and decides what to do
            continue


def start(arguments):
    here = "--here" in arguments
    arguments = [word for word in arguments if word != "--here"]
    verb = arguments[0] if arguments else "walk"
    if verb in ("-h", "--help"):
        print(HELP)
        return 0
    python = set_up(here, {"test": "test", "lint": "dev", "lesson": "notebooks"}.get(verb))
    if verb == "lint":
        tools = (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy", "minilm"])
        return max(abs(subprocess.call([python, "-P", "-m", *tool], cwd=ROOT)) for tool in tools)
    if verb == "test":
        os.chdir(ROOT)
        return hand_over([python, "-P", "-m", "pytest", *arguments[1:]])
    os.environ["MINILM_COMMAND"] = ME  # what minilm calls itself where it says what to type next
    # -P: a file of the user's named random.py or minilm.py is not taken for the real one.
    return hand_over([python, "-P", "-m", "minilm"] + (arguments or ["walk"]))


def main(arguments):
    try:
        check_version(sys.version_info)
        return start(arguments)
    except KeyboardInterrupt:
        say("run.py: stopped; the same command goes on")
        return 130
    except (SetupError, OSError) as problem:
        say(f"run.py: {problem}")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
