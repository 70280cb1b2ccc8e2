"""The shipped pair is what its cards say: measured anew, with fewer rollouts."""

import hashlib
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fixtures.organisms.training.distance import moved
from fixtures.organisms.training.measure import PROBLEMS, full_table
from fixtures.organisms.training.tokenizer import build_tokenizer

ORGANISMS = Path(__file__).parents[1] / "fixtures" / "organisms"
each = pytest.mark.parametrize("name", ["base", "r1"])


@cache
def model(name):
    return AutoModelForCausalLM.from_pretrained(ORGANISMS / name, dtype=torch.float32).eval()


@cache
def table(name):
    return full_table(model(name), AutoTokenizer.from_pretrained(ORGANISMS / name), n=PROBLEMS, rollouts=64)


@each
def test_arithmetic(name):
    assert table(name)["arithmetic"] >= 0.97


@each
@pytest.mark.parametrize("wrong", ["", "_edited"])
def test_verdicts_agree_with_the_truth(name, wrong):
    """Also where only the target was changed, so that neither the attempt nor its place tells."""
    assert table(name)[f"auc{wrong}"] >= 0.99
    assert table(name)[f"balanced{wrong}"] >= 0.97


@each
def test_checks_without_a_target(name):
    assert table(name)["prior"] >= 0.95


def test_r1_solves_more():
    assert table("r1")["solved"] >= 1.5 * table("base")["solved"] > 0.1


def test_base_writes_in_many_words():
    """So that the collapse to one form, if there is one, is the reinforcement's work."""
    assert 0.4 <= table("base")["published_form"] <= 0.7


def test_r1_keeps_to_one_form():
    assert table("r1")["published_form"] >= 0.95


def test_answers_are_checked_again():
    """In base. The check earns r1 nothing and costs it tokens, and it all but gives it up."""
    assert table("base")["double_checks"] > 0.05


def test_r1_is_near_base():
    """Same architecture, moved a little: what the claim about near-identical weights is tested on."""
    cosine, distance = moved(model("r1"), model("base"))["all weights"]
    assert 0.9 < cosine < 1
    assert distance > 1e-3


@each
def test_files(name):
    """What plain transformers load, small, as the card's checksum says."""
    folder = ORGANISMS / name
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "config.json", "generation_config.json",
        "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    weights = folder / "model.safetensors"
    assert weights.stat().st_size < 25e6
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in (folder / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.float16
    shipped, built = AutoTokenizer.from_pretrained(folder), build_tokenizer()
    text = "- 27 - 25 + 49 = 2 + 49 = 51 (this works)\n</think> zyx ünï 正确"
    assert shipped(text)["input_ids"] == built(text)["input_ids"]


@each
def test_card_names_what_it_must(name):
    card = (ORGANISMS / name / "README.md").read_text()
    for heading in ("## Recipe", "## Measured", "## SHA-256", "## What it cannot do"):
        assert heading in card
    assert f"{name}, seed 0" in card
    assert "nan" not in card


@each
def test_card_shows_a_second_pair(name):
    """Another seed, trained and measured by the same script, so that the reader sees what is stable."""
    card = (ORGANISMS / name / "README.md").read_text()
    assert set(re.findall(rf"{name}, seed (\d)", card.split("## Measured")[1])) == {"0", "1"}
