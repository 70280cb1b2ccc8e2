"""Small tokenizers that read numbers and parentheses in different ways. Built here, in milliseconds; none is loaded.

by_digit     byte-level BPE in the manner of Qwen: single digits, the space before a number a token of its own
by_piece     SentencePiece in the manner of Llama 2: a space is ▁, one stands before each text, bytes fall back
by_word      WordPiece: `##` goes on with a word, spaces are not kept
by_ending    BPE with `</w>` at the end of each word, spaces are not kept
by_number    whole numbers with their space, a start and an end token around the text
joining      reads `(this` and ` (not` as one token, so it has no verdict token
ignorant     does not know the words named
gluing       reads `= 51` as one token
"""

from __future__ import annotations

import json
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from fixtures.task.countdown import make_problems
from fixtures.task.transcripts import complete, make_transcripts

_QWEN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"


@cache
def by_digit(*, trim_offsets: bool = False) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_QWEN), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim_offsets)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@cache
def by_piece(*, normalized: bool = True) -> PreTrainedTokenizerFast:
    """With its space put by a normaliser, as Llama 2's files have it, or by a pre-tokeniser, as newer ones do."""
    trained = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(r"▁?\p{L}+|\p{N}|▁?[^\p{L}\p{N}▁]|▁"), "isolated")
    trained.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(split=False), words])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=1100, special_tokens=special, show_progress=False)
    trained.train_from_iterator(_texts(), trainer)
    learned = json.loads(trained.to_str())["model"]
    merges = [(left, right) for left, right in learned["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=learned["vocab"], merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    if normalized:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    start = ("<s>", learned["vocab"]["<s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[start])
    special_tokens = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)


@cache
def by_word(*, decoder: bool = True) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    tokenizer.train_from_iterator(_texts(), trainer)
    if decoder:
        tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]")


@cache
def by_ending() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=300, end_of_word_suffix="</w>", special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@cache
def by_number() -> PreTrainedTokenizerFast:
    return _whole_pieces(r" ?[0-9]+| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s")


@cache
def joining() -> PreTrainedTokenizerFast:
    return _whole_pieces(r" ?\(\p{L}*| ?[0-9]+| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s")


@cache
def ignorant(*words: str) -> PreTrainedTokenizerFast:
    return _whole_pieces(r" ?[0-9]+| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s", without=words)


@cache
def gluing() -> PreTrainedTokenizerFast:
    return _whole_pieces(r" ?(?:= )?[0-9]+| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s")


def _whole_pieces(pattern: str, without: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """One token for each piece that the pattern finds, with `<s>` before and `</s>` after the text."""
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    texts = [*_texts(), *(f" {n} {n}" for n in range(1000)), *map(str, range(1000))]
    pieces = dict.fromkeys(piece for text in texts for piece, _ in split.pre_tokenize_str(text))
    known = ["<unk>", "<s>", "</s>", *(piece for piece in pieces if piece not in without)]
    vocabulary = {piece: i for i, piece in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
    )
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@cache
def _texts() -> list[str]:
    transcripts = make_transcripts(make_problems(40, seed=0), seed=0)
    return [complete(transcript) for transcript in transcripts if transcript.is_right]
