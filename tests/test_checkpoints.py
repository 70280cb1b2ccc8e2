"""`--model SPEC`: what each specification means, and what is refused before any weights are read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.checkpoints import Checkpoint, locate, precheck, resolve
from fixtures.checkpoints.aliases import CLAIM_KEY, Expectation, read_aliases
from fixtures.checkpoints.weight_files import weights_in
from mechinterp.errors import MechinterpError

ROOT = Path(__file__).parents[1]
MODELS = """
[small]
about = "a small model"
folder = "small"
[small.expected]
"heads.three_suffice" = {verdict = "refuted", reason = "it has two heads"}
"steer.transfer[prior]" = {verdict = "inconclusive", reason = "too few problems"}

[theirs]
about = "a folder that the user names"
user_folder = true
[theirs.expected]
"probe.decodable" = {verdict = "refuted", reason = "its own reason"}

[online]
about = "a model on the hub"
hub = "owner/name"
revision = "abc"
"""


def make_folder(folder: Path, model_type: str = "qwen2", **config: object) -> Path:
    """A folder that looks like a checkpoint from outside."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type, **config}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 16)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "step_300")


@pytest.fixture
def read(tmp_path: Path) -> Callable:
    """Reads a models.toml with this text; each text is a file of its own."""

    def read(text: str):
        path = tmp_path / "models.toml"
        path.write_text(text)
        read_aliases.cache_clear()
        return read_aliases(path)

    return read


def refusal(act: Callable, *arguments: object) -> str:
    with pytest.raises(MechinterpError) as caught:
        act(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- models.toml


def test_shipped_aliases_are_valid():
    """models.toml can be read, and names the models of the findings."""
    assert {
        "base", "r1", "tinyzero", "qwen2.5-3b", "r1-distill-llama-8b", "r1-distill-qwen-1.5b",
        "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b",
    } == set(read_aliases())  # fmt: skip


def test_expectations_are_data_with_reasons(read):
    """A case has its own expectation, else its claim's, else "holds"."""
    checkpoint = Checkpoint("small", "folder", "/", expected=read(MODELS)["small"].expected)
    assert checkpoint.expects("heads.three_suffice").verdict == "refuted"
    assert checkpoint.expects("heads.three_suffice", "any case").reason == "it has two heads"
    assert checkpoint.expects("steer.transfer", "prior").verdict == "inconclusive"
    assert checkpoint.expects("steer.transfer", "other").verdict == "holds"
    assert checkpoint.expects("steer.transfer").verdict == "holds"


def test_tiers_have_expectations_of_their_own():
    """What is expected of the audited claim says nothing of the source's own protocol, nor the other way round."""
    table = {
        "a.b": "refuted", "a.b[x]": "inconclusive", "c.d@as_published": "refuted", "c.d[x]@as_published": "error",
    }  # fmt: skip
    expected = {key: Expectation(verdict, "a reason") for key, verdict in table.items()}
    checkpoint = Checkpoint("small", "folder", "/", expected=expected)

    def verdicts(claim, tier):
        return [checkpoint.expects(claim, case, tier).verdict for case in (None, "x", "y")]

    assert verdicts("a.b", "audited") == ["refuted", "inconclusive", "refuted"]
    assert verdicts("a.b", "as_published") == ["holds", "holds", "holds"]
    assert verdicts("c.d", "audited") == ["holds", "holds", "holds"]
    assert verdicts("c.d", "as_published") == ["refuted", "error", "refuted"]
    assert checkpoint.unmatched({"a.b", "a.b[x]", "c.d", "c.d[x]"}) == ["c.d@as_published", "c.d[x]@as_published"]


def test_expectation_of_no_claim_is_found(read):
    """An expectation that names no known claim or case is listed, so that it can be an error."""
    checkpoint = Checkpoint("small", "folder", "/", expected=read(MODELS)["small"].expected)
    assert checkpoint.unmatched({"heads.three_suffice"}) == ["steer.transfer[prior]"]
    assert checkpoint.unmatched({"heads.three_suffice", "steer.transfer[prior]"}) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[a]\nabout = 'x'\nhub = 'o/n'\nspeed = 3", "unknown key 'speed'"),
        ("[a]\nabout = 'x'", "names no model"),
        ("[a]\nabout = 'x'\nhub = 'o/n'\nfolder = 'f'", "both hub and folder"),
        ("[a]\nabout = 'x'\nuser_folder = false", "names no model"),
        ("[a]\nhub = 'o/n'", "`about` is missing"),
        ("[a]\nabout = 'x'\nhub = 'no-owner'", "expected owner/name"),
        ("[a]\nabout = 'x'\nhub = 3", "hub is 3; expected str"),
        ("[a]\nabout = 'x'\nfolder = 'f'\nrevision = 'r'", "revision without a hub id"),
        ("['a/b']\nabout = 'x'\nhub = 'o/n'", "letters, digits"),
        ("loose = 1", "outside of a table"),
        ("[a", "cannot be read"),
        ("[a]\nabout='x'\nhub='o/n'\nexpected={'p.d'={verdict='maybe', reason='r'}}", "'maybe' is not a verdict"),
        ("[a]\nabout='x'\nhub='o/n'\nexpected={'p.d'={verdict='refuted'}}", "reason"),
        ("[a]\nabout='x'\nhub='o/n'\nexpected={'p.d'={verdict='refuted', reason=' '}}", "reason is empty"),
        ("[a]\nabout='x'\nhub='o/n'\nexpected={'p.d'={verdict='refuted', reason='r', tier='x'}}", "found"),
        ("[a]\nabout='x'\nhub='o/n'\n[a.expected]\nheads.three = {verdict='refuted', reason='r'}", "in quotes"),
        ("[a]\nabout='x'\nhub='o/n'\nexpected={'p.d'='refuted'}", "expected {verdict"),
    ],
)
def test_bad_entry_is_refused_when_read(read, text, says):
    """A mistake in models.toml is one line that names the file and the mistake."""
    message = refusal(read, text)
    assert "models.toml" in message
    assert says in message


def test_claim_keys():
    """An expectation names a claim or one case of it, and the tier if that is not the audited one."""
    for key in ("heads.three_suffice", "probe.decodable[layer 3]", "a.b@as_published", "a.b[x]@as_published"):
        assert CLAIM_KEY.fullmatch(key)
    for key in ("heads", "heads.", "Heads.x", "a.b[", "a.b[]", "a.b[x] ", "a.b@audited", "a.b@as_published[x]", "a.b@"):
        assert not CLAIM_KEY.fullmatch(key)


# --- what a specification means


def test_shipped_base_resolves():
    """The embedded default is there, with its organism."""
    base = resolve("base")
    assert (base.name, base.kind, base.revision) == ("base", "folder", None)
    assert locate(base).name == "base"
    precheck(base)


def test_alias_of_the_hub(read):
    """An alias brings hub id, revision and expectations along."""
    online = resolve(" online ", read(MODELS))
    assert (online.name, online.kind, online.location, online.revision) == ("online", "hub", "owner/name", "abc")
    assert resolve("qwen2.5-3b").location == "Qwen/Qwen2.5-3B"


def test_folder(folder):
    """A folder is named after itself, wherever it is given from."""
    assert resolve(str(folder)) == Checkpoint("step_300", "folder", str(folder))


def test_relative_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert resolve(".").name == "step_300"


@pytest.mark.parametrize(
    ("spec", "repository", "revision"),
    [
        ("o/n", "o/n", None),
        ("o/n@v1", "o/n", "v1"),
        ("o/n@refs/pr/3", "o/n", "refs/pr/3"),
        ("O-1/n.2_x", "O-1/n.2_x", None),
    ],
)
def test_hub_id(spec, repository, revision):
    """owner/name, with @revision, is looked for on the hub; its name keeps the revision, so two of them differ."""
    assert resolve(spec) == Checkpoint(spec, "hub", repository, revision)


def test_gguf(tmp_path):
    """A .gguf file is known by its first bytes and named after its stem."""
    path = tmp_path / "model-q4.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 20)
    assert resolve(str(path)) == Checkpoint("model-q4", "gguf", str(path))


def test_any_specification_can_be_named(folder):
    """NAME=SPEC gives a name to whatever SPEC means."""
    assert resolve(f"mine={folder}") == Checkpoint("mine", "folder", str(folder))
    assert resolve("mine=o/n@v1") == Checkpoint("mine", "hub", "o/n", "v1")
    assert resolve("mine=base").location == resolve("base").location


def test_expectations_go_with_the_name_of_an_alias(read, folder):
    """`tinyzero=FOLDER` expects of the folder what is expected of tinyzero."""
    theirs = resolve(f"theirs={folder}", read(MODELS))
    assert (theirs.name, theirs.location) == ("theirs", str(folder))
    assert theirs.expects("probe.decodable").reason == "its own reason"
    assert resolve("tinyzero=o/n").name == "tinyzero"


def test_alias_before_path_before_hub(tmp_path, monkeypatch):
    """An alias hides a folder, `./` brings it back; a folder hides a hub id, `@main` brings it back."""
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "base")
    make_folder(tmp_path / "o" / "n")
    make_folder(tmp_path / "a=b")
    assert resolve("base").location != str(tmp_path / "base")
    assert resolve("./base").location == str(tmp_path / "base")
    assert resolve("o/n").kind == "folder"
    assert resolve("o/n@main").kind == "hub"
    assert resolve("a=b").name == "a=b"


# --- what is refused


@pytest.mark.parametrize("spec", ["", "   ", "\n"])
def test_empty_specification(spec):
    """Nothing given is an error that lists what could be."""
    assert "owner/name" in refusal(resolve, spec)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("bsae", "did you mean 'base'?"),
        ("gpt2", "unknown model 'gpt2'; give one of base, r1"),
        ("./nowhere", "does not exist"),
        ("/nowhere/at/all", "does not exist"),
        ("~nobody/x", "does not exist"),
        ("nowhere.gguf", "does not exist"),
        ("o/n@", "unknown model"),
        ("o/n/extra", "unknown model"),
        ("x=", "names nothing after the ="),
        ("tinyzero", "--model tinyzero=FOLDER"),
        ("x=tinyzero", "--model tinyzero=FOLDER"),
    ],
)
def test_what_names_nothing(spec, says):
    """What names no model is refused with the nearest thing that does."""
    assert says in refusal(resolve, spec)


@given(st.text() | st.text(alphabet="./~@=\na"))
def test_any_text_resolves_or_is_refused(text):
    """No text makes `resolve` fail in another way than by its own error."""
    try:
        said = resolve(text).name
    except MechinterpError as error:
        said = str(error)
    assert "\n" not in said


def test_organism_that_is_not_there(read):
    """An alias whose organism is not in the clone says so, and how to give one."""
    message = refusal(resolve, "small", read(MODELS))
    assert "not in this clone" in message
    assert "small=FOLDER" in message


@pytest.mark.parametrize(
    ("lacks", "says"),
    [("config.json", "no config.json"), ("tokenizer.json", "no tokenizer"), ("model.safetensors", "no weights")],
)
def test_incomplete_folder(folder, lacks, says):
    """A folder must hold configuration, tokenizer and weights."""
    (folder / lacks).unlink()
    assert says in refusal(resolve, str(folder))


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "model.pt", "consolidated.pth"])
def test_pickles_are_refused(folder, pickle):
    """Weights that are only there as pickles are never opened."""
    (folder / "model.safetensors").rename(folder / pickle)
    message = refusal(resolve, str(folder))
    assert pickle in message
    assert "convert them to safetensors" in message


def test_folder_of_gguf(folder):
    """A folder that only holds a .gguf file is told to name the file."""
    (folder / "config.json").unlink()
    (folder / "a.gguf").write_bytes(b"GGUF")
    assert f"name the file {folder / 'a.gguf'}" in refusal(resolve, str(folder))


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("config.json", "{", "is not JSON"),
        ("config.json", "[1]", "is not a JSON object"),
        ("config.json", '{"quantization_config": {"quant_method": "gptq"}}', "packed by gptq"),
        ("config.json", '{"quantization_config": "x"}', "packed by x"),
        ("config.json", '{"transformers_weights": "pytorch_model.bin"}', "transformers_weights"),
        ("adapter_config.json", "{}", "an adapter of kind None"),
    ],
)
def test_files_that_rule_a_folder_out(folder, file, text, says):
    """Corrupt configurations, packed weights, renamed weights and adapters are refused by what they are."""
    (folder / file).write_text(text)
    assert says in refusal(resolve, str(folder))


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}, "lacks two.safetensors, one of its 2"),
        ({"weight_map": {"a": "../one.safetensors"}}, "in the same folder"),
        ({"weight_map": {"a": "one.bin"}}, "in the same folder"),
        ({"weight_map": {"a": 3}}, "no weight_map"),
        ({"weight_map": {}}, "no weight_map"),
        ({}, "no weight_map"),
    ],
)
def test_incomplete_shards(folder, index, says):
    """Every shard of the index must be there, in the folder itself."""
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert says in refusal(resolve, str(folder))


def test_shards_are_listed_once(folder):
    """The weights of a sharded checkpoint are its shards, sorted."""
    for name in ("two", "one"):
        (folder / f"{name}.safetensors").write_bytes(b"")
    (folder / "model.safetensors").unlink()
    shards = {"a": "two.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert weights_in(folder) == [folder / "one.safetensors", folder / "two.safetensors"]


def test_file_that_is_not_gguf(folder):
    """A file is refused unless it starts with the bytes GGUF, whatever its name."""
    assert "not a GGUF file" in refusal(resolve, str(folder / "model.safetensors"))


def test_folder_that_hides_a_hub_id(tmp_path, monkeypatch):
    """A broken folder named like a hub id says how to mean the hub."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o" / "n").mkdir(parents=True)
    assert "o/n@main" in refusal(resolve, "o/n")


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "qwen2_moe"])
def test_unknown_family_is_refused_by_name(tmp_path, family):
    """A family that cannot be examined is refused by its configuration, before weights are read."""
    message = refusal(precheck, resolve(str(make_folder(tmp_path / "model", family))))
    assert repr(family) in message
    assert "Qwen2" in message


def test_torch_stays_out():
    """Resolving a model and importing the fingerprint load neither torch nor transformers."""
    code = (
        "import sys; import fixtures.checkpoints, fixtures.checkpoints; fixtures.checkpoints.resolve('base');"
        "fixtures.checkpoints.fingerprint(fixtures.checkpoints.resolve('base'));"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
