"""y = x w^T for few rows of x, as in decoding: bound by memory, which torch's kernels use to a half. Same function, faster.

One C++ file, `matvec.cpp`, is built with the system's compiler at first use and kept in MINILM_HOME under a name that
depends on its text, the flags and the machine. Where there is no compiler, torch multiplies, and `why_not()` says why.
The same file has a whole step of a GPT, for `minilm.fast.step`.

    model = use_matvec(model)                                   # float32
    model = quantize(model, to_int8, product=matvec.product)    # minilm.decoding.quantize
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from minilm.layers.basic import Linear
from minilm.runtime import minilm_home, multiplies_bfloat16, whole_file

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-fopenmp")
COMPILERS = ("g++", "clang++", "c++")
TYPES = (torch.float32, torch.bfloat16, torch.int8)  # of the weights; x and y are float32
MOST_ROWS = 64  # beyond it a product computes more than it reads, and is left to torch
OTHER_WEIGHTS = 2**24  # numbers, 64 MB: when they have been read, no matrix is in the cache, as between two tokens
SECONDS_LIMIT = 300  # of building, which takes two on a machine with nothing else to do


class NoKernel(Exception):
    """The C++ file could not be built or loaded here; the message says why."""


class Fields(ctypes.Structure):
    """A matrix as `matvec.cpp` knows it: addresses and sizes. Whoever makes one keeps the arrays alive."""

    _fields_ = (
        *[(name, ctypes.c_void_p) for name in ("numbers", "scales", "bias")],
        *[(name, ctypes.c_long) for name in ("n_in", "n_out", "group", "bytes")],
    )

    @classmethod
    def of(cls, numbers: Tensor, scales: Tensor | None, bias: Tensor | None) -> "Fields":
        n_out, n_in = numbers.shape
        group = n_in if scales is None else -(-n_in // scales.shape[1])
        return cls(numbers.data_ptr(), address(scales), address(bias), n_in, n_out, group, numbers.itemsize)


def address(array: Tensor | None) -> int | None:
    return None if array is None else array.data_ptr()


def build() -> Path:
    """Compile `matvec.cpp`, if that has not been done, and return the library. Raises NoKernel.

    It is linked without a runtime of OpenMP: torch has one, and a second would have threads of its own, in the way of torch's.
    """
    compiler = next((found for name in compilers() if (found := shutil.which(name))), None)
    if compiler is None:
        raise NoKernel(f"no compiler: none of {', '.join(compilers())} is installed")
    text = SOURCE.read_bytes()
    machine = f"{compiler} {FLAGS} {platform.machine()} {processor()}"
    name = hashlib.sha256(text + machine.encode()).hexdigest()[:16]
    library = minilm_home() / "build" / f"matvec-{name}.so"
    if not library.exists():
        try:
            library.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(library) as unfinished:
                part = unfinished.with_suffix(".o")
                try:
                    run([compiler, *FLAGS, "-c", str(SOURCE), "-o", str(part)])
                    run([compiler, "-shared", str(part), "-o", str(unfinished)])
                finally:
                    part.unlink(missing_ok=True)
        except OSError as error:
            raise NoKernel(f"the library could not be written: {error}") from None
    return library


def compilers() -> tuple[str, ...]:
    """The names to look for: $CXX alone if it is set."""
    return (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS


def processor() -> str:
    """What -march=native depends on: the instructions of this processor, where the system lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return platform.processor()


def run(command: list[str]) -> None:
    """Run a compiler; NoKernel with the first line of its complaint."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoKernel(f"{command[0]} could not be run: {error}") from None
    if done.returncode:
        raise NoKernel(f"{command[0]} failed: {(done.stderr.strip() or 'no message').splitlines()[0]}")


@functools.cache
def kernels() -> ctypes.CDLL | str:
    """The library with `product` and `step`, built at the first call; a sentence where there is none."""
    try:
        library = ctypes.CDLL(str(build()))
        library.product.argtypes = [*[ctypes.c_void_p] * 3, ctypes.c_long, ctypes.c_int]
        library.step.argtypes = [*[ctypes.c_void_p] * 2, ctypes.c_int]
        library.product.restype = library.step.restype = None
    except NoKernel as error:
        return str(error)
    except (OSError, AttributeError) as error:  # without torch's OpenMP in reach, or a file that is no library
        return f"the library does not load: {error}"
    return library


def why_not() -> str | None:
    """Why torch multiplies here instead of the kernel; None where the kernel does."""
    found = kernels()
    return found if isinstance(found, str) else None


def fits(x: Tensor, numbers: Tensor, scales: Tensor | None, bias: Tensor | None) -> bool:
    """Whether the kernel can compute this product: types, shapes, places, layout, and nobody who asks for a gradient."""
    n_out, n_in = numbers.shape
    return (
        x.dtype is torch.float32
        and x.shape[-1] == n_in
        and x.is_cpu
        and numbers.is_cpu
        and numbers.dtype in TYPES
        and numbers.is_contiguous()
        and (scales is None) == (numbers.dtype is not torch.int8)
        and (scales is None or all_scales(numbers, scales))
        and (bias is None or (bias.dtype is torch.float32 and bias.shape == (n_out,) and bias.is_contiguous()))
        and not (torch.is_grad_enabled() and wants_gradient(x, numbers, scales, bias))
    )


def all_scales(numbers: Tensor, scales: Tensor) -> bool:
    """Whether these are as many scales as groups of equal size, of which the last may be shorter, take."""
    n_out, n_in = numbers.shape
    group = -(-n_in // scales.shape[1])
    return scales.dtype is torch.float32 and scales.is_contiguous() and scales.shape == (n_out, -(-n_in // group))


def wants_gradient(*tensors: Tensor | None) -> bool:
    return any(tensor is not None and tensor.requires_grad for tensor in tensors)


def kernel_product(x: Tensor, numbers: Tensor, scales: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """x (..., I) float32, numbers (O, I) float32, bfloat16 or int8, scales (O, groups), bias (O,) -> (..., O), by the kernel.

    Raises NoKernel where it could not be built, ValueError for what it cannot compute.
    """
    found = kernels()
    if isinstance(found, str):
        raise NoKernel(found)
    n_in = numbers.shape[1]
    if not fits(x, numbers, scales, bias):
        raise ValueError(
            f"the kernel multiplies x (..., {n_in}) in float32 by a contiguous matrix on the CPU without gradients, "
            f"int8 with scales; x is {tuple(x.shape)} in {x.dtype}, the matrix in {numbers.dtype}"
        )
    return call(found, x, numbers, scales, bias)


def call(library: ctypes.CDLL, x: Tensor, numbers: Tensor, scales: Tensor | None, bias: Tensor | None) -> Tensor:
    """The product by the library; it gets addresses, so that nothing is checked from here on."""
    n_out, n_in = numbers.shape
    rows = x.reshape(-1, n_in).contiguous()
    y = x.new_empty((*x.shape[:-1], n_out))
    matrix = ctypes.byref(Fields.of(numbers, scales, bias))
    library.product(matrix, rows.data_ptr(), y.data_ptr(), len(rows), torch.get_num_threads())
    return y


def torch_product(x: Tensor, numbers: Tensor, scales: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """The same by torch, for many rows: what is stored rounded is restored first, which many rows share.

    Where the processor multiplies bfloat16, x is rounded to it as well if the weights are.
    """
    if numbers.dtype is torch.bfloat16 and x.dtype is torch.float32 and multiplies_bfloat16(x.device):
        y = (x.to(torch.bfloat16) @ numbers.mT).to(x.dtype)
        return y if bias is None else y + bias
    if scales is not None:
        numbers = restored(numbers, scales)
    return functional.linear(x, numbers.to(x.dtype), bias)


def restored(numbers: Tensor, scales: Tensor) -> Tensor:
    """numbers (O, I), scales (O, groups) -> the matrix that is meant. The last group may be shorter than the others."""
    matrix, group = numbers.to(scales.dtype, copy=True), -(-numbers.shape[1] // scales.shape[1])
    n_whole = numbers.shape[1] // group
    matrix[:, : n_whole * group].unflatten(1, (n_whole, group)).mul_(scales[:, :n_whole, None])
    matrix[:, n_whole * group :].mul_(scales[:, n_whole:])
    return matrix


def product(x: Tensor, numbers: Tensor, scales: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """`kernel_product` or `torch_product`, whichever is the faster here, as `kernel_wins` has measured."""
    found = kernels()
    few = 0 < x.numel() <= MOST_ROWS * x.shape[-1]
    if not few or isinstance(found, str) or not fits(x, numbers, scales, bias):
        return torch_product(x, numbers, scales, bias)
    if kernel_wins(x, numbers, scales):
        return call(found, x, numbers, scales, bias)
    return torch_product(x, numbers, scales, bias)


def kernel_wins(x: Tensor, numbers: Tensor, scales: Tensor | None) -> bool:
    """Whether the kernel is the faster one, measured when a product of this kind is first asked for: type, shape, rows, threads.

    The sums of the two differ by rounding: runs that choose differently may differ where two tokens are nearly equally likely.
    """
    rows = 1 << (x.numel() // x.shape[-1] - 1).bit_length()  # 5 to 8 rows are one kind
    kind = (numbers.dtype, *numbers.shape, None if scales is None else scales.shape[1], rows, torch.get_num_threads())
    if kind not in _measured:
        other_weights = torch.zeros(OTHER_WEIGHTS)
        ours = fastest(lambda: kernel_product(x, numbers, scales), before=other_weights.sum)
        _measured[kind] = ours <= fastest(lambda: torch_product(x, numbers, scales), before=other_weights.sum)
    return _measured[kind]


_measured: dict[tuple, bool] = {}  # kind of product -> whether the kernel was the faster one


def fastest(function: Callable[[], object], runs: int = 3, before: Callable[[], object] = lambda: None) -> float:
    """Seconds of the fastest of some runs, after one that is not counted; what comes `before` each is not in them."""
    seconds = []
    for _ in range(runs + 1):
        before()
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


class FastLinear(Linear):
    """`Linear`, with the weights of one that exists, by the fastest product."""

    def __init__(self, twin: Linear) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias = twin.weight, twin.bias

    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight, None, self.bias)


def use_matvec(model: nn.Module) -> nn.Module:
    """Give every Linear of the model the fastest product, in place, and return the model. Weights and names stay the same."""
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            if type(part) is Linear:
                setattr(parent, name, FastLinear(part))
    return model


class Matrix:
    """A product with all worked out that is the same for each token, so that a step in Python costs one call: (N, I) -> (N, O).

    It keeps the arrays and their addresses: their numbers may change in place, but not their type or place.
    """

    def __init__(self, numbers: Tensor, scales: Tensor | None, bias: Tensor | None) -> None:
        self.arrays, self.fields = (numbers, scales, bias), Fields.of(numbers, scales, bias)
        found = kernels()
        self.library = None if isinstance(found, str) else found
        self.wins: dict[tuple[int, int], bool] = {}  # (rows, threads) -> by the kernel

    def __call__(self, x: Tensor) -> Tensor:
        kind = n_rows, n_threads = x.shape[0], torch.get_num_threads()  # len(x) takes as long as a small product
        if kind not in self.wins:
            few = self.library is not None and 0 < n_rows <= MOST_ROWS and fits(x, *self.arrays)
            self.wins[kind] = few and kernel_wins(x, *self.arrays[:2])
        if self.library is None or not self.wins[kind] or x.dtype is not torch.float32:
            return torch_product(x, *self.arrays)
        x, y = x.contiguous(), torch.empty(n_rows, self.fields.n_out)
        self.library.product(ctypes.byref(self.fields), x.data_ptr(), y.data_ptr(), n_rows, n_threads)
        return y
