"""The pictures of lesson 15 show the numbers that they were given."""

import pytest

from minilm.plots.search import plot_shares, plot_token_costs


def test_each_token_has_its_bar_and_each_text_its_row() -> None:
    texts = {"greedy": [" a", "b", "\n"], "story $": ["c", "d"]}
    costs = {"greedy": [0.25, 3.0, 1.5], "story $": [0.5, 2.0]}
    figure = plot_token_costs(texts, costs, "costs")
    for axes, name, labels in zip(figure.axes, texts, (["␣a", "b", "↵"], ["c", "d"]), strict=True):
        assert [bar.get_height() for bar in axes.patches] == costs[name]
        assert [label.get_text() for label in axes.get_xticklabels()] == labels
        assert axes.get_title("left").endswith(f"{sum(costs[name]):.1f} nats")
        assert axes.get_ylim() == (0, pytest.approx(3.24))
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("texts", "costs"),
    [({}, {}), ({"a": ["x"]}, {"b": [1.0]}), ({"a": ["x", "y"]}, {"a": [1.0]}), ({"a": ["x"], "b": []}, {"a": [1.0]})],
)
def test_costs_that_cannot_be_drawn(texts: dict[str, list[str]], costs: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="one cost for each token"):
        plot_token_costs(texts, costs)


def test_shares_stand_in_groups_in_the_order_given() -> None:
    (axes,) = plot_shares(["x", "y", "z"], {"p": [0.5, 0.25, 0.25], "q": [0.125, 0.375, 0.5]}).axes
    bars = axes.patches
    assert [bar.get_height() for bar in bars] == [0.5, 0.25, 0.25, 0.125, 0.375, 0.5]
    middles = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    assert middles == pytest.approx([-0.2, 0.8, 1.8, 0.2, 1.2, 2.2])
    assert bars[0].get_facecolor() != bars[3].get_facecolor()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["p", "q"]


@pytest.mark.parametrize(("labels", "shares"), [([], {}), (["x"], {}), (["x"], {"p": [0.5, 0.5]})])
def test_shares_that_cannot_be_drawn(labels: list[str], shares: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="a share for each label"):
        plot_shares(labels, shares)
