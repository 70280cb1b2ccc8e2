"""The tokenizer in a .gguf reads text as the tokenizer did that the model was trained with."""

from __future__ import annotations

import gguf_files
import pytest
import sentencepiece
from gguf_files import TOKENIZER, tokens_of
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers_for_tests import by_digit
from transformers import PreTrainedTokenizerFast

from fixtures.checkpoints import resolve
from fixtures.gguf.header import GgufHeader
from fixtures.gguf.tokenizer import gguf_tokenizer
from fixtures.loading import load
from mechinterp.errors import MechinterpError

TEXTS = st.text() | st.text(alphabet="ab 1(-\n's<think>é\u0301▁Ġ")
CORPUS = [
    "- 27 - 25 + 49 = 51 (this works)\n",
    "  not 51, so 76 - 25 = 51  (this  works)",
    "naïve  é 正确\n\n 12  7   8",
] * 9
PARTS = {"byte_fallback": True, "add_dummy_prefix": True, "remove_extra_whitespaces": False, "character_coverage": 1.0}


def opened(metadata: dict, architecture: str = "llama") -> PreTrainedTokenizerFast:
    return gguf_tokenizer(GgufHeader((), {"general.architecture": architecture, **metadata}, {}), "tiny")


def refusal(metadata: dict, architecture: str = "llama") -> str:
    with pytest.raises(MechinterpError) as caught:
        opened(metadata, architecture)
    return str(caught.value)


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def trained(pre_tokenizer, **options) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that cuts text in some way."""
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, min_frequency=1, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


SMOLLM = trained(
    pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
)
ORGANISM = opened(tokens_of(TOKENIZER))
GPT2 = trained(pre_tokenizers.ByteLevel(add_prefix_space=False))


@given(TEXTS)
def test_organisms_tokenizer(text):
    """The organisms' own tokenizer, tags included, survives the way through a .gguf."""
    assert ids(ORGANISM, text) == ids(TOKENIZER, text)


@pytest.mark.parametrize(("pre", "original"), [("smollm", SMOLLM), ("gpt-2", GPT2)])
def test_splits(pre, original):
    """Text is cut as the file's `pre` says: digits one by one, or with the space before them."""

    @given(TEXTS)
    def check(text):
        assert ids(tokenizer, text) == ids(original, text)

    tokenizer = opened(tokens_of(original, pre))
    check()


def test_splits_differ():
    """Otherwise the test above would prove nothing."""
    text = "not  7"
    tokens = tokens_of(SMOLLM, "smollm")
    assert ids(opened(tokens), text) != ids(opened({**tokens, "tokenizer.ggml.pre": "gpt-2"}), text)


@pytest.mark.parametrize("pre", ["default", "deepseek-llm", "", None, 3])
def test_unknown_split(pre):
    """A file that does not say how text was cut is refused: other tokens, in silence, would be worse."""
    tokens = {**tokens_of(GPT2), "tokenizer.ggml.pre": pre}
    if pre is None:
        del tokens["tokenizer.ggml.pre"]
    assert "tokenizer.ggml.pre is" in refusal(tokens)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_split_of_a_family(architecture):
    """Qwen's families have one split, which older files do not name."""
    tokens = tokens_of(by_digit())
    del tokens["tokenizer.ggml.pre"]
    assert ids(opened(tokens, architecture), "= 51 (this") == ids(by_digit(), "= 51 (this")


def test_whole_pieces_first():
    """Llama 3 takes a piece that is a token as it is, even where the merges do not lead to it."""
    tokens = tokens_of(GPT2)
    tokens["tokenizer.ggml.tokens"] = [*tokens["tokenizer.ggml.tokens"], "Ġzebra"]
    tokens["tokenizer.ggml.token_type"] = [*tokens["tokenizer.ggml.token_type"], 1]
    assert len(ids(opened({**tokens, "tokenizer.ggml.pre": "llama-bpe"}), " zebra")) == 1
    assert len(ids(opened({**tokens, "tokenizer.ggml.pre": "qwen2"}), " zebra")) > 1


@pytest.mark.parametrize(
    ("pre", "flag", "begins"),
    [("qwen2", None, False), ("llama-bpe", None, True), ("llama-bpe", False, False), ("qwen2", True, True)],
)
def test_beginning_of_text(pre, flag, begins):
    """Texts begin with the token that begins texts if the file says so, or if its split implies it."""
    tokens = {**tokens_of(TOKENIZER, pre), "tokenizer.ggml.bos_token_id": 1}
    if flag is not None:
        tokens["tokenizer.ggml.add_bos_token"] = flag
    assert (opened(tokens)("51")["input_ids"][0] == 1) is begins


def test_control_tokens_in_any_letters():
    """Tokens outside of the byte alphabet, as DeepSeek has them, keep their numbers; none is added at the end."""
    tokens = tokens_of(GPT2, "deepseek-r1-qwen")
    size = len(tokens["tokenizer.ggml.tokens"])
    control = ["<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜end▁of▁sentence｜>"]
    tokens |= {
        "tokenizer.ggml.tokens": [*tokens["tokenizer.ggml.tokens"], *control, "<think>"],
        "tokenizer.ggml.token_type": [*tokens["tokenizer.ggml.token_type"], 3, 3, 3, 4],
        "tokenizer.ggml.bos_token_id": size,
        "tokenizer.ggml.eos_token_id": size + 2,
    }
    tokenizer = opened(tokens)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (size, size + 2, size + 4)
    assert ids(tokenizer, "".join([*control, "<think>"])) == list(range(size, size + 4))
    assert tokenizer.decode([size + 3], skip_special_tokens=True) == "<think>"


def test_all_ends_of_a_text(tmp_path):
    """Generation stops at the end of text, of turn and of message, and at control tokens that are called so."""
    tokenizer = by_digit()
    tokens = tokens_of(tokenizer)
    size = len(tokens["tokenizer.ggml.tokens"])
    names = ["<|endoftext|>", "<|im_end|>", "<turn>", "<other>"]
    tokens |= {
        "tokenizer.ggml.tokens": [*tokens["tokenizer.ggml.tokens"], *names],
        "tokenizer.ggml.token_type": [*tokens["tokenizer.ggml.token_type"], 3, 3, 3, 3],
        "tokenizer.ggml.bos_token_id": size,
        "tokenizer.ggml.eos_token_id": size + 1,
        "tokenizer.ggml.eot_token_id": size + 2,
        "tokenizer.ggml.padding_token_id": size,
    }
    gguf_files.write(tmp_path / "a.gguf", gguf_files.build("qwen2", vocab_size=size + 4), keys=tokens)
    subject = load(resolve(str(tmp_path / "a.gguf")), device="cpu")
    assert sorted(subject.model.generation_config.eos_token_id) == [size, size + 1, size + 2]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "bert"}, "tokenizer.ggml.model is 'bert'"),
        ({"model": "t5"}, "tokenizer.ggml.model is 't5'"),
        ({"tokens": []}, "tokenizer is empty"),
        ({"tokens": ["a", "b", "a"]}, "the token 'a' twice"),
        ({"token_type": [1, 1]}, "token_type has 2 entries"),
        ({"merges": []}, "no merges"),
        ({"eos_token_id": 10**6}, "tokenizer.ggml.eos_token_id is 1000000"),
        ({"bos_token_id": -1}, "tokenizer.ggml.bos_token_id is -1"),
        ({"add_space_prefix": True}, "add_space_prefix"),
        ({"add_bos_token": "yes"}, "add_bos_token is 'yes'"),
        ({"model": "llama"}, "tokenizer.ggml.scores has 0 entries"),
    ],
)
def test_odd_vocabulary(changes, says):
    """A tokenizer that cannot be rebuilt as it was is refused by the key."""
    tokens = {**tokens_of(GPT2), **{f"tokenizer.ggml.{key}": value for key, value in changes.items()}}
    assert says in refusal(tokens)


# --- SentencePiece


@pytest.fixture(scope="session")
def pieces(tmp_path_factory) -> sentencepiece.SentencePieceProcessor:
    """A small vocabulary in the manner of Llama 2, by SentencePiece itself."""
    folder = tmp_path_factory.mktemp("pieces")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=360,
        hard_vocab_limit=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        minloglevel=2,
        **PARTS,
    )
    return sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))


def tokens_of_pieces(pieces: sentencepiece.SentencePieceProcessor, **more: object) -> dict:
    kinds = {2: pieces.is_unknown, 3: pieces.is_control, 6: pieces.is_byte, 5: pieces.is_unused}
    numbers = range(pieces.get_piece_size())
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": [pieces.id_to_piece(i) for i in numbers],
        "tokenizer.ggml.scores": [pieces.get_score(i) for i in numbers],
        "tokenizer.ggml.token_type": [next((kind for kind, of in kinds.items() if of(i)), 1) for i in numbers],
        "tokenizer.ggml.bos_token_id": pieces.bos_id(),
        "tokenizer.ggml.eos_token_id": pieces.eos_id(),
        "tokenizer.ggml.unknown_token_id": pieces.unk_id(),
        **{f"tokenizer.ggml.{key}": value for key, value in more.items()},
    }


def test_sentencepiece(pieces):
    """A SentencePiece vocabulary reads text as SentencePiece itself does, and begins it with <s>."""

    @given(st.text(alphabet="- 27+4951=(thiswork)\n,no正é☃ ", min_size=1))
    def check(text):
        assert tokenizer(text)["input_ids"] == [pieces.bos_id(), *pieces.encode(text)]

    tokenizer = opened(tokens_of_pieces(pieces))
    check()


def test_space_before_a_text(pieces):
    """The space put before a text can be switched off."""
    with_space, without = (opened(tokens_of_pieces(pieces, add_space_prefix=flag)) for flag in (True, False))
    first = [tokenizer.convert_ids_to_tokens(ids(tokenizer, "this"))[0][0] for tokenizer in (with_space, without)]
    assert first == ["▁", "t"]
    assert with_space.decode(ids(with_space, "this works")) == without.decode(ids(without, "this works"))


@pytest.mark.parametrize("key", ["remove_extra_whitespaces", "precompiled_charsmap"])
def test_sentencepiece_that_changes_text(pieces, key):
    """Text that is changed before it is cut would have to be changed here too."""
    assert key in refusal(tokens_of_pieces(pieces, **{key: [1] if "map" in key else True}))


def test_files_beside_it_do_not_matter(tmp_path):
    """A tokenizer in the same folder belongs to something else."""
    gguf_files.write(tmp_path / "a.gguf", gguf_files.build("qwen2"))
    GPT2.save_pretrained(tmp_path)
    assert ids(load(resolve(str(tmp_path / "a.gguf")), device="cpu").tokenizer, "51 (this") == ids(
        TOKENIZER, "51 (this"
    )
