"""The exercise on the power law: an oracle that solves two equations, the mistakes that people make, other solutions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minilm.checks.compare import Exercise, Mistake

# best_law(x (N,), loss (N,), floors (F,)) -> ((floor, scale, exponent), its place among the floors)

Array = np.ndarray
Found = tuple[tuple[float, float, float], int]


def two_equations(x: Array, loss: Array, floors: Array) -> Found:
    """The slope and the height where the derivatives of the weighted squares are 0, number by number."""
    rows = []
    for place, floor in enumerate(floors.tolist()):
        s = sx = sy = sxx = sxy = 0.0
        for u, value in zip(np.log(x).tolist(), loss.tolist(), strict=True):
            w, v = (1 - floor / value) ** 2, float(np.log(value - floor))
            s, sx, sy, sxx, sxy = s + w, sx + w * u, sy + w * v, sxx + w * u * u, sxy + w * u * v
        slope = (s * sxy - sx * sy) / (s * sxx - sx * sx)
        scale = float(np.exp((sy - slope * sx) / s))
        error = sum(float(np.log(b / (floor + scale * a**slope))) ** 2 for a, b in zip(x, loss, strict=True))
        rows.append((error, place, (floor, scale, -slope)))
    _, place, law = min(rows)
    return law, place


def fitting(
    weight: Callable[[Array, float], Array] = lambda loss, floor: (loss - floor) / loss,
    along: Callable[[Array], Array] = np.log,
    height: Callable[[Array, float], Array] = lambda loss, floor: np.log(loss - floor),
    back: Callable[[float], float] = np.exp,
    error: Callable[[Array, Array], float] = lambda loss, law: float(((np.log(loss) - np.log(law)) ** 2).sum()),
    better: Callable[[float, float], bool] = lambda new, old: new < old,
    sign: float = -1.0,
    lowest: bool = True,
    answer: Callable[[tuple[float, float, float], int, Array], Any] = lambda law, place, floors: (law, place),
) -> Any:
    """np.polyfit for each floor; the arguments make the mistakes. np.polyfit multiplies what it squares by its weights."""

    def best_law(x: Array, loss: Array, floors: Array) -> Any:
        best: Any = None
        for place, floor in enumerate(floors):
            slope, start = np.polyfit(along(x), height(loss, floor), 1, w=weight(loss, floor))
            law = (float(floor), float(back(start)), float(sign * slope))
            wrong = error(loss, floor * lowest + np.exp(start) * x**slope)
            if best is None or better(wrong, best[0]):
                best = wrong, law, place
        return answer(best[1], best[2], floors)

    return best_law


def unweighted(loss: Array, floor: float) -> Array:
    return np.ones(len(loss))


def weighted_line_error(x: Array, loss: Array, floors: Array) -> Found:
    """The floors compared by the weighted squares of their straight lines."""
    rows = []
    for place, floor in enumerate(floors):
        w = (loss - floor) / loss
        slope, start = np.polyfit(np.log(x), np.log(loss - floor), 1, w=w)
        wrong = ((w * (np.log(loss - floor) - start - slope * np.log(x))) ** 2).sum()
        rows.append((wrong, place, (float(floor), float(np.exp(start)), float(-slope))))
    _, place, law = min(rows)
    return law, place


def line_error(x: Array, loss: Array, floors: Array) -> Found:
    """The floors compared by the plain squares of their straight lines: the highest floor stretches them most."""
    rows = []
    for place, floor in enumerate(floors):
        slope, start = np.polyfit(np.log(x), np.log(loss - floor), 1, w=(loss - floor) / loss)
        wrong = ((np.log(loss - floor) - start - slope * np.log(x)) ** 2).sum()
        rows.append((wrong, place, (float(floor), float(np.exp(start)), float(-slope))))
    _, place, law = min(rows)
    return law, place


COMPARED = {  # other ways to say how far a law is from the losses
    "without logarithms": fitting(error=lambda loss, law: float(((loss - law) ** 2).sum())),
    "by fractions": fitting(error=lambda loss, law: float(((law / loss - 1) ** 2).sum())),
    "by sizes": fitting(error=lambda loss, law: float(np.abs(np.log(loss) - np.log(law)).sum())),
    "by the worst": fitting(error=lambda loss, law: float(np.abs(np.log(loss) - np.log(law)).max())),
}


def two_points(x: Array, loss: Array, floors: Array) -> Found:
    """A line through the first point and the last one."""
    rows = []
    for place, floor in enumerate(floors):
        y = np.log(loss - floor)
        slope = (y[-1] - y[0]) / np.log(x[-1] / x[0])
        scale = np.exp(y[0] - slope * np.log(x[0]))
        wrong = ((np.log(loss) - np.log(floor + scale * x**slope)) ** 2).sum()
        rows.append((wrong, place, (float(floor), float(scale), float(-slope))))
    _, place, law = min(rows)
    return law, place


def equations(x: Array, loss: Array, floors: Array) -> Any:
    """lstsq with both columns multiplied by the weight; the errors of all floors first."""
    laws, errors = [], []
    for floor in floors:
        w = 1 - floor / loss
        columns = np.stack([w, -w * np.log(x)], axis=1)
        (start, exponent), *_ = np.linalg.lstsq(columns, w * np.log(loss - floor), rcond=None)
        laws.append((floor, np.exp(start), exponent))
        errors.append(np.mean(np.log((floor + np.exp(start) / x**exponent) / loss) ** 2))
    return laws[int(np.argmin(errors))], int(np.argmin(errors))


def all_at_once(x: Array, loss: Array, floors: Array) -> Any:
    """A row for each floor, with weighted means; base 2."""
    w = ((loss - floors[:, None]) / loss) ** 2
    u, v = np.broadcast_to(np.log2(x), w.shape), np.log2(loss - floors[:, None])
    mean_u, mean_v = np.average(u, 1, w), np.average(v, 1, w)
    du, dv = u - mean_u[:, None], v - mean_v[:, None]
    slope = np.average(du * dv, 1, w) / np.average(du**2, 1, w)
    scale = 2 ** (mean_v - slope * mean_u)
    errors = ((np.log2(floors[:, None] + scale[:, None] * x ** slope[:, None]) - np.log2(loss)) ** 2).sum(1)
    best = errors.argmin()
    return [floors[best], scale[best], -slope[best]], best


def law_inputs(seed: int) -> list[tuple[Array, ...]]:
    """Laws with a little chance on them: without a floor; with one that is found at either end or inside; few points, many.

    Then laws with much chance, drawn until another way to compare the floors would choose another one.
    """
    rng = np.random.default_rng(seed)

    def case(n: int, floor: float, scale: float, exponent: float, floors: Any, chance: float) -> tuple[Array, ...]:
        x = np.geomspace(1, 40, n) * rng.uniform(0.8, 1.25, n)
        loss = (floor + scale * x**-exponent) * np.exp(rng.normal(0, chance, n))
        return x, loss, loss.min() * np.array(floors)

    def telling(wrong: Callable[..., Any]) -> tuple[Array, ...]:
        while True:
            found = case(5, 1.0, 4.0, 0.5, np.linspace(0.1, 0.9, 7), 0.2)
            if all_at_once(*found)[1] != wrong(*found)[1]:
                return found

    hand = np.array([1.0, 4.0, 16.0]), np.array([7.0, 4.0, 2.5])  # 1 + 6 / root of x
    return [
        (*hand, np.array([0.0, 1.0])),
        (*hand, np.array([0.0])),
        (*hand, np.array([2.0, 1.5])),
        case(4, 0.0, 5.0, 0.3, [0.0], 0.05),
        case(4, 2.0, 3.0, 0.8, [0.5], 0.02),
        case(6, 1.0, 4.0, 0.5, [0.0, 0.2, 0.5, 0.6], 0.01),
        case(7, 1.5, 6.0, 0.6, [0.3, 0.5, 0.7, 0.1], 0.01),
        case(9, 3.0, 2.0, 0.7, np.linspace(0.0, 0.95, 9), 0.02),
        *map(telling, (*COMPARED.values(), line_error, weighted_line_error)),
    ]


ROWS: tuple[tuple[str, dict[str, Any], str], ...] = (
    (
        "no weights",
        {"weight": unweighted},
        "all points count alike in your line: near the floor the logarithm stretches errors, so weigh by (loss - floor) / loss",
    ),
    (
        "weights squared for polyfit",
        {"weight": lambda loss, floor: ((loss - floor) / loss) ** 2},
        "the squares are weighted with the *square* of (loss - floor) / loss: np.polyfit squares its w itself",
    ),
    (
        "root of the weights",
        {"weight": lambda loss, floor: ((loss - floor) / loss) ** 0.5},
        "your squares have the weight (loss - floor) / loss: it is the square of that, which np.polyfit makes of its w",
    ),
    (
        "weights upside down",
        {"weight": lambda loss, floor: loss / (loss - floor)},
        "the weight is small where the loss is near the floor: yours is large there",
    ),
    (
        "weight without its loss",
        {"weight": lambda loss, floor: loss - floor},
        "the weight is a fraction of the loss, (loss - floor) / loss: the division is missing",
    ),
    (
        "x without its logarithm",
        {"along": lambda x: x},
        "a power law is straight where *both* axes are logarithmic: take log(x), too",
    ),
    (
        "the floor forgotten",
        {"height": lambda loss, floor: np.log(loss)},
        "log(loss) is curved where there is a floor: log(loss - floor) is straight",
    ),
    (
        "loss without its logarithm",
        {"height": lambda loss, floor: loss - floor},
        "take the logarithm of loss - floor: otherwise the line is no power of x",
    ),
    (
        "scale left in logarithms",
        {"back": lambda start: start},
        "where the line begins is the logarithm of the scale: go back with exp",
    ),
    (
        "scale with another base",
        {"back": lambda start: 10**start},
        "np.log is the natural logarithm: its way back is np.exp, not 10 **",
    ),
    ("slope for exponent", {"sign": 1.0}, "the line falls, so its slope is below 0; the exponent is minus the slope"),
    (
        "compared without their sizes",
        {"error": lambda loss, law: float((np.log(loss) - np.log(law)).sum())},
        "errors above and below cancel each other: square them first",
    ),
    (
        "compared without the floor",
        {"lowest": False},
        "the law is floor + scale / x ** exponent: add the floor again before you compare with the losses",
    ),
    ("the worst", {"better": lambda new, old: new > old}, "the smallest sum of squares is the best"),
    ("the first", {"better": lambda new, old: False}, "you keep the first floor, whatever the errors say: compare all"),
    ("the last", {"better": lambda new, old: True}, "you keep the last floor, whatever the errors say: compare all"),
    (
        "law only",
        {"answer": lambda law, place, floors: law},
        "two things are asked for: the law, and the place of its floor among the floors",
    ),
    (
        "place first",
        {"answer": lambda law, place, floors: (place, law)},
        "first the law, then the place",
    ),
    (
        "floor for place",
        {"answer": lambda law, place, floors: (law, law[0])},
        "the second thing is the *place* of the floor, 0 for the first, not the floor itself",
    ),
    (
        "floor last",
        {"answer": lambda law, place, floors: ((law[1], law[2], law[0]), place)},
        "a law is (floor, scale, exponent), in this order",
    ),
    (
        "exponent before scale",
        {"answer": lambda law, place, floors: ((law[0], law[2], law[1]), place)},
        "the scale comes before the exponent: (floor, scale, exponent)",
    ),
)

BEST_LAW = Exercise(
    "best_law",
    "for one floor: np.polyfit(np.log(x), np.log(loss - floor), 1, w=(loss - floor) / loss) gives slope and log(scale)",
    law_inputs,
    two_equations,
    (
        *(Mistake(name, fitting(**switches), hint) for name, switches, hint in ROWS),
        Mistake(
            "compared without logarithms",
            COMPARED["without logarithms"],
            "floors are compared by log(loss) - log(law): yours gives the large losses more to say",
        ),
        Mistake(
            "compared by fractions",
            COMPARED["by fractions"],
            "law / loss - 1 is nearly the difference of the logarithms, but not quite: take the logarithms",
        ),
        Mistake(
            "compared by sizes",
            COMPARED["by sizes"],
            "the least *squares* are asked for: square the differences before you add them up",
        ),
        Mistake(
            "compared by the worst",
            COMPARED["by the worst"],
            "the sum of all squares decides, not the worst point",
        ),
        Mistake(
            "compared on the line",
            line_error,
            "each floor stretches log(loss - floor) another way, so these errors cannot be compared: use log(loss) - log(law)",
        ),
        Mistake(
            "compared on the weighted line",
            weighted_line_error,
            "the weighted errors of the line are nearly those of log(loss), but not quite: compare log(loss) and log(law)",
        ),
        Mistake("two points", two_points, "all points have a say in the line, not only the first and the last"),
    ),
    (fitting(), equations, all_at_once),
)

EXERCISES = (BEST_LAW,)
