"""Does a device compute right? Small computations are done there and on the CPU in float64, and what differs is named.

A device may be wrong without a word: a kernel that ignores the strides of its input, a write in place that goes nowhere, a
generator that forgets its seed. A model still trains on it, only worse, and nobody knows why. So before a GPU is trusted
it is asked for what is known already.

    findings = examine(operation_cases(seed=0), torch.device("cuda"), torch.float32)
    wrong = [finding for finding in findings if finding.state == WRONG]
    print(suspects(findings))                                   # ["mul.Tensor, of strided inputs"]

What is computed: `doctor_operations.py`, `doctor_models.py` and `doctor_draws.py`. Where it runs is an argument, `run`: the
tests pass a CPU with an error planted in it. No GPU was at hand when this was written: on CUDA and MPS it has not been
run, and its tolerances for them are taken from what IEEE numbers and the makers promise.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

OK, WRONG, NOT_OFFERED = "ok", "WRONG", "not offered"
CPU = torch.device("cpu")
BOTH = (torch.float32, torch.bfloat16)
# dtype -> how far one number may be off, and how far all together, as parts of their size. A number in bfloat16 is rounded
# by up to 2^-9 of itself. Rounding errors cancel, errors of 1 % do not: so together they must be nearer.
ALLOWED = {torch.float32: (1e-5, 5e-6), torch.bfloat16: (2.0**-7, 6e-3), torch.float64: (1e-11, 1e-11)}
MOST_SUSPECTS = 5

Results = Mapping[str, Tensor]


class DeviceComputesWrong(ValueError):
    """The device gives other numbers than it should: nothing that is trained on it can be trusted."""

    exit_code = 3


@dataclass(frozen=True)
class Place:
    """Where and with which numbers a case computes. Its inputs are first rounded to `rounded`, also where it computes in a
    wider type: so that a place and its reference start from the same numbers."""

    device: torch.device
    dtype: torch.dtype
    rounded: torch.dtype

    @property
    def is_reference(self) -> bool:
        """Whether this is the place that says what is right."""
        return self.dtype is torch.float64

    @property
    def wide(self) -> torch.dtype:
        """The type of weights and optimizers: with products in bfloat16 they are in float32."""
        return torch.promote_types(self.dtype, torch.float32)

    def put(self, x: Tensor) -> Tensor:
        """A tensor of the CPU, at the place; numbers in its type, ids and masks as they are."""
        return (x.to(self.rounded).to(self.dtype) if x.is_floating_point() else x).to(self.device)


@dataclass(frozen=True)
class Case:
    """One small computation. `compute(place)` makes its inputs from its own seed and returns results by name.

    `settle` makes of these, on the CPU, what is compared; draws, which no reference can foretell, become answers to
    yes-or-no questions. `slack` multiplies what is allowed, where more is rounded than one result; `floor` is the part of
    the size of all results below which a result counts as small; `half_on` names devices on which it multiplies in bfloat16
    by design.
    """

    name: str
    what: str
    compute: Callable[[Place], Results]
    slack: float = 1.0
    floor: float = 0.0
    dtypes: tuple[torch.dtype, ...] = BOTH
    half_on: tuple[str, ...] = ()
    training: bool = True  # matters to training: part of the short form
    settle: Callable[[Results], Results] = dict


@dataclass(frozen=True)
class Finding:
    """What came out: `error` is the part by which the worst result, `where`, is off, alone or all together, whichever comes
    nearer to what is `allowed` of it or goes farther beyond; `why` the device's own words."""

    case: Case
    device: torch.device
    dtype: torch.dtype
    state: str
    error: float = 0.0
    allowed: float = 0.0
    where: str = ""
    why: str = ""


Run = Callable[[Case, Place], Results]


def run_there(case: Case, place: Place) -> Results:
    """Compute a case at its place and bring the results to the CPU."""
    return {name: result.detach().cpu() for name, result in case.compute(place).items()}


def examine(cases: Iterable[Case], device: torch.device, dtype: torch.dtype, run: Run = run_there) -> list[Finding]:
    """A finding for each case that knows this dtype, in their order."""
    return [judge(case, device, dtype, run) for case in cases if dtype in case.dtypes]


def judge(case: Case, device: torch.device, dtype: torch.dtype, run: Run = run_there) -> Finding:
    """Compute a case on the device and on the CPU in float64, and compare. What the device refuses to do is not offered."""
    want = case.settle(run_there(case, Place(CPU, torch.float64, dtype)))
    try:
        got = case.settle(run(case, Place(device, dtype, dtype)))
    except (RuntimeError, TypeError) as error:  # torch has no class of its own for "not here"
        return Finding(case, device, dtype, NOT_OFFERED, why=first_line(error))
    bounds = ALLOWED[torch.bfloat16 if device.type in case.half_on else dtype]
    single, together = case.slack * bounds[0], max(1.0, case.slack / 8) * bounds[1]
    floor = case.floor * overall_size(want.values()) if case.floor else 0.0
    worst = Finding(case, device, dtype, OK, allowed=single)
    for name, right in want.items():
        off = wrong_by(got[name], right, floor) if name in got else (math.inf, math.inf)
        largest, allowed = max(zip(off, (single, together), strict=True), key=lambda pair: pair[0] / pair[1])
        if largest / allowed > worst.error / worst.allowed:
            state = OK if largest <= allowed else WRONG
            worst = replace(worst, state=state, error=largest, allowed=allowed, where=name)
    return worst


def wrong_by(got: Tensor, want: Tensor, floor: float = 0.0) -> tuple[float, float]:
    """How far `got` is from `want`: the worst number alone, and all together, as parts of their size.

    The size of a number is its own and the typical one of its tensor, at least `floor`; for all together it is the part
    (got - want) · want / want · want, which is 0.01 where all are 1 % too large, and near 0 where errors are those of
    rounding. Infinite for another shape, and where a number is not finite that should be, or the other way round. Of ids
    and masks it is the part that differs.

    >>> wrong_by(torch.tensor([1.01, 2.02]), torch.tensor([1.0, 2.0]))[1]
    0.01
    """
    if got.shape != want.shape:
        return math.inf, math.inf
    if not want.is_floating_point():
        return float((got != want).double().mean()) if want.numel() else 0.0, 0.0
    got, want = got.double(), want.double()
    off = got - want
    if not bool(off.isfinite().all()):
        finite = want.isfinite()
        if not (torch.equal(got.isfinite(), finite) and torch.equal(got[~finite], want[~finite])):
            return math.inf, math.inf
        off, want = off[finite], want[finite]
    if not bool(off.any()):
        return 0.0, 0.0
    size = max(float(want.square().mean().sqrt()), floor)
    systematic = abs(float((off * want).mean())) / max(size**2, 1e-300)
    parts = torch.where(off == 0, 0.0, off.abs() / (want.abs() + size))
    return float(parts.max()), systematic


def overall_size(results: Iterable[Tensor]) -> float:
    """The root mean square of all finite numbers of the results; 0 where there are none."""
    numbers = [x.double()[x.isfinite()] for x in results if x.is_floating_point()]
    squares, count = sum(float(x.square().sum()) for x in numbers), sum(len(x) for x in numbers)
    return math.sqrt(squares / count) if count else 0.0


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ---- which operation is it? One that is wrong is in every case that fails, and in no case that is right.

Call = tuple[str, str, str]  # an operation of torch, the type of its numbers, and how they lie in memory


class Recorder(TorchDispatchMode):
    """Writes down which operations of torch run inside, also on the way back. One that torch makes up of others (a chunk is
    made up of slices) is none: in inference mode it arrives whole, and is taken apart here."""

    def __init__(self, seen: set[Call]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = list(tensors([*args, *(kwargs or {}).values()]))
        if torch.is_inference_mode_enabled() or any(x.is_inference() for x in inputs):
            with self:
                made_up = func.decompose(*args, **(kwargs or {}))
            if made_up is not NotImplemented:
                return made_up
        given = [x for x in inputs if x.layout is torch.strided]
        lie = "contiguous" if all(x.is_contiguous() for x in given) else "strided"
        types = sorted({str(x.dtype).removeprefix("torch.") for x in given if x.is_floating_point()})
        self.seen.add((str(func).removeprefix("aten."), "+".join(types), lie))
        return func(*args, **(kwargs or {}))


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors among some values, and in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


def calls(case: Case, place: Place, run: Run = run_there) -> set[Call]:
    """The operations that a case consists of. What fails on the way is not among them."""
    seen: set[Call] = set()

    def compute(place: Place) -> Results:
        with Recorder(seen):
            return case.compute(place)

    try:
        run(replace(case, compute=compute), place)
    except (RuntimeError, TypeError):
        return set()
    return seen


def suspects(findings: Sequence[Finding], run: Run = run_there) -> list[str]:
    """The operations of torch that explain best what is wrong, at most five; none where nothing is."""
    if all(finding.state != WRONG for finding in findings):
        return []
    places = (Place(finding.device, finding.dtype, finding.dtype) for finding in findings)
    return rank(findings, [calls(finding.case, place, run) for finding, place in zip(findings, places, strict=True)])


def rank(findings: Sequence[Finding], seen: Sequence[set[Call]]) -> list[str]:
    """`suspects`, given the calls of each finding.

    A call is the more suspect, the more of the failing cases contain it and the fewer of those that are right. Its score is
    failing / sqrt(all failing · (failing + right)): 1 if it is in just the cases that fail (Ochiai 1957; for programs
    Abreu et al. 2007). A call is an operation, the type of its numbers, and whether they lie strided in memory: so a
    kernel that is wrong for strided inputs alone is told apart from itself.
    """
    counts: dict[Call, list[int]] = {}
    n_wrong = sum(finding.state == WRONG for finding in findings)
    for finding, contained in zip(findings, seen, strict=True):
        for call in contained if finding.state != NOT_OFFERED else ():
            counts.setdefault(call, [0, 0])[finding.state == WRONG] += 1
    scores = {call: wrong / math.sqrt(n_wrong * (wrong + right)) for call, (right, wrong) in counts.items() if wrong}
    found: dict[str, list[Call]] = {}
    for call in sorted(scores, key=lambda call: (-scores[call], not call[1])):  # of equals first what has numbers
        found.setdefault(call[0], []).append(call)
    return [in_words(operation, found[operation], counts) for operation in list(found)[:MOST_SUSPECTS]]


def in_words(operation: str, guilty: Sequence[Call], counts: Mapping[Call, Sequence[int]]) -> str:
    """An operation, and when it is wrong, if other calls of it are right."""
    cleared = {call for call, (right, wrong) in counts.items() if call[0] == operation and right and not wrong}
    words = operation
    if {call[1] for call in cleared} - {call[1] for call in guilty}:
        words += f" in {guilty[0][1]}" if guilty[0][1] else " of whole numbers"
    if {call[2] for call in cleared} - {call[2] for call in guilty}:
        words += f" of {guilty[0][2]} inputs"
    return words
