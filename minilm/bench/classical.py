"""The models before the transformer beside plain loops and peers, as ratios. Each file of a model brings its own contests.

A contest is (ours, the peer's), two functions without arguments; before it is handed out, both sides must say the same.
"""

import importlib
from collections.abc import Callable

Contests = dict[str, tuple[Callable[[], object], Callable[[], object]]]
PARTS = ("classical_hmm", "classical_glove", "classical_rnn")  # files of this room; each has a function contests()


def contests() -> Contests:
    """What is compared -> (ours, the peer's), of all parts in order. ValueError if a peer and ours do not say the same."""
    found: Contests = {}
    for part in PARTS:
        found |= importlib.import_module(f"minilm.bench.{part}").contests()
    return found
