"""A model too large for one process: each keeps a part of every matrix, and of what the optimizer remembers (`--shard`).

torch's `fully_shard` (Zhao et al. 2023, "PyTorch FSDP") cuts each parameter by its rows. Before a block computes, its matrices
are put together from all processes, and afterwards thrown away; of their gradients each process gets the sum for its own part.
So model, gradients and the optimizer's memory take 1 / W of the room, for one and a half times the traffic.

What needs a whole matrix gets it, one at a time: Muon's orthogonal step, and a checkpoint, which is the usual one. Tables of
n-grams, whose gradients are sparse, stay whole.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from minilm.training.config import TrainConfig
from minilm.training.distributed import LossOfModel, Team, tables
from minilm.training.loss import LossFunction
from minilm.training.muon import Muon, build_optimizer
from minilm.training.optim import Optimizer


class ShardedTeam(Team):
    """A `Team` each of whose processes holds a part of the model. The model must have `blocks`."""

    parts = True

    def ready(self, model: nn.Module, config: TrainConfig) -> Optimizer:
        """Cut the model, in place, block by block, and then what is left of it. All must have built the same.

        ValueError for a torch that cannot leave out tables.
        """
        if "ignored_params" not in inspect.signature(fully_shard).parameters:
            raise ValueError(f"--shard needs torch 2.7 or newer, this is {torch.__version__}")
        mesh, whole = init_device_mesh(self.device.type, (self.size,)), set(tables(model))
        for part in (*model.blocks, model):  # type: ignore[misc]
            fully_shard(part, mesh=mesh, ignored_params=whole)  # type: ignore[arg-type]
        optimizer = build_optimizer(model, config)
        if isinstance(optimizer, Muon):
            optimizer.orthogonalize = of_whole_matrices(optimizer.orthogonalize)
        return optimizer

    def spread(self, optimizer: Optimizer) -> None:
        """Cut what the optimizer has loaded as its parameters are cut."""
        for group in optimizer.groups:
            for name, p in zip(group["names"], group["params"], strict=True):
                for what, value in optimizer.memory.get(name, {}).items():
                    if isinstance(value, Tensor) and isinstance(p, DTensor):
                        optimizer.memory[name][what] = part_of(value, p)

    def engine_for(self, model: nn.Module, loss_function: LossFunction) -> Any:
        """The model inside its loss; what `fully_shard` has put into it adds up the gradients."""
        if self.engine is None:
            self.engine = LossOfModel(model, loss_function)
        return self.engine

    @contextmanager
    def adding_up(self, engine: Any, last: bool) -> Iterator[None]:
        """Inside, a backward pass adds up the gradients of all processes if it is the last of its step."""
        engine.model.set_requires_gradient_sync(last)
        yield

    def copies(self) -> list[Tensor]:
        """The parameters that all hold."""
        return tables(self.engine.model)

    def score(self, evaluate: Callable[[nn.Module], Any], model: nn.Module) -> Any:
        """What `evaluate` says, to all alike: the model computes only where all take part."""
        with self.answered():
            return evaluate(model)

    def whole(self, model: Any, optimizer: Optimizer) -> tuple[Any, Any]:
        """Model and optimizer put together, one array after the other, in the process that leads; the others keep nothing."""
        weights, memory = self.gathered(model.arrays()), self.gathered(optimizer.state_arrays())
        described = SimpleNamespace(kind=model.kind, config=model.config, arrays=lambda: weights)
        return described, SimpleNamespace(state_arrays=lambda: memory)

    def gathered(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        """The whole arrays, on the leader's CPU."""
        kept = {}
        with self.answered():
            for name, array in arrays.items():
                whole = array.full_tensor() if isinstance(array, DTensor) else array
                if self.leads:
                    kept[name] = whole.detach().cpu()
        return kept


def part_of(whole: Tensor, like: DTensor) -> DTensor:
    """This process's part of a tensor that all hold, cut as `like` is."""
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)


def of_whole_matrices(orthogonalize: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`orthogonalize` for matrices that are cut: singular vectors are those of the whole. Each process computes all of it."""

    def of_parts(matrix: Tensor) -> Tensor:
        if not isinstance(matrix, DTensor):
            return orthogonalize(matrix)
        return part_of(orthogonalize(matrix.full_tensor()), matrix)

    return of_parts
