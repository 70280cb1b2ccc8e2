"""The tokenizer of a folder reads text as its own files say, and knows no token that the embedding does not."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from test_gguf_tokenizer import CORPUS, PARTS
from test_loading import TOKENIZER, configure, open_, refusal, save
from tokenizers import AddedToken, processors
from tokenizers_for_tests import by_digit
from transformers import PreTrainedTokenizerFast

from fixtures import loading
from fixtures.checkpoints import resolve, tokenizer_files
from fixtures.lexicon import vocabulary
from fixtures.organisms.training.tokenizer import build_tokenizer
from mechinterp.tokens import last_logits, pad


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("tokenizers") / "whole")


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return shutil.copytree(saved, tmp_path / "copy")


def add(folder: Path, *tokens: AddedToken, **roles: object) -> Path:
    """Add tokens that the embedding has no row for, as a fine-tune does."""
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(list(tokens))
    tokenizer.add_special_tokens(dict(roles))
    tokenizer.save_pretrained(folder)
    return folder


# --- tokens beyond the embedding


def test_padding_without_a_row(copy):
    """A padding token without a row is no reason to refuse: texts are padded with a token that exists."""
    subject = open_(add(copy, pad_token="[PAD]"))
    rows = len(TOKENIZER)
    assert len(subject.tokenizer) == rows
    assert subject.tokenizer.pad_token_id == subject.model.generation_config.pad_token_id == TOKENIZER.eos_token_id
    assert last_logits(subject, pad(subject, [[5, 6], [7, 8, 9]])).isfinite().all()
    assert len(vocabulary(subject.tokenizer)) <= rows
    assert max(subject.tokenizer("a [PAD] b")["input_ids"]) < rows  # as text like any other


def test_without_it_text_reads_the_same(copy):
    """Leaving the tokens out changes how no other text is read."""
    tokenizer = open_(add(copy, pad_token="[PAD]", cls_token="<|role|>")).tokenizer

    @given(st.text(alphabet="ab 1(-\n's<think>[PAD]"))
    def check(text):
        assert tokenizer(text)["input_ids"] == TOKENIZER(text)["input_ids"]

    check()


def test_added_token_that_a_text_can_hold(copy):
    """A token of the text without a row is refused by its name."""
    folder = add(copy, AddedToken("<answer_now>", special=False), AddedToken("[PAD]", special=True))
    message = refusal(folder)
    assert "'<answer_now>'" in message
    assert "3331 rows" in message


@pytest.mark.parametrize("tag", ["<think>", "</answer>"])
def test_tags_of_the_task(tag, tmp_path):
    """The tags of the task stand in its texts, also where a tokenizer calls them special."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=by_digit().backend_tokenizer)
    folder = save(tmp_path / "m", vocab_size=len(tokenizer))
    tokenizer.add_special_tokens({"cls_token": tag})
    tokenizer.save_pretrained(folder)
    assert repr(tag) in refusal(folder)


def test_first_token_of_each_text(copy):
    """A token that is put before each text needs its row."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<begin>"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(copy)
    assert "'<begin>'" in refusal(copy)


def test_what_stands_around_a_text(copy):
    """Tokens before a text are those of the checkpoint's tokenizer.json, where transformers would leave them out."""
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<think> $A", special_tokens=[("<think>", tokenizer.convert_tokens_to_ids("<think>"))]
    )
    tokenizer.save_pretrained(copy)
    assert open_(copy).tokenizer("51")["input_ids"] == tokenizer("<think>51")["input_ids"][-3:]


def test_tokenizer_of_another_model(tmp_path):
    """Words of the vocabulary beyond the embedding are another model's."""
    assert "belongs to another model" in refusal(save(tmp_path / "small", vocab_size=100))


def test_padding_and_truncation_in_the_file(copy):
    """Trainers leave their padding and cutting in tokenizer.json; neither touches a text here."""
    file = copy / "tokenizer.json"
    tokens = json.loads(file.read_text())
    tokens["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    tokens["padding"] = {
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|pad|>",
    }  # fmt: skip
    file.write_text(json.dumps(tokens))
    text = "- 27 - 25 + 49 = 51 (this works)"
    assert open_(copy).tokenizer(text)["input_ids"] == TOKENIZER(text)["input_ids"]


# --- vocab.json and merges.txt


@pytest.mark.parametrize(
    ("family", "kind", "reads"),
    [
        ("qwen2", None, True),
        ("llama", "Qwen2Tokenizer", True),
        ("llama", "LlamaTokenizer", False),
        ("mistral", None, False),
    ],
)
def test_vocabulary_and_merges(family, kind, reads, tmp_path):
    """A vocab.json with merges.txt reads as before, or is refused: some classes read such files as if empty."""
    folder = save(tmp_path / "m", family)
    tokens = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(tokens["model"]["vocab"]))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, tokens["model"]["merges"])]))
    (folder / "added_tokens.json").write_text(json.dumps({t["content"]: t["id"] for t in tokens["added_tokens"]}))
    configure(folder, "tokenizer_config.json", tokenizer_class=kind)
    text = "- 27 - 25 + 49 = 51 (this works)\n</think>"
    if reads:
        assert open_(folder).tokenizer(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    else:
        message = refusal(folder)
        assert "save a tokenizer.json" in message
        assert "corrupt" not in message


# --- tokenizer.model


def write_pieces(folder: Path, **options: object) -> sentencepiece.SentencePieceProcessor:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_prefix=str(folder / "tokenizer"), vocab_size=360,
        hard_vocab_limit=False, split_digits=True, allow_whitespace_only_pieces=True,
        minloglevel=2, **{**PARTS, "model_type": "bpe", "normalization_rule_name": "identity", **options},
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    return sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))


@pytest.fixture(scope="session", params=["llama", "mistral"])
def pieces(request, tmp_path_factory) -> tuple[Path, sentencepiece.SentencePieceProcessor]:
    folder = save(tmp_path_factory.mktemp("pieces") / request.param, request.param, vocab_size=400)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    )
    return folder, write_pieces(folder)


def test_sentencepiece_alone(pieces):
    """A folder with a tokenizer.model only reads text as SentencePiece itself does."""
    folder, itself = pieces
    tokenizer = open_(folder).tokenizer

    @given(st.text(alphabet="- 27+4951=(thiswork)\\n,no正é☃ ", min_size=1))
    def check(text):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == itself.encode(text)

    check()
    assert tokenizer("51")["input_ids"][0] == tokenizer.bos_token_id == itself.bos_id()


@pytest.mark.parametrize("missing", [["sentencepiece"], ["google.protobuf"], ["sentencepiece", "google.protobuf"]])
def test_without_sentencepiece(pieces, missing, monkeypatch):
    """Without the packages that read it, the message says which to install, and blames no file."""
    real = importlib.util.find_spec
    monkeypatch.setattr(tokenizer_files, "find_spec", lambda name: None if name in missing else real(name))
    message = refusal(pieces[0])
    assert all(name.removeprefix("google.") in message for name in missing)
    assert "pip install" in message
    assert "corrupt" not in message


def test_package_that_is_missing(saved, monkeypatch):
    """Whatever package is missing, the files are not blamed."""

    def read(*_: object) -> None:
        raise ImportError("tiktoken is not installed")

    monkeypatch.setattr(loading, "_from_folder", read)
    message = refusal(saved)
    assert "tiktoken is not installed" in message
    assert "corrupt" not in message


def test_tokenizer_model_of_another_kind(pieces, tmp_path):
    """A tokenizer.model that is not SentencePiece's, such as tiktoken's, is refused as what it is."""
    folder = shutil.copytree(pieces[0], tmp_path / "m")
    (folder / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")
    message = refusal(folder)
    assert "not SentencePiece's" in message
    assert "tokenizer.json" in message
    (folder / "tokenizer.model").write_bytes(b"\n\x05oops")
    assert "no SentencePiece model" in refusal(folder)
    (folder / "tokenizer.model").write_bytes(b"")
    assert "not SentencePiece's" in refusal(folder)


@pytest.mark.parametrize(
    "options",
    [{"remove_extra_whitespaces": True}, {"normalization_rule_name": "nmt_nfkc"}, {"add_dummy_prefix": False}],
)
def test_other_sentencepiece(pieces, options, tmp_path):
    """Text that SentencePiece changes before it is cut is changed in the same way."""
    folder = shutil.copytree(pieces[0], tmp_path / "m")
    itself, tokenizer = write_pieces(folder, **options), open_(folder).tokenizer
    for text in ("  a  27  - 25\n(this   works) ", "ﬁne ①  x", "51", "正 確"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == itself.encode(text)


def test_unigram(pieces, tmp_path):
    """A SentencePiece model that is cut by probability is refused, not read as if it merged."""
    folder = shutil.copytree(pieces[0], tmp_path / "m")
    write_pieces(folder, model_type="unigram")
    assert "splits text otherwise" in refusal(folder)


def test_needed_only_where_nothing_else_is_there(saved, tmp_path, monkeypatch):
    """A tokenizer.json beside it is enough."""
    folder = shutil.copytree(saved, tmp_path / "m")
    (folder / "tokenizer.model").write_bytes(b"")
    monkeypatch.setattr(tokenizer_files, "find_spec", lambda name: None)
    assert resolve(str(folder)).kind == "folder"
