"""The stopwatch: both sides run equally often, in turn, and the ratio is theirs."""

import json
import time

import pytest

from minilm.cli.bench import compare
from minilm.cli.main import main


def test_both_sides_run_in_turn_after_a_warm_up():
    calls: list[str] = []
    compare(lambda: calls.append("ours"), lambda: calls.append("peer"), runs=3)
    assert calls == ["ours", "peer"] * 4


def test_the_ratio_is_ours_over_the_peers(monkeypatch):
    now = 0.0

    def tick(seconds: float):
        def work() -> None:
            nonlocal now
            now += seconds

        return work

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    measured = compare(tick(3.0), tick(2.0), runs=5)
    assert measured == {"ours_s": 3.0, "peer_s": 2.0, "ratio": pytest.approx(1.5)}


def test_the_verb_prints_both_times(capsys):
    assert main(["bench", "attention", "--runs", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == 2 and all(row["ratio"] == pytest.approx(row["ours_s"] / row["peer_s"]) for row in rows)
    assert main(["bench", "attention", "--runs", "0"]) == 2
