"""The optimizers against torch's own, Muon also against the singular value decomposition; groups, clip and memory."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from minilm.finetuning.heads import SequenceClassifier, SpanExtractor, TokenClassifier
from minilm.finetuning.lora import add_lora
from minilm.finetuning.lora_config import LoRAConfig
from minilm.layers.basic import Embedding, LayerNorm, Linear
from minilm.models.config import GPTConfig
from minilm.models.gpt import GPT
from minilm.training.config import TrainConfig
from minilm.training.fused_adam import FusedAdamW
from minilm.training.muon import Muon, build_optimizer, muon_groups
from minilm.training.newton_schulz import orthogonalize, orthogonalize_by_gram
from minilm.training.optim import Adam, AdamW, Group, Optimizer, clip_factor, clip_grad_norm, decay_groups
from minilm.training.sgd import SGD


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


BETAS, EPS = (0.85, 0.97), 1e-6
# name -> ours and torch's, of groups whose learning rates and decays are given
TWINS: dict[str, tuple[Callable[[list[Group]], Optimizer], Callable[[list[dict]], torch.optim.Optimizer]]] = {
    "sgd": (SGD, torch.optim.SGD),
    "momentum": (lambda g: SGD(g, momentum=0.8), lambda g: torch.optim.SGD(g, momentum=0.8)),
    "nesterov": (
        lambda g: SGD(g, momentum=0.8, nesterov=True),
        lambda g: torch.optim.SGD(g, momentum=0.8, nesterov=True),
    ),
    "adam": (lambda g: Adam(g, betas=BETAS, eps=EPS), lambda g: torch.optim.Adam(g, betas=BETAS, eps=EPS)),
    "adamw": (lambda g: AdamW(g, betas=BETAS, eps=EPS), lambda g: torch.optim.AdamW(g, betas=BETAS, eps=EPS)),
    "muon": (
        lambda g: Muon([{**group, "matrices": True} for group in g], momentum=0.8),
        lambda g: torch.optim.Muon(g, momentum=0.8),
    ),
    "muon by gram": (
        lambda g: Muon([{**group, "matrices": True} for group in g], momentum=0.8, orthogonalize=orthogonalize_by_gram),
        lambda g: torch.optim.Muon(g, momentum=0.8),
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_thousand_steps_are_torchs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups; one parameter is frozen, one has a gradient in every third step only, one learning rate changes twice, and
    in the middle our memory is saved and read into a new optimizer."""
    monkeypatch.setattr(Tensor, "bfloat16", lambda self: self)  # torch's Muon would round to it
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 7), (4, 4), (2, 3), (11, 3)] if "muon" in name else [(5, 7), (3,), (2, 3), ()]
    starts = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    ours, theirs = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    settings = [{"lr": 1e-2, "weight_decay": 0.3}, {"lr": 3e-3, "weight_decay": 0.0}]

    def groups(params: list[nn.Parameter]) -> list[dict[str, Any]]:
        return [{"params": params[:2], **settings[0]}, {"params": params[2:], **settings[1]}]

    make, make_reference = TWINS[name]
    mine, reference = make(groups(ours)), make_reference(groups(theirs))
    for step in range(1000):
        if step in (300, 700):
            mine.groups[0]["lr"] = reference.param_groups[0]["lr"] = 2e-3 if step == 300 else 2e-2
        if step == 500:
            saved = safetensors.torch.load(safetensors.torch.save(mine.state_arrays()))
            mine = make(groups(ours))
            mine.groups[0]["lr"] = 2e-3
            mine.load_state_arrays(saved)
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            absent = i == 2 or (i == 3 and step % 3)
            p.grad, q.grad = (None, None) if absent else (p.detach() + noise, q.detach() + noise)
        mine.step()
        reference.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-10)
    assert torch.equal(ours[2], starts[2])
    assert all(not torch.equal(ours[i], starts[i]) for i in (0, 1, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", TWINS)
def test_half_precision_is_a_float32_run_rounded(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps too small for the half-precision weights are not lost, and all that is kept is in float32."""
    monkeypatch.setattr(Tensor, "bfloat16", lambda self: self)
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(9, 4, generator=generator).to(dtype)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.float())
    setting = {"lr": 2e-4, "weight_decay": 0.3}
    mine, reference = (make([{"params": [p], **setting}]) for make, p in zip(TWINS[name], (ours, theirs), strict=True))
    for step in range(60):
        gradient = torch.randn(9, 4, generator=generator).to(dtype) + 0.5
        if step == 30:
            saved = mine.state_arrays()
            mine = TWINS[name][0]([{"params": [ours], **setting}])
            mine.load_state_arrays(saved)
        ours.grad, theirs.grad = gradient, gradient.float()
        mine.step()
        reference.step()
    assert ours.dtype is dtype
    kept = {what: value for what, value in mine.memory["0.0"].items() if what != "step"}
    assert {value.dtype for value in kept.values()} == {torch.float32}
    torch.testing.assert_close(kept["weights"], theirs.detach(), rtol=0, atol=1e-6)
    assert torch.equal(ours, kept["weights"].to(dtype))


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
    assert optimizer.orthogonalize is orthogonalize_by_gram


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("head", [SequenceClassifier, TokenClassifier, SpanExtractor])
def test_muon_leaves_every_head_to_adamw(head: Any, adapter: bool) -> None:
    """A row for each label is no hidden matrix: of a head AdamW moves all, of the blocks Muon every matrix."""
    backbone = GPT(GPTConfig(vocab_size=13, context_length=7, d_model=12, n_layers=2, n_heads=3))
    model: Any = head.from_backbone(backbone, ("start", "end"), generator=torch.Generator())
    if adapter:
        add_lora(model, LoRAConfig(rank=2), torch.Generator())
        model.score.weight.requires_grad_(True)
        model = nn.ModuleDict({"model": model})  # as an adapted model holds it
    groups = muon_groups(model, 1e-3, 0.02, 0.1)
    names: dict[bool, set[str]] = {True: set(), False: set()}
    for group in groups:
        names[group["matrices"]] |= set(group["names"])
    score = {name for name in names[False] if name.endswith("score.weight")}
    assert len(score) == 1 and not any("score" in name for name in names[True])
    if adapter:
        assert {name.rpartition(".")[2] for name in names[True]} == {"A", "B"} and len(names[True]) == 2 * 2 * 6
    else:
        assert names[True] == {name for name, p in model.named_parameters() if "blocks" in name and p.ndim == 2}
        assert len(names[True]) == 2 * 6


@pytest.mark.parametrize(("name", "kind"), [("adamw", FusedAdamW), ("adam", Adam), ("sgd", SGD), ("muon", Muon)])
def test_the_config_names_the_optimizer(name: str, kind: type[Optimizer]) -> None:
    config = TrainConfig(
        optimizer=name,
        learning_rate=3e-3,
        weight_decay=0.2,
        momentum=0.7,
        beta1=0.8,
        beta2=0.9,
        matrix_learning_rate=0.05,
    )
    optimizer = build_optimizer(Model(), config)
    assert type(optimizer) is kind
    assert {group["weight_decay"] for group in optimizer.groups} == {0.2, 0.0}
    assert {group["lr"] for group in optimizer.groups} == ({3e-3, 0.05} if name == "muon" else {3e-3})
    if isinstance(optimizer, Adam):
        assert optimizer.betas == (0.8, 0.9)
    if isinstance(optimizer, SGD | Muon):
        assert optimizer.momentum == 0.7
    assert TrainConfig().momentum == 0.95  # what Muon has always used


@pytest.mark.parametrize("function", [orthogonalize, orthogonalize_by_gram])
@pytest.mark.parametrize("shape", [(24, 24), (40, 12), (12, 40), (23, 12), (24, 12)])
def test_orthogonalize_keeps_the_directions_and_levels_the_singular_values(
    shape: tuple[int, int], function: Callable[[Tensor], Tensor]
) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    levelled = u.mT @ function(matrix) @ vh.mT  # (R, R) in the singular basis
    off_diagonal = levelled - torch.diag(levelled.diagonal())
    assert off_diagonal.abs().max() < 1e-10
    conditioned = levelled.diagonal()[s > 0.02 * s.max()]
    assert conditioned.min() > 0.6
    assert conditioned.max() < 1.25


def newton_schulz_on_singular_values(matrix: Tensor, steps: int) -> Tensor:
    """The polynomial applied to each singular value, the directions as they are."""
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / torch.sqrt((s**2).sum())
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ vh


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(16, 16), (7, 31), (31, 7), (1, 5), (5, 1)])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_newton_schulz_acts_on_the_singular_values_alone(
    shape: tuple[int, int], steps: int, dtype: torch.dtype
) -> None:
    """Also where the singular values go from 1 down to a millionth: gradients are nearly of low rank."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    for spectrum in (s, torch.logspace(0, -6, len(s), dtype=torch.float64)):
        matrix = (u @ torch.diag(spectrum) @ vh).to(dtype)
        expected = newton_schulz_on_singular_values(matrix, steps)
        for function in (orthogonalize, orthogonalize_by_gram):
            result = function(matrix, steps)
            assert result.dtype is dtype
            atol = 1e-10 if dtype is torch.float64 else 1e-3
            torch.testing.assert_close(result.double(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("function", [orthogonalize, orthogonalize_by_gram])
def test_a_matrix_without_direction_stays_as_it_is(function: Callable[[Tensor], Tensor]) -> None:
    for shape in ((3, 3), (3, 8), (8, 3)):
        assert torch.equal(function(torch.zeros(shape)), torch.zeros(shape))


def test_half_precision_and_nearly_square_matrices_take_the_plain_way() -> None:
    """Squares of singular values do not fit into bfloat16; and of a square matrix the Gram matrix is as large."""
    matrix = torch.randn(9, 31, generator=torch.Generator().manual_seed(3)).bfloat16()
    for plain in (matrix, matrix[:, :17].float(), matrix[:, :9].float()):
        assert torch.equal(orthogonalize_by_gram(plain), orthogonalize(plain))
    assert not torch.equal(orthogonalize_by_gram(matrix.double()), orthogonalize(matrix.double()))


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
    torch.testing.assert_close(model.map.weight.detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: AdamW(decay_groups(m, 0.01)),
        lambda m: Muon(muon_groups(m, 0.01, 0.02, 0.1)),
        lambda m: Adam(decay_groups(m, 0.01)),
        lambda m: SGD(decay_groups(m, 0.01), momentum=0.9),
    ],
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


def test_the_saved_format() -> None:
    """Checkpoints of earlier versions hold these names, shapes and types: they are written and read as ever."""
    model = with_gradients(Model())
    optimizer = AdamW(decay_groups(model, 0.01))
    optimizer.step()
    optimizer.step()
    arrays = optimizer.state_arrays()
    names = [name for name, _ in model.named_parameters()]
    assert sorted(arrays) == sorted(f"{name}/{what}" for name in names for what in ("mean", "square", "step"))
    assert arrays["map.weight/step"].dtype is torch.int64
    assert torch.equal(arrays["map.weight/step"], torch.tensor(2))
    assert arrays["map.weight/mean"].shape == (9, 6)
    earlier = {"map.bias/step": torch.tensor(41), "map.bias/mean": torch.ones(9), "map.bias/square": torch.ones(9)}
    optimizer.load_state_arrays(earlier)
    p = dict(model.named_parameters())["map.bias"]
    before, g = p.detach().clone(), p.grad
    optimizer.step()
    assert g is not None
    mean, square = (0.9 + 0.1 * g) / (1 - 0.9**42), (0.99 + 0.01 * g * g) / (1 - 0.99**42)
    torch.testing.assert_close(p.detach(), before - 0.01 * mean / (square.sqrt() + 1e-8))
    assert torch.equal(optimizer.state_arrays()["map.bias/step"], torch.tensor(42))
    assert torch.equal(earlier["map.bias/mean"], torch.ones(9))  # the optimizer has its own copy


def test_memory_that_does_not_fit_is_refused() -> None:
    optimizer = AdamW(decay_groups(with_gradients(Model()), 0.01))
    optimizer.step()
    arrays = optimizer.state_arrays()
    with pytest.raises(ValueError, match="fits no parameter of this model"):
        optimizer.load_state_arrays({**arrays, "other.weight/mean": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"map.weight/mean \(6, 9\) fits no parameter"):
        optimizer.load_state_arrays({**arrays, "map.weight/mean": torch.zeros(6, 9)})
    for wrong in ({"map.weight/mean": torch.tensor(1.0)}, {"map.weight/step": torch.zeros(9, 6)}):
        with pytest.raises(ValueError, match=r"map.weight/\w+ \(.*\) fits no parameter"):
            optimizer.load_state_arrays({**arrays, **wrong})
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
    assert clip_factor(before, 1e3)[1] == clip_factor(before, norm)[1] == 1.0
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
