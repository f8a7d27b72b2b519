"""The rules of the house. Each one reads the text of a file, as a tree, and yields what is wrong with it; test_house.py
applies them to every file and proves that each can fail. Nothing of the house is imported to judge it."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import house_law as law

ROOT = Path(__file__).resolve().parents[1]


@cache
def parse(text: str) -> ast.Module:
    return ast.parse(text)


def room_of(path: str) -> str:
    """minilm/text/bpe.py -> text, minilm/runtime.py -> runtime."""
    return Path(path).parts[1].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of all that is imported anywhere in the file, also by importlib through a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module or ''}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            module = re.fullmatch(r"minilm\.(\w+)(\.\w+)*\.?(:\w+)?", node.value)
            if module and module[1] in law.MAY_IMPORT:  # and not the name of a file
                yield node.lineno, node.value.replace(":", ".")


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, full name) of all that is imported or used: after `from torch import nn`, nn.Linear is torch.nn.Linear."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]  # import a.b binds a
                known[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module or ''}.{alias.name}" for alias in node.names}

    def full(node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return known.get(node.id)
        base = full(node.value) if isinstance(node, ast.Attribute) else None
        return f"{base}.{node.attr}" if base and isinstance(node, ast.Attribute) else None

    yield from imports(tree)
    for node in ast.walk(tree):
        name = full(node) if isinstance(node, ast.Name | ast.Attribute) else None
        if name:
            yield node.lineno, name


def begins(name: str, start: str) -> bool:
    """Whether a dotted name is `start` or lies in it."""
    return name == start or name.startswith(start + ".")


# ---- rules for a file of the package


def import_rooms(path: str, text: str) -> Iterator[str]:
    """A room imports only what the table allows."""
    room = room_of(path)
    allowed = law.MAY_IMPORT.get(room)
    if allowed is None:
        yield f"1: the house has no room {room!r}: see the table in tests/house_law.py"
        return
    own = set() if room == "checks" else {room}
    extra = {what for (file, what) in law.EXCEPTIONS if file == path}
    for line, name in imports(parse(text)):
        target = name.removeprefix("minilm.")
        if not begins(name, "minilm") or name in ("minilm", "minilm.__version__") or "*" in extra:
            continue
        if not any(begins(target, room) for room in law.GROUND | own | allowed | extra):
            yield f"{line}: {room} may not import {name}"


def import_style(path: str, text: str) -> Iterator[str]:
    """Imports are absolute, by full module path, and never of a star."""
    for node in ast.walk(parse(text)):
        if not isinstance(node, ast.ImportFrom):
            continue
        imported = {alias.name for alias in node.names}
        if node.level:
            yield f"{node.lineno}: relative import"
        elif "*" in imported:
            yield f"{node.lineno}: star import"
        elif not path.startswith("minilm/"):  # the public names are for users, and for tests
            continue
        elif node.module == "minilm" and imported != {"__version__"}:
            yield f"{node.lineno}: import from the file that defines it, not from minilm"
        elif (
            node.module
            and re.fullmatch(r"minilm\.\w+", node.module)
            and (ROOT / node.module.replace(".", "/")).is_dir()
        ):
            yield f"{node.lineno}: import from a file of {node.module}, not from the room"


def import_packages(path: str, text: str) -> Iterator[str]:
    """matplotlib only in plots, peers only in functions of bench, no torch in the rooms without it, plain configs."""
    room, tree = room_of(path), parse(text)
    top = {name for node in tree.body for _, name in imports(node) if isinstance(node, ast.Import | ast.ImportFrom)}
    for line, name in imports(tree):
        package = name.split(".")[0]
        if package == "matplotlib" and room != "plots":
            yield f"{line}: only plots imports matplotlib"
        if package in law.PEERS and (room != "bench" or name in top):
            yield f"{line}: only bench imports {package}, inside a function"
        if package == "torch" and room in law.NO_TORCH:
            yield f"{line}: {room} does without torch"
        if path.endswith("/config.py") and package not in sys.stdlib_module_names and not name.startswith("minilm."):
            yield f"{line}: a config needs the standard library only"


def no_side_effects(path: str, text: str) -> Iterator[str]:
    """Importing a file defines names and does nothing else."""
    harmless = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.AugAssign)
    for node in parse(text).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        guard = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'")
        if not (isinstance(node, harmless) or docstring or guard):
            yield f"{node.lineno}: an import would run this"


def empty_init(path: str, text: str) -> Iterator[str]:
    """Every __init__.py is empty but the top one."""
    if path.endswith("/__init__.py") and path != "minilm/__init__.py" and text:
        yield "1: not empty"


def hand_written(path: str, text: str) -> Iterator[str]:
    """Layers, losses and optimizers are the house's own; torch's kernels serve only in fast and, as peers, in bench."""
    if room_of(path) in ("fast", "bench"):
        return
    for line, name in names(parse(text)):
        parts = name.split(".")
        layer = begins(name, "torch.nn") and len(parts) > 2 and parts[2] not in law.TORCH_NN
        if (
            layer
            or begins(name, "torch.optim")
            or (parts[0] == "torch" and parts[1:] and parts[1] in law.TORCH_KERNELS)
        ):
            yield f"{line}: {name} is written by hand here"


def file_size(path: str, text: str) -> Iterator[str]:
    """A file is read in one sitting: at most 300 lines."""
    if (lines := len(text.splitlines())) > 300:
        yield f"{lines}: more than 300 lines"


# ---- rules for every Python file


def docstring(path: str, text: str) -> Iterator[str]:
    """A file says what it is for."""
    if text and not ast.get_docstring(parse(text)):
        yield "1: no docstring"


def forbidden_calls(path: str, text: str) -> Iterator[str]:
    """Nothing that runs code out of data."""
    for line, name in names(parse(text)):
        yield from (f"{line}: {bad}: {why}" for bad, why in law.FORBIDDEN.items() if begins(name, bad))
    for node in ast.walk(parse(text)):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in law.FORBIDDEN_CALLS:
                yield f"{node.lineno}: {node.func.id} runs code"
            for word in node.keywords:
                if word.arg in law.FORBIDDEN_ARGUMENTS and not (
                    isinstance(word.value, ast.Constant) and not word.value.value
                ):
                    yield f"{node.lineno}: {word.arg}={ast.unparse(word.value)} runs code"


# ---- rules for tests


def makes_claims(path: str, text: str) -> Iterator[str]:
    """A comparison that nobody asserts, a test without a claim, and an unlisted skip pass whatever the code does."""
    for line, name in names(parse(text)):
        if (
            re.fullmatch(r"pytest\.(skip|importorskip|mark\.skip|mark\.skipif)|unittest\.skip\w*", name)
            and path not in law.SKIPS
        ):
            yield f"{line}: {name}: files that may skip stand in house_law.SKIPS, with a reason"
    for node in ast.walk(parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Compare):
            yield f"{node.lineno}: a comparison without assert"
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            calls = [ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)]
            claims = any(re.search(r"(^|[._])(assert|raises|warns|fail|check)", call) for call in calls)
            if not claims and not any(isinstance(inner, ast.Assert) for inner in ast.walk(node)):
                yield f"{node.lineno}: {node.name} asserts nothing"


# ---- rules for any text


def finished(path: str, text: str) -> Iterator[str]:
    """What is in the house is done."""
    for line, words in enumerate(text.splitlines(), 1):
        if law.UNFINISHED.search(words):
            yield f"{line}: unfinished: {words.strip()}"


def no_private_places(path: str, text: str) -> Iterator[str]:
    """No registry's host and no path of somebody's machine."""
    for line, words in enumerate(text.splitlines(), 1):
        if law.PLACES.search(words):
            yield f"{line}: names a host or a private path: {words.strip()}"


# ---- rules for the house as a whole: files is {path: text}


def core_size(files: dict[str, str]) -> Iterator[str]:
    """The nine files of the core exist and have at most 1,500 lines together."""
    missing = [name for name in law.CORE if f"minilm/{name}" not in files]
    yield from (f"minilm/{name}: the core lacks it" for name in missing)
    lines = sum(len(files[f"minilm/{name}"].splitlines()) for name in law.CORE if name not in missing)
    if lines > 1500:
        yield f"the core has {lines} lines, at most 1,500 are allowed"


def config_fields(files: dict[str, str]) -> Iterator[str]:
    """GPTConfig has at most 14 fields."""
    classes = [node for node in ast.walk(parse(files["minilm/models/config.py"])) if isinstance(node, ast.ClassDef)]
    fields = [
        node for cls in classes if cls.name == "GPTConfig" for node in cls.body if isinstance(node, ast.AnnAssign)
    ]
    if not 1 <= len(fields) <= 14:
        yield f"GPTConfig has {len(fields)} fields, 1 to 14 are allowed"


def verbs_are_files(files: dict[str, str]) -> Iterator[str]:
    """One file of cli/ a verb, and one verb a file."""
    verbs: set[str] = set()
    for node in parse(files["minilm/cli/main.py"]).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERBS":
            verbs = set(ast.literal_eval(node.value))
    stems = {Path(path).stem for path in files if path.startswith("minilm/cli/")} - law.CLI_SUPPORT
    yield from (f"minilm/cli/{name}.py and the verbs of minilm/cli/main.py differ" for name in sorted(stems ^ verbs))


PACKAGE_RULES = [import_rooms, import_packages, no_side_effects, empty_init, hand_written, file_size]
PYTHON_RULES = [import_style, docstring, forbidden_calls]
TEST_RULES = [makes_claims]
TEXT_RULES = [finished, no_private_places]
HOUSE_RULES = [core_size, config_fields, verbs_are_files]
