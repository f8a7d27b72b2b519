"""The least time of a decoding step: by hand, and by what each limit alone would say."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minilm.decoding.quantize import quantize, stored_bytes, to_bfloat16, to_int8
from minilm.layers.basic import Linear
from minilm.models.roofline import step_seconds


@pytest.mark.parametrize(
    ("arguments", "seconds"),
    [
        ((1000, 32, None, 0, 1, 1e3, 1e9), 4.0),  # 4,000 bytes at 1,000 a second
        ((1024, 8, 64, 0, 1, 1e3, 1e9), 1.088),  # and 16 scales of 4 bytes
        ((1024, 4, 32, 100, 3, 1e3, 1e9), 0.94),  # 512 + 32 * 4 + 3 * 100 bytes
        ((1000, 8, None, 0, 7, 1e9, 1e3), 14.0),  # 2 * 1,000 * 7 products and sums at 1,000 a second
    ],
)
def test_by_hand(arguments, seconds):
    assert step_seconds(*arguments) == pytest.approx(seconds, rel=1e-12)


@given(batch=st.integers(1, 300), cache=st.integers(0, 10**7), bits=st.sampled_from([2, 4, 8, 16, 32]))
def test_the_slower_of_the_two_decides(batch, cache, bits):
    never = 1e30  # a processor, or a memory, that takes no time
    both, reading, computing = (
        step_seconds(50_000, bits, 50, cache, batch, *limits) for limits in ((1e8, 3e9), (1e8, never), (never, 3e9))
    )
    assert both == max(reading, computing) and computing == pytest.approx(batch * 1e5 / 3e9)
    assert reading == pytest.approx((50_000 * (bits / 8 + 0.08) + batch * cache) / 1e8)


@pytest.mark.parametrize(("rounding", "bits", "group"), [(to_bfloat16, 16, None), (to_int8, 8, 64)])
def test_its_bytes_are_those_of_a_rounded_model(rounding, bits, group):
    linear = Linear(192, 80, bias=False)
    model = quantize(torch.nn.ModuleList([linear]), rounding)
    assert step_seconds(192 * 80, bits, group, 0, 1, 1.0, 1e30) == stored_bytes(model)
