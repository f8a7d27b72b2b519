"""The least time of a decoding step: either the memory hands over the weights, or the processor does the sums, and the slower
of the two decides. Williams, Waterman and Patterson (2009) call the two limits a roofline. Plain arithmetic, no torch."""

SCALE_BYTES = 4  # of a float32 scale
FLOPS = 2  # of a weight for each text: a product and a sum


def step_seconds(
    n_weights: int, bits: float, group: int | None, cache_bytes: float, batch: int, bandwidth: float, speed: float
) -> float:
    """The least seconds in which `batch` texts get one more token each, by a model with n_weights numbers in its matrices.

    All weights are read once for all texts: `bits` each, and a float32 scale for every `group` of them (None: no scales).
    Of every text its keys and values are read, cache_bytes. Every text needs a product and a sum with each weight.
    `bandwidth` is in bytes a second, `speed` in products and sums (FLOPs) a second.

    >>> step_seconds(1_000_000, 8, 64, 0, 1, bandwidth=1e9, speed=1e12)
    0.0010625
    """
    weight_bytes = n_weights * bits / 8 + (0 if group is None else n_weights / group * SCALE_BYTES)
    reading = (weight_bytes + batch * cache_bytes) / bandwidth
    computing = FLOPS * n_weights * batch / speed
    return max(reading, computing)
