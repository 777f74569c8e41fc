"""The contents of a checkpoint as text: the best epoch, and lines that fit a terminal without losing anything."""

import dataclasses

import numpy as np

from dbp.checkpoint import Opened, find
from dbp.trained.contents import describe, describe_all
from tests.saving.short_runs import run


def test_the_best_epoch_is_named_only_where_there_is_one(tmp_path):
    run(tmp_path, epochs=2)
    with find(tmp_path, last=True) as found:
        best = found.progress["best_epoch"]
        assert f"\nbest epoch: {best} (" in describe(found)
        none = dataclasses.replace(found, progress={**found.progress, "best_epoch": 0})
        assert "best epoch" not in describe(none)


def test_all_of_a_checkpoint_fits_80_columns_and_nothing_is_lost(tmp_path):
    run(tmp_path, epochs=6)
    words = [f"class-{number}" for number in range(20)]
    layer = "{ " + ", ".join(f'setting_{number} = "of a layer"' for number in range(9)) + " }"
    with find(tmp_path, last=True) as found:
        text = describe_all(
            dataclasses.replace(
                found,
                config=f"[model]\nlayers = [\n    {layer},\n]\n",
                provenance={"processor": " ".join(words), "long": "x" * 70, "nothing": ""},
            )
        )
        cost = found.array("history/cost")
    lines = text.splitlines()
    assert max(map(len, lines[1:])) <= 80  # the first is the path
    start = lines.index("history")
    assert [line.split() for line in lines if line.startswith("  cost ")] == [
        ["cost", *(f"{value:.4f}" for value in np.split(cost, [4])[part])] for part in (0, 1)
    ]
    assert lines[start + 1].split() == ["epoch", "1", "2", "3", "4"]
    made = lines[lines.index("made with") + 1 : lines.index("arrays") - 1]
    assert made[0].startswith("  processor  class-0 class-1 ")
    assert " ".join(made[:-3]).split() == ["processor", *words]
    assert made[-3:] == ["  long", "      " + "x" * 70, "  nothing    -"]
    config = lines[lines.index("config") + 1 :]
    assert config[2].startswith('      { setting_0 = "of a layer", setting_1 = "of a layer",')
    assert config[3].startswith('          setting_2 = "of a layer",')
    assert " ".join(" ".join(config).split()) == f"[model] layers = [ {layer}, ]"


def test_a_name_without_room_beside_its_figures_continues_below_them(tmp_path, monkeypatch):
    run(tmp_path, epochs=4)
    read, number = Opened.array, -123456.75
    with find(tmp_path, last=True) as found:
        more = {"history/f1_a_long_name_of_a_class": found.entries["history/cost"]}
        monkeypatch.setattr(
            Opened, "array", lambda self, name: read(self, name) if name.endswith("epoch") else np.full(4, number)
        )
        lines = describe_all(dataclasses.replace(found, entries={**found.entries, **more})).splitlines()
    assert max(map(len, lines[1:])) <= 80
    at = lines.index("    class")
    assert lines[at - 1] == "  f1 a long name of a  " + "  ".join([f"{number:.4f}"] * 4)
