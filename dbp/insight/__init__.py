"""Insight into a model: layers and costs, contributions of neurons to the error, effects of changed weights."""

from dbp.insight.neurons import LayerNeurons, Neurons, neurons
from dbp.insight.what_if import WhatIf, what_if
from dbp.summary import Summary, summary

__all__ = ["LayerNeurons", "Neurons", "Summary", "WhatIf", "neurons", "summary", "what_if"]
