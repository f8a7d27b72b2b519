"""The law of the house as data: who may import whom, what belongs in one place, what is forbidden. tests/house.py
judges by it; an exception is a line here, with its reason."""

import re

# ---- who may import whom: the table of the design. A name is a room, or a file of a room ("training.checkpoint").
GROUND = {"runtime", "metrics"}  # everyone may stand on it
LEVEL_0 = {"text", "classical", "layers", "byhand", "plots", "fast"}
LEVEL_2 = LEVEL_0 | {"models", "decoding", "evaluation", "training"}
LEVEL_3 = {"finetuning", "tasks", "pretrained", "analysis"}
LIBRARY = LEVEL_2 | LEVEL_3 | {"serving"}
MAY_IMPORT: dict[str, set[str]] = {
    **{room: set() for room in GROUND | LEVEL_0},
    "fast": {"layers"},
    "models": {"layers", "classical", "byhand"},
    "decoding": {"layers"},
    "evaluation": {"text", "models", "classical"},
    "training": {"text", "layers", "models", "evaluation"},
    **{room: LEVEL_2 for room in LEVEL_3},
    "serving": {"text", "models", "decoding", "training.checkpoint"},
    "checks": {"checks.compare"},  # a concept sees the comparison, and nothing else
    "bench": LIBRARY,
    "cli": LIBRARY | {"bench"},
    "__init__": LIBRARY,  # the public names, loaded when first used
    "__main__": {"cli"},
}
# (file, what it imports beyond the table) -> why
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("minilm/checks/exercises.py", "*"): "the one file that joins the checks and the library",
    ("minilm/cli/check.py", "checks"): "the verb that runs the checks",
    ("minilm/cli/lesson.py", "checks"): "the verb that shows what has been passed",
    ("minilm/checks/grade.py", "checks.exercises"): "it judges a whole file by them",
    ("minilm/checks/compare.py", "checks.values"): "how it compares",
    ("minilm/checks/compare.py", "checks.observe"): "what it looks at besides",
    ("minilm/checks/compare.py", "checks.verdict"): "what it returns",
    ("minilm/checks/results.py", "checks.verdict"): "what it writes down",
    ("minilm/checks/card.py", "checks.verdict"): "what it shows",
    ("minilm/models/quantized.py", "decoding.quantize"): "how a model is rounded, for one that is stored rounded",
    (
        "minilm/training/search.py",
        "classical.tuning",
    ): "the grid, which is written once, for counted models too",
    ("minilm/models/registry.py", "finetuning"): "names of kinds: their modules are imported when a checkpoint asks",
    ("minilm/checks/grade.py", "checks.observe"): "how it tells an error",
    ("minilm/checks/grade.py", "checks.verdict"): "what it writes down",
}

# ---- packages that belong in one place
PEERS = {"transformers", "tokenizers", "nltk", "hmmlearn", "kenlm", "rustbpe", "llama_cpp"}
NO_TORCH = {"text", "classical", "byhand", "metrics", "plots"}

FORBIDDEN = {
    "pickle": "it runs code from files",
    "marshal": "it runs code from files",
    "shelve": "it is pickle",
    "dill": "it is pickle",
    "joblib": "it is pickle",
    "torch.load": "it is pickle: weights are safetensors",
    "torch.save": "it is pickle: weights are safetensors",
    "yaml.load": "it runs code from files",
    "os.system": "a shell reads the text: use subprocess.run with a list",
    "os.popen": "a shell reads the text: use subprocess.run with a list",
}
FORBIDDEN_CALLS = {"eval", "exec", "__import__"}
FORBIDDEN_ARGUMENTS = {"allow_pickle", "shell"}
# torch.nn without its layers; parallel is DistributedDataParallel, an engine and not a concept of language models
TORCH_NN = {"Module", "Parameter", "ModuleList", "parallel"}
TORCH_KERNELS = {"softmax", "log_softmax", "layer_norm", "rms_norm", "group_norm", "batch_norm", "dropout", "embedding"}

CORE = ["layers/basic.py", "layers/attention.py", "layers/blocks.py", "layers/kv_cache.py", "models/gpt.py"]
CORE += ["training/loss.py", "training/loop.py", "decoding/generate.py", "classical/ngram.py"]
CLI_SUPPORT = {"__init__", "answers", "counted", "crew", "decoding", "describing", "main", "model_options", "options"}
CLI_SUPPORT |= {
    "run_folder",
    "search_report",
    "search_space",
    "searching",
    "skilled",
    "talk",
    "train_options",
    "watching",
    "word_vectors",
    "writing",
}

# file -> why its tests may be skipped where something is missing
SKIPS: dict[str, str] = {
    "tests/test_bench_llama_cpp.py": "llama.cpp, which is not in the extra that tests need: pip builds it for a quarter of an hour",
    "tests/test_cli.py": "limits on file sizes, and what else only a POSIX system can be asked for",
}

# The words are joined here, so that the rules do not find themselves.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")
HOSTS = ("pypi.{}", "pythonhosted.{}", "registry.npmjs.{}", "download.pytorch.{}", "deb.debian.{}")
FOLDERS = (r"/{}/main\b", r"/{}/shared\b")
PLACES = re.compile(
    "|".join([h.replace(".", r"\.").format("org") for h in HOSTS] + [f.format("work") for f in FOLDERS])
)
