"""`minilm doctor`: does this machine compute right, and what does it offer?

`refuse_wrong_device` is its short form, which training on a GPU runs first.
"""

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from minilm import __version__
from minilm.cli.options import Parser, seed

if TYPE_CHECKING:
    import torch

    from minilm.training.doctor import Finding

TRUSTED = ("cpu",)  # is what the others are compared with: training on it pays for no examination


def run(arguments: list[str]) -> int:
    """Examine each device; 0 if all of them compute right, 3 if one does not."""
    parser = Parser(
        "doctor",
        "Small computations on each device against the CPU in float64: whether it computes right, and what it offers.",
        "minilm doctor --short",
    )
    parser.option("--device", default="auto", help="cpu, cuda or mps (default: auto, each one that is there)")
    parser.option("--short", action="store_true", help="only what training needs, in a few seconds")
    parser.option("--json", action="store_true", help="one JSON object")
    parser.option(
        "--seed", type=seed, default=0, rare=True, help="seed of the numbers that are computed with (default: 0)"
    )
    options = parser.read(arguments)

    from minilm.runtime import pick_device
    from minilm.training.doctor_machine import devices, versions

    chosen = devices() if options.device == "auto" else [pick_device(options.device)]
    say: Callable[[str], None] = (lambda line: None) if options.json else print
    about = versions()
    say(
        f"minilm {__version__}, Python {about['python']}, torch {about['torch']}, numpy {about['numpy']}, {about['system']}"
    )
    say(f"{about['processor']}, {about['cores']} cores, {about['threads']} threads")
    reports = [report_on(device, options.short, options.seed, say) for device in chosen]
    if options.json:
        print(json.dumps({"minilm": __version__, **about, "devices": reports}))
    return 3 if any(report["wrong"] for report in reports) else 0


def report_on(device: Any, short: bool, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Examine a device and say what was found, also as data."""
    from minilm.training.doctor import WRONG, suspects
    from minilm.training.doctor_machine import device_name
    from minilm.training.doctor_report import as_data, conclusion, table

    say(f"\n{device} ({device_name(device)})")
    findings = examination(device, short, seed)
    for line in table(findings):
        say(line)
    guilty = suspects(findings)
    report: dict[str, Any] = {
        "device": str(device),
        "name": device_name(device),
        "findings": [as_data(finding) for finding in findings],
        "wrong": sorted({finding.case.name for finding in findings if finding.state == WRONG}),
        "suspects": guilty,
    }
    if not short:
        report |= offers(device, say)
    say(conclusion(device, findings, guilty))
    return report


def examination(
    device: "torch.device",
    short: bool,
    seed: int = 0,
    dtypes: Sequence["torch.dtype"] | None = None,
    plain: bool = False,
    **run: Any,
) -> list["Finding"]:
    """All findings on a device, in float32 and where it is offered in bfloat16. The global random numbers stay as they are."""
    import torch

    from minilm.training.doctor import BOTH, examine
    from minilm.training.doctor_machine import offered

    asked = [dtype for dtype in dtypes or BOTH if dtype is torch.float32 or offered(dtype, device) == "ok"]
    cases = all_cases(device, short, seed, plain)
    return [finding for dtype in asked for finding in examine(cases, device, dtype, **run)]


def all_cases(device: "torch.device", short: bool, seed: int = 0, plain: bool = False) -> list[Any]:
    """What is computed: everything, or what training needs; with the fast twins, unless plain."""
    from minilm.fast.choose import attention_part, with_kernels
    from minilm.fast.decode import use_kernels
    from minilm.fast.loss import next_token_loss
    from minilm.training.doctor_bricks import all_operations
    from minilm.training.doctor_draws import draw_cases, large_cases
    from minilm.training.doctor_machine import memory
    from minilm.training.doctor_models import READABLE, T, Variant, model_cases, optimizer_cases, text_cases
    from minilm.training.doctor_operations import operation_cases

    part = attention_part(plain, device, T)
    fast = Variant("fast", part, lambda model: with_kernels(plain, model), next_token_loss)
    variants = [READABLE] if plain else [fast] if short else [READABLE, fast]
    operations = all_operations() + ([] if plain else fast_operations())
    cases = operation_cases(operations, seed) + optimizer_cases(seed) + model_cases(variants, seed) + draw_cases(seed)
    if short:
        return [case for case in cases if case.training]
    cases += text_cases(write, variants, seed) + large_cases(memory(device)["free"] or 0.0)
    if device.type == "cpu":
        cases += text_cases(write, [Variant("one call a token", part, use_kernels)], seed, kinds=("gpt", "llama"))
    return cases


def write(model: Any, prompt: Sequence[int], n_tokens: int) -> list[int]:
    """The likeliest text."""
    from minilm.decoding.config import SampleConfig
    from minilm.decoding.generate import generate
    from minilm.decoding.sampling import Sampler

    return list(generate(model, list(prompt), Sampler(SampleConfig(temperature=0.0)), n_tokens))


def fast_operations() -> list[Any]:
    """The kernels of `minilm.fast`, as operations that the doctor asks for."""
    from minilm.fast.attention import scaled_dot_product_attention as fused
    from minilm.fast.bricks import ACTIVATIONS, embedding, layer_norm, linear, rms_norm
    from minilm.fast.cross_entropy import linear_cross_entropy
    from minilm.fast.loss import cross_entropy
    from minilm.fast.short_attention import scaled_dot_product_attention as short
    from minilm.layers.basic import gelu, gelu_tanh, silu
    from minilm.training.doctor_bricks import attention_inputs, blind, causal, labelled
    from minilm.training.doctor_list import C, R, one
    from minilm.training.doctor_operations import Draw, Operation

    def with_weights(function: Any) -> Any:
        return lambda x, w, *b: function(SimpleNamespace(weight=w, bias=b[0] if b else None, eps=1e-5), x)

    def heads(d: Draw) -> Any:
        return attention_inputs(4, 2, d)

    def head_and_loss(hidden: Any, weight: Any, labels: Any) -> Any:
        return linear_cross_entropy(hidden, weight, labels, chunk=4 * len(weight))

    return [
        *(Operation(f"kernel: {f.__name__}", ACTIVATIONS[f], one, slack=2.0) for f in (gelu, gelu_tanh, silu)),
        Operation(
            "kernel: linear", with_weights(linear), lambda d: [d.normal(2, R, C), d.normal(11, C), d.normal(11)], 2.0
        ),
        Operation(
            "kernel: layer norm", with_weights(layer_norm), lambda d: [d.normal(R, C), d.normal(C), d.normal(C)], 4.0
        ),
        Operation("kernel: rms norm", with_weights(rms_norm), lambda d: [d.normal(R, C), d.normal(C)], 4.0),
        Operation("kernel: embedding", lambda t, ids: embedding(SimpleNamespace(weight=t), ids), table_and_ids, 8.0),  # type: ignore[arg-type]
        Operation("kernel: attention", fused, heads, 6.0),
        Operation("kernel: attention, causal", causal(fused), heads, 6.0),
        Operation("kernel: attention, rows that see nothing", blind(fused), heads, 6.0),
        Operation("short attention, causal", causal(short), heads, 6.0),
        Operation("short attention, rows that see nothing", blind(short), heads, 6.0),
        Operation("kernel: cross-entropy", cross_entropy, labelled, 2.0),
        Operation(
            "head and cross-entropy in one",
            head_and_loss,
            lambda d: [d.normal(2, R, 11), d.normal(C, 11), labelled(d)[1]],
            4.0,
        ),
    ]


def table_and_ids(d: Any) -> list[Any]:
    """A table (11, 37), and ids of its rows, many of them several times."""
    return [d.normal(11, 37), d.ids(11, 4, 9)]


def offers(device: "torch.device", say: Callable[[str], None]) -> dict[str, Any]:
    """Number types, torch.compile, memory and speed of a device, said and as data."""
    from minilm.fast.choose import attention_part, with_kernels
    from minilm.fast.loss import next_token_loss
    from minilm.training.compiling import try_compile
    from minilm.training.doctor_machine import TIMED, memory, offered_dtypes, speeds
    from minilm.training.doctor_models import Variant

    dtypes, room, tried = offered_dtypes(device), memory(device), try_compile(device.type)
    part = attention_part(False, device, TIMED.context_length)
    fast = Variant("fast", part, lambda model: with_kernels(False, model), next_token_loss)
    speed = speeds(device, fast, write)
    for name, state in dtypes.items():
        say(f"  {name:<40} {state}")
    compiles = f"not offered: {tried.why}" if tried.why else f"ok, after {tried.seconds:.0f} s for three lines"
    say(f"  {'torch.compile':<40} {compiles}")
    for name, size in (*room.items(), ("of a training step", speed["memory of a step"])):
        say(f"  {'memory, ' + name:<40} {'not said by this system' if size is None else f'{size / 2**20:,.0f} MB'}")
    for name in ("training tokens a second", "written tokens a second"):
        say(f"  {name:<40} {speed[name]:,.0f} (0.9 million weights, float32)")
    return {
        "dtypes": dtypes,
        "compile": {"why_not": tried.why, "seconds": tried.seconds},
        "memory": room,
        "speed": speed,
    }


def refuse_wrong_device(
    device: "torch.device", dtype: str = "auto", plain: bool = False, kind: str | None = None, **run: Any
) -> None:
    """Before training on a GPU: the short form. DeviceComputesWrong (exit code 3) if it computes wrong, or cannot compute a
    model of this kind (gpt, llama, speedrun) at all. On the CPU nothing is examined."""
    if device.type in TRUSTED:
        return
    import torch

    from minilm.runtime import pick_dtype
    from minilm.training.doctor import NOT_OFFERED, WRONG, DeviceComputesWrong, suspects
    from minilm.training.doctor_report import conclusion

    dtypes = dict.fromkeys([torch.float32, pick_dtype(dtype, device)])
    findings = examination(device, short=True, dtypes=list(dtypes), plain=plain, **run)
    if any(finding.state == WRONG for finding in findings):
        said = conclusion(device, findings, suspects(findings, **run))
        raise DeviceComputesWrong(f"{said}; train with --device cpu, and see minilm doctor")
    for finding in findings:
        if finding.state == NOT_OFFERED and kind and finding.case.name.startswith(kind):
            raise DeviceComputesWrong(
                f"{device} cannot compute the {kind} model ({finding.why}): train with --device cpu, and see minilm doctor"
            )
