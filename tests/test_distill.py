"""Distillation: the loss against torch's own KL divergence, its gradient by formula, and a student that learns from a teacher."""

import math

import pytest
import torch
from torch.nn import functional as F

from minilm.models.config import gpt2_config
from minilm.models.gpt import GPT
from minilm.runtime import set_seed
from minilm.training.config import TrainConfig
from minilm.training.distill import distillation_loss, distilled
from minilm.training.loop import train
from minilm.training.loss import IGNORE, cross_entropy

SHAPE = (2, 3, 5)


def logits(seed: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double) * 3


def targets(seed: int = 9) -> torch.Tensor:
    return torch.randint(SHAPE[-1], SHAPE[:-1], generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_it_is_torchs_kl_divergence_times_the_temperature_squared(temperature):
    teacher, student = logits(0), logits(1)
    wanted = F.kl_div(
        F.log_softmax(student / temperature, -1),
        F.log_softmax(teacher / temperature, -1),
        reduction="sum",
        log_target=True,
    )
    found = distillation_loss(teacher, student, targets(), temperature)
    assert math.isclose(found.item(), temperature**2 * wanted.item() / 6, rel_tol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_its_gradient_is_the_difference_of_the_probabilities(temperature):
    teacher, student, labels = logits(0), logits(1).requires_grad_(), targets()
    labels[1, 2] = IGNORE
    distillation_loss(teacher, student, labels, temperature).backward()
    gap = (student.detach() / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
    gap[1, 2] = 0
    assert (student.grad - temperature * gap / 5).abs().max() < 1e-12


def test_ignored_positions_do_not_count_whatever_stands_there():
    teacher, student, labels = logits(0), logits(1), targets()
    labels[0, 1:] = IGNORE
    rest = [distillation_loss(teacher[b, t], student[b, t], labels[b, t]) for b, t in ((0, 0), (1, 0), (1, 1), (1, 2))]
    assert torch.isclose(distillation_loss(teacher, student, labels), torch.stack(rest).mean(), rtol=1e-12)
    assert distillation_loss(teacher, student, torch.full_like(labels, IGNORE)) == 0


def test_a_teacher_that_rules_tokens_out_gives_a_finite_loss_and_gradient():
    teacher, student = logits(0), logits(1).requires_grad_()
    teacher[..., 2] = -math.inf
    loss = distillation_loss(teacher, student, targets())
    loss.backward()
    kept = [0, 1, 3, 4]
    wanted = teacher[..., kept].log_softmax(-1).exp() * (
        teacher[..., kept].log_softmax(-1) - student.log_softmax(-1)[..., kept]
    )
    assert math.isclose(loss.item(), wanted.sum(-1).mean().item(), rel_tol=1e-12) and student.grad.isfinite().all()


def test_half_precision_is_computed_in_float32():
    teacher, student = logits(0).bfloat16(), logits(1).bfloat16()
    wanted = distillation_loss(teacher.double(), student.double(), targets())
    assert abs(distillation_loss(teacher, student, targets()).double() - wanted) < 1e-5


def test_the_shares_join_both_losses_and_the_teacher_gets_no_gradient_and_keeps_its_mode():
    set_seed(0)
    config = gpt2_config(vocab_size=11, context_length=8, d_model=12, n_layers=1, n_heads=2, dropout=0.3)
    teacher, student = GPT(config).train(), GPT(config).eval()
    ids, labels = torch.randint(11, (2, 7)), torch.randint(11, (2, 7))
    found = distilled(teacher, share=0.25, temperature=2.0)(student, ids, labels)
    found.backward()
    assert teacher.training and all(weight.grad is None for weight in teacher.parameters())
    guesses = teacher.eval()(ids), student(ids)
    wanted = 0.25 * distillation_loss(*guesses, labels, 2.0) + 0.75 * cross_entropy(guesses[1], labels)
    assert torch.isclose(found, wanted)


def test_a_student_learns_what_its_teacher_holds_for_possible_and_no_label_says():
    """The text always has the token 1 after 0; the teacher also holds 2 for possible. Only distilled does the student."""
    ids = torch.tensor([[0, 1] * 8])

    def teacher(ids: torch.Tensor) -> torch.Tensor:
        after = torch.tensor([[-9.0, 1.0, 1.0], [1.0, -9.0, -9.0], [1.0, -9.0, -9.0]])
        return after[ids]

    def second_best(share: float) -> float:
        set_seed(1)
        student = GPT(gpt2_config(vocab_size=3, context_length=16, d_model=8, n_layers=1, n_heads=2))
        config = TrainConfig(steps=60, learning_rate=0.02, warmup=5, threads=1)
        train(
            student, [(ids[:, :-1], ids[:, 1:])] * 60, config, loss_function=distilled(teacher, share), progress=False
        )
        with torch.no_grad():
            return student(ids)[0, 4].softmax(-1)[2].item()

    assert second_best(0.0) < 0.05 and 0.4 < second_best(1.0) < 0.6 and 0.1 < second_best(0.5) < 0.4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": -0.1}, "from 0 to 1"),
        ({"share": math.nan}, "from 0 to 1"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": math.inf}, "above 0"),
    ],
)
def test_what_cannot_be_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        distilled(lambda ids: ids, **settings)
    with pytest.raises(ValueError, match="one vocabulary"):
        distillation_loss(logits(0), logits(1, (2, 3, 6)), targets())
