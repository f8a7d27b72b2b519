"""Backpropagation that derives itself: every number remembers which numbers it was made of, and how it moves with each.

    >>> x = Value(3.0)
    >>> y = x * x + 2 * x
    >>> y.backward()
    >>> x.grad  # dy/dx = 2 x + 2
    8.0

This is what torch does with tensors, done with single numbers: slow, and short enough to see it whole.
"""

import math


class Value:
    """A number, `data`, with its place in a computation.

    `edges` holds, for each number it was made of, that number and the slope: how much this one grows if that one grows by
    a little. An operation only has to know its own slopes. `backward` joins them by the chain rule.
    """

    def __init__(self, data: float, edges: "tuple[tuple[Value, float], ...]" = ()) -> None:
        self.data, self.edges, self.grad = float(data), edges, 0.0

    def backward(self) -> None:
        """Add to the `grad` of every number x that this one, L, was made of: dL/dx.

        The chain rule: dL/dx is the sum, over all u made of x, of dL/du · slope of u in x. So all users of x must be done
        before x is (topological order), and a number that is used twice gets two parts.
        """
        flow = {self: 1.0}  # dL/du as far as it is known
        for u in in_order(self):
            u.grad += flow[u]
            for x, slope in u.edges:
                flow[x] = flow.get(x, 0.0) + flow[u] * slope

    def __add__(self, other: "Value | float") -> "Value":
        other = value(other)
        return Value(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other: "Value | float") -> "Value":
        other = value(other)
        return Value(self.data * other.data, ((self, other.data), (other, self.data)))

    def __neg__(self) -> "Value":
        return Value(-self.data, ((self, -1.0),))

    def __sub__(self, other: "Value | float") -> "Value":
        other = value(other)
        return Value(self.data - other.data, ((self, 1.0), (other, -1.0)))

    def __truediv__(self, other: "Value | float") -> "Value":
        """(a / b)' is 1 / b in a, and -a / b² in b."""
        other = value(other)
        out = self.data / other.data
        return Value(out, ((self, 1.0 / other.data), (other, -out / other.data)))

    def __pow__(self, n: float) -> "Value":
        """(x^n)' = n x^(n - 1), for a constant n. ValueError where the power is no real number."""
        if not isinstance(n, int | float):
            raise ValueError(f"the exponent must be a plain number, got {n!r}: write a ** b as (a.log() * b).exp()")
        out = self.data**n
        if isinstance(out, complex):
            raise ValueError(f"{self.data} ** {n} is no real number: a negative base needs a whole exponent")
        if self.data == 0 and 0 < n < 1:
            raise ValueError(f"0 ** {n} has no finite slope: move the base away from 0")
        return Value(out, ((self, n * self.data ** (n - 1) if n else 0.0),))

    def __radd__(self, other: float) -> "Value":
        return self + other

    def __rmul__(self, other: float) -> "Value":
        return self * other

    def __rsub__(self, other: float) -> "Value":
        return value(other) - self

    def __rtruediv__(self, other: float) -> "Value":
        return value(other) / self

    def exp(self) -> "Value":
        """e^x, which is its own slope."""
        out = math.exp(self.data)
        return Value(out, ((self, out),))

    def log(self) -> "Value":
        """The natural logarithm, with slope 1 / x. ValueError for a number that is not above 0."""
        if not self.data > 0:
            raise ValueError(f"the logarithm of {self.data} is not defined: it needs a number above 0")
        return Value(math.log(self.data), ((self, 1.0 / self.data),))

    def tanh(self) -> "Value":
        """tanh' = 1 - tanh²."""
        out = math.tanh(self.data)
        return Value(out, ((self, 1.0 - out * out),))

    def relu(self) -> "Value":
        """max(x, 0). At 0, where left and right differ, the slope counts as 0."""
        return Value(max(self.data, 0.0), ((self, 1.0 if self.data > 0 else 0.0),))

    def __repr__(self) -> str:
        return f"Value({self.data}, grad={self.grad})"


def value(x: Value | float) -> Value:
    """x itself, or a constant made of it."""
    return x if isinstance(x, Value) else Value(x)


def in_order(last: Value) -> list[Value]:
    """`last` and all it was made of, each behind all of its users.

    Going down first and noting a number when all below it has been noted puts users last; reversed, they come first. The
    list of places still to go is kept by hand, because a long computation is deeper than Python's own stack.
    """
    noted: list[Value] = []
    seen, path = {last}, [(last, iter(last.edges))]
    while path:
        u, below = path[-1]
        x = next((x for x, _ in below if x not in seen), None)
        if x is None:
            noted.append(u)
            path.pop()
        else:
            seen.add(x)
            path.append((x, iter(x.edges)))
    return noted[::-1]
