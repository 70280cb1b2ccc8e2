"""Where a run took place, as far as it can be known."""

import subprocess
from importlib.metadata import version

import pytest

from reports.provenance import PACKAGES, environment, git_revision


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def commit(folder):
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--no-verify", "-m", "x")


@pytest.fixture
def clone(tmp_path):
    (tmp_path / "file").write_text("1")
    commit(tmp_path)
    return tmp_path


def test_environment(tmp_path):
    """Versions are those installed; a package that is not installed is None, and so is a commit outside a clone."""
    here = environment(tmp_path)
    assert set(here.versions) == set(PACKAGES)
    assert here.versions["numpy"] == version("numpy")
    assert (here.suite_revision, here.suite_dirty) == (None, None)


def test_clean(clone):
    """A clone without changes has a revision and is clean."""
    revision, dirty = git_revision(clone)
    assert len(revision) == 40
    assert dirty is False


@pytest.mark.parametrize("name", ["file", "new"])
def test_dirty(clone, name):
    """A changed file and a new one make a clone dirty."""
    (clone / name).write_text("2")
    assert git_revision(clone)[1] is True


def test_inside_another_clone(clone):
    """A folder inside a clone of something else has no revision of its own."""
    (clone / "below").mkdir()
    assert git_revision(clone / "below") == (None, None)


def test_in_a_hook(clone, tmp_path_factory, monkeypatch):
    """The repository that git names in a hook's environment is not taken for the suite's."""
    other = tmp_path_factory.mktemp("other")
    (other / "file").write_text("other")
    commit(other)
    revision = git_revision(clone)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert git_revision(clone) == revision


def test_no_git(clone, monkeypatch):
    """Without git there is no revision, and no error."""
    monkeypatch.setenv("PATH", "")
    assert git_revision(clone) == (None, None)


def test_no_commit(tmp_path):
    """A repository without a commit has no revision."""
    git(tmp_path, "init", "-q")
    assert git_revision(tmp_path) == (None, None)
