"""Examples on their way to the model: their order, parts of a data set, and this rank's shards of a mini-batch."""
