"""Names of weights, changed by patterns."""

import pytest

from dbp.errors import UserError
from dbp.nn.rename import renamed, rules_in


def test_renaming():
    names = ["net.0.weight", "net.0.bias", "net.10.weight", "encoder/block3/fc/weight", "head"]
    rules = ["net.0=dense_1", "net.*.weight=dense_*/weight", "encoder/block*/fc=residual_*/dense_1", "head=out/weight"]
    assert renamed(names, rules_in(rules)) == {
        "dense_1.weight": "net.0.weight",
        "dense_1.bias": "net.0.bias",
        "dense_10/weight": "net.10.weight",
        "residual_3/dense_1/weight": "encoder/block3/fc/weight",
        "out/weight": "head",
    }


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (["fc"], "takes OLD=NEW, but got 'fc'"),
        (["fc=dense_*"], r"every \* of the new name needs one in the old name"),
        (["ne=x"], r"--rename ne=x fits none of the weights; they are net\.0, net\.1"),
        (["net.*=same"], r"'net\.0' and 'net\.1' would both become 'same'"),
    ],
)
def test_renames_that_cannot_be_meant(rules, told):
    with pytest.raises(UserError, match=told):
        renamed(["net.0", "net.1"], rules_in(rules))
