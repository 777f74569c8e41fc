"""The text of a first config, with comments for who changes it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dbp.starter.data_summary import DataSummary
from dbp.text import count_text

FEW, SOME, MANY = 20, 5000, 50_000  # examples: no validation below the first, larger mini-batches from the others on
LARGE_IMAGE = 24  # pixels along a side, from which on the first convolution halves the resolution

CONFIG = """\
# {title}
# Train, and later go on where the training has stopped; on two ranks put "dbp run -n 2 --" in place of "dbp":
#   dbp train {path}
# All keys are in docs/config.md; change one for a single run with --set, such as --set epochs=5.

out = "run"  # folder of checkpoints, log and history, beside this file
loss = "{loss}"  # {why_loss}
epochs = {epochs}  # passes over the training examples
batch_size = {batch_size}  # examples in a mini-batch, over all ranks
shards = {shards}  # parts of a mini-batch; the result depends on this number, not on that of the ranks
seed = 0  # of initial weights, order of examples and split

[data]
{data}

[model]
layers = [
{layers}
]

[optimizer]
kind = "adam"
learning_rate = {learning_rate}  # the first number to try others for: a third, or three times as much
{stopping}"""
STOPPING = """
[early_stopping]
patience = 10  # the run ends when the validation cost was not better for so many epochs
"""
TABLE = [
    '    { kind = "dense", units = %d, activation = "relu" },  # more units fit more, and overfit sooner',
    '    { kind = "dense", units = %d, activation = "relu" },',
    '    # { kind = "dropout", rate = 0.2 },  # against overfitting: training cost far below validation cost',
]
IMAGE = [
    '    # { kind = "random_flip" },  # augmentation, if left and right do not matter',
    '    # { kind = "random_shift", size = 2 },  # augmentation by up to two pixels',
    '    { kind = "conv2d", filters = 16, size = 3, stride = %d, padding = "same", activation = "relu" },',
    '    { kind = "residual", activation = "relu", layers = [',
    '        { kind = "conv2d", filters = 16, size = 3, padding = "same", activation = "relu" },',
    '        { kind = "conv2d", filters = 16, size = 3, padding = "same" },',
    "    ] },",
    '    { kind = "conv2d", filters = 32, size = 3, stride = 2, padding = "same", activation = "relu" },',
    '    { kind = "residual", activation = "relu", layers = [',
    '        { kind = "conv2d", filters = 32, size = 3, padding = "same", activation = "relu" },',
    '        { kind = "conv2d", filters = 32, size = 3, padding = "same" },',
    "    ] },",
    '    { kind = "global_average_pool" },',
]


def config_text(
    path: str, train: str, summary: DataSummary, names: Sequence[tuple[str, str]] = (), test: str = ""
) -> str:
    """Return the text of a config.

    Args:
        path: of the config, as its comments name it.
        train: the training data, as a config names it.
        summary: what it holds.
        names: of columns, by the settings that name them, such as "inputs".
        test: the test data, if there is any.
    """
    held = summary.examples >= FEW
    count = round(0.8 * summary.examples) if held else summary.examples
    batch_size = min(count, 32 if count < SOME else 128 if count < MANY else 256)
    return CONFIG.format(
        title=f"From {summary}.".replace("\n", " "),
        path=path,
        loss="cross_entropy" if summary.classes else "mean_squared_error",
        why_loss="for classes" if summary.classes else "for numbers",
        epochs=_epochs(count, batch_size),
        batch_size=batch_size,
        shards=min(4, batch_size),
        data="\n".join(_data_lines(train, summary, names, test, held)),
        layers="\n".join(_layers(summary)),
        learning_rate="3e-3",
        stopping=STOPPING if held else "",
    )


def _epochs(count: int, batch_size: int) -> int:
    """Return epochs of about two thousand steps, but from 10 to 50."""
    return max(10, min(50, 2000 // max(1, count // batch_size)))


def _data_lines(train: str, summary: DataSummary, names: Sequence[tuple[str, str]], test: str, held: bool) -> list[str]:
    lines = [f"train = {_quoted(train)}", *(f"{setting} = {_quoted(name)}" for setting, name in names)]
    if held:
        stratified = summary.classes and summary.rarest >= 5
        part = '{ part = 0.2, take = "stratified" }' if stratified else "0.2"
        lines.append(f"validation = {part}  # the part that is held out, and evaluated after every epoch")
    else:
        few = count_text(summary.examples, "example")
        lines.append(f"# validation = 0.2  # a part that is held out; {few} are few for one")
    other = _quoted(test) if test else '"test.h5"'
    lines.append(f"{'' if test else '# '}test = {other}  # other examples, evaluated once at the end")
    if not summary.classes:
        which = "targets" if summary.are_pixels else "both"
        lines.append(f'standardize = "{which}"  # by mean and deviation, which are kept with the model')
    elif not summary.are_pixels:
        lines.append('standardize = "inputs"  # by mean and deviation, which are kept with the model')
    return lines


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _layers(summary: DataSummary) -> list[str]:
    if summary.is_image:
        stride = 2 if min(summary.input_shape[:2]) >= LARGE_IMAGE else 1
        lines = [line % stride if "%d" in line else line for line in IMAGE]
        if len(summary.input_shape) == 2:
            shape = [*summary.input_shape, 1]
            lines.insert(0, f'    {{ kind = "reshape", shape = {shape} }},  # height, width, channels')
    else:
        units = 64 if summary.examples < SOME else 128
        lines = [line % units if "%d" in line else line for line in TABLE]
        if len(summary.input_shape) > 1:
            lines.insert(0, '    { kind = "flatten" },')
    why = "one output for each class" if summary.classes else "one output for each number"
    return [*lines, f'    {{ kind = "dense", units = {summary.outputs} }},  # {why}']
