"""What only a mutation showed: mistakes that the tests of a file would not have seen."""

import pytest
import torch

from minilm.byhand import agreement
from minilm.byhand.bricks import Brick
from minilm.layers.basic import Dropout


def test_a_dropout_module_drops_in_training_and_nowhere_else() -> None:
    x = torch.arange(1.0, 78.0).reshape(7, 11)
    dropout = Dropout(0.4)
    dropped = dropout(x)
    assert 0 < int((dropped == 0).sum()) < x.numel()
    torch.testing.assert_close(dropped[dropped != 0], x[dropped != 0] / 0.6)
    assert torch.equal(dropout.eval()(x), x)


def test_the_table_shows_the_worst_size_of_each_brick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that shows in one size only is not hidden by the sizes before and behind it."""

    def error_of(brick: Brick, seed: int) -> float:
        return (0.25, 0.75, 0.5)[seed]

    monkeypatch.setattr(agreement, "error_of", error_of)
    table = agreement.agreement()
    assert table and set(table.values()) == {0.75}
