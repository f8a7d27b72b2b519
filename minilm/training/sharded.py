"""A model too large for one process: each keeps a part of every matrix, and of what the optimizer remembers (`--shard`).

torch's `fully_shard` (Zhao et al. 2023, "PyTorch FSDP") cuts each parameter by its rows. Before a block computes, its matrices
are put together from all processes, and thrown away afterwards; of their gradients each process gets the sum for its own part.
So the model, the gradients and the optimizer's memory take 1 / W of the room, for one and a half times the traffic.

What needs a whole matrix gets it, one at a time: Muon's orthogonal step, and a checkpoint, which is the usual one. Tables of
n-grams, whose gradients are sparse, are not cut.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from minilm.training.config import TrainConfig
from minilm.training.crew import RunCrew
from minilm.training.distributed import LossOfModel, Team, tables
from minilm.training.loss import LossFunction
from minilm.training.muon import build_optimizer
from minilm.training.optim import Optimizer
