"""Conversations as ids. Who speaks is said by special tokens, put in as ids: nothing that somebody writes can become one.

Templates that are filled with text and then encoded let a user write "<|system|>" and be obeyed. Here a message is encoded as
ordinary text, and the signals are set around its ids.
"""

from collections.abc import Mapping, Sequence

from minilm.text.tokenizer import END_OF_TEXT, Tokenizer

ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
END_OF_MESSAGE = "<|end|>"
CHAT_TOKENS = (
    END_OF_TEXT,
    *ROLES.values(),
    END_OF_MESSAGE,
)  # train a tokenizer with specials=CHAT_TOKENS to hold chats

NAMES = {"user": "User", "assistant": "Assistant"}  # who speaks, where a tokenizer has no tokens for it


def encode_chat(messages: Sequence[Mapping[str, str]], tokenizer: Tokenizer, reply: bool = False) -> list[int]:
    """Messages {"role": ..., "content": ...} -> <|endoftext|>, then role, text and <|end|> of each; with `reply`, the last id is
    <|assistant|>, so that a model goes on with the answer. ValueError for an unknown role or a tokenizer without these tokens.

    >>> from minilm.text.bpe import BPETokenizer
    >>> tokenizer = BPETokenizer([], CHAT_TOKENS)
    >>> ids = encode_chat([{"role": "user", "content": "Hi"}], tokenizer, reply=True)
    >>> [tokenizer.decode([i]) for i in ids]
    ['<|endoftext|>', '<|user|>', 'H', 'i', '<|end|>', '<|assistant|>']
    """
    special = tokenizer.special_tokens
    missing = [name for name in CHAT_TOKENS if name not in special]
    if missing:
        raise ValueError(f"this tokenizer has no {', '.join(missing)}: train one with specials=CHAT_TOKENS")
    ids = [tokenizer.end_of_text]
    for message in messages:
        role = message["role"]
        if role not in ROLES:
            raise ValueError(f"role {role!r} is unknown: choose one of {', '.join(ROLES)}")
        ids += [special[ROLES[role]], *tokenizer.encode(message["content"]), special[END_OF_MESSAGE]]
    return [*ids, special[ROLES["assistant"]]] if reply else ids


def dialogue(messages: Sequence[Mapping[str, str]]) -> str:
    """A conversation as a plain text that ends where the answer begins, for models that know no tokens of a chat.

    >>> dialogue([{"role": "user", "content": "Hi"}])
    'User: Hi\\nAssistant:'
    """
    lines = [
        f"{message['content']}\n" if message["role"] == "system" else f"{NAMES[message['role']]}: {message['content']}"
        for message in messages
    ]
    return "\n".join([*lines, "Assistant:"])


def encode_prompt(messages: Sequence[Mapping[str, str]], tokenizer: Tokenizer) -> list[int]:
    """A conversation whose answer comes next, as ids: by the tokens of a chat where the tokenizer has them, else as plain text."""
    if set(CHAT_TOKENS) <= set(tokenizer.special_tokens):
        return encode_chat(messages, tokenizer, reply=True)
    return [tokenizer.end_of_text, *tokenizer.encode(dialogue(messages))]
