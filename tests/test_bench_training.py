"""What the topics that train measure: the peer is our architecture, the scores are those of a scorer that goes token by token."""

import dataclasses
import json
import math
import signal

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from minilm.bench import ablation, blocks, plain_gpt, quality, speed, training
from minilm.bench.plain_gpt import PlainGPT, nanogpt_learning_rate, plain_optimizer, plain_step, train_like_nanogpt
from minilm.bench.quality import Recipe, cut, read_text, recipe_row, separate_nats, train_recipe
from minilm.bench.recipes import speedrun_recipe
from minilm.bench.table import Request
from minilm.cli.main import main
from minilm.evaluation.evaluate import token_log_probs
from minilm.layers.wirings import parallel, post_norm
from minilm.models.config import GPTConfig, SpeedrunConfig, gpt2_config, llama_config
from minilm.models.counted import CountedLM
from minilm.models.gpt import GPT
from minilm.models.speedrun_gpt import SpeedrunGPT
from minilm.text.stories import stories
from minilm.text.token_file import encode_corpus
from minilm.text.tokenizer import CharTokenizer
from minilm.training.batches import sample_batch
from minilm.training.config import TrainConfig
from minilm.training.loop import TrainingFailed
from minilm.training.prepare import Prepared
from minilm.training.recipes import SHAPES

TINY = GPTConfig(vocab_size=11, context_length=7, d_model=12, n_layers=2, n_heads=3)
SET = ["context_length=6", "d_model=8", "n_layers=1", "n_heads=2", "batch_size=3", "warmup=1", "threads=1"]


@pytest.fixture(scope="module")
def text() -> Prepared:
    """Several documents on both sides; the windows of the validation side do not come out even."""
    documents = [story[:230] for story in stories(14, seed=3)]
    tokenizer = CharTokenizer.train(documents)
    return Prepared(tokenizer, encode_corpus(documents[:11], tokenizer), encode_corpus(documents[11:], tokenizer))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(stories(60, seed=4))[:10_001], encoding="utf-8")
    return str(path)


def tiny_gpt(V: int, context_length: int = 7) -> GPT:
    torch.manual_seed(5)
    model = GPT(gpt2_config(vocab_size=V, context_length=context_length, d_model=12, n_layers=2, n_heads=3)).double()
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return model


# ---- the peer


@pytest.mark.parametrize("changes", [{}, {"bias": False, "mlp": "gelu"}])
def test_the_plain_peer_is_our_gpt2(changes):
    config = dataclasses.replace(TINY, **changes)
    ours, peer = GPT(config).double(), PlainGPT(config).double()
    for weight in ours.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    peer.load_ours(ours.arrays())
    ids = torch.randint(11, (5, 8))
    logits = [model(ids[:, :7]) for model in (ours, peer)]
    torch.testing.assert_close(*logits, rtol=0, atol=1e-10)
    for one in logits:
        F.cross_entropy(one.flatten(0, 1), ids[:, 1:].flatten()).backward()
    gradients = [model.embedding.weight.grad for model in (ours, peer)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-10)
    assert sum(w.numel() for w in ours.parameters()) == sum(w.numel() for w in peer.parameters())


def test_the_plain_peer_starts_like_our_gpt2():
    config = GPTConfig(vocab_size=300, d_model=64, n_layers=8, n_heads=4, context_length=9)
    peer = PlainGPT(config).state_dict()
    for name, std in (("blocks.3.qkv.weight", 0.02), ("blocks.3.out.weight", 0.005), ("blocks.7.down.weight", 0.005)):
        assert peer[name].std().item() == pytest.approx(std, rel=0.1)
    assert peer["embedding.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    assert all(not array.any() for name, array in peer.items() if name.endswith("bias"))


@pytest.mark.parametrize(
    "config",
    [
        llama_config(),
        gpt2_config(norm="rms"),
        gpt2_config(tie_embeddings=False),
        dataclasses.replace(TINY, dropout=0.1),
        dataclasses.replace(TINY, n_kv_heads=1),
    ],
)
def test_the_plain_peer_is_a_gpt2_only(config):
    with pytest.raises(ValueError, match="the plain peer is a GPT-2"):
        PlainGPT(config)


def test_the_learning_rate_of_nanogpt():
    assert nanogpt_learning_rate(0, 2000) == pytest.approx(1e-3 / 101)
    assert nanogpt_learning_rate(100, 2000) == pytest.approx(1e-3)
    assert nanogpt_learning_rate(1050, 2000) == pytest.approx(5.5e-4)  # half way down to a tenth
    assert nanogpt_learning_rate(2000, 2000) == pytest.approx(1e-4)


def test_the_peers_training_is_torchs_own():
    ids = np.random.default_rng(2).integers(11, size=90)
    model, reference = PlainGPT(TINY), PlainGPT(TINY)
    reference.load_state_dict(model.state_dict())
    looks = train_like_nanogpt(
        model, ids, 5, seed=9, look_every=2, look=lambda m: m.norm.weight[0].item(), batch_size=4
    )

    generator, seen = torch.Generator().manual_seed(9), []
    decays = [[p for p in reference.parameters() if p.ndim >= 2], [p for p in reference.parameters() if p.ndim == 1]]
    groups = [{"params": decays[0], "weight_decay": 0.1}, {"params": decays[1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    for step in range(5):
        x, y = sample_batch(ids, 4, 7, generator)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (step + 1) / 101
        optimizer.zero_grad()
        F.cross_entropy(reference(x).view(-1, 11), y.view(-1)).backward()
        torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        optimizer.step()
        seen.append(reference.norm.weight[0].item())
    assert [value for _, value in looks] == pytest.approx([seen[1], seen[3], seen[4]], abs=1e-7)
    assert 0 < looks[0][0] < looks[1][0] < looks[2][0]
    torch.testing.assert_close(model.state_dict(), reference.state_dict(), rtol=0, atol=1e-6)


def test_the_peer_stops_where_its_loss_is_no_number():
    model = PlainGPT(TINY)
    model.norm.weight.data[3] = float("nan")
    with pytest.raises(TrainingFailed, match="step 1: loss nan"):
        train_like_nanogpt(model, np.arange(30) % 11, 5, 0, 2, lambda m: 0.0)


def test_a_plain_step_returns_its_loss():
    model, ids = PlainGPT(TINY), torch.randint(11, (2, 7))
    expected = F.cross_entropy(model(ids).view(-1, 11), ids.view(-1)).item()
    assert plain_step(model, plain_optimizer(model, 1e-3), ids, ids) == pytest.approx(expected, abs=1e-6)


def test_finding_the_threads_changes_nothing():
    model = PlainGPT(TINY)
    before = {name: array.clone() for name, array in model.state_dict().items()}
    threads = torch.get_num_threads()
    try:
        ids = torch.randint(11, (2, 7))
        assert plain_gpt.fastest_threads(model, (ids, ids)) in (1, plain_gpt.n_cores())
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_half_a_step_is_in_bfloat16():
    model, seen = PlainGPT(TINY), []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    model.blocks[0].up.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    ids = torch.randint(11, (2, 7))
    for half in (False, True):
        plain_step(model, plain_optimizer(model, 1e-3), ids, ids, half)
    assert seen[0] == torch.float32 and torch.bfloat16 in seen[2:]


# ---- the text


def test_a_text_is_cut_at_a_fraction_of_its_characters():
    assert cut(["abcd", "efgh", "ij"], 0.7) == (["abcd", "efg"], ["h", "ij"])
    assert cut(["abcd", "efgh"], 0.5) == (["abcd"], ["efgh"])
    for fraction in (0.01, 0.33, 0.99):
        before, after = cut(["müde", "x" * 57, "yz"], fraction)
        assert "".join([*before, *after]) == "müde" + "x" * 57 + "yz" and all([*before, *after])
        assert len("".join(before)) == int(fraction * 63)


def test_tuning_never_sees_the_validation_side(file):
    whole, tuned = read_text(Request(data=file, split=0.8)), read_text(Request(data=file, split=0.8, tune=True))

    def words(side, text):
        return text.tokenizer.decode(side.ids[1:])

    with open(file, encoding="utf-8") as opened:
        given = opened.read()
    assert words(whole.train, whole) == given[:8000] and words(whole.validation, whole) == given[8000:]
    assert words(tuned.train, tuned) == given[:5333] and words(tuned.validation, tuned) == given[5333:8000]


def test_the_stand_in_is_the_works_in_order_with_an_empty_line_between(tmp_path, monkeypatch):
    works = {"a": "One.\n", "b": "Two,\nthree.\n", "c": "Four.\n" * 20}
    found = tmp_path / "works"
    found.mkdir()
    for name, work in works.items():
        (found / f"{name}.txt").write_text(work)
    real = quality.find_sources
    monkeypatch.setattr(quality, "find_sources", lambda name: real(str(found)))
    monkeypatch.setattr(quality, "STAND_IN", 60)
    monkeypatch.setattr(quality, "SHORTEST_SIDE", 30)
    quality.prepare_text.cache_clear()
    text = read_text(Request(split=0.5))
    quality.prepare_text.cache_clear()
    sides = [text.tokenizer.decode(side.ids[1:]) for side in (text.train, text.validation)]
    assert "".join(sides) == "One.\n\nTwo,\nthree.\n\nFour.\nFour.\nFour.\nFour.\nFour.\nFour.\nFour."[:60]
    assert len(sides[0]) == 30


def test_a_split_that_is_none(file):
    with pytest.raises(ValueError, match=r"split is 1\.0"):
        read_text(Request(data=file, split=1.0))


@pytest.mark.parametrize(
    "size, split, tune, sides",
    [(5, 0.9, False, "4 and 1"), (2000, 0.4, False, "800 and 1,200"), (2500, 0.8, True, "1,333 and 667")],
)
def test_a_text_that_is_too_short(tmp_path, monkeypatch, capsys, size, split, tune, sides):
    path = tmp_path / "short.txt"
    path.write_text(("abcde" * size)[:size], encoding="utf-8")
    with pytest.raises(ValueError, match=f"have {sides} characters; give a text with at least 1,000 on each"):
        read_text(Request(data=str(path), split=split, tune=tune))
    monkeypatch.setattr(quality, "count_ngram", None)
    asked = ["--data", str(path), "--split", str(split), *["--tune"] * tune]
    for topic in ("training", "blocks", "ablation"):
        assert main(["bench", topic, *asked]) == 2
        assert "is too short" in capsys.readouterr().err


def test_a_side_of_a_thousand_characters_will_do(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("abcde" * 400, encoding="utf-8")
    assert len(read_text(Request(data=str(path), split=0.5)).validation.ids) > 1000


# ---- scores


def brute_nats(model, text: Prepared, start_of) -> float:
    """Mean -log p of each character of the validation side, from what stands between start_of(its index) and it."""
    ids, costs = text.validation.ids.astype(np.int64), []
    for t in range(1, len(ids)):
        if ids[t] != text.tokenizer.end_of_text:
            with torch.no_grad():
                logits = model(torch.from_numpy(ids[start_of(t) : t])[None])[0, -1]
            costs.append(-F.log_softmax(logits, -1)[ids[t]].item())
    return math.fsum(costs) / len(costs)


def test_alone_is_scored_in_separate_and_in_overlapping_windows(text):
    V, C = text.tokenizer.vocab_size, 6
    model, ids = tiny_gpt(V, C), text.validation.ids
    row = quality.alone_row(model, text)
    separate = brute_nats(model, text, lambda t: (t - 1) // C * C)

    def overlapping(t: int) -> int:
        begin = max(i for i in range(t) if ids[i] == text.tokenizer.end_of_text)
        return begin + next(start for start in range(0, len(ids), C // 2) if t - begin <= start + C)

    assert row["nats_separate_windows"] == pytest.approx(separate, abs=1e-9)
    assert separate_nats(model, text, batch_tokens=13) == pytest.approx(separate, abs=1e-9)
    assert row["nats"] == pytest.approx(brute_nats(model, text, overlapping), abs=1e-9)
    assert row["bits_per_byte"] == pytest.approx(row["nats"] / math.log(2), abs=1e-9)  # a byte a character here


def test_mixed_with_an_ngram_whose_weight_comes_from_text_that_neither_saw():
    """On letters without a pattern the n-gram is no better than a model that knows nothing, but where it has counted them."""
    draw = np.random.default_rng(7)
    documents = ["".join(draw.choice(list("abcdef"), size=900)) for _ in range(5)]
    tokenizer = CharTokenizer.train(documents)
    text = Prepared(tokenizer, encode_corpus(documents[:4], tokenizer), encode_corpus(documents[4:], tokenizer))
    V, end = tokenizer.vocab_size, tokenizer.end_of_text
    model, ngram = GPT(dataclasses.replace(TINY, vocab_size=V)).double(), quality.count_ngram(text)
    assert isinstance(ngram, CountedLM) and ngram.config.order == 7
    row = quality.mixed_row(model, text, ngram)

    def probabilities(counted: CountedLM, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scored = ids != end
        logs = (token_log_probs(one, ids, end)[scored] for one in (model, counted))
        return tuple(np.exp(log) for log in logs)

    twin = CountedLM(type(ngram.model)(ngram.config).fit(text.learned, end))
    p, q = probabilities(twin, text.held_out)
    weights = np.linspace(0.001, 0.999, 999)
    assert np.log(p).sum() > np.log(q).sum()
    likelihood = [np.log(w * p + (1 - w) * q).sum() for w in weights]
    assert row["weight"] == pytest.approx(weights[int(np.argmax(likelihood))], abs=2e-3)
    p, q = probabilities(ngram, text.validation.ids)
    expected = -np.log(row["weight"] * p + (1 - row["weight"]) * q).mean()
    assert row["nats_mixed"] == pytest.approx(expected, abs=1e-6)
    assert row["bits_per_byte_mixed"] == pytest.approx(expected / math.log(2), abs=1e-6)
    assert row["nats_log_linear"] > 0 and row["nats_log_linear"] != row["nats_mixed"]
    alone = quality.ngram_row(text)
    assert alone["nats"] == pytest.approx(-np.log(q).mean(), abs=1e-9)


def test_when_a_target_is_reached():
    looks = [(1.0, 3.0), (2.0, 1.9), (3.0, 2.5), (4.0, 1.0)]
    assert [quality.seconds_to(target, looks) for target in (3.5, 1.9, 1.5, 0.5)] == [1.0, 2.0, 4.0, None]


# ---- training a recipe


def tiny_recipe(**changes) -> Recipe:
    shape = {"context_length": 6, "d_model": 8, "n_layers": 1, "n_heads": 2}
    return Recipe(lambda V: GPT(gpt2_config(vocab_size=V, **shape)), TrainConfig(batch_size=3, warmup=1, **changes))


def test_steps_and_looks(text):
    threads = torch.get_num_threads()
    calls: list[float] = []

    def look(model) -> float:
        calls.append(model.lm_head.weight.norm().item())
        return calls[-1]

    done = train_recipe(tiny_recipe(), text, seed=3, steps=11, look=look, n_looks=5)
    assert done.steps == 11 and [value for _, value in done.looks] == calls and len(calls) == 6  # 2, 4, ..., 10, 11
    assert done.seconds == done.looks[-1][0] > done.looks[0][0] > 0
    assert torch.get_num_threads() == threads
    again, other = (train_recipe(tiny_recipe(), text, seed=seed, steps=11).model.lm_head.weight for seed in (3, 4))
    assert torch.equal(done.model.lm_head.weight, again) and not torch.equal(again, other)


def test_after_a_signal_nothing_more_is_looked_at(text):
    looks: list[int] = []

    def look(model) -> float:
        looks.append(1)
        return 1.0

    class Stopped(ablation.DrawnAnywhere):
        """Ctrl-C while the batch of the seventh step is drawn."""

        def __iter__(self):
            for number, batch in enumerate(super().__iter__()):
                if number == 6:
                    signal.raise_signal(signal.SIGINT)
                yield batch

    stopped = dataclasses.replace(tiny_recipe(), order=Stopped)
    with pytest.raises(KeyboardInterrupt):
        train_recipe(stopped, text, seed=3, steps=11, look=look, n_looks=5)
    assert len(looks) == 3  # after the steps 2, 4 and 6


def test_seconds_are_a_limit(text):
    done = train_recipe(tiny_recipe(), text, seed=0, seconds=0.2)
    assert done.steps >= 1 and 0 < done.seconds < 20 and done.looks == []  # one step may take long on a busy machine
    with pytest.raises(ValueError, match="give either seconds or steps"):
        train_recipe(tiny_recipe(), text, seed=0)


def test_a_signal_ends_the_table_and_a_failure_is_a_row(text, monkeypatch):
    assert recipe_row(tiny_recipe(), text, 0, steps=1)["steps"] == 1

    def failing(*args, **how):
        raise TrainingFailed("step 17: loss nan, gradient nan: try less")

    monkeypatch.setattr(quality, "train", failing)
    assert recipe_row(tiny_recipe(), text, 0, steps=1) == {"nats": None, "failed": "step 17"}
    monkeypatch.setattr(quality, "train", lambda *args, **how: [{"step": 1, "seconds": 1.0, "interrupted": 2}])
    with pytest.raises(KeyboardInterrupt):
        recipe_row(tiny_recipe(), text, 0, steps=1)


def test_the_recipe_is_that_of_the_house_with_changes():
    recipe = speedrun_recipe(Request(changes={"n_shift": 1, "beta1": 0.7}), {"n_shift": 3, "warmup": 4})
    assert recipe.build(13).config == SpeedrunConfig(vocab_size=13, n_shift=1, **SHAPES["speedrun"])
    assert (recipe.train.optimizer, recipe.train.beta1, recipe.train.warmup) == ("muon", 0.7, 4)
    with pytest.raises(ValueError, match="layers is no setting of the recipe"):
        speedrun_recipe(Request(changes={"layers": 1}))


# ---- the topics


def bench(capsys, *arguments: str) -> dict:
    assert main(["bench", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def small(monkeypatch):
    """The fixed shapes of the topics, in little."""
    little = {"context_length": 6, "d_model": 8, "n_layers": 1, "n_heads": 2}
    monkeypatch.setattr(training, "NANOGPT", GPTConfig(mlp="gelu", bias=False, **little))
    monkeypatch.setattr(blocks, "SHAPE", little)
    monkeypatch.setattr(speed, "SHAPES", [(1, 8, 2, 6, 3, 11)])
    monkeypatch.setattr(speed, "SHORTEST", 1e-4)


def test_the_topic_training(small, file, tmp_path, capsys, monkeypatch):
    out = str(tmp_path / "rows.jsonl")
    arguments = [
        "training",
        "--data",
        file,
        "--steps",
        "3",
        "--runs",
        "1",
        "--out",
        out,
        "--set",
        *SET,
    ]
    done = bench(capsys, *arguments)
    names = ["n-gram of order 7", "nanoGPT, 3 steps", "quick recipe, 3 steps", "our recipe, 3 steps"]
    speeds = [f"1 layers, d 8, context 6, batch 3, {dtype}" for dtype in ("float32", "bfloat16")]
    rows = {row["row"]: row for row in done["rows"]}
    assert list(rows) == names + speeds
    assert 0 < rows[names[0]]["nats"] < 8
    for name in names[1:3]:
        assert rows[name]["seconds_to_target"] is None  # nothing is learned in three steps
    assert all(rows[name]["steps"] == 3 for name in names[1:])
    assert {"nats_separate_windows", "nats_mixed", "nats_log_linear", "weight"} < set(rows[names[3]])
    for name in speeds:
        row = rows[name]
        assert row["speedup"] == pytest.approx(row["tokens_per_s"] / row["peer_tokens_per_s"])
    assert done["conclusions"][0] == (
        f"target: {rows[names[0]]['nats'] + 0.36:.4f} nats in separate windows, 0.36 above the n-gram"
    )
    for module in (training, quality):  # what is in the file is not trained again
        monkeypatch.setattr(module, "train_recipe", None)
    assert bench(capsys, *arguments) == done
    assert main(["bench", *arguments, "--only", "n-gram"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["row", "nats", "bits_per_byte", "seconds"]
    assert main(["bench", *arguments, "--only", "nobody"]) == 2
    assert "no row is called so" in capsys.readouterr().err


def test_large_asks_for_compiled_rows(small, monkeypatch):
    seen = []
    monkeypatch.setattr(speed, "speed_row", lambda *arguments: seen.append(arguments[2]) or {})
    jobs = training.large_table(Request(seeds=(3,)))
    assert [(job.name.split(", ")[-2:], job.seed) for job in jobs] == [
        ([d, "compiled"], 3) for d in ("float32", "bfloat16")
    ]
    assert [job.measure() for job in jobs] == [{}, {}] and seen == [True, True]


def test_what_the_rows_of_training_come_to():
    def reached(name, *seconds):
        return [
            {"row": name, "seed": i, "settings": {}, "nats": 1.8, "seconds_to_target": s} for i, s in enumerate(seconds)
        ]

    def ours(gap, seed):
        names = ("nats", "nats_separate_windows", "nats_mixed", "nats_log_linear")
        row = {name: 1.5 + gap + i / 100 for i, name in enumerate(names)}
        return {"row": "our recipe, 60 s", "seed": seed, "settings": {}, **row}

    ngram = {"row": "n-gram of order 7", "seed": 0, "settings": {}, "nats": 1.5}
    failed = {"row": "our recipe, 60 s", "seed": 9, "settings": {}, "nats": None}
    rows = [ngram, *reached("nanoGPT, 2,000 steps", None), *reached("nanoGPT, 2,500 steps", 100.0, 120.0, 104.0)]
    rows += [*reached("quick recipe, 185 steps", 5.0, None, 5.2), ours(0.3, 0), ours(0.1, 1), ours(0.2, 2), failed]
    assert training.conclusions(rows) == [
        "target: 1.8600 nats in separate windows, 0.36 above the n-gram",
        "nanoGPT, 2,500 steps: reached by 3 of 3, median 104.0 s",
        "quick recipe, 185 steps: reached by 2 of 3, median 5.2 s",
        "ratio: 20.0",
        "our recipe, 60 s, against the n-gram: "
        "separate windows +0.2100, overlapping +0.2000, mixed +0.2200, log-linear +0.2300",
    ]
    assert training.conclusions(rows[1:]) == []
    never = [ngram, *reached("nanoGPT, 2,500 steps", 100.0), *reached("quick recipe, 185 steps", None)]
    assert not any(line.startswith("ratio") for line in training.conclusions(never))
    assert (
        training.conclusions(never)[2] == "quick recipe, 185 steps: reached by 0 of 1, the median run did not reach it"
    )
    broken = {"row": "quick recipe, 30 steps", "seed": 4, "settings": {}, "nats": None, "failed": "step 3"}
    steps = [ngram, *reached("nanoGPT, 30 steps", 9.0), *reached("quick recipe, 30 steps", 2.0, 4.0, 3.0), broken]
    assert training.conclusions(steps)[1:] == [
        "nanoGPT, 30 steps: reached by 1 of 1, median 9.0 s",
        "quick recipe, 30 steps: reached by 3 of 4, median 3.5 s",
        "ratio: 2.6",
    ]


def test_a_failed_training_is_a_row_of_every_kind(file, monkeypatch):
    def failing(*args, **how):
        raise TrainingFailed("step 17: loss nan")

    monkeypatch.setattr(training, "train_recipe", failing)
    monkeypatch.setattr(quality, "train_recipe", failing)
    monkeypatch.setattr(training, "train_like_nanogpt", failing)
    jobs = [job for job in training.table(Request(data=file, steps=2)) if "recipe" in job.name or "nano" in job.name]
    assert len(jobs) == 3
    assert [job.measure() for job in jobs] == [{"nats": None, "failed": "step 17"}] * 3


def test_the_ngram_is_counted_once(small, file, monkeypatch):
    counted, real = [], quality.count_ngram
    monkeypatch.setattr(quality, "count_ngram", lambda text: counted.append(1) or real(text))
    changes = {pair.split("=")[0]: int(pair.split("=")[1]) for pair in SET}
    jobs = training.table(Request(data=file, steps=2, changes=changes))
    assert not counted
    rows = [job.measure() for job in jobs if "layers" not in job.name]
    assert len(rows) == 4 and len(counted) == 1
    assert rows[0] == {**quality.ngram_row(read_text(Request(data=file))), "seconds": rows[0]["seconds"]}


def test_what_does_not_matter_to_a_row():
    """Timed runs matter to the speeds alone, the text and the recipe to all others; stories:N has its own split."""
    names = {"data", "split", "tune", "steps", "changes", "runs"}
    for data, without in (("stories:60", {"runs", "split"}), ("shakespeare", {"runs"})):
        jobs = training.table(Request(data=data))
        for job in jobs:
            assert set(job.ignored) == (names - {"runs"} if "layers" in job.name else without)
        assert {set(job.ignored) == without for job in jobs} == {True, False}
        assert {frozenset(job.ignored) for job in ablation.table(Request(data=data))} == {frozenset(without)}
        assert {frozenset(job.ignored) for job in blocks.table(Request(data=data))} == {frozenset(without)}
    ignored = {job.name.split(",")[0].split(": n-")[0]: set(job.ignored) for job in blocks.table(Request())}
    assert ignored == {"stories:2000": {"runs", "split"}, "shakespeare": {"runs"}}
    assert names == set(Request().settings("training")) - {"topic"}


def test_all_is_on_the_device_that_was_picked(small, file, monkeypatch):
    """The device that has shapes alone stands for a GPU."""
    meta, seen = torch.device("meta"), {}
    monkeypatch.setattr(training, "pick_device", lambda: meta)
    monkeypatch.setattr(ablation, "pick_device", lambda: meta)
    monkeypatch.setattr(training, "train_like_nanogpt", lambda model, *args: seen.update(peer=model) or [(1.0, 2.0)])
    monkeypatch.setattr(training, "alone_row", lambda model, text: {})
    job = next(job for job in training.table(Request(data=file, steps=2)) if "nanoGPT" in job.name)
    job.measure()
    for name, ingredient in ablation.WITHOUT.items():
        seen[name] = ablation.recipe_without(Request(), ingredient).build(9)
    for name, model in seen.items():
        assert {weight.device for weight in model.parameters()} == {meta}, name


def test_the_peers_batches_go_to_its_device(monkeypatch):
    seen = []
    monkeypatch.setattr(plain_gpt, "plain_step", lambda model, optimizer, *batch: seen.extend(batch) or 1.0)
    model = PlainGPT(TINY).to("meta")
    train_like_nanogpt(model, np.arange(30) % 11, 3, 0, 2, lambda m: 0.0)
    assert len(seen) > 2 * 3 and {part.device.type for part in seen} == {"meta"}


def test_the_topic_blocks(small, file, capsys):
    done = bench(capsys, "blocks", "--data", file, "--steps", "2", "--seed", "4", "--set", "threads=1")
    assert len(done["rows"]) == 1 + len(blocks.VARIANTS)
    assert [row["row"] for row in done["medians"]][1:] == [f"{file}, 2 steps, {name}" for name in blocks.VARIANTS]
    assert {row["seed"] for row in done["rows"]} == {4}
    assert all(row["bits_per_byte"] > 0 for row in done["rows"])
    scores = [row["nats"] for row in done["rows"][1:]]
    assert len(set(scores)) == len(scores)  # no two variants are the same model
    asked = ["blocks", "--data", file, "--seconds", "0.2", "0.3", "--seeds", "2", "--only", "base", "--set"]
    rows = bench(capsys, *asked, "threads=1", "learning_rate=0.0", "warmup=0")["rows"]
    assert [(row["row"].split(", ")[1], row["seed"]) for row in rows] == [
        (s, i) for s in ("0.2 s", "0.3 s") for i in (0, 1)
    ]
    assert rows[0]["nats"] == rows[2]["nats"] != rows[1]["nats"]  # nothing was learned: the seed alone decides
    assert main(["bench", *asked, "d_model=9"]) == 2
    assert "the shape of these models is fixed" in capsys.readouterr().err


def test_the_variants_are_what_they_are_called(small):
    torch.manual_seed(1)
    x, ids = torch.randn(2, 5, 8), torch.randint(13, (2, 5))
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    built = {name: variant.build(Request(), 13) for name, variant in blocks.VARIANTS.items()}
    block = {name: model.blocks[0] for name, model in built.items()}
    base, count = block["base"], {name: sum(w.numel() for w in m.parameters()) for name, m in built.items()}

    def attend(part, z):
        return part.attention(z, mask)

    one = block["residual: none"]
    torch.testing.assert_close(one(x, mask), one.mlp(one.mlp_norm(attend(one, one.attention_norm(x)))))
    one = block["MLP: none"]
    torch.testing.assert_close(one(x, mask), x + attend(one, one.attention_norm(x)))
    one = block["norm: none"]
    middle = x + attend(one, x)
    torch.testing.assert_close(one(x, mask), middle + one.mlp(middle))
    hidden = built["norm: none"].blocks[0](
        built["norm: none"].embedding(ids) + built["norm: none"].positions.weight[:5], mask
    )
    torch.testing.assert_close(
        built["norm: none"](ids), hidden @ built["norm: none"].embedding.weight.T
    )  # no last norm
    one = block["MLP: ReLU squared"]
    torch.testing.assert_close(one.mlp(x), one.mlp.down(torch.relu(one.mlp.up(x)) ** 2))
    assert block["wiring: post-norm"].wiring is post_norm and block["wiring: parallel"].wiring is parallel
    assert type(block["norm: RMSNorm"].mlp_norm).__name__ == "RMSNorm" and type(base.mlp_norm).__name__ == "LayerNorm"
    for name in ("wiring: post-norm", "wiring: parallel", "residual: none", "MLP: ReLU squared"):
        assert count[name] == count["base"]
    torch.testing.assert_close(
        base(x, mask), (m := x + attend(base, base.attention_norm(x))) + base.mlp(base.mlp_norm(m))
    )


def test_swiglu_has_as_many_weights_as_the_base():
    count = {
        name: sum(w.numel() for w in blocks.VARIANTS[name].build(Request(), 66).parameters())
        for name in ("base", "MLP: SwiGLU")
    }
    assert count["MLP: SwiGLU"] == pytest.approx(count["base"], rel=0.02)


def test_the_topic_ablation(file, capsys):
    done = bench(capsys, "ablation", "--data", file, "--steps", "4", "--set", *SET)
    rows = {row["row"]: row for row in done["rows"]}
    assert list(rows) == ["n-gram of order 7", *(f"4 steps, {name}" for name in ablation.WITHOUT)]
    scores = [row["nats"] for row in rows.values()]
    assert all(0 < score < 20 for score in scores)
    different = [
        row["nats"] for name, row in rows.items() if "float32" not in name
    ]  # the same where there is no bfloat16
    assert len(set(different)) == len(different)


SMALL = SpeedrunConfig(vocab_size=13, context_length=7, d_model=12, n_layers=2, n_heads=3)


def ready(model: SpeedrunGPT) -> SpeedrunGPT:
    """Away from the start, where output projections and head are zero."""
    torch.manual_seed(8)
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return model


def test_a_changed_block_with_everything_left_in_is_the_models_own():
    model, ids = ready(SpeedrunGPT(SMALL)), torch.randint(13, (4, 7))
    expected = model(ids)
    ablation.change_blocks(model)
    assert torch.equal(model(ids), expected)
    cache = model.new_cache(4)
    parts = [model(ids[:, :4], cache=cache), model(ids[:, 4:], cache=cache)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-5)


def test_each_part_is_taken_out():
    torch.manual_seed(2)
    q, seen = [], []

    def attention(queries, keys, values, mask):
        q.append((queries, keys))
        return values

    def fresh(edit=None, kind=SpeedrunGPT):
        torch.manual_seed(3)
        model = ready(kind(SMALL, attention=attention))
        if edit:
            edit(model)
        return model

    ids = torch.randint(13, (4, 7))
    fresh()(ids)
    lengths = [part.norm(dim=-1) for part in q[0]]
    torch.testing.assert_close(
        torch.cat(lengths), torch.full_like(torch.cat(lengths), 2.0), rtol=0.05, atol=0
    )  # sqrt(K)
    q.clear()
    fresh(ablation.without_query_norm)(ids)
    assert q[0][0].norm(dim=-1).std() > 0.1
    model = fresh(ablation.with_gelu)
    model.blocks[0].block.down.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].min().item()))
    model(ids)
    assert seen[0] < 0  # ReLU squared never is
    model = fresh(ablation.with_layer_norm)
    shift = model.blocks[0].attention_norm.bias
    before = model(ids)
    shift.data += 1.0
    assert not torch.allclose(model(ids), before)
    model = fresh(ablation.with_tied_head)
    assert model.lm_head.weight is model.embeddings[0].weight
    model = SpeedrunGPT(SMALL)
    ablation.with_random_outputs(model)
    starts = [model.lm_head, *(part for block in model.blocks for part in (block.out, block.down))]
    assert all(part.weight.std().item() == pytest.approx(0.02, rel=0.3) for part in starts)


def test_learned_positions_replace_the_rotation():
    model = ready(ablation.LearnedPositions(dataclasses.replace(SMALL, n_shift=0)))
    with torch.no_grad():
        ids = torch.full((1, 7), 5)
        model.positions.weight.zero_()
        still = model.hidden(ids)[0]
        torch.testing.assert_close(still, still[:1].expand(7, -1), rtol=0, atol=1e-5)  # equal tokens, no place: equal
        model.positions.weight.normal_()
        moved = model.hidden(ids)[0]
    assert (moved - moved[:1]).abs().max() > 0.1
    assert not ablation.LearnedPositions(SMALL).positions.weight.any()


def test_windows_drawn_anywhere():
    ids, config = np.arange(40), TrainConfig(batch_size=3, seed=6)
    generator = torch.Generator().manual_seed(6)
    for (x, y), _ in zip(ablation.DrawnAnywhere(ids, config, 5), range(4), strict=False):
        expected = sample_batch(ids, 3, 5, generator)
        assert torch.equal(x, expected[0]) and torch.equal(y, expected[1])


def test_an_ingredient_is_out_whatever_the_settings():
    request = Request(changes={"n_shift": 3, "warmup": 7, "d_model": 24})
    assert ablation.recipe_without(request, ablation.WITHOUT["the whole recipe"]).build(9).config.n_shift == 3
    recipe = ablation.recipe_without(request, ablation.WITHOUT["without token shift"])
    assert (
        recipe.build(9).config == SpeedrunConfig(vocab_size=9, n_shift=0, d_model=24, **SHAPES["speedrun"])
        and recipe.train.warmup == 7
    )
