"""Grids, draws and successive halving by brute force; Student's t by tables and by integration; trials that survive a kill."""

import json
import math
import random
import statistics
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from minilm.training import trials
from minilm.training.search import (
    Range,
    count_rounds,
    draw,
    exceeds,
    grid,
    paired,
    seed_spread,
    successive_halving,
    t_quantile,
    welch,
)
from minilm.training.trials import Plan, Trial, TrialsFile, Tried, conduct, verdict

# ---- what to try


def test_a_grid_holds_every_combination_once() -> None:
    space = {"b": [1, 2, 3], "a": ["x", "y"], "c": [0.5]}
    assert [tuple(one.values()) for one in grid(space)] == list(product([1, 2, 3], "xy", [0.5]))
    assert all(list(one) == ["b", "a", "c"] for one in grid(space))
    assert grid({}) == [{}] and grid({"a": [1], "b": []}) == []


def test_a_range_is_the_inverse_of_its_distribution() -> None:
    for u in (0.0, 0.125, 0.5, 0.875):
        assert Range(-2.0, 6.0).draw(u) == -2 + 8 * u
        assert math.isclose(math.log10(Range(1e-5, 1e-1, log=True).draw(u)), -5 + 4 * u, rel_tol=1e-12)
    assert Range(1e-4, 0.3, log=True).draw(1 - 2**-53) <= 0.3


def test_whole_numbers_stay_whole_and_have_their_chances() -> None:
    n = 12_000
    counts = [sum(Range(-2, 1).draw(i / n) == k for i in range(n)) for k in range(-3, 3)]
    assert counts == [0, n // 4, n // 4, n // 4, n // 4, 0]
    found = [Range(2, 9, log=True).draw((i + 0.5) / n) for i in range(n)]
    assert {type(number) for number in found} == {int} and set(found) == set(range(2, 10))
    for k in range(2, 10):  # in a logarithmic range k stands for all from k up to k + 1
        assert abs(found.count(k) / n - math.log((k + 1) / k) / math.log(10 / 2)) < 2 / n
    assert type(Range(1, 4.0).draw(0.5)) is float


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Range(2, 2), "the smaller one first"),
        (lambda: Range(3, 2), "the smaller one first"),
        (lambda: Range(0.0, math.inf), "two numbers"),
        (lambda: Range(math.nan, 1), "two numbers"),
        (lambda: Range(0, 1, log=True), "must begin above 0"),
        (lambda: Range(0, 1).draw(1.0), "less than 1"),
        (lambda: Range(0, 1).draw(-0.1), "at least 0"),
        (lambda: draw({"a": []}, random.Random(0)), "a has no values"),
        (lambda: successive_halving([], lambda c, b: 0.0, 1), "no candidates"),
        (lambda: successive_halving([1], lambda c, b: 0.0, 1, keep=1), "keep is 1"),
        (lambda: successive_halving([1], lambda c, b: 0.0, 0), "budget 0"),
        (lambda: successive_halving([1, 2], lambda c, b: math.nan, 7), "none of 2 candidates .* a budget of 7"),
        (lambda: seed_spread([]), "no scores"),
        (lambda: t_quantile(1.0, 3), "between 0 and 1"),
        (lambda: t_quantile(0.5, 0.5), "at least 1"),
        (lambda: paired([1.0], [1.0, 2.0]), "zip"),
    ],
)
def test_what_cannot_be(wrong: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()  # type: ignore[operator]


def test_a_draw_depends_on_seed_and_number_alone() -> None:
    space = {"a": Range(0.0, 1.0), "b": ["x", "y", "z"], "c": Range(1, 8)}
    few, many = (random.Random(5) for _ in range(2))
    first = [draw(space, few) for _ in range(3)]
    assert [draw(space, many) for _ in range(50)][:3] == first
    other = {**space, "a": Range(1e-9, 1e9, log=True), "b": ["u"]}
    assert [one["c"] for one in first] == [draw(other, rng)["c"] for rng in [random.Random(5)] for _ in range(3)]
    uniforms = random.Random(5)
    for one in first:
        assert one["a"] == uniforms.random()
        assert one["b"] == "xyz"[int(3 * uniforms.random())] and one["c"] == 1 + int(8 * uniforms.random())


# ---- how long to try it


@pytest.mark.parametrize("keep", [2, 3, 4])
def test_halving_by_definition(keep: int) -> None:
    """Survivors by asking of each candidate how many are better; costs as the sum of the budgets that were asked for."""
    rng = random.Random(keep)
    for n in range(1, 31):
        table = {(c, r): rng.choice([0.25, 0.5, rng.random()]) for c in range(n) for r in range(6)}
        table |= {(c, 0): rng.choice([math.nan, math.inf]) for c in range(n) if c % 3}
        asked: list[int] = []

        def score(candidate: int, budget: int, table: dict = table, asked: list[int] = asked) -> float:
            asked.append(budget)
            return table[candidate, round(math.log(budget / 5, keep))]

        rounds = successive_halving(list(range(n)), score, budget=5, keep=keep)
        alive = list(range(n))
        for number, one in enumerate(rounds):
            assert one.candidates == alive and one.budget == 5 * keep**number
            finite = [c for c in alive if math.isfinite(table[c, number])]
            place = {
                c: sum((table[o, number], alive.index(o)) < (table[c, number], alive.index(c)) for o in finite)
                for c in finite
            }
            most = -(-len(alive) // keep)
            alive = sorted((c for c in finite if place[c] < most), key=lambda c: place[c])
            assert one.kept == alive
        assert len(alive) == 1 and (len(rounds) == 1 or len(rounds[-1].candidates) > 1)
        assert sum(one.cost for one in rounds) == sum(asked)


def test_every_round_costs_the_same() -> None:
    for keep, r in ((2, 4), (3, 3), (4, 2)):
        rounds = successive_halving(list(range(keep**r)), lambda c, budget: c / budget, 10, keep)
        assert [one.cost for one in rounds] == [10 * keep**r] * r and len(rounds) == count_rounds(keep**r, keep) == r


# ---- what a difference means

TABLE = [  # of any book: p, degrees, t
    (0.975, 1, 12.7062), (0.975, 2, 4.3027), (0.975, 3, 3.1824), (0.975, 4, 2.7764), (0.975, 9, 2.2622),
    (0.95, 5, 2.0150), (0.99, 7, 2.9980), (0.995, 30, 2.7500), (0.975, 120, 1.9799), (0.9, 15, 1.3406), (0.975, 1e6, 1.95997),
]  # fmt: skip


@pytest.mark.parametrize(("p", "degrees", "t"), TABLE)
def test_the_tables_of_student(p: float, degrees: float, t: float) -> None:
    assert abs(t_quantile(p, degrees) - t) < 6e-5
    assert t_quantile(1 - p, degrees) == pytest.approx(-t_quantile(p, degrees), rel=1e-9)


@pytest.mark.parametrize("degrees", [1.0, 1.7, 2.0, 3.31, 12.5, 649.0, 651.0])
def test_t_quantiles_by_integrating_the_density(degrees: float) -> None:
    log_constant = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    for p in (0.6, 0.9, 0.975):
        x, step = np.linspace(0, t_quantile(p, degrees), 20_001, retstep=True)
        density = np.exp(log_constant - (degrees + 1) / 2 * np.log1p(x * x / degrees))
        assert abs(0.5 + step * (density.sum() - (density[0] + density[-1]) / 2) - p) < 1e-6
    assert t_quantile(0.5, degrees) == pytest.approx(0, abs=1e-9)


def test_seed_spread() -> None:
    scores = [2.31, 2.27, 2.4, 2.33]
    spread = seed_spread(scores)
    assert spread.mean == pytest.approx(sum(scores) / 4, abs=1e-12) and spread.n == 4
    assert spread.deviation == pytest.approx(np.std(scores, ddof=1), abs=1e-12)
    assert spread.least_difference == pytest.approx(2.4469 * spread.deviation * math.sqrt(2 / 4), rel=1e-4)
    lone = seed_spread([2])
    assert lone.mean == 2 and math.isnan(lone.deviation) and lone.least_difference == math.inf


def test_welch_with_the_textbook_example() -> None:
    """t = -2.46 with 24.99 degrees of freedom: a chance of 0.021, so significant at 95 % and not at 99 %."""
    a = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
    b = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4]
    error = (statistics.fmean(b) - statistics.fmean(a)) / 2.4555
    assert welch(a, b) == pytest.approx(2.0596 * error, rel=2e-3) == welch(b, a)
    assert exceeds(a, b) and not exceeds(a, b, level=0.99)
    assert welch([1.0], a) == math.inf and not exceeds([1.0], [9.0, 9.1]) and welch([1.0, 1.0], [2.0, 2.0]) == 0


def test_equal_groups_of_equal_size_agree_with_seed_spread() -> None:
    a = [1.0, 2.0, 4.0]
    assert welch(a, [x + 3 for x in a]) == pytest.approx(seed_spread(a).least_difference, rel=1e-9)


@pytest.mark.parametrize("test", ["welch", "paired"])
def test_chance_exceeds_in_one_case_of_twenty(test: str) -> None:
    rng, found, n = random.Random(3), 0, 200
    for _ in range(n):
        a, b = ([rng.gauss(0, 1) for _ in range(4)] for _ in range(2))
        needed = welch(a, b) if test == "welch" else paired(a, b)
        found += abs(statistics.fmean(a) - statistics.fmean(b)) > needed
    assert 0.01 * n <= found <= 0.1 * n


def test_pairs_forget_what_is_common_and_overlap_asks_for_more() -> None:
    a, b = [1.0, 5.0, 3.0, 8.0], [1.2, 5.1, 3.3, 8.2]
    assert paired(a, b) < abs(statistics.fmean(a) - statistics.fmean(b)) < welch(a, b)
    differences = [x - y for x, y in zip(a, b, strict=True)]
    assert paired(a, b, overlap=1 / 3) == pytest.approx(
        3.1824 * np.std(differences, ddof=1) * math.sqrt(1 / 4 + 1 / 3), rel=1e-4
    )
    assert paired([1.0], [2.0]) == math.inf


# ---- the file of trials


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of lines need not each wait for the disk."""
    monkeypatch.setattr(trials, "sync", lambda path: None)
    monkeypatch.setattr("minilm.runtime.sync", lambda path: None)


def made_up(trial: Trial) -> float:
    """A score that follows from the trial alone, sometimes infinite."""
    number = random.Random(trial.key).random()
    return math.inf if number < 0.1 else trial.options["a"] + number + 1 / trial.budget


def plans() -> list[Plan]:
    candidates = grid({"a": [0.5, 0.25, 1.0, 0.75], "b": ["x", "y"]})
    return [
        Plan(candidates, [3, 4], 2, 10),
        Plan(candidates, [0], 0, 10),
        Plan(candidates, [0, 1, 2], 0, 40, 2),
        Plan(candidates, [7], 3, 30, 3),
    ]


def whole_search(plan: Plan, path: Path, run: object = made_up) -> list[Tried]:
    file = TrialsFile(path)
    return conduct(plan, lambda options, budget: file.scores_of(plan.trials(options, budget), run))  # type: ignore[arg-type]


@pytest.mark.parametrize("plan", plans(), ids=["folds", "one seed", "halving seeds", "halving folds"])
def test_a_search_killed_after_any_trial_comes_to_the_same_end(plan: Plan, tmp_path: Path, no_waiting: None) -> None:
    expected = whole_search(plan, tmp_path / "whole.jsonl")
    written = (tmp_path / "whole.jsonl").read_text()
    assert len(written.splitlines()) == plan.n_trials
    for n in range(plan.n_trials):
        path, left = tmp_path / f"{n}.jsonl", [n]

        def killed(trial: Trial, left: list[int] = left) -> float:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return made_up(trial)

        with pytest.raises(KeyboardInterrupt):
            whole_search(plan, path, killed)
        again: list[str] = []

        def counted(trial: Trial, again: list[str] = again) -> float:
            again.append(trial.key)
            return made_up(trial)

        assert whole_search(plan, path, counted) == expected
        assert len(again) == len(set(again)) == plan.n_trials - n


@pytest.mark.parametrize("plan", plans(), ids=["folds", "one seed", "halving seeds", "halving folds"])
def test_the_order_of_trials_does_not_matter(plan: Plan, tmp_path: Path, no_waiting: None) -> None:
    expected = whole_search(plan, tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    for seed in range(5):
        random.Random(seed).shuffle(lines)
        (tmp_path / "other.jsonl").write_text("".join(lines))
        assert whole_search(plan, tmp_path / "other.jsonl", None) == expected  # all are there, none is run


def test_pitfall_82_a_line_cut_off_at_any_byte_is_written_again(tmp_path: Path, no_waiting: None) -> None:
    """PITFALLS 82: a process killed while it writes leaves a torn line, and loses no good one."""
    done = [Trial({"a": 0.1, "b": "ä"}, 1, None, 20), Trial({"a": 0.2}, 0, 3, 1), Trial({"a": 3}, 0, 0, 1)]
    file = TrialsFile(tmp_path / "t.jsonl")
    scores = file.scores_of(done, lambda trial: float(trial.options["a"]) if trial.fold != 3 else math.nan)
    assert scores == [0.1, math.inf, 3.0]
    data = (tmp_path / "t.jsonl").read_bytes()
    assert json.loads(data.splitlines()[1])["score"] is None
    for n in range(len(data) + 1):
        (tmp_path / "t.jsonl").write_bytes(data[:n])
        file, whole = TrialsFile(tmp_path / "t.jsonl"), data[:n].count(b"\n")
        assert [trial.key in file.scores for trial in done] == [i < whole for i in range(3)]
        assert (tmp_path / "t.jsonl").read_bytes() == b"".join(data.splitlines(keepends=True)[:whole])
        run = dict(zip((trial.key for trial in done), scores, strict=True))
        assert file.scores_of(done, lambda trial, run=run: run[trial.key]) == scores
        assert TrialsFile(tmp_path / "t.jsonl").scores == file.scores == run


@pytest.mark.parametrize("line", ['{"options": {}}', "[]", "null", '{"options": 3, "seed": 0, "fold": null', "\0\0\0"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    file = TrialsFile(tmp_path / "t.jsonl")
    file.add(Trial({"a": 1}), 0.5, 1.0)
    (tmp_path / "t.jsonl").write_text((tmp_path / "t.jsonl").read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"line 2 of .*t\.jsonl is damaged: delete it"):
        TrialsFile(tmp_path / "t.jsonl")


def test_two_scores_of_one_trial_are_refused_and_one_said_twice_is_not(tmp_path: Path) -> None:
    file = TrialsFile(tmp_path / "t.jsonl")
    file.add(Trial({"a": 1, "b": 2}), 0.5, 1.0)
    file.add(Trial({"b": 2, "a": 1}), 0.5, 2.0)
    again = TrialsFile(tmp_path / "t.jsonl")
    assert len(again.scores) == 1 and again.seconds == 3.0
    file.add(Trial({"a": 1, "b": 2}), 0.75, 1.0)
    with pytest.raises(ValueError, match=r"line 3 of .* another score"):
        TrialsFile(tmp_path / "t.jsonl")


def test_a_line_is_on_the_disk_before_the_next_trial_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(trials, "sync", lambda path: synced.append(path.read_bytes().count(b"\n")))
    file = TrialsFile(tmp_path / "t.jsonl")
    seen: list[int] = []
    file.scores_of([Trial({"a": i}) for i in range(3)], lambda trial: seen.append(len(synced)) or 1.0)  # type: ignore[func-returns-value]
    assert synced == [1, 2, 3] and seen == [0, 1, 2]


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    file = TrialsFile(tmp_path / "t.jsonl")
    monkeypatch.setattr(trials, "sync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        file.add(Trial({}), 1.0, 1.0)
    assert caught.value.filename == str(tmp_path / "t.jsonl") and not file.scores


# ---- the plan, and what trials say


@pytest.mark.parametrize("keep", [0, 2, 3, 5])
def test_a_plan_says_what_is_then_done(keep: int, tmp_path: Path, no_waiting: None) -> None:
    for n in (1, 2, 3, 4, 9, 10, 17):
        plan = Plan([{"a": i} for i in range(n)], [0, 5], 2, 1000, keep)
        done: list[Trial] = []
        whole_search(plan, tmp_path / f"{n}.jsonl", lambda trial, done=done: done.append(trial) or trial.options["a"])
        assert len(done) == plan.n_trials and sum(trial.budget for trial in done) == plan.cost
        assert max(trial.budget for trial in done) == plan.rounds[-1][1] <= 1000
        assert {(trial.seed, trial.fold) for trial in done} == {(0, 0), (0, 1), (5, 0), (5, 1)}
        assert keep or {trial.budget for trial in done} == {1000}


def test_a_plan_that_is_too_short_to_be_halved() -> None:
    with pytest.raises(ValueError, match="8 steps are too few to halve 27 candidates in 3 rounds: give at least 9"):
        Plan([{}] * 27, [0], 0, 8, 3)
    assert Plan([{}] * 27, [0], 0, 9, 3).rounds == [(27, 1), (9, 3), (3, 9)]


def test_candidates_come_in_the_order_of_their_means_and_failed_ones_last() -> None:
    scores = {1: [3.0, 1.0], 2: [math.inf, 0.0], 3: [1.5, 1.5], 4: [2.0, 2.0]}
    plan = Plan([{"a": a} for a in scores], [0, 1], 0, 5)
    tried = conduct(plan, lambda options, budget: scores[options["a"]])
    assert [one.options["a"] for one in tried] == [3, 1, 4, 2]
    assert tried[1].deviation == pytest.approx(math.sqrt(2)) and math.isnan(tried[3].deviation)
    with pytest.raises(ValueError, match="no candidate could be trained"):
        conduct(plan, lambda options, budget: [math.inf, 1.0])


def test_in_halving_a_later_round_counts_more_than_a_score() -> None:
    plan = Plan([{"a": a} for a in range(4)], [0], 0, 20, 2)
    tried = conduct(
        plan, lambda options, budget: [options["a"] + budget]
    )  # longer is worse here, and yet more is known
    assert [(one.options["a"], one.budget) for one in tried] == [(0, 20), (1, 20), (2, 10), (3, 10)]


def test_verdicts() -> None:
    best, following = Tried({}, 5, [1.0, 1.1, 0.9]), Tried({}, 5, [1.3, 1.4, 1.2])
    by_seeds = verdict(best, following, folds=0)
    assert by_seeds.difference == pytest.approx(0.3) and by_seeds.needed == pytest.approx(
        welch([1.0, 1.1, 0.9], [1.3, 1.4, 1.2])
    )
    assert (
        by_seeds.word == "more than chance" and verdict(best, Tried({}, 5, [1.1, 1.2, 1.0]), 0).word == "within chance"
    )
    on_folds = verdict(best, Tried({}, 5, [1.3, 1.4, 1.3]), folds=3)
    assert on_folds.needed == pytest.approx(paired([1.0, 1.1, 0.9], [1.3, 1.4, 1.3], overlap=0.5))
    assert verdict(best, Tried({}, 4, [1.3, 1.4, 1.2]), 0).word == "unknown"
    assert verdict(Tried({}, 5, [1.0]), Tried({}, 5, [2.0]), 0).word == "unknown"
    assert verdict(best, Tried({}, 5, [math.inf, 1.0, 1.0]), 0).word == "unknown"
