"""What decoding does to a text: what each token costs, and how often each token is drawn."""

from collections.abc import Mapping, Sequence

import numpy as np

from minilm.plots.curves import COLOURS, plain
from minilm.plots.picture import ACCENT, GREY, INK, Picture, new_picture, quiet_axes


def plot_token_costs(
    texts: Mapping[str, Sequence[str]], costs: Mapping[str, Sequence[float] | np.ndarray], title: str = ""
) -> Picture:
    """One row a text: a bar for each token, as high as its cost in nats, over the token itself. All rows have one scale.

    `texts` and `costs` have the same names; as many costs as tokens. ValueError where they do not, or there is none.
    """
    if not texts or list(texts) != list(costs) or any(not 0 < len(texts[name]) == len(costs[name]) for name in texts):
        raise ValueError("give the same names to texts and costs, and one cost for each token, at least one")
    longest, top = max(map(len, texts.values())), max(max(row) for row in costs.values())
    figure = new_picture(1 + 0.34 * longest, 1.55 * len(texts) + 0.3)
    panels = figure.subplots(len(texts), 1, squeeze=False, sharey=True)[:, 0]
    for axes, (name, tokens) in zip(panels, texts.items(), strict=True):
        axes.bar(range(len(tokens)), np.asarray(costs[name], dtype=np.float64), width=0.8, color=ACCENT)
        labels = [plain(token.replace(" ", "␣").replace("\n", "↵")) for token in tokens]
        axes.set_xticks(range(len(tokens)), labels, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.6, longest - 0.4)
        axes.set_ylim(0, 1.08 * top)
        axes.set_title(f"{plain(name)}: {np.sum(costs[name]):.1f} nats", loc="left", color=INK, fontsize=11)
        axes.set_ylabel("nats", color=INK, fontsize=10)
        quiet_axes(axes, "bottom", "left")
        axes.tick_params(axis="x", labelsize=9, colors=INK)
    figure.suptitle(plain(title), color=INK, fontsize=13)
    return figure


def plot_shares(labels: Sequence[str], shares: Mapping[str, Sequence[float] | np.ndarray], title: str = "") -> Picture:
    """For each label a group of bars, one for each row {name: a share for each label}. ValueError where lengths differ."""
    if not labels or not shares or any(len(row) != len(labels) for row in shares.values()):
        sizes = [len(row) for row in shares.values()]
        raise ValueError(
            f"{len(labels)} labels, but rows of {sizes}: give at least one of each, and a share for each label"
        )
    figure = new_picture(8, 3.8)
    axes = figure.subplots()
    width = 0.8 / len(shares)
    for i, (name, row) in enumerate(shares.items()):
        places = np.arange(len(labels)) + (i - (len(shares) - 1) / 2) * width
        axes.bar(
            places,
            np.asarray(row, dtype=np.float64),
            width=0.9 * width,
            color=(GREY, *COLOURS)[i % (len(COLOURS) + 1)],
            label=plain(name),
        )
    axes.set_xticks(range(len(labels)), [plain(label) for label in labels])
    axes.set_ylabel("probability", color=INK, fontsize=12)
    axes.set_title(plain(title), loc="left", color=INK, fontsize=13)
    axes.grid(axis="y", color=GREY, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, labelcolor=INK, fontsize=11)
    quiet_axes(axes, "bottom", "left")
    return figure
