"""What a trained model makes of a data set: its confusion matrix, and the images that it takes for something else."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dbp.nn import JointLoss
from dbp.report.images import data_uri, image_shape
from dbp.report.markup import Markup, figure, section, tag
from dbp.trained.evaluator import Evaluator
from dbp.types import Array

MOST_IMAGES = 24
MOST_CLASSES = 1000  # of a confusion matrix


@dataclass
class Mistakes:
    """The examples that a model takes for another class.

    Args:
        confusion: how many examples of a class (row) are taken for a class (column).
        images: the wrong ones that the model was surest of, as a heap: the probability of the class (0 where the loss
            has none), the number of the row, negative, the target, the class, and the pixels.
    """

    confusion: Array
    images: list[tuple[float, int, int, int, Array]] = field(default_factory=list)


def mistakes_of(evaluator: Evaluator) -> Mistakes | None:
    """Return the mistakes of a model with one class per example; None for other models. One process alone.

    Of several targets there are none: their tables are those of `dbp eval --report`.
    """
    trained = evaluator.trained
    if isinstance(trained.loss, JointLoss):
        return None
    count = trained.output_shape[0] if len(trained.output_shape) == 1 else 0
    if not 1 < count <= MOST_CLASSES:
        return None
    found = Mistakes(np.zeros((count, count)))
    rows_at_a_time = trained.rows_at_a_time
    for start in range(0, len(trained.data), rows_at_a_time):
        rows = slice(start, min(start + rows_at_a_time, len(trained.data)))
        stored, (inputs, _, mask) = trained.data.read(rows), trained.read(rows)
        predicted = trained.loss.predict(trained.outputs(inputs, mask))
        targets = np.asarray(stored.targets)
        if "classes" not in predicted or targets.shape != (len(inputs),) or targets.dtype.kind not in "iu":
            return None
        classes, weights = predicted["classes"], stored.weights
        counts = np.ones(len(targets)) if weights is None else weights
        known = (targets >= 0) & (targets < count) & (classes >= 0) & (counts > 0)
        np.add.at(found.confusion, (targets[known], classes[known]), counts[known])
        if isinstance(trained.data.input_shape, tuple) and image_shape(trained.data.input_shape) is not None:
            _keep(found, start, stored.inputs, targets, predicted, known)
    return found


def _keep(
    found: Mistakes, start: int, inputs: Array, targets: Array, predicted: dict[str, Array], known: Array
) -> None:
    """Keep the images of the wrong examples with the highest probabilities."""
    classes, probabilities = predicted["classes"], predicted.get("probabilities")
    for row in np.flatnonzero(known & (classes != targets)):
        sure = 0.0 if probabilities is None else float(probabilities[row, classes[row]])
        item = (sure, -start - int(row), int(targets[row]), int(classes[row]))
        if len(found.images) < MOST_IMAGES or item > found.images[0][:4]:
            push = heapq.heappush if len(found.images) < MOST_IMAGES else heapq.heapreplace
            push(found.images, (*item, np.array(inputs[row])))


def images_of(found: Mistakes, classes: Sequence[str], data: str) -> Markup:
    """Return the section with the images that the model takes for something else; empty without any.

    Args:
        found: the mistakes.
        classes: names of the classes; empty if they are not known.
        data: the name of the data set.
    """
    if not found.images:
        return Markup()
    shape = image_shape(found.images[0][4].shape)
    assert shape is not None
    least = min(float(np.nanmin(pixels)) for *_, pixels in found.images)
    most = max(float(np.nanmax(pixels)) for *_, pixels in found.images)

    def name(number: int) -> str:
        return classes[number] if number < len(classes) else str(number)

    shown = [
        tag(
            "li",
            tag("img", src=data_uri(pixels.reshape(shape), least, most), alt=f"example {-row}", loading="lazy"),
            tag("span", tag("b", name(target)), f" taken for {name(chosen)}"),
            tag("small", f"{sure:.0%} sure, " if sure else "", f"example {-row:,}"),
        )
        for sure, row, target, chosen, pixels in sorted(found.images, key=lambda item: item[:2], reverse=True)
    ]
    lead = f"Examples of {data} that the model takes for another class, those first of which it is surest."
    return section(
        "Mistaken for something else", figure(None, tag("ol", shown, class_="images"), class_="card full"), lead=lead
    )
