"""Config files and --set: paths are the config's, and nothing but a UserError of one line leaves them."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbp.config.config_file import load_table
from dbp.config.from_table import read_run_settings, read_settings
from dbp.errors import UserError
from tests.jobs import SMALL

DEEP = "x = " + "[" * 3000 + "]" * 3000


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(SMALL)
    return path


# --- paths ------------------------------------------------------------------------------------------------


def test_paths_in_a_config_are_relative_to_its_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c.toml").write_text(
        'weights = "w.h5"\n[data]\ntrain = "x.h5"\nvalidation = 0.1\ntest = "dbp:digits-test"\n'
    )
    monkeypatch.chdir(tmp_path)
    from_here = load_table(Path("a/c.toml"), [])
    assert (from_here["out"], from_here["weights"]) == ("a/runs/c", "a/w.h5")
    assert from_here["data"] == {"train": "a/x.h5", "validation": 0.1, "test": "dbp:digits-test"}
    (tmp_path / "a" / "part.toml").write_text('weights = { from = "w", only = ["dense_*"] }\n')
    assert load_table(Path("a/part.toml"), [])["weights"] == {"from": "a/w", "only": ["dense_*"]}
    monkeypatch.chdir("a")
    assert load_table(Path("c.toml"), [])["data"]["train"] == "x.h5"


def test_paths_in_changes_are_relative_to_the_current_folder(config):
    assert load_table(config, ["data.train=x.h5", "out=y"])["data"]["train"] == "x.h5"
    assert load_table(config, ["out=y"])["out"] == "y"
    assert load_table(config, ["out=y"], "ü 😀\x1b[31m")["out"] == "ü 😀\x1b[31m"


def test_a_run_does_not_take_the_folder_of_its_config(config, tmp_path):
    for out in (tmp_path, tmp_path.parent, f"{tmp_path}/x/.."):
        with pytest.raises(UserError, match=r"holds its config .*c.toml; give the run a folder of its own with --out"):
            read_run_settings(config, [], str(out))
    assert read_settings(config, [], str(tmp_path)).out == str(tmp_path)  # for a command that starts no run
    assert read_run_settings(config, [], str(tmp_path / "run")).out == str(tmp_path / "run")


# --- mistakes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"seed = {2**64}", "seed must be a whole number of at most 64 bits, but is 18446744073709551616"),
        (f"epochs = {10**30}", "epochs must be a whole number of at most 64 bits"),
        ("epochs = " + "9" * 5000, "is not valid TOML: .*digits"),
        (DEEP, "is not valid TOML: it is nested more than 50 deep"),
        ("x = " + "[" * 60 + "]" * 60, "is nested more than 50 deep"),
        ("x = " + "{a = " * 60 + "1" + "}" * 60, "is nested more than 50 deep"),
        ("a" + ".a" * 60 + " = 1", "is nested more than 50 deep"),
        ('out = "a\\u0000b"', r"out must be text in UTF-8 without zero bytes, but is '.*a.*x00b'"),
        ('data.train = "\\u0000"', "data.train must be text in UTF-8 without zero bytes"),
        ("\ufeff", "is not valid TOML"),
    ],
    ids=lambda text: text[:20],
)
def test_what_no_run_can_hold_is_refused(tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_table(tmp_path / "c.toml", [])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.layers.²=3", "there is no '²'"),
        ("model.layers." + "9" * 5000 + "=3", "there is no '999"),
        ("a" + ".a" * 5000 + "=3", "nested more than 50 deep"),
        ("epochs=1\nseed = 2", "takes one value, but got '1"),
        (f"epochs={10**30}", "epochs must be a whole number of at most 64 bits"),
        ("epochs=" + "9" * 5000, "epochs must be a whole number, but is '999"),
        ("model=" + "[" * 3000, r"model must be a table, but is '\[\[\["),
        ("out=a\udcffb", r"out must be text in UTF-8 without zero bytes, but is 'a\\udcffb'"),
        ("watch.end_after=inf", "watch.end_after must be finite, but is inf; take 0 for never"),
        ("watch.recover_within=inf", "watch.recover_within must be finite, but is inf"),
        ("early_stopping.least_change=inf", "early_stopping.least_change must be finite, but is inf"),
        ("data.scale=nan", "data.scale must be a finite number other than 0, or one for each column, but is nan"),
        ("optimizer.layer_rates={a=nan}", "must be a positive number, but is nan"),
        (f"epochs={10**9 + 1}", "epochs must be at most 1,000,000,000, but is 1000000001"),
        ("shards=100_000_000", "shards must be at most 65,536, but is 100000000"),
        ("threads=100_000", "threads must be at most 1,024, but is 100000"),
        ("batch_size=10_000_000_000", "batch_size must be at most 1,000,000,000"),
    ],
    ids=lambda text: text[:30],
)
def test_changes_that_no_run_can_hold_are_refused(config, change, message):
    with pytest.raises(UserError, match=message) as error:
        read_settings(config, [change])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


# --- what is thrown at it at random ---------------------------------------------------------------------------

LEAVES = (
    st.none()
    | st.sampled_from(["inf", "-inf", "nan", "1979-05-27", "07:32:00", "[]", "{}", '""', "true", "1e400", "-0.0"])
    | st.integers(-(10**30), 10**30).map(str)
    | st.floats().map(str)
    | st.text(max_size=8).map(lambda text: '"' + text + '"')
    | st.text(max_size=8)
)
WORDS = re.findall(r"[a-z_0-9]{2,}", SMALL)
KEYS = st.sampled_from(WORDS) | st.text(max_size=4) | st.sampled_from(["0", "1", "-1", "²", "layers", ""])
VALUES = st.recursive(
    LEAVES.map(str),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(KEYS, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key} = {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=5,
)


def _only_a_user_error_of_one_line(config, *changes):
    message = ""
    try:
        read_settings(config, list(changes))
    except UserError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 1000


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "c.toml"
    path.write_text(SMALL)
    return path


@settings(max_examples=300, deadline=None)
@given(path=st.lists(KEYS, min_size=1, max_size=4), value=VALUES)
def test_any_change_is_taken_or_refused(small, path, value):
    _only_a_user_error_of_one_line(small, f"{'.'.join(path)}={value}")


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SMALL)), st.integers(0, 12), st.text(max_size=6) | VALUES)
def test_any_file_is_taken_or_refused(small, first, count, new):
    file = small.with_name("changed.toml")
    file.write_text(SMALL[:first] + new + SMALL[first + count :], errors="surrogatepass")
    _only_a_user_error_of_one_line(file)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_taken_or_refused(small, content):
    file = small.with_name("bytes.toml")
    file.write_bytes(content)
    _only_a_user_error_of_one_line(file)
