"""A config whose run takes some seconds, and the weights that it must come to."""

import pytest

from tests.jobs import SMALL, dbp, digest

EPOCHS = 6


@pytest.fixture
def folder(tmp_path):
    """Return a folder with a config whose run takes some seconds."""
    (tmp_path / "c.toml").write_text(f'out = "run"\n{SMALL}'.replace("epochs = 2", f"epochs = {EPOCHS}"))
    return tmp_path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Return the digest of that run when nothing interrupts it."""
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "c.toml").write_text(f'out = "run"\n{SMALL}'.replace("epochs = 2", f"epochs = {EPOCHS}"))
    outcome = dbp("train", "c.toml", cwd=folder)
    assert outcome.code == 0, outcome.text
    return digest(folder / "run")
