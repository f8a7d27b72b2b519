"""The picture of a search: what stands where, in which colour."""

import math
from typing import Any

import numpy as np
import pytest

from minilm.plots.picture import ACCENT, GREY, INK
from minilm.plots.trials import plot_trials

ROWS = [
    ({"rate": 0.003, "layers": 4, "kind": "b", "fixed": 1}, 20, [2.0, 2.25]),
    ({"rate": 0.003, "layers": 2, "kind": "a", "fixed": 1}, 20, [2.5, 2.5]),
    ({"rate": 0.1, "layers": 4, "kind": "a", "fixed": 1}, 20, [3.0, math.inf]),
    ({"rate": 0.001, "layers": 2, "kind": "b", "fixed": 1}, 5, [2.75, 3.0]),
]


def panels(figure: Any) -> dict[str, Any]:
    return {axes.get_xlabel(): axes for axes in figure.axes if axes.get_visible()}


def lines(axes: Any, colour: str, marker: str) -> list[tuple[list[float], list[float]]]:
    found = [line for line in axes.lines if line.get_color() == colour and line.get_marker() == marker]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in found]


def test_every_option_that_varies_has_a_panel_with_every_score() -> None:
    found = panels(plot_trials(ROWS, "bits per byte"))
    assert list(found) == ["rate", "layers", "kind"] and found["rate"].get_ylabel() == "bits per byte"
    for axes in found.values():
        assert [y for _, y in lines(axes, ACCENT, "o")] == [[2.0, 2.25]]
        assert [y for _, y in lines(axes, INK, "o")] == [[3.0], [2.5, 2.5]]
        assert [y for _, y in lines(axes, GREY, "o")] == [[2.75, 3.0]]
        assert [y for _, y in lines(axes, INK, "x")] == [[3.0]] and [y for _, y in lines(axes, ACCENT, "_")] == [
            [2.125]
        ]
        assert axes.lines[-1].get_color() == ACCENT  # on top
    assert [label.get_text() for label in found["rate"].get_xticklabels()] == ["0.001", "0.003", "0.1"]
    assert [label.get_text() for label in found["kind"].get_xticklabels()] == ["a", "b"]


def test_equal_values_stand_side_by_side() -> None:
    axes = panels(plot_trials(ROWS, "s"))["rate"]
    places = {x[0] for colour in (ACCENT, INK, GREY) for x, _ in lines(axes, colour, "o")}
    assert sorted(places) == pytest.approx([0.0, 0.9, 1.1, 2.0])
    many = [({"a": 1 + i % 2}, 1, [float(i)]) for i in range(40)]
    spread = [x[0] for x, _ in lines(panels(plot_trials(many, "s"))["a"], INK, "o")]
    assert len(set(spread)) == 39 and max(abs(x - round(x)) for x in spread) <= 0.35


def test_what_was_drawn_from_a_range_stands_on_a_scale() -> None:
    found = panels(plot_trials(ROWS, "s", {"rate": True, "layers": False}))
    assert found["rate"].get_xscale() == "log" and found["layers"].get_xscale() == "linear"
    assert (
        lines(found["rate"], ACCENT, "o")[0][0] == [0.003] * 2 and lines(found["layers"], GREY, "o")[0][0] == [2.0] * 2
    )
    rng = np.random.default_rng(0)
    wide = [({"rate": float(rate)}, 1, [1.0]) for rate in 10 ** rng.uniform(-4, -1.5, 30)]
    figure = plot_trials(wide, "s", {"rate": True})
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    assert 2 <= sum(low <= tick <= high for tick in figure.axes[0].get_xticks()) <= 7  # names that do not overlap


def test_headings_and_what_cannot_be_drawn() -> None:
    assert (
        "fewer steps" in plot_trials(ROWS, "s").get_suptitle()
        and "fewer" not in plot_trials(ROWS[:3], "s").get_suptitle()
    )
    assert list(panels(plot_trials(ROWS[:1], "s"))) == ["rate"]
    nine = [({f"o{i}": (i + j) % 2 for i in range(9)}, 1, [0.5]) for j in range(2)]
    assert len(panels(plot_trials(nine, "s"))) == 6
    seven = [({"a": i}, 1, [0.5]) for i in range(20)]
    assert len(panels(plot_trials(seven, "s"))["a"].get_xticks()) <= 6
    assert list(panels(plot_trials([({"a": 1}, 1, [math.inf]), ({"a": 2}, 1, [math.inf])], "s"))) == ["a"]
    with pytest.raises(ValueError, match="no trials to draw"):
        plot_trials([], "s")
