"""Names of data files: groups, patterns, and data that comes with dbp."""

import pytest

from dbp.data import data_path, expand, with_path
from dbp.data.file_names import split_group
from dbp.errors import UserError


@pytest.mark.parametrize(
    ("name", "file", "group"),
    [
        ("a.h5", "a.h5", ""),
        ("all.h5:/train", "all.h5", "/train"),
        ("folder/all.h5:/train/big/", "folder/all.h5", "/train/big"),
        ("a:b.h5", "a:b.h5", ""),
        ("a.h5:/", "a.h5", ""),
    ],
)
def test_a_group_stands_behind_its_file(name, file, group):
    assert split_group(name) == (file, group)
    assert str(data_path(name)) == file
    assert with_path(name, lambda path: f"/data/{path}") == f"/data/{name.rstrip('/').removesuffix(':')}"


def test_packaged_data_has_no_path():
    assert with_path("dbp:digits-train", lambda path: f"/data/{path}") == "dbp:digits-train"
    assert data_path("dbp:digits-train").is_file()


def test_patterns_mean_files_in_the_order_of_their_names(tmp_path):
    for name in ("part-2.h5", "part-10.h5", "part-1.h5", ".part-3.h5", "other.h5", "odd[1].h5"):
        (tmp_path / name).touch()
    found = expand([f"{tmp_path}/part-*.h5", f"{tmp_path}/other.h5"])
    assert found == [f"{tmp_path}/{name}" for name in ("part-1.h5", "part-10.h5", "part-2.h5", "other.h5")]
    assert expand([f"{tmp_path}/part-?.h5:/train"]) == [f"{tmp_path}/part-{i}.h5:/train" for i in (1, 2)]
    assert expand([f"{tmp_path}/odd[1].h5"]) == [f"{tmp_path}/odd[1].h5"]


def test_a_file_that_is_named_twice_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a.h5").touch()
    (tmp_path / "link.h5").symlink_to("a.h5")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"^data file a.h5: is named twice, so that its examples would count twice; name"
    ):
        expand(["a.h5", "a.h5"])
    with pytest.raises(UserError, match=r"^data file link.h5: is named twice, also as a.h5, so"):
        expand(["*.h5"])
    assert expand(["a.h5:/one", "a.h5:/two"]) == ["a.h5:/one", "a.h5:/two"]


def test_a_pattern_is_relative_to_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.h5").touch()
    monkeypatch.chdir(tmp_path)
    assert expand(["**/*.h5"]) == ["deep/a.h5"]


def test_a_pattern_without_files_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"^data files .*part-\*.h5: there is none \(looked for /.*part-\*.h5\)$"):
        expand([f"{tmp_path}/part-*.h5"])
    with pytest.raises(UserError, match="a list of data files must have at least one, but is empty"):
        expand([])
