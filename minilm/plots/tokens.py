"""How tokens grow, how much of a text they cover, and how unevenly words are spread."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from matplotlib.patches import Rectangle

from minilm.plots.picture import ACCENT, GREY, INK, QUIET, Picture, new_picture, quiet_axes

FRESH = "#d6e6f7"  # what the last merge has made
NAMED_RANKS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)


def plot_merges(rows: Sequence[Sequence[bytes]]) -> Picture:
    """How the tokens of one piece grow: a row for each step, a box for each token, as wide as it has bytes.

    The first row is the piece before any merge. What a step has made is coloured. ValueError if two rows spell different things.
    """
    pieces = {b"".join(row) for row in rows}
    if len(pieces) != 1 or pieces == {b""}:
        raise ValueError(f"the rows spell {sorted(pieces)}: every row must spell the same bytes, at least one")
    length = len(pieces.pop())
    figure = new_picture(2 + 0.5 * length, 0.5 + 0.5 * len(rows))
    axes = figure.subplots()
    before = spans(rows[0])
    for y, row in enumerate(rows):
        for (start, end), token in zip(spans(row), row, strict=True):
            colour = "white" if (start, end) in before else FRESH
            axes.add_patch(Rectangle((start, y - 0.4), end - start, 0.8, facecolor=colour, edgecolor=QUIET))
            axes.text((start + end) / 2, y, token_label(token), ha="center", va="center", color=INK, fontsize=12)
        before = spans(row)
    names = ["bytes", *(f"step {n}" for n in range(1, len(rows)))]
    axes.set_yticks(range(len(rows)), names)
    axes.set(xlim=(-0.1, length + 0.1), ylim=(len(rows) - 0.5, -0.5), xticks=[])
    quiet_axes(axes)
    return figure


def spans(row: Sequence[bytes]) -> list[tuple[int, int]]:
    """Where each token of a row begins and ends, in bytes.

    >>> spans([b"the", b"r", b"e"])
    [(0, 3), (3, 4), (4, 5)]
    """
    ends = list(accumulate(len(token) for token in row))
    return [(end - len(token), end) for token, end in zip(row, ends, strict=True)]


def token_label(token: bytes) -> str:
    r"""A token as a picture can show it: Latin letters as they are, a blank as ␣, all else as the bytes in base 16.

    >>> token_label(" é$".encode()), token_label(b"\xc3"), token_label("🦔".encode())
    ('␣é\\$', 'C3', 'F0 9F A6 94')
    """
    text = token.decode("utf-8", errors="replace")
    if text.isprintable() and all(letter < "\u0250" for letter in text):
        return text.replace(" ", "␣").replace("$", r"\$")
    return token.hex(" ").upper()


def plot_compression(
    sizes: Sequence[int], bytes_per_token: Sequence[float], others: Mapping[str, tuple[int, float]] | None = None
) -> Picture:
    """Bytes per token against the size of the vocabulary, in doublings; higher is shorter. `others` are points with a name."""
    if not sizes or len(sizes) != len(bytes_per_token):
        raise ValueError(f"{len(sizes)} sizes and {len(bytes_per_token)} figures: give as many of both, at least one")
    figure = new_picture(7.5, 4.2)
    axes = figure.subplots()
    axes.plot(sizes, bytes_per_token, "o-", color=ACCENT, linewidth=2, label="byte-pair encoding")
    for name, (size, figure_of_it) in (others or {}).items():
        axes.plot([size], [figure_of_it], "s", color=INK)
        axes.annotate(
            f"{name} ({size})", (size, figure_of_it), (0, 8), textcoords="offset points", ha="center", color=INK
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(sizes), [str(size) for size in sizes], rotation=45)
    axes.set_xlabel("tokens in the vocabulary", color=INK, fontsize=12)
    axes.set_ylabel("bytes per token", color=INK, fontsize=12)
    axes.grid(axis="y", color=GREY, linewidth=0.5)
    axes.legend(frameon=False, fontsize=11)
    axes.margins(x=0.12, y=0.12)
    quiet_axes(axes, "bottom", "left")
    return figure


def plot_zipf(counts: Mapping[str, int]) -> Picture:
    """How often each word occurs against its rank, both in steps of ten times; a broken line shows count = first / rank."""
    ranked = sorted(((count, word) for word, count in counts.items() if count > 0), reverse=True)
    if not ranked:
        raise ValueError("nothing has been counted: give at least one word with a count above 0")
    ranks = range(1, len(ranked) + 1)
    figure = new_picture(7.5, 4.6)
    axes = figure.subplots()
    axes.loglog(ranks, [count for count, _ in ranked], "o", markersize=3, color=ACCENT, label="words")
    axes.loglog(ranks, [ranked[0][0] / rank for rank in ranks], "--", color=QUIET, label="first / rank")
    for rank in NAMED_RANKS:
        if rank <= len(ranked):
            count, word = ranked[rank - 1]
            axes.annotate(
                word.replace("$", r"\$"), (rank, count), (4, 5), textcoords="offset points", color=INK, fontsize=11
            )
    axes.set_xlabel("rank: 1 is the commonest word", color=INK, fontsize=12)
    axes.set_ylabel("how often it occurs", color=INK, fontsize=12)
    axes.legend(frameon=False, fontsize=11)
    quiet_axes(axes, "bottom", "left")
    return figure
