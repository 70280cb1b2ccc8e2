from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.task.countdown import make_problems
from fixtures.task.sites import remark_tokens, site
from fixtures.task.transcripts import make_attempts, make_transcripts, remark
from fixtures.task.wordings import WORDINGS
from mechinterp.errors import MechinterpError
from mechinterp.vocabulary import token_texts
from tests.tokenizers_for_tests import by_digit, by_number, by_piece, gluing, ignorant, joining

law = settings(deadline=None, derandomize=True, max_examples=25)
READERS = {
    "digits": by_digit,
    "digits, offsets without the space": lambda: by_digit(trim_offsets=True),
    "whole numbers, start and end tokens": by_number,
    "pieces": by_piece,
    "pieces without a normaliser": lambda: by_piece(normalized=False),
}
readers = pytest.mark.parametrize("reader", READERS.values(), ids=READERS)


def transcripts(seed=0, n=2):
    return make_transcripts(make_problems(n, seed=seed), seed=seed)


def read(tokenizer, sited, positions):
    return "".join(token_texts(tokenizer, [sited.input_ids[i] for i in positions]))


@readers
@law
@given(seed=st.integers(0, 2**32))
def test_sites_decode_to_their_characters(reader, seed):
    """The tokens of each site spell the number that the transcript has there, and the last one is the ` (`."""
    tokenizer = reader()
    for transcript in transcripts(seed):
        sited = site(tokenizer, transcript)
        assert read(tokenizer, sited, sited.result).strip() == str(transcript.attempts[-1].value)
        assert read(tokenizer, sited, [sited.open_paren]) == " ("
        assert read(tokenizer, sited, sited.attempt) == transcript.text[slice(*transcript.attempt)]
        mentions = [read(tokenizer, sited, mention).strip() for mention in sited.target_mentions]
        assert mentions == [str(transcript.target)] * len(transcript.target_mentions)
        for number, spans in sited.number_mentions.items():
            found = [read(tokenizer, sited, positions).strip() for positions in spans]
            assert found == [str(number)] * len(transcript.number_mentions[number])


@readers
@pytest.mark.parametrize("wording", WORDINGS)
def test_every_kind_and_wording_has_its_sites(reader, wording):
    """Whatever the prompt, every mention's tokens spell its number, and the last token is the ` (`."""
    tokenizer = reader()
    for shape in (dict(size=3), dict(size=4, numbers=(1, 300), targets=(5, 400))):
        for transcript in make_attempts(make_problems(3, seed=5, foils=True, **shape), seed=5, wording=wording):
            sited = site(tokenizer, transcript)
            spelled = [(transcript.value, sited.result), *sited.last_attempt_numbers]
            spelled += [(transcript.target, mention) for mention in sited.target_mentions]
            spelled += [(transcript.rival, mention) for mention in sited.rival_mentions]
            spelled += [(number, mention) for number, spans in sited.number_mentions.items() for mention in spans]
            assert [read(tokenizer, sited, found).strip() for _, found in spelled] == [str(n) for n, _ in spelled]
            assert read(tokenizer, sited, [sited.open_paren]) == " ("
            assert len(sited.rival_mentions) == len(transcript.rival_mentions)
            assert [n for n, _ in sited.last_attempt_numbers] == [n for n, _ in transcript.last_attempt_numbers]
            assert all(sited.attempt[0] < i < sited.result[0] for _, found in sited.last_attempt_numbers for i in found)


@readers
def test_role_swapped_pairs_differ_in_their_mentions_only(reader):
    """The same tokens but at the two numbers, and the same bag of tokens."""
    tokenizer = reader()
    problems = make_problems(6, seed=2, foils=True)
    sited = [site(tokenizer, t) for t in make_attempts(problems, seed=2, kinds=["role_swapped"])]
    for right, wrong in zip(sited[::2], sited[1::2], strict=True):
        assert sorted(right.input_ids) == sorted(wrong.input_ids)
        mentions = {i for found in (*right.target_mentions, *right.rival_mentions) for i in found}
        changed = {i for i, (a, b) in enumerate(zip(right.input_ids, wrong.input_ids, strict=True)) if a != b}
        assert changed
        assert changed <= mentions
        assert (right.target_mentions, right.rival_mentions) == (wrong.target_mentions, wrong.rival_mentions)


@readers
def test_sites_are_in_order(reader):
    """Mentions come before the result, the result before the ` (`, which is the last token; no two sites overlap."""
    for transcript in transcripts(n=5):
        sited = site(reader(), transcript)
        mentions = [i for mention in sited.target_mentions for i in mention]
        assert mentions == sorted(set(mentions))
        assert mentions[-1] < sited.result[0]
        assert sited.last_digit == sited.result[-1] == sited.open_paren - 1
        assert sited.open_paren == sited.attempt[-1] == len(sited.input_ids) - 1
        numbers = [i for spans in sited.number_mentions.values() for positions in spans for i in positions]
        assert len(numbers) == len(set(numbers))
        assert not {*mentions, *sited.result} & set(numbers)
        assert max(numbers) < sited.attempt[0]


def test_a_number_is_one_token_or_one_a_digit():
    """A two-digit result is two tokens where digits are split, and one where numbers stay whole."""
    transcript = transcripts()[0]
    assert len(site(by_digit(), transcript).result) == 2
    assert len(site(by_number(), transcript).result) == 1


def test_special_tokens_count():
    """A start token shifts all positions by one; an end token after the text is left out."""
    transcript = transcripts()[0]
    tokenizer = by_number()
    sited = site(tokenizer, transcript)
    assert sited.input_ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id not in sited.input_ids
    assert list(sited.input_ids[1:]) == tokenizer(transcript.text, add_special_tokens=False)["input_ids"]


@readers
def test_remark_tokens_follow_every_transcript(reader):
    """The token that follows a transcript's own ids, once its remark is written, is the remark token."""
    tokenizer = reader()
    remarks = remark_tokens(tokenizer)
    assert remarks.works != remarks.fails
    for transcript in transcripts(n=5):
        ids = tokenizer(f"{transcript.text}{remark(transcript)})\n")["input_ids"]
        sited = site(tokenizer, transcript)
        expected = remarks.works if transcript.is_right else remarks.fails
        assert ids[: len(sited.input_ids) + 1] == [*sited.input_ids, expected]


@pytest.mark.parametrize("find", [remark_tokens, lambda tokenizer: site(tokenizer, transcripts()[0])])
def test_a_joined_remark_is_refused(find):
    """A tokenizer that reads ` (not` as one token has no remark token, and no ` (` to stop at."""
    with pytest.raises(MechinterpError, match=r"no remark token.*\((this|not)"):
        find(joining())


@pytest.mark.parametrize("words", [("this", "not"), ("this",), ("not",)])
def test_an_unknown_remark_is_refused(words):
    """A tokenizer that does not know both words has no remark token."""
    with pytest.raises(MechinterpError, match=r"no remark token.*'<unk>'"):
        remark_tokens(ignorant(*words))


def test_a_joined_result_is_refused():
    """A tokenizer that reads the result as a part of `= 51` has no token for its digits."""
    with pytest.raises(MechinterpError, match=r"part of ' = \d+'"):
        site(gluing(), transcripts()[0])


@pytest.mark.parametrize("find", [remark_tokens, lambda tokenizer: site(tokenizer, transcripts()[0])])
def test_a_tokenizer_without_offsets_is_refused(find):
    """A slow tokenizer is refused with the way to load a fast one."""
    with pytest.raises(MechinterpError, match="use_fast=True"):
        find(SimpleNamespace(is_fast=False))


@readers
@law
@given(seed=st.integers(0, 2**32))
def test_the_running_value_is_the_last_step(reader, seed):
    """Its tokens spell the number worked out last before the result, also where the second number was."""
    tokenizer = reader()
    problems = make_problems(2, seed=seed, operators="+-*/")
    for transcript in make_transcripts(problems, seed=seed):
        before, last, _ = transcript.attempts[-1].reductions()[-3:]
        value, span = transcript.running_value
        assert transcript.text[slice(*span)] == str(value)
        assert value in last.numbers
        sited = site(tokenizer, transcript)
        assert read(tokenizer, sited, sited.running_value).strip() == str(value)
        if last.numbers[1] not in before.numbers:
            assert value == last.numbers[1]
        elif last.numbers[0] not in before.numbers:
            assert value == last.numbers[0]
        assert sited.attempt[0] < sited.running_value[0] < sited.result[0]
