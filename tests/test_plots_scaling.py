"""The picture of a scaling law: the points, the law to where it is asked, the interval and what was measured."""

import numpy as np
import pytest

from minilm.evaluation.scaling import PowerLaw
from minilm.plots.scaling import plot_scaling

X = [100.0, 400.0, 1600.0]
LAW = PowerLaw(1.0, 20.0, 0.5)
LOSSES = [[3.1, 2.0, 1.5], [2.9, 2.1, 1.4]]


def test_points_law_and_prediction() -> None:
    (axes,) = plot_scaling(X, LOSSES, LAW, (6400.0, 1.1, 1.25, 1.4), [1.3]).axes
    inside, beyond, points, interval, median, star = axes.lines
    for line, begin, end in ((inside, 100, 1600), (beyond, 1600, 6400)):
        x, y = line.get_xydata().T
        assert (x[0], x[-1]) == pytest.approx((begin, end)) and y == pytest.approx(LAW(x))
    assert beyond.get_linestyle() == "--" != inside.get_linestyle()
    assert sorted(map(tuple, points.get_xydata().tolist())) == sorted(
        (x, losses[i]) for losses in LOSSES for i, x in enumerate(X)
    )
    assert interval.get_xydata().tolist() == [[6400, 1.1], [6400, 1.4]] and median.get_xydata().tolist() == [
        [6400, 1.25]
    ]
    assert star.get_xydata().tolist() == [[6400, 1.3]]
    assert [text.get_text() for text in axes.texts] == ["predicted 1.250\n(1.100 to 1.400)", "measured 1.300"]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.get_title(loc="left") == "loss = 1 + 20 / x$^{0.5}$"


def test_without_a_prediction() -> None:
    figure = plot_scaling(X, LOSSES[0], PowerLaw(0.0, 20.0, 0.5), x_label="tokens", y_label="nats")
    (axes,) = figure.axes
    assert len(axes.lines) == 2 and not axes.texts
    assert axes.get_title(loc="left") == "loss = 20 / x$^{0.5}$"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("tokens", "nats")
    assert plot_scaling(X, LOSSES, np.sqrt).axes[0].get_title(loc="left") == ""  # any function of x will do


def test_what_cannot_be_drawn_is_refused() -> None:
    for x, losses, says in (
        ([], [[]], "give \\(points,\\)"),
        (X, [[1.0, 2.0]], r"x has shape \(3,\), the losses \(1, 2\)"),
        ([0.0, 1.0, 2.0], LOSSES, "not above 0"),
        (X, [[1.0, 0.0, 2.0]], "not above 0"),
    ):
        with pytest.raises(ValueError, match=says):
            plot_scaling(x, losses, LAW)
