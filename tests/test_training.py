"""The trainings themselves, on a model a tenth of the size for a few steps: seeded, resumable, rewarded as stated."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import untrained
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Qwen2ForCausalLM

from fixtures.organisms.training import base, card, clock, pipeline, r1
from fixtures.organisms.training.optimizer import muon_and_adamw
from fixtures.organisms.training.reward import FORMAT, RIGHT, equation_reward, format_reward
from fixtures.organisms.training.tokenizer import build_tokenizer
from fixtures.task.countdown import make_problems, solutions
from fixtures.task.rollouts import is_solved
from mechinterp import MechinterpError

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """A training flushes denormals for good; the tests that follow in this process have none of that."""
    yield
    torch.set_flush_denormal(False)


PROBLEMS = make_problems(8, seed=1, size=3)


def rewards(text, problem=PROBLEMS[0]):
    return format_reward([text])[0], equation_reward([text], [list(problem.numbers)], [problem.target])[0]


def answered(equation):
    return f"- 1 + 2 = 3 (not 51)\n</think>\n<answer> {equation} </answer>"


@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_right_answer_is_worth_one(problem):
    assert sum(rewards(answered(solutions(problem)[0]), problem)) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (answered("1 + 2"), FORMAT),
        (answered("no"), FORMAT),
        (answered(""), 0),
        (answered("1 + 2").replace("</think>", ""), 0),
        (answered("1 + 2").replace("</answer>", ""), 0),
        (answered("1 + 2") + answered("1 + 2"), 0),
        ("<answer> 1 + 2 </answer>\n</think>", 0),
        ("", 0),
    ],
)
def test_wrong_answer_is_worth_its_form(text, form):
    assert rewards(text) == (form, 0)


def test_answer_must_use_each_number_once():
    a, *_ = PROBLEMS[0].numbers
    right = str(solutions(PROBLEMS[0])[0])
    assert rewards(answered(f"{right} + {a} - {a}")) == (FORMAT, 0)
    assert rewards(answered(str(PROBLEMS[0].target))) == (FORMAT, 0)


@given(st.text(alphabet="0123456789+-*/() <>thinkaswer", max_size=80))
def test_reward_is_for_solutions_only(text):
    form, right = rewards(text)
    assert form in (0, FORMAT)
    assert right in (0, RIGHT)
    assert not right or (form and is_solved(text, PROBLEMS[0]))


def test_optimizer_goes_on_from_its_state():
    def steps(model, optimizer, n):
        for i in range(n):
            torch.manual_seed(i)
            ids = torch.randint(0, 100, (2, 8))
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    torch.manual_seed(0)
    model = Qwen2ForCausalLM(untrained.config())
    optimizer = muon_and_adamw(model, lr=1e-2)
    steps(model, optimizer, 2)
    again = Qwen2ForCausalLM(model.config)
    again.load_state_dict(model.state_dict())
    resumed = muon_and_adamw(again, lr=1e-2)
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))  # a live one would be shared
    steps(model, optimizer, 2)
    steps(again, resumed, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    fresh = muon_and_adamw(again, lr=1e-2)
    steps(model, optimizer, 1)
    steps(again, fresh, 1)
    assert not all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_schedule_reaches_every_part():
    model = Qwen2ForCausalLM(untrained.config())
    optimizer = muon_and_adamw(model, lr=1.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [p.clone() for p in model.parameters()]
    model(input_ids=torch.ones(1, 4, dtype=torch.long), labels=torch.ones(1, 4, dtype=torch.long)).loss.backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.fixture
def small(monkeypatch):
    """The trainings at a size for tests."""
    monkeypatch.setattr(base, "organism_config", untrained.config)
    monkeypatch.setattr(base, "TOKENS", 1024)
    monkeypatch.setattr(clock, "quick_table", lambda *_: {"arithmetic": 0.5})
    monkeypatch.setattr(r1, "BUDGET", 12)
    monkeypatch.setattr(r1, "PROBLEMS", 2)
    monkeypatch.setattr(r1, "ROLLOUTS", 2)
    # an untrained model is never rewarded, and without a reward nothing would move
    monkeypatch.setattr(r1, "format_reward", lambda completions, **_: [float(len(set(text))) for text in completions])


def interrupted(monkeypatch, trainer, step, train):
    """Run a training that is killed in the given step."""
    calls = 0
    compute_loss = trainer.compute_loss

    def dying(self, *args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == step:
            raise KeyboardInterrupt
        return compute_loss(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "compute_loss", dying)
        with pytest.raises(KeyboardInterrupt):
            train()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.usefixtures("small")
def test_base_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    def train(folder, seed=3):
        return base.train_base(tmp_path / folder, seed=seed, steps=4, save_every=2)

    straight, log = train("straight")
    interrupted(monkeypatch, base._Trainer, 4, lambda: train("killed"))
    resumed, resumed_log = train("killed")
    other, _ = train("other", seed=4)
    assert same(straight, resumed)
    minutes = [entry["minutes"] for entry in resumed_log]
    assert minutes == sorted(minutes)
    assert minutes[0] > 0
    assert not same(straight, other)
    assert any("eval_arithmetic" in entry for entry in log)


@pytest.mark.usefixtures("small")
def test_r1_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    start = tmp_path / "base"
    Qwen2ForCausalLM(untrained.config()).save_pretrained(start)
    build_tokenizer().save_pretrained(start)

    def train(folder):
        return r1.train_r1(start, tmp_path / folder, seed=3, steps=3, save_every=2)

    straight, log = train("straight")
    interrupted(monkeypatch, r1.GRPOTrainer, 3, lambda: train("killed"))
    resumed, _ = train("killed")
    assert same(straight, resumed)
    assert not same(straight, AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32))
    assert any("kl" in entry for entry in log)
    assert any("rewards/equation_reward/mean" in entry for entry in log)


@pytest.mark.usefixtures("small")
def test_r1_keeps_the_models_on_its_way(tmp_path):
    """Each as it is shipped, in order, also where the trainer's own checkpoints are gone, and none where none is asked
    for; keeping them moves nothing."""
    start = tmp_path / "base"
    Qwen2ForCausalLM(untrained.config()).save_pretrained(start)
    build_tokenizer().save_pretrained(start)

    def train(folder, **keep):
        return r1.train_r1(start, tmp_path / folder, seed=3, steps=4, save_every=1, **keep)[0]

    kept = train("kept", keep=tmp_path / "steps")
    steps = [AutoModelForCausalLM.from_pretrained(tmp_path / "steps" / f"step-{n}") for n in (1, 2, 3, 4)]
    assert {path.name for path in (tmp_path / "steps").iterdir()} == {f"step-{n}" for n in (1, 2, 3, 4)}
    assert len(list((tmp_path / "kept").glob("checkpoint-*"))) == 2
    assert all(step.dtype == torch.float16 for step in steps)
    assert not same(steps[0], steps[-1])
    assert same(steps[-1], deepcopy(kept).half())
    assert same(kept, train("plain"))


def test_base_keeps_no_models(tmp_path):
    with pytest.raises(MechinterpError, match="--keep-checkpoints: expected with r1 only"):
        pipeline.train("base", tmp_path, seed=0, keep=True)


def test_r1_needs_its_base(tmp_path):
    with pytest.raises(MechinterpError, match=r"run `python -m fixtures\.organisms\.training base --seed 9"):
        pipeline.train("r1", tmp_path, seed=9)


def test_cards_say_what_was_measured(tmp_path):
    """Every figure of the table in its row and column, the wordings trained and unseen, and no place left unfilled."""
    for name in ("base", "r1"):
        Qwen2ForCausalLM(untrained.config()).save_pretrained(tmp_path / name)
    table = {key: i if key in card._COUNTS else i / 100 for i, (key, *_) in enumerate(card.ROWS)}
    facts = {
        (name, seed): {
            "recipe": "as written", "minutes": 3.2, "hardware": "1 CPU thread",
            "table": table | {"moved": {"all weights": (0.99, 0.125)}},
        }
        for seed in (0, 1) for name in ("base", "r1")
    }  # fmt: skip
    card.write_cards(tmp_path, facts)
    base_card, r1_card = ((tmp_path / name / "README.md").read_text() for name in ("base", "r1"))
    for i, (key, words, bar) in enumerate(card.ROWS):
        cell = card._cell(key, table[key])
        assert f"| {words} |{f' {cell} |' * 4} {bar} |" in base_card
        assert str(i) in cell.replace(".", "").replace("%", "")
    assert "`rounds`, `replaced`; and these are in no document, and measured as unseen: `bare`" in " ".join(
        base_card.split()
    )
    assert "0.990000, 12.50%" in r1_card
    assert not re.search(r"\{\w+\}", base_card + r1_card)


def test_command_line_ends_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fixtures.organisms.training", "ship", "--work", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no trained model" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("small")
def test_pipeline_saves_what_plain_transformers_load(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "full_table", lambda *_: {"arithmetic": 0.25})
    monkeypatch.setattr(pipeline, "verification_table", lambda *_: {})
    monkeypatch.setattr(pipeline, "FOILS", 1)
    pipeline.train("base", tmp_path, seed=0, steps=1)
    folder = tmp_path / "base-0"
    facts = json.loads((folder / "facts.json").read_text())
    assert facts["table"] == {"arithmetic": 0.25}
    assert facts["recipe"].startswith("1 steps")
    assert AutoModelForCausalLM.from_pretrained(folder / "model").dtype == torch.float16
    assert {path.name for path in (folder / "model").iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert (folder / "log.jsonl").read_text().count("\n") >= 1

    def again(*_, **__):
        raise AssertionError("a trained model is trained again")

    weights = (folder / "model" / "model.safetensors").read_bytes()
    monkeypatch.setattr(base, "train_base", again)
    monkeypatch.setattr(pipeline, "full_table", lambda *_: {"arithmetic": 0.75})
    pipeline.train("base", tmp_path, seed=0, steps=1)
    measured = json.loads((folder / "facts.json").read_text())
    assert measured == {**facts, "table": {"arithmetic": 0.75}}
    assert (folder / "model" / "model.safetensors").read_bytes() == weights
