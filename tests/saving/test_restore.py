"""Restoring a run from a folder with a damaged checkpoint."""

from dbp.checkpoint import checkpoints_of, digest_arrays, read
from dbp.saving.start import Start
from tests.saving.short_runs import run


def test_a_damaged_file_is_kept_under_another_name(tmp_path, capsys):
    whole = run(tmp_path)
    newest = checkpoints_of(tmp_path).files()[-1]
    newest.write_bytes(newest.read_bytes()[:-200])
    again = run(tmp_path, Start())
    assert digest_arrays(again.weights) == digest_arrays(whole.weights)
    assert f"warning: checkpoint {newest} is damaged" in capsys.readouterr().out
    assert newest.with_name(newest.name + ".damaged").exists()
    assert read(newest).progress["finished"]
