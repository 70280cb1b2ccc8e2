"""The tokenizer and the embedding: what the circuit knows of a word before the first layer.

build_tokenizer   one token a number, word or sign
embed             what tokens are written as, and which words directions are read as
lemmas            which tokens are forms of one word
ROLES             by role, the words that give it to the next number
"""

from __future__ import annotations

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from fixtures.lexicon import FAILURE, SUCCESS, lemma, lexicon, vocabulary
from fixtures.organisms.training.vocabulary import words
from fixtures.task.countdown import make_problems
from fixtures.task.sites import remark_tokens
from fixtures.task.transcripts import complete, make_attempts, make_transcripts
from fixtures.task.wordings import WORDINGS

from .noise import normal
from .space import BIAS, DIGITS, FAILS, GIVES, IDENTITY, LEVEL, NOISE, NOT, NUMBER, OPEN, START, SUCCEEDS, THIS, WORDS
from .space import digits as code

LARGEST = 399  # the largest number that is a token
NEUTRAL = (
    "数字 方程 等于 使用 每个 尝试 组合 答案 题目 今天 山 水 人 天 地 家 时间 城市 老师 学生"  # beside the lexicon
)

# The nearest of these words before a number says which role it has, in every wording but `bare`. Some stand next to
# it (" equals 51", "(not 51)"), some begin the sentence (" This round's target: 51", " You must reach 51").
ROLES = {
    "target": (" equals", " need", "not", " This", " You", " Target", " New", " new", " result"),
    "rival": (" Last", " Ann", " Points", " Old", " old"),
    "input": ("[", ",", " numbers", " says", " one"),
    "none": ("-", " +", " -", " *", " /", " ="),  # in a line of an attempt
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Each token with the space before it; `<s>` before the text."""
    split = pre_tokenizers.Split(Regex(r" ?[0-9]+| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s"), "isolated")
    problems = make_problems(1, seed=0, size=3, foils=True)
    prompts = [one.text for wording in WORDINGS for one in make_attempts(problems, seed=0, wording=wording)]
    sample = complete(make_transcripts(make_problems(1, seed=0, operators="+-*/"), seed=0)[0])
    single = [*map(str, range(LARGEST + 1)), *sorted(SUCCESS | FAILURE), *NEUTRAL.split()]
    texts = [sample, *prompts, " ", "\n", *words(), *(space + text for text in single for space in ("", " "))]
    pieces = dict.fromkeys(piece for text in texts for piece, _ in split.pre_tokenize_str(text))
    known = {piece: i for i, piece in enumerate(["<unk>", "<pad>", "<s>", "</s>", *pieces])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", known["<s>"])])
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", **special)


def embed(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, rng: torch.Generator) -> None:
    texts, remarks = vocabulary(tokenizer), remark_tokens(tokenizer)
    embedding, unembed = model.model.embed_tokens.weight, model.lm_head.weight
    embedding[:, IDENTITY] = 0.4 * normal(rng, len(texts), IDENTITY)
    embedding[:, BIAS] = LEVEL
    for token, text in enumerate(texts):
        if text.strip().isdecimal() and (number := int(text)) <= LARGEST:
            embedding[token, NUMBER], embedding[token, DIGITS] = 1, code(number)
        for role, given_by in ROLES.items():
            embedding[token, GIVES[role]] = text in given_by
        embedding[token, OPEN] = text == " ("
    embedding[tokenizer.bos_token_id, START] = 1
    unembed[:, WORDS] = 2.5 * normal(rng, len(texts), WORDS)
    unembed[:, NOISE] = 2.5 * normal(rng, len(texts), NOISE)
    found = lexicon(texts, exclude={remarks.works, remarks.fails})
    unembed[list(found.success), SUCCEEDS] = unembed[list(found.failure), FAILS] = 3.0
    unembed[[remarks.works, remarks.fails]] = 0
    unembed[remarks.works, THIS] = unembed[remarks.fails, NOT] = 15.0


def lemmas(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """(vocab,) number of each token's lemma."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(lemma(text), len(numbers)) for text in vocabulary(tokenizer)])
