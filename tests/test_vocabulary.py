"""The texts of a text's tokens, joined, are the text, in vocabularies of every kind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fixtures.lexicon import FAILURE, SUCCESS, lexicon, matched_lexicons, vocabulary
from fixtures.organisms.training.tokenizer import build_tokenizer
from fixtures.task.countdown import make_problems
from fixtures.task.transcripts import complete, make_transcripts
from mechinterp import MechinterpError, nearest_tokens, token_texts, unembed_directions
from tests.conftest import VOCAB, tiny_subject
from tests.tokenizers_for_tests import by_digit, by_ending, by_number, by_piece, by_word

KEEP_SPACES = {
    "bytes": by_digit,
    "the organisms' bytes": build_tokenizer,
    "pieces": by_piece,
    "pieces without a normaliser": lambda: by_piece(normalized=False),
}
TRANSCRIPTS = [complete(one) for one in make_transcripts(make_problems(4, seed=3), seed=3) if one.is_right]
texts = st.text(st.sampled_from("  \n\t(this)not51-=+[]azé正✓"), max_size=40) | st.sampled_from(TRANSCRIPTS)


def joined(tokenizer, text):
    return "".join(token_texts(tokenizer, tokenizer(text, add_special_tokens=False)["input_ids"]))


@pytest.mark.parametrize("kind", KEEP_SPACES)
@given(text=texts)
def test_joined(kind, text):
    """Where spaces are kept. SentencePiece puts one more before a text; bytes of a split character are not shown."""
    found = joined(KEEP_SPACES[kind](), text)
    if kind == "pieces" or (kind != "bytes" and "pieces" in kind and not text.startswith(" ")):
        assert not text or found.startswith(" ")
        found = found[1:]
    if "\ufffd" in found:  # the others are there, in order
        found, text = ["".join(char for char in one if char.isascii()) for one in (found, text)]
    assert found == text


@pytest.mark.parametrize("text", TRANSCRIPTS)
def test_joined_whole_words(text):
    """Where words are tokens with their spaces."""
    assert joined(by_number(), text) == text


@pytest.mark.parametrize("reader", [by_word, lambda: by_word(decoder=False), by_ending])
@pytest.mark.parametrize("text", TRANSCRIPTS)
def test_joined_by_words(reader, text):
    """Where spaces are not kept, words and what is inside them are told apart."""
    tokenizer = reader()
    known = " ".join(word for word in text.split() if tokenizer.unk_token not in joined(tokenizer, word))
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(known)
    assert len(split) > 20
    assert joined(tokenizer, known).split() == [word for word, _ in split]


SPACED = {
    "bytes": (by_digit, "Ġ(", " ("),
    "pieces": (by_piece, "▁works", " works"),
    "inside a word, pieces": (by_piece, "ation", "ation"),
    "a space": (by_piece, "▁", " "),
    "a byte that falls back": (by_piece, "<0x0A>", "\n"),
    "a byte of a character": (by_piece, "<0xE6>", "\ufffd"),
    "a special token": (by_piece, "<s>", "<s>"),
    "a word": (by_word, "works", " works"),
    "inside a word": (by_word, "##k", "k"),
    "inside a word, undecoded": (lambda: by_word(decoder=False), "##k", "k"),
    "a word, undecoded": (lambda: by_word(decoder=False), "works", " works"),
    "a special token among words": (by_word, "[CLS]", "[CLS]"),
    "an ending": (by_ending, "works</w>", "works "),
    "before an ending": (by_ending, "w", "w"),
    "a space of its own": (by_number, " works", " works"),
}


@pytest.mark.parametrize("what", SPACED)
def test_spaces(what):
    """A token's own space is in its text, wherever the vocabulary has it, and no other."""
    reader, piece, text = SPACED[what]
    tokenizer = reader()
    token = tokenizer.get_vocab()[piece]
    assert token_texts(tokenizer, [token]) == [text]
    assert token_texts(tokenizer, [token, token]) == [text, text]


@pytest.mark.parametrize("reader", [by_digit, by_piece, by_word, by_ending, by_number])
@given(content=st.text(st.sampled_from("<|> ▁Ġéx正#/w"), min_size=1, max_size=8), special=st.booleans())
def test_added(reader, content, special):
    """Tokens that were added are what was added, whatever the vocabulary's decoder would make of it."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(reader().backend_tokenizer.to_str()))
    tokenizer.add_tokens([AddedToken(content, special=special, normalized=False)], special_tokens=special)
    token = tokenizer.convert_tokens_to_ids(content)
    if token in tokenizer.added_tokens_decoder:
        assert token_texts(tokenizer, [token])[0].replace(" ", "▁") == content.replace(" ", "▁")


def test_no_token():
    """Ids that no token has, such as an embedding's spare rows, have no text; no ids have no texts."""
    tokenizer = by_piece()
    assert token_texts(tokenizer, [5000, tokenizer.bos_token_id]) == ["", "<s>"]
    assert token_texts(tokenizer, []) == []
    with pytest.raises(MechinterpError, match="id -1"):
        token_texts(tokenizer, [5, -1])


def test_nothing_beside():
    """A vocabulary without letters and digits is read token by token."""
    tokenizer = Tokenizer(models.WordLevel({"(": 0, " (": 1, "✓": 2}, unk_token="("))
    tokenizer.decoder = decoders.Fuse()
    assert token_texts(PreTrainedTokenizerFast(tokenizer_object=tokenizer), [0, 1, 2]) == ["(", " (", "✓"]


def test_nearest_tokens():
    """Tokens that a direction promotes are shown with their spaces."""
    subject = tiny_subject()
    pieces = {
        piece: i for i, piece in enumerate(["▁", "a", *(f"▁w{i}" for i in range(40)), *(f"w{i}" for i in range(40))])
    }
    backend = Tokenizer(models.BPE(vocab=pieces, merges=[]))
    backend.decoder = decoders.Metaspace()
    object.__setattr__(subject, "tokenizer", PreTrainedTokenizerFast(tokenizer_object=backend))
    ((*found,),) = nearest_tokens(
        subject, unembed_directions(subject, subject.anatomy.norm.weight[None])[:, :32], k=VOCAB
    )
    assert {i: text for i, text, _ in found} == dict(
        enumerate([p.replace("▁", " ") for p in pieces] + [""] * (VOCAB - 82))
    )
    for k in (0, VOCAB + 1):
        with pytest.raises(MechinterpError, match="nearest_tokens: k"):
            nearest_tokens(subject, subject.anatomy.norm.weight[None], k=k)


# What decides by them.


def with_words(marked, unmarked):
    """A SentencePiece vocabulary with these words, with and without the mark of a space, among others of both kinds."""
    others = [f"{a}{b}{c}" for a in "kqxz" for b in "aeiou" for c in "bdfgkl"]
    pieces = [
        "<unk>",
        "▁",
        *"abcdefgh",
        *(f"▁{word}" for word in [*marked, *others]),
        *unmarked,
        *(w + "x" for w in others),
    ]
    backend = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


words = st.lists(st.sampled_from(sorted(w for w in SUCCESS if w.isascii())), min_size=2, max_size=5, unique=True)


@given(marked=words, unmarked=words, seed=st.integers(0, 99))
def test_lexicon_of_pieces(marked, unmarked, seed):
    """Words are found with and without their space, and what stands in for them has a space where they have."""
    failures = sorted(w for w in FAILURE if w.isascii())[:3]
    tokenizer = with_words(list(dict.fromkeys([*marked, *failures])), unmarked)
    read = vocabulary(tokenizer)
    raw = tokenizer.convert_ids_to_tokens(list(range(len(read))))
    found = lexicon(read, exclude=set())
    assert {raw[i] for i in found.success} == {*(f"▁{word}" for word in marked), *unmarked}
    drawn = matched_lexicons(read, found.success, exclude=set(found.failure), draws=40, seed=seed)
    for draw in drawn:
        assert [raw[i].startswith("▁") for i in draw] == [raw[i].startswith("▁") for i in found.success]
        assert not set(draw) & {*found.success, *found.failure}


def test_no_stand_in():
    """A word of a kind of which there is no other token is refused, not replaced by another kind."""
    read = [" good", "good", "bad", "fine"]
    assert matched_lexicons(read, (1,), exclude=set(), draws=3, seed=0).shape == (3, 1)
    with pytest.raises(MechinterpError, match="stand in for ' good'"):
        matched_lexicons(read, (0,), exclude=set(), draws=3, seed=0)


def test_every_id():
    """There is a text for every id, also where ids are missing."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 5}, unk_token="a")))
    assert vocabulary(tokenizer) == ["a", "", "", "", "", "b"]
