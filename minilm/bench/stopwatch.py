"""Two sides timed in turn in one run: a machine's speed drifts, the ratio of neighbours does not."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def compare(ours: Callable[[], object], peer: Callable[[], object], runs: int) -> dict[str, float]:
    """Median seconds of both, run in turn after one warm-up each, and the median of the ratios ours / peer."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(runs + 1):
        for side, function in enumerate((ours, peer)):
            started = time.perf_counter()
            function()
            if number:
                seconds[side].append(time.perf_counter() - started)
    ratio = statistics.median(a / b for a, b in zip(*seconds, strict=True))
    return {"ours_s": statistics.median(seconds[0]), "peer_s": statistics.median(seconds[1]), "ratio": ratio}


@contextmanager
def threads_restored() -> Iterator[None]:
    """What runs inside may choose how many threads torch uses; afterwards there are as many as before."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
