"""What each rank of `dbp run` executes, and which commands it refuses."""

import sys

import pytest

from dbp.commands.run import rank_command
from dbp.errors import UserError


def test_commands_scripts_and_programs():
    assert rank_command(["train", "c.toml"]) == [sys.executable, "-m", "dbp", "train", "c.toml"]
    assert rank_command(["my.py", "1"]) == [sys.executable, "my.py", "1"]
    assert rank_command(["hostname"]) == ["hostname"]


@pytest.mark.parametrize("command", ["convert", "run", "status"])
def test_commands_that_would_only_be_repeated_are_refused(command):
    with pytest.raises(UserError, match=f"dbp {command} works in one process; start it without dbp run"):
        rank_command([command])
