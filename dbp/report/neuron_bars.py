"""The strongest and the dead neurons of each layer, as bars."""

from __future__ import annotations

import numpy as np

from dbp.insight.neurons import LayerNeurons, Neurons
from dbp.report.markup import Markup, figure, grid, section, tag
from dbp.text import count_text

MOST_LAYERS, MOST_UNITS = 24, 8


def neurons_section(found: Neurons, data: str) -> Markup:
    """Return the section on the error contributions of neurons over a data set."""
    cards = [_layer(path, layer) for path, layer in list(found.layers.items())[:MOST_LAYERS]]
    lead = (
        f"What each unit adds to the error, over {found.examples:,} examples of {data}: the mean of |dloss/dz|, z the "
        "weighted input of the unit. The weights into a dead unit learn nothing from any of these examples."
    )
    return section("Neurons", grid(cards), lead=lead)


def _layer(path: str, layer: LayerNeurons) -> Markup:
    order = np.argsort(-layer.mean_magnitude, kind="stable")[:MOST_UNITS]
    most = float(layer.mean_magnitude[order[0]]) or 1.0
    bars = [
        tag(
            "li",
            tag("span", f"unit {unit}", class_="name"),
            tag("span", tag("i", style=f"width:{100 * layer.mean_magnitude[unit] / most:.1f}%"), class_="track"),
            tag("span", f"{layer.mean_magnitude[unit]:.2e}", class_="value"),
        )
        for unit in order
    ]
    units, dead = len(layer.silent), np.flatnonzero(layer.dead)
    numbers = ", ".join(map(str, dead[:10])) + (", ..." if len(dead) > 10 else "")
    words = f"{len(dead):,} dead ({len(dead) / units:.0%}): {numbers}" if len(dead) else "none dead"
    return figure(
        tag("span", tag("code", path), f", {count_text(units, 'unit')}"), tag("ol", bars, class_="bars"), note=words
    )
