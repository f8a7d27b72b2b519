"""Make the notebooks: lessons/src/NN_name.py (jupytext, percent format) -> lessons/NN_name.ipynb, run, with outputs.

    python lessons/build.py            builds the notebooks whose source has changed
    python lessons/build.py --check    only says whether each notebook belongs to its source

The exercise cells keep their stubs: a check of a stub hands out the library's function, so the rest of the notebook runs.
Outputs of cells tagged `check` are removed, for they would speak of a pass that nobody has earned.
"""

import hashlib
import re
import sys
from pathlib import Path

LESSONS = Path(__file__).resolve().parent


def source_hash(source: Path) -> str:
    """SHA-256 of a lesson's source, kept in its notebook."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def stale() -> list[Path]:
    """The sources whose notebook is missing or was made from another version."""
    found = []
    for source in sorted((LESSONS / "src").glob("[0-9][0-9]_*.py")):
        notebook = LESSONS / f"{source.stem}.ipynb"
        if not notebook.exists() or source_hash(source) not in notebook.read_text(encoding="utf-8"):
            found.append(source)
    return found


def build(source: Path) -> Path:
    """Convert, run and write one notebook."""
    import jupytext
    import nbformat
    from nbclient import NotebookClient

    notebook = jupytext.read(source, fmt="py:percent")
    text = source.read_text(encoding="utf-8")
    title = re.search(r"^# # \d+ (.+)$", text, re.M).group(1)
    minutes = int(re.search(r"Time: (\d+) minutes", text).group(1))
    for cell in notebook.cells:
        cell["id"] = cell.metadata.pop("id")
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "minilm": {"title": title, "minutes": minutes, "source_sha256": source_hash(source)},
    }
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "check" in cell.metadata.get("tags", []):
            cell.outputs = []
    path = LESSONS / f"{source.stem}.ipynb"
    nbformat.write(notebook, path)
    return path


def main() -> int:
    """Build what is stale, or with --check fail if anything is."""
    sources = stale()
    if "--check" in sys.argv:
        for source in sources:
            print(f"{source.name}: its notebook is stale: run python lessons/build.py")
        return 1 if sources else 0
    for source in sources:
        print(f"built {build(source)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
