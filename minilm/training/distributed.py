"""Several processes train one model, started by torchrun, on one machine or more: the same run in less time.

Every process holds the whole model, reads the same batches and works on its share of their rows: process r of W on the rows
r, r + W, r + 2 W, ... of each. A loss counts by the targets that it was taken over, and torch's DistributedDataParallel adds up
the gradients, so that each process gets those that one process alone would have, and makes the same update. So neither the order
of the text nor what is learnt depends on W, but for rounding and the dropout's coins, and a run may go on with another W.

    with join(device) as team:                      # under torchrun
        train(model, batches, config, crew=team)

A share may be empty; its process then computes one row of which nothing counts, and nobody waits in vain. Where a process ends,
the calls of the others fail at once, and where one is stopped, after PATIENCE: never does one wait for ever.
"""

import contextlib
import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minilm.layers.basic import Linear
from minilm.layers.ngram_embedding import NgramEmbedding
from minilm.training.crew import LostProcess, RunCrew
from minilm.training.loop import Batch, TrainingFailed, token_shares
from minilm.training.loss import IGNORE, LossFunction

PATIENCE = 600.0  # seconds that a process waits for another within a step
LONGEST = 86_400.0  # and for what one does alone: preparing a corpus, a look at the validation text
NOTICE = 1.5  # seconds in which all that are left notice that another has ended
CHECK_EVERY = 100  # steps between two comparisons of the weights


class LossOfModel(nn.Module):
    """(inputs, targets) -> loss: the model inside its loss, so that DistributedDataParallel sees one forward pass."""

    def __init__(self, model: nn.Module, loss_function: LossFunction) -> None:
        super().__init__()
        self.model, self.loss_function = model, loss_function

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss_function(self.model, inputs, targets)


class Team(RunCrew):
    """The processes of torchrun; `join` makes one in each. The first, with rank 0, leads."""

    def __init__(self, store: dist.Store, device: torch.device, check_every: int = CHECK_EVERY) -> None:
        self.rank, self.size, self.leads = dist.get_rank(), dist.get_world_size(), dist.get_rank() == 0
        self.store, self.device, self.check_every = store, device, check_every
        self.patient = dist.new_group(backend="gloo", timeout=timedelta(seconds=LONGEST))
        self.engine: Any = None  # what computes the loss of the model that is being trained
        self.steps = 0
        DistributedDataParallel(Linear(1, 1).to(device))  # the first takes seconds: no step is to be charged with them

    def gradients(
        self, model: nn.Module, batches: Sequence[Batch], loss: LossFunction, device: torch.device, half: bool
    ) -> tuple[float, int]:
        """`accumulate_gradients` of the rows of all processes: the same loss, and gradients, in each."""
        engine = self.engine_for(model, loss)
        n_targets = sum(int((targets != IGNORE).sum()) for _, targets in batches)
        mine = [share_of(batch, self.rank, self.size) for batch in batches]
        counts = [int((targets != IGNORE).sum()) for _, targets in mine]
        shares = token_shares([*counts, n_targets - sum(counts)])  # the others' targets last
        total = 0.0
        with self.answered(), own_draws(self.rank, device):
            for number, ((inputs, targets), share) in enumerate(zip(mine, shares, strict=False), 1):
                with self.adding_up(engine, last=number == len(mine)):
                    with torch.autocast(device.type, torch.bfloat16, enabled=half):
                        part = engine(inputs.to(device), targets.to(device)) * share
                    (part * self.size).backward()  # the engine takes the mean over the processes
                total += part.item()
            for table in tables(model):
                table.grad = self.rows_of_all(table)
            return self.sum(total), n_targets

    def engine_for(self, model: nn.Module, loss_function: LossFunction) -> Any:
        """The model inside its loss, ready to add up gradients."""
        inside = None if self.engine is None else self.engine.module
        if inside is None or inside.model is not model or inside.loss_function is not loss_function:
            self.engine = None  # first make room
            inside = LossOfModel(model, loss_function)
            sparse = [name for name, p in inside.named_parameters() if any(p is table for table in tables(model))]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(inside, sparse)
            with self.answered():
                self.engine = DistributedDataParallel(inside, gradient_as_bucket_view=True)
        return self.engine

    def adding_up(self, engine: Any, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Inside, a backward pass adds up the gradients of all processes if it is the last of its step."""
        return contextlib.nullcontext() if last else engine.no_sync()

    def rows_of_all(self, table: Tensor) -> Tensor:
        """The gradient of a table of which each process has read a few rows: the mean of the sparse ones of all."""
        assert table.grad is not None
        own = table.grad.coalesce()
        rows, values = own.indices()[0], own.values() / self.size  # (N,), (N, D)
        lengths = [int(length) for length in self.of_all(torch.tensor([len(rows)], device=rows.device))]
        padding = max(lengths) - len(rows)
        all_rows = self.of_all(torch.cat([rows, rows.new_zeros(padding)]))
        all_values = self.of_all(torch.cat([values, values.new_zeros(padding, values.shape[1])]))
        rows, values = (
            torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
            for parts in (all_rows, all_values)
        )
        return torch.sparse_coo_tensor(rows[None], values, table.shape, check_invariants=False).coalesce()

    def agree(self, seconds: float, signals: list[int]) -> tuple[float, list[int]]:
        """The leader's clock, and a signal that any of them received. Now and then also: that all hold the same weights."""
        ours = [seconds if self.leads else -1.0, signals[0] if signals else 0.0]
        mine = torch.tensor(ours, dtype=torch.float64, device=self.device)
        with self.answered():
            dist.all_reduce(mine, op=dist.ReduceOp.MAX)
            self.steps += 1
            if self.steps == 1 or self.steps % self.check_every == 0:
                self.compare_weights()
        seconds, number = mine.tolist()
        return seconds, [int(number)] if number else []

    def compare_weights(self) -> None:
        """TrainingFailed if a process holds other weights than the leader: then their gradients no longer belong together."""
        own = torch.frombuffer(bytearray(fingerprint(self.copies())), dtype=torch.uint8).to(self.device)
        first, *others = self.of_all(own)
        for rank, other in enumerate(others, 1):
            if not torch.equal(first, other):
                raise TrainingFailed(f"the weights of process {rank} are no longer those of process 0")

    def copies(self) -> list[Tensor]:
        """The parameters that all hold."""
        return list(self.engine.parameters())

    def lead(self, work: Callable[[], Any]) -> Any:
        """What `work` gives in the process that leads, anything that JSON can hold."""
        value = work() if self.leads else None
        message = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor([len(message)])
        with self.answered():
            dist.broadcast(length, 0, group=self.patient)
            message = message if self.leads else torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(message, 0, group=self.patient)
        return value if self.leads else json.loads(message.numpy().tobytes())

    def score(self, evaluate: Callable[[nn.Module], Any], model: nn.Module) -> Any:
        """What `evaluate` says of the leader's model."""
        return self.lead(lambda: evaluate(model))

    def sum(self, value: float) -> float:
        """Over all processes."""
        total = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return total.item()

    def of_all(self, tensor: Tensor) -> list[Tensor]:
        """This tensor of each process, by their ranks; all of one shape."""
        gathered = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(gathered, tensor)
        return gathered

    @contextmanager
    def answered(self) -> Iterator[None]:
        """Calls to the other processes: where one of them does not answer, LostProcess."""
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            raise self.lost() from None

    def lost(self) -> LostProcess:
        """Find out who is no longer there. In that time torchrun asks those that are left to end, which can wait."""
        if threading.current_thread() is threading.main_thread():
            for name in {"SIGINT", "SIGTERM", "SIGHUP"} & set(dir(signal)):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        try:
            self.store.set(f"noticed {self.rank}", "")
            time.sleep(NOTICE)
            noticed = [rank for rank in range(self.size) if self.store.check([f"noticed {rank}"])]
            speaks = self.rank == noticed[0] and not self.store.check(["reason"])
        except RuntimeError:  # torchrun itself is gone
            noticed, speaks = [self.rank], self.leads
        gone = ", ".join(str(rank) for rank in range(self.size) if rank not in noticed) or "a connection"
        return LostProcess(f"process {gone} of {self.size} has ended or does not answer", speaks)

    def first_to_say(self) -> bool:
        """Whether nobody else has said why this training ends. From now on somebody has."""
        return int(self.store.add("reason", 1)) == 1


@contextmanager
def join(
    device: torch.device, kind: type["Team"] = Team, check_every: int = CHECK_EVERY, patience: float = PATIENCE
) -> Iterator[Team]:
    """Meet the other processes of torchrun, by what it put into the environment, and part from them at the end.

    `kind` is the team that they make: a `Team` of copies of the model, or a `sharded.ShardedTeam`, which shares it out.
    NCCL carries what lies on GPUs (one for each process of a machine), gloo the rest.
    """
    store, rank, size = next(dist.rendezvous("env://"))
    store.set(f"here {rank}", "")
    late = time.monotonic() + patience
    while missing := [other for other in range(size) if not store.check([f"here {other}"])]:
        if time.monotonic() > late:
            raise LostProcess(f"process {', '.join(map(str, missing))} of {size} did not come", speaks=rank == 0)
        time.sleep(0.02)  # and not in a call that no signal would end
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=size,
        timeout=timedelta(seconds=patience), device_id=device if cuda else None,
    )  # fmt: skip
    team = kind(store, device, check_every)
    yield team
    team.lead(lambda: None)  # what ends before the leader does is taken for dead
    dist.destroy_process_group()


def share_of(batch: Batch, rank: int, size: int) -> Batch:
    """Rows rank, rank + size, ... of inputs and targets (B, T). Where there are none: one row, with no target that counts."""
    inputs, targets = batch
    if rank < len(inputs):
        return inputs[rank::size], targets[rank::size]
    return inputs[:1], torch.full_like(targets[:1], IGNORE)


@contextmanager
def own_draws(rank: int, device: torch.device) -> Iterator[None]:
    """Inside, each process tosses its own coins (dropout); outside, all have the same, which a checkpoint keeps.

    The common generator gives one number, from which and from its rank each process seeds its own.
    """
    number = int(torch.randint(2**62, ()))
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(number + rank)
        yield


def tables(model: nn.Module) -> list[Tensor]:
    """The parameters with sparse gradients, which DistributedDataParallel cannot add up."""
    return [module.weight for module in model.modules() if isinstance(module, NgramEmbedding)]


def fingerprint(tensors: Iterable[Tensor]) -> bytes:
    """32 bytes that are others as soon as one bit of the tensors is another."""
    digest = hashlib.sha256()
    for p in tensors:
        digest.update(p.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.digest()
