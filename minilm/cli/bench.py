"""`minilm bench`: speed as ratios, both sides measured in turn in one run, since a machine's speed drifts."""

import importlib
import json
import statistics
import time
from collections.abc import Callable

from minilm.cli.options import Parser, seed

TOPICS = ("tokenizer", "ngram", "attention")


def run(arguments: list[str]) -> int:
    """Measure one topic and print seconds and ratios."""
    parser = Parser("bench", "Measure our code beside a peer's in one run.", "minilm bench tokenizer")
    parser.option("topic", choices=TOPICS, help="what to measure")
    parser.option("--runs", type=int, default=5, metavar="N", help="timed runs of each side (default: 5)")
    parser.option("--large", action="store_true", help="the long contests of the topic instead of the short ones")
    parser.option("--seed", type=seed, default=0, rare=True, help="accepted everywhere; the inputs are fixed")
    parser.option("--json", action="store_true", help="one JSON object")
    options = parser.read(arguments)
    if options.runs < 1:
        raise ValueError(f"--runs is {options.runs}: it must be at least 1")
    rows, topic = [], importlib.import_module(f"minilm.bench.{options.topic}")
    if options.large and not hasattr(topic, "large_contests"):
        raise ValueError(f"--large: {options.topic} has no long contests; leave it out")
    contests = topic.large_contests() if options.large else topic.contests()
    for name, (ours, peer) in contests.items():
        try:
            rows.append({"contest": name, **compare(ours, peer, options.runs)})
        except ImportError as error:
            raise ValueError(f"{name}: {error}: install the extra with pip install 'minilm[test]'") from None
    if options.json:
        print(json.dumps({"topic": options.topic, "rows": rows}))
        return 0
    for row in rows:
        print(
            f"{row['contest']}: {row['ours_s']:.4f} s / {row['peer_s']:.4f} s = {row['ratio']:.2f} (below 1: ours is faster)"
        )
    return 0


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
