"""`minilm bench scaling`: the prediction stands before the larger run, comes from the small ones, and is kept."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minilm.bench import scaling
from minilm.bench.table import Job, Request, measure
from minilm.cli.main import main
from minilm.evaluation.scaling import PowerLaw

TRUE = PowerLaw(1.3, 50.0, 0.4)


@pytest.fixture
def by_law(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Nothing is trained: a model's loss is that of a law, with a little chance. Returns the widths that were asked for."""
    asked: list[int] = []

    def size_row(request: Request, text: Any, width: int, seed: int) -> dict[str, Any]:
        asked.append(width)
        weights = scaling.weights_of(width)
        return {"nats": float(TRUE(weights)) * (1 + 0.002 * (seed % 3 - 1)), "weights": weights}

    monkeypatch.setattr(scaling, "size_row", size_row)
    monkeypatch.setattr(scaling, "DRAWS", 40)
    return asked


def test_the_prediction_is_there_before_the_larger_run(
    by_law: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows.jsonl"
    fake = scaling.size_row

    def looking(request: Request, text: Any, width: int, seed: int) -> dict[str, Any]:
        if width == scaling.LARGER:
            last = json.loads(out.read_text().splitlines()[-1])
            assert last["row"].startswith("prediction") and "predicted for 221,184 weights" in capsys.readouterr().err
        return fake(request, text, width, seed)

    monkeypatch.setattr(scaling, "size_row", looking)
    assert main(["bench", "scaling", "--out", str(out), "--json"]) == 0
    assert by_law == [width for width in scaling.WIDTHS for _ in range(3)] + [scaling.LARGER]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    said, larger = rows[-2:]
    assert said["nats"] == pytest.approx(float(TRUE(221_184)), rel=1e-3)
    assert said["low"] < said["nats"] < said["high"] and said["exponent"] == pytest.approx(0.4, rel=0.01)
    assert larger["weights"] == said["weights"] == 221_184
    shown = json.loads(capsys.readouterr().out)
    assert (
        shown["conclusions"][1]
        == f"measured: {larger['nats']:.3f} nats ({larger['nats'] - said['nats']:+.3f}), inside the interval"
    )


def test_a_second_run_keeps_the_first_prediction(by_law: list[int], tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    assert main(["bench", "scaling", "--out", str(out), "--json"]) == 0
    lines = out.read_text().splitlines()
    out.write_text("\n".join(lines[:-1]) + "\n")
    by_law.clear()
    assert main(["bench", "scaling", "--out", str(out), "--json"]) == 0
    assert by_law == [scaling.LARGER] and out.read_text().splitlines() == lines
    assert main(["bench", "scaling", "--out", str(out), "--seeds", "4", "--json"]) == 0  # more seeds say something new
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["row"] for row in rows if row["row"].startswith("prediction")] == [
        "prediction from 15 runs: 221,184 weights",
        "prediction from 20 runs: 221,184 weights",
    ]


def test_seeds_and_steps(by_law: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "scaling", "--seeds", "2", "--seed", "7", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["seed"] for row in rows] == [7, 8] * len(scaling.WIDTHS) + [7, 7]
    assert [scaling.steps_of(Request(), width) for width in (16, 96)] == [120, 4320]
    assert scaling.steps_of(Request(steps=50), 96) == 50


def test_a_run_that_leaves_the_interval_is_called_outside() -> None:
    said = {
        "row": "prediction: x",
        "nats": 2.0,
        "low": 1.9,
        "high": 2.1,
        "weights": 5,
        "floor": 1.0,
        "scale": 1.0,
        "exponent": 0.1,
    }
    for nats, place in ((1.89, "outside"), (1.9, "inside"), (2.1, "inside"), (2.11, "outside")):
        rows = [said, {"row": scaling.name_of(scaling.LARGER), "nats": nats}]
        assert scaling.conclusions(rows)[1].endswith(f"{place} the interval")
    assert len(scaling.conclusions([said])) == 1 and scaling.conclusions([{"row": "6,144 weights", "nats": 2.0}]) == []


def test_a_small_run_that_fails_is_no_reason_to_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"row": "a", "nats": 2.0, "weights": 1}, {"row": "b", "nats": None, "failed": "step 3"}]
    row = scaling.prediction_row(2, rows)
    assert row["nats"] is None and "b failed" in row["failed"]
    assert scaling.conclusions([{"row": "prediction: x", **row}]) == []


def test_without_the_small_runs_there_is_nothing_to_go_by(
    by_law: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "scaling", "--only", "prediction"]) == 2
    assert "needs all small runs: leave out --only" in capsys.readouterr().err
    with pytest.raises(ValueError, match="needs all small runs"):
        scaling.prediction_row(3, [{"row": str(i), "nats": 2.0, "weights": i} for i in (1, 2)])
    assert main(["bench", "scaling", "--seconds", "3"]) == 2
    assert "the size of a model decides how long" in capsys.readouterr().err


def test_the_losses_of_a_size_stand_in_one_column() -> None:
    rows = [{"weights": weights, "nats": 10.0 * seed + i} for i, weights in enumerate((5, 3, 9)) for seed in (1, 2)]
    weights, losses = scaling.by_size(rows)
    assert weights.tolist() == [3, 5, 9] and losses.tolist() == [[11, 10, 12], [21, 20, 22]]


def test_a_real_model_is_trained_on_what_it_has_not_read(tmp_path: Path) -> None:
    """The parts together, on a short text: the weights counted are those of the model's matrices."""
    file = tmp_path / "text.txt"
    file.write_text(
        "".join(f"The {a} saw {n} hills. " for n in range(150) for a in ("cat", "fox", "hen", "owl", "emu"))
    )
    request = Request(data=str(file), steps=3)
    from minilm.bench.quality import prepare_text

    text = partial(prepare_text, str(file), 0.9, False, True)
    row = scaling.size_row(request, text, 16, 1)
    assert row["steps"] == 3 and row["weights"] == 6144 and 1.0 < row["nats"] < 5.0
    model = scaling.build(request, 16, 30)
    matrices = [weight for name, weight in model.named_parameters() if name.startswith("blocks.") and weight.dim() == 2]
    assert sum(weight.numel() for weight in matrices) == 6144
    assert (
        scaling.train_config(Request(changes={"warmup": 7}), 96).warmup == 7 != scaling.train_config(request, 96).warmup
    )


def test_every_size_can_be_built() -> None:
    models = [scaling.build(Request(), width, 30) for width in (*scaling.WIDTHS, scaling.LARGER)]
    assert [model.config.n_heads for model in models] == [1, 2, 2, 3, 2, 6]
    assert [model.config.d_model for model in models] == [24, 32, 40, 48, 56, 96]


def test_only_a_job_that_reads_is_given_the_rows() -> None:
    jobs = [Job("a", 0, 1, lambda: {"n": 1}), Job("b", 0, 1, lambda: {"n": 2})]
    jobs.append(Job("sum", 0, 1, lambda rows: {"n": sum(row["n"] for row in rows)}, (), True))
    assert [row["n"] for row in measure(jobs, {}, progress=False)] == [1, 2, 3]


def test_the_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    assert re.search(r"scaling\s+\(\d+\s+minutes\)", capsys.readouterr().out) and np.diff(scaling.WIDTHS).min() > 0
