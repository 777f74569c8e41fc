"""The digest of a function's source: of its own code alone, whatever stands around it."""

import functools
import importlib.util

import pytest

from dbp.nn.source_text import digest_of_source, name_of


def digest_in(folder, text, name="loss"):
    """Return the digest of a function in a file with this text."""
    number = len(list(folder.iterdir()))
    path = folder / f"own_{number}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return digest_of_source(getattr(module, name))


PLAIN = "def loss(outputs, targets):\n    return outputs - targets\n"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("import os\n\n\n" + PLAIN, True),
        (PLAIN.replace("return outputs - targets", "# why\n    return (outputs -\n        targets)"), True),
        (PLAIN.replace("outputs - targets", "targets - outputs"), False),
        (PLAIN.replace("return", "targets = 2 * targets\n    return"), False),
    ],
)
def test_comments_and_neighbors_do_not_count(tmp_path, text, same):
    assert (digest_in(tmp_path, text) == digest_in(tmp_path, PLAIN)) is same


def test_a_lambda_is_told_from_its_neighbor_on_the_line(tmp_path):
    line = "pair = [lambda o, t: o - t, lambda o, t: t - o]; epochs = {}\nloss, other = pair\n"
    digests = [digest_in(tmp_path, line.format(1)), digest_in(tmp_path, line.format(1), "other")]
    assert digests[0] != digests[1]
    assert digests == [digest_in(tmp_path, line.format(2)), digest_in(tmp_path, line.format(2), "other")]


def test_without_a_source_the_bytecode_counts():
    first, same, other = (eval(f"lambda o, t: o {sign} t") for sign in "--+")
    assert digest_of_source(first) == digest_of_source(same) != digest_of_source(other)


def test_names():
    def inner():
        pass

    assert name_of(inner) == "inner"
    assert name_of(functools.partial(inner)) == "inner"
    assert name_of(test_names) == "test_names"
