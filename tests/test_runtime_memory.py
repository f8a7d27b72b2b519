"""What `keep_freed_memory` promises, seen from outside: freed arrays are used again, and the kernel is asked for no new pages."""

import subprocess
import sys

PROGRAM = """
import resource, sys
import numpy as np
from minilm.runtime import keep_freed_memory

could = keep_freed_memory() if sys.argv[1] == "keep" else None
[np.ones(400_000) for _ in range(8)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    [np.ones(400_000) for _ in range(8)]  # eight times 3.2 MB, together 6,250 pages
print(could, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def new_pages(how: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    could, pages = done.stdout.split()
    return could, int(pages)


def test_a_freed_array_is_used_again():
    could, pages = new_pages("keep")
    assert could in ("True", "False")
    if could == "True":
        assert pages < 6_250 < new_pages("return")[1]


def test_a_system_without_the_switch_says_so(monkeypatch):
    import ctypes

    from minilm.runtime import keep_freed_memory

    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert keep_freed_memory() is False
