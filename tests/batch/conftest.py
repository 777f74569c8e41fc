"""A run of some seconds, and what it comes to."""

import pytest

from tests.jobs import SMALL, dbp, digest

EPOCHS = 6


@pytest.fixture
def folder(tmp_path):
    """With a config whose run takes some seconds."""
    (tmp_path / "c.toml").write_text(f'out = "run"\n{SMALL}'.replace("epochs = 2", f"epochs = {EPOCHS}"))
    return tmp_path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The digest of that run if nothing happens to it."""
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "c.toml").write_text(f'out = "run"\n{SMALL}'.replace("epochs = 2", f"epochs = {EPOCHS}"))
    outcome = dbp("train", "c.toml", cwd=folder)
    assert outcome.code == 0, outcome.text
    return digest(folder / "run")
