"""Who does a run in a folder: this process alone, or several of which one leads.

`train` asks a crew for its gradients and its clock. Around the steps there is more that only one process may do, or that all
must do together: this is it, for one alone. `distributed.Team` has the same methods.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from minilm.training.config import TrainConfig
from minilm.training.loop import Crew
from minilm.training.muon import build_optimizer
from minilm.training.optim import Optimizer


class LostProcess(RuntimeError):
    """Of several processes one has ended or does not answer. `speaks`: of those that are left, this one is to say so."""

    def __init__(self, message: str, speaks: bool) -> None:
        super().__init__(message)
        self.speaks = speaks


class RunCrew(Crew):
    """A process that does all of a run by itself."""

    leads = True  # of several, one speaks, logs and saves
    parts = False  # whether each holds only a part of the model, which then computes as a whole or not at all

    def ready(self, model: nn.Module, config: TrainConfig) -> Optimizer:
        """Make the model ready to be trained, in place, and give its optimizer."""
        return build_optimizer(model, config)

    def spread(self, optimizer: Optimizer) -> None:
        """Take over what the optimizer has loaded from a checkpoint."""

    def lead(self, work: Callable[[], Any]) -> Any:
        """What `work` gives, anything that JSON can hold. Of several processes the one that leads does it, the others wait."""
        return work()

    def score(self, evaluate: Callable[[nn.Module], Any], model: nn.Module) -> Any:
        """What `evaluate` says of the model, to all."""
        return evaluate(model)

    def answered(self) -> AbstractContextManager[None]:
        """Around what asks other processes: where one of them does not answer, LostProcess."""
        return nullcontext()

    def whole(self, model: Any, optimizer: Optimizer) -> tuple[Any, Any]:
        """Model and optimizer as `save_checkpoint` asks for them."""
        return model, optimizer


ALONE = RunCrew()
