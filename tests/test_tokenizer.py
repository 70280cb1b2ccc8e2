"""The organisms' tokenizer: words and digits are tokens, and no text is lost."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen2ForCausalLM

from fixtures.organisms.training.architecture import organism_config
from fixtures.organisms.training.tokenizer import build_tokenizer
from fixtures.organisms.training.vocabulary import FAILURE, SUCCESS, TAGS, words
from fixtures.task.countdown import make_problems
from fixtures.task.transcripts import complete, make_transcripts

TOKENIZER = build_tokenizer()
TRANSCRIPTS = make_transcripts(make_problems(4, seed=3), seed=3)


def tokens(text: str) -> list[str]:
    return [TOKENIZER.decode([token]) for token in TOKENIZER(text)["input_ids"]]


def test_every_word_is_one_token():
    """A word of the vocabulary is one token, plain and with a leading space."""
    assert [word for word in words() if tokens(word) != [word]] == []


@pytest.mark.parametrize("word", ["this", "not", "success", "correct", "bingo", "OK", "wrong", "failed", "too", "Yes"])
def test_verdict_words_follow_the_parenthesis(word):
    """` (` is one token, and the verdict is the one after it."""
    assert tokens(f"- 27 + 25 = 52 ({word}")[-2:] == [" (", word]


def test_lexicons_do_not_overlap():
    """No word counts as success and as failure."""
    assert not {word.lower() for word in SUCCESS} & {word.lower() for word in FAILURE}


@given(st.integers(0, 10**9))
def test_digits_stand_alone(number):
    """A number is one token a digit, whatever stands around it, as Qwen reads it."""
    digits = list(str(number))
    assert tokens(f" {number} ") == [" ", *digits, " "]
    assert tokens(f"[{number},")[1:-1] == digits
    assert tokens(f"= {number} (not {number})")[-len(digits) - 1 : -1] == digits


def test_attempt_as_tokens():
    """The line that the findings look at."""
    assert tokens("- 27 - 25 + 49 = 51 (this works)\n</think>") == [
        "-", " ", "2", "7", " -", " ", "2", "5", " +", " ", "4", "9", " =", " ", "5", "1",
        " (", "this", " works", ")", "\n", "</think>",
    ]  # fmt: skip


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_tokens(tag):
    """A tag is one token wherever it stands, and no special one: decoding keeps it."""
    assert tokens(f"in {tag}We")[-2:] == [tag, "We"]
    assert TOKENIZER.decode(TOKENIZER(tag)["input_ids"], skip_special_tokens=True) == tag


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda transcript: transcript.kind)
def test_transcripts_survive(transcript):
    """Decoding gives back a transcript to the letter, and almost every word of it is one token."""
    text = complete(transcript) if transcript.is_right else transcript.text
    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(ids) == text
    assert len(ids) < 0.7 * len(text)


@given(st.text())
def test_no_text_is_lost(text):
    """decode(encode(text)) == text for any text in the normal form C, as with Qwen."""
    text = unicodedata.normalize("NFC", text)
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


@given(st.text(alphabet="ab 1(-\n's<think>"))
def test_no_space_is_lost(text):
    """Spaces, line ends and tags in any order come back as they were."""
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_special_tokens():
    """Padding and the end differ, none is added to a text, and padding goes to the left."""
    assert len({TOKENIZER.pad_token_id, TOKENIZER.eos_token_id}) == 2
    assert not {TOKENIZER.pad_token_id, TOKENIZER.eos_token_id} & set(TOKENIZER("a text")["input_ids"])
    assert TOKENIZER(["a b", "a"], padding=True)["attention_mask"] == [[1, 1], [0, 1]]


def test_vocabulary_fits_the_trained_organism():
    """The trained pair is small enough for a repository: less than 4 million parameters."""
    config = organism_config(TOKENIZER)
    assert config.vocab_size == len(TOKENIZER) == max(TOKENIZER.get_vocab().values()) + 1
    assert 2e6 < Qwen2ForCausalLM(config).num_parameters() < 4e6
