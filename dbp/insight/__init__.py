"""Insight into a model: what it consists of and costs, what each neuron adds to the error, what a change would do."""

from dbp.insight.neurons import LayerNeurons, Neurons, neurons
from dbp.insight.summary import Summary, summary
from dbp.insight.what_if import WhatIf, what_if

__all__ = ["LayerNeurons", "Neurons", "Summary", "WhatIf", "neurons", "summary", "what_if"]
