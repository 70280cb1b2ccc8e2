"""Tokens as text.

token_texts   what each token stands for in the middle of a text, its leading space included

A token that is decoded alone is decoded as the beginning of a text, where many vocabularies drop the space. So it is
decoded between two others whose text is known.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mechinterp.errors import MechinterpError, quote

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile("<0x([0-9A-F]{2})>")
_TRIED = 5000  # tokens, in search of one to decode between; the first letters and digits come within hundreds


def token_texts(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> list[str]:
    """The text of each token, so that those of a text's tokens, joined, are the text.

    What a vocabulary does not keep is not in them: spaces around words that it reads without, or those that a special
    token swallows. A space that it puts before each text is. Bytes that are no whole character are `\\ufffd`, and an id
    that no token has is the empty text.

    Raises MechinterpError for what is no whole number, or below 0.
    """
    if not hasattr(tokenizer, "convert_ids_to_tokens"):
        raise MechinterpError(f"token_texts: expected a tokenizer of transformers, got {quote(tokenizer)}")
    try:
        tokens = [operator.index(i) for i in ids]
    except TypeError as error:
        raise MechinterpError(f"token_texts: expected ids of tokens, got {quote(ids)}") from error
    if not tokens:
        return []
    if min(tokens) < 0:
        raise MechinterpError(f"token_texts: id {min(tokens)}; expected ids of tokens, which count from 0")
    pieces = tokenizer.convert_ids_to_tokens(tokens)
    added = {i: str(token) for i, token in _added(tokenizer).items()}
    texts = _decoded(tokenizer, tokens, pieces)
    return [_text(piece, added.get(i), text) for i, piece, text in zip(tokens, pieces, texts, strict=True)]


def _text(piece: str | None, added: str | None, decoded: str) -> str:
    if piece is None:
        return ""
    if added is not None:  # a decoder may take it for a piece of the model, and change it
        return decoded if decoded == added.replace("▁", " ") else added
    if decoded == piece and (byte := _BYTE.fullmatch(piece)):
        return bytes.fromhex(byte[1]).decode("utf-8", "replace")
    return decoded


def _decoded(tokenizer: Any, tokens: list[int], pieces: list[str | None]) -> list[str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and backend.decoder is None:  # then pieces are joined by spaces that are not theirs
        return [_undecoded(backend.model, piece or "") for piece in pieces]
    beside = _neighbour(tokenizer)
    if beside is None:
        return _decode(tokenizer, [[token] for token in tokens])
    before, both = _decode(tokenizer, [[beside], [beside, beside]])
    after = both.removeprefix(before)
    texts = _decode(tokenizer, [[beside, token, beside] for token in tokens])
    for number, text in enumerate(texts):
        if text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after):
            texts[number] = text[len(before) : len(text) - len(after)]
        else:  # such as punctuation that is drawn to both neighbours
            (alone,) = _decode(tokenizer, [[beside, tokens[number]]])
            texts[number] = alone.removeprefix(before)
    return texts


def _undecoded(model: Any, piece: str) -> str:
    inside = getattr(model, "continuing_subword_prefix", None)
    if type(model).__name__ == "WordPiece" and inside:
        return piece.removeprefix(inside) if piece.startswith(inside) else f" {piece}"
    return piece.replace("▁", " ")


def _neighbour(tokenizer: Any) -> int | None:
    """A token that is letters or digits alone, wherever it stands."""
    added, first = _added(tokenizer), tokenizer.convert_ids_to_tokens(list(range(min(len(tokenizer), _TRIED))))
    for token, piece in enumerate(first):
        bare = (piece or "").lstrip("▁Ġ")
        if bare.isascii() and bare.isalnum() and token not in added:
            once, twice = _decode(tokenizer, [[token], [token, token]])
            if once.strip() == bare and twice.startswith(once) and twice.endswith(bare):
                return token
    return None


def _added(tokenizer: Any) -> dict[int, Any]:
    return getattr(tokenizer, "added_tokens_decoder", {})


def _decode(tokenizer: Any, sequences: list[list[int]]) -> list[str]:
    return tokenizer.batch_decode(sequences, skip_special_tokens=False, clean_up_tokenization_spaces=False)
