"""Our byte-pair encoding beside the engines people use, on the same text in the same run."""

from collections.abc import Callable

from minilm.text.bpe import BPETokenizer
from minilm.text.stories import stories


def contests() -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """What is compared -> (ours, the peer's). The Hugging Face trainer is compared where `tokenizers` is installed."""
    documents = list(stories(2000, seed=0))
    text = "\n".join(documents)
    tokenizer = BPETokenizer.train(documents, 1024)

    def peer_training() -> object:
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        peer = Tokenizer(models.BPE())
        peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=1023, initial_alphabet=alphabet, show_progress=False)
        peer.train_from_iterator(documents, trainer)
        return peer

    return {
        "BPE training to 1,024 tokens / Hugging Face tokenizers": (
            lambda: BPETokenizer.train(documents, 1024),
            peer_training,
        ),
        "readable encoder / tiktoken's engine": (
            lambda: tokenizer.encode_readable(text),
            lambda: tokenizer.engine.encode_ordinary(text),
        ),
        "encode / tiktoken's engine": (lambda: tokenizer.encode(text), lambda: tokenizer.engine.encode_ordinary(text)),
    }
