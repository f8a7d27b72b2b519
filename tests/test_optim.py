"""AdamW against torch's own, Muon against the singular value decomposition, and the groups, the clip and the memory."""

import math

import pytest
import torch
from torch import Tensor, nn

from minilm.layers.basic import Embedding, LayerNorm, Linear
from minilm.training.config import TrainConfig
from minilm.training.muon import Muon, build_optimizer, muon_groups, orthogonalize
from minilm.training.optim import AdamW, Optimizer, clip_grad_norm, decay_groups


class Model(nn.Module):
    """Every kind of parameter once: tables, a map, a head, vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = Embedding(11, 6)
        self.map = Linear(6, 9)
        self.norm = LayerNorm(9)
        self.lm_head = Linear(9, 11, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.lm_head(self.norm(self.map(self.embedding(ids))))


def with_gradients(model: Model, seed: int = 0) -> Model:
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)
    return model


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_adamw_is_torchs_over_a_thousand_steps() -> None:
    """Two groups, a parameter that has no gradient for three steps, a learning rate that changes on the way."""
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((5, 7), (3,))]
    ours, theirs = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    betas, eps = (0.85, 0.97), 1e-6
    mine = AdamW(
        [{"params": ours[:1], "weight_decay": 0.3}, {"params": ours[1:], "lr": 3e-3}], lr=1e-2, betas=betas, eps=eps
    )
    reference = torch.optim.AdamW(
        [{"params": theirs[:1], "weight_decay": 0.3}, {"params": theirs[1:], "lr": 3e-3, "weight_decay": 0.0}],
        lr=1e-2, betas=betas, eps=eps,
    )  # fmt: skip
    for step in range(1000):
        if step == 400:
            mine.groups[0]["lr"] = reference.param_groups[0]["lr"] = 2e-3
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            frozen = i == 1 and 10 <= step < 13
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.grad, q.grad = (None, None) if frozen else (p.detach() + noise, q.detach() + noise)
        mine.step()
        reference.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-10)
    assert mine.memory["1.0"]["step"].item() == 997


def test_the_first_step_moves_every_weight_by_lr() -> None:
    p = nn.Parameter(torch.zeros(4, 3, dtype=torch.float64))
    p.grad = torch.tensor([[1e-3, -5.0, 2.0]] * 4, dtype=torch.float64)
    AdamW([p], lr=0.1).step()
    torch.testing.assert_close(p.detach(), -0.1 * p.grad.sign(), rtol=0, atol=1e-5)


def test_without_learning_rate_nothing_moves_and_without_gradient_only_matrices_decay() -> None:
    model = Model()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = AdamW(decay_groups(model, lr=0.0, weight_decay=0.5))
    with_gradients(model)
    optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    optimizer = AdamW(decay_groups(model, lr=0.1, weight_decay=0.5))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"embedding.weight", "map.weight", "lm_head.weight"}
    for name in changed:
        torch.testing.assert_close(dict(model.named_parameters())[name].detach(), before[name] * 0.95)


def test_groups_hold_each_trainable_parameter_once() -> None:
    model = Model()
    model.lm_head.weight = model.embedding.weight = nn.Parameter(torch.randn(11, 9))  # tied: one parameter
    model.map.weight.requires_grad_(False)
    for groups in (decay_groups(model), muon_groups(model, 1e-3, 2e-2, 0.1)):
        ids = [id(p) for group in groups for p in group["params"]]
        assert sorted(ids) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_muon_takes_the_maps_and_adamw_the_rest() -> None:
    optimizer = build_optimizer(Model(), TrainConfig(optimizer="muon", learning_rate=1e-3, matrix_learning_rate=0.05))
    assert isinstance(optimizer, Muon)
    rule = {
        name: (bool(group["matrices"]), group["base_lr"], group["weight_decay"])
        for group in optimizer.groups
        for name in group["names"]
    }
    assert rule == {
        "map.weight": (True, 0.05, 0.1),
        "embedding.weight": (False, 1e-3, 0.1),
        "lm_head.weight": (False, 1e-3, 0.1),
        "map.bias": (False, 1e-3, 0.0),
        "norm.weight": (False, 1e-3, 0.0),
        "norm.bias": (False, 1e-3, 0.0),
    }
    assert type(build_optimizer(Model(), TrainConfig())) is AdamW


@pytest.mark.parametrize("shape", [(24, 24), (40, 12), (12, 40)])
def test_orthogonalize_keeps_the_directions_and_levels_the_singular_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    levelled = u.mT @ orthogonalize(matrix) @ vh.mT  # (R, R) in the singular basis
    off_diagonal = levelled - torch.diag(levelled.diagonal())
    assert off_diagonal.abs().max() < 1e-10
    conditioned = levelled.diagonal()[s > 0.02 * s.max()]
    assert conditioned.min() > 0.6
    assert conditioned.max() < 1.25


def test_two_muon_steps_by_hand() -> None:
    """With momentum 0.9 and gradients g, h: the mean is 0.1 g, then 0.09 g + 0.1 h; Nesterov looks one step further."""
    model = Model().double()
    expected = model.map.weight.detach().clone()
    optimizer = Muon(muon_groups(model, lr=1e-3, matrix_lr=0.2, weight_decay=0.5), momentum=0.9)
    with_gradients(model, seed=2)
    g = gradients(model)[1]
    optimizer.step()
    with_gradients(model, seed=3)
    h = gradients(model)[1]
    optimizer.step()
    assert g.shape == h.shape == (9, 6)
    for direction in (0.1 * g + 0.9 * 0.1 * g, 0.1 * h + 0.9 * (0.09 * g + 0.1 * h)):
        expected = expected * (1 - 0.2 * 0.5) - 0.2 * math.sqrt(9 / 6) * orthogonalize(direction)
    torch.testing.assert_close(model.map.weight.detach(), expected, rtol=0, atol=1e-5)  # orthogonalize adds 1e-7 to |g|


@pytest.mark.parametrize(
    "make", [lambda m: AdamW(decay_groups(m, 0.01)), lambda m: Muon(muon_groups(m, 0.01, 0.02, 0.1))]
)
def test_saved_memory_continues_bit_for_bit(make: object) -> None:
    models, optimizers = [], []
    for _ in range(2):
        torch.manual_seed(4)
        models.append(Model())
        optimizers.append(make(models[-1]))  # type: ignore[operator]
    for seed in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            with_gradients(model, seed)
            optimizer.step()
    fresh: Optimizer = make(models[1])  # type: ignore[operator]
    fresh.load_state_arrays(optimizers[1].state_arrays())
    optimizers[1] = fresh
    for seed in range(3, 6):
        for model, optimizer in zip(models, optimizers, strict=True):
            with_gradients(model, seed)
            optimizer.step()
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(p, q)


def test_memory_that_does_not_fit_is_refused() -> None:
    optimizer = AdamW(decay_groups(with_gradients(Model()), 0.01))
    optimizer.step()
    arrays = optimizer.state_arrays()
    with pytest.raises(ValueError, match="fits no parameter of this model"):
        optimizer.load_state_arrays({**arrays, "other.weight/mean": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"map.weight/mean \(6, 9\) fits no parameter"):
        optimizer.load_state_arrays({**arrays, "map.weight/mean": torch.zeros(6, 9)})
    with pytest.raises(ValueError, match="no parameters: unfreeze"):
        AdamW([])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zero_gradients_stay_finite_and_small_steps_add_up(dtype: torch.dtype) -> None:
    p = nn.Parameter(torch.ones(3, 5, dtype=dtype))
    optimizer = AdamW([p], lr=1e-4)
    for _ in range(3):
        p.grad = torch.zeros_like(p)
        optimizer.step()
    assert torch.equal(p, torch.ones_like(p))
    for _ in range(100):  # each step is far below the spacing of bfloat16 at 1, which is 0.008
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert ((p.float() - 0.99).abs() < 0.006).all()
    assert optimizer.memory["0.0"]["mean"].dtype == torch.float32


def test_zero_grad() -> None:
    model = with_gradients(Model())
    AdamW(decay_groups(model)).zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_clip_leaves_short_gradients_bit_for_bit() -> None:
    model = with_gradients(Model())
    before = gradients(model)
    norm = clip_grad_norm(model.parameters(), 1e3)
    assert norm == pytest.approx(math.sqrt(sum(float((g.double() ** 2).sum()) for g in before)), rel=1e-6)
    clip_grad_norm(model.parameters(), norm)  # exactly as long as allowed
    assert all(torch.equal(g, h) for g, h in zip(gradients(model), before, strict=True))


def test_clip_shortens_all_by_one_factor() -> None:
    model = with_gradients(Model().double())
    model.map.weight.grad = None
    twin = with_gradients(Model().double())
    twin.map.weight.grad = None
    norm = clip_grad_norm(model.parameters(), 0.5)
    assert norm == pytest.approx(nn.utils.clip_grad_norm_(twin.parameters(), 0.5).item(), rel=1e-12)
    for ours, theirs in zip(gradients(model), gradients(twin), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)  # torch divides by norm + 1e-6
    assert clip_grad_norm(model.parameters(), 1.0) == pytest.approx(0.5, rel=1e-12)
    assert clip_grad_norm([], 1.0) == 0.0
