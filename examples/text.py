"""A text, character by character: an LSTM or a transformer learns to guess the next one, and then writes.

60 % of a held-out text's characters guessed right by either (Python 3.11), in 90 s and 80 s on two cores:
    dbp run -n 2 -- examples/text.py lstm
    dbp run -n 2 -- examples/text.py transformer

The text is Python's own reference, which every Python brings along, or a file of yours: --text FILE
"""

import argparse
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

import dbp
from dbp.autodiff import softmax
from dbp.nn import LSTM, Attention, Dense, Embedding, LayerNorm, Position, Residual, Sequential, use
from dbp.parallel import world

LENGTH = 64  # characters that a model sees at once
CHANNELS = 64

parser = argparse.ArgumentParser()
parser.add_argument("model", choices=("lstm", "transformer"))
parser.add_argument("--text", type=Path)
parser.add_argument("--epochs", type=int, default=12)
arguments = parser.parse_args()


def lstm(entries):
    """Return a model that reads from left to right."""
    return Sequential(Embedding(entries, CHANNELS), LSTM(2 * CHANNELS), Dense(entries))


def transformer(entries, blocks=3):
    """Return a model that sees all earlier characters at once (Radford et al. 2019)."""
    attention = Residual((LayerNorm(), Attention(heads=4, causal=True)))
    dense = Residual((LayerNorm(), Dense(4 * CHANNELS, "gelu"), Dense(CHANNELS)))
    ends = Embedding(entries, CHANNELS), Position("zeros"), LayerNorm(), Dense(entries)
    return Sequential(*ends[:2], *(attention, dense) * blocks, *ends[2:])


def windows(numbers):
    """Return inputs (examples, LENGTH), and as the target of each character the one after it."""
    count = (len(numbers) - 1) // LENGTH
    cut = count * LENGTH
    return numbers[:cut].reshape(count, LENGTH), numbers[1 : cut + 1].reshape(count, LENGTH)


def write(model, weights, numbers, count, temperature=0.7):
    """Continue a text of LENGTH characters by `count` more, each drawn by its probability."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        logits = model(use(weights), numbers[None, -LENGTH:])[0, -1]
        probabilities = softmax(logits.astype(float) / temperature)
        numbers = np.append(numbers, rng.choice(len(probabilities), p=probabilities))
    return numbers[-count:]


try:
    text = arguments.text.read_text() if arguments.text else "\n".join(topics.values())
except (OSError, UnicodeDecodeError) as error:
    parser.exit(2, f"text.py: {arguments.text} cannot be read: {getattr(error, 'strerror', 'it is not text')}\n")
lines = [line.strip() for line in text.splitlines()]
text = "\n".join(line for line in lines if line[:1].isalpha())  # without tables, rules and code
characters, numbers = np.unique(list(text), return_inverse=True)
learned, held_out = np.split(numbers, [len(numbers) * 19 // 20])
model = {"lstm": lstm, "transformer": transformer}[arguments.model](len(characters))

trained = dbp.fit(
    model=model,
    loss="cross_entropy",
    data=dbp.Data(train=windows(learned), test=windows(held_out)),
    optimizer=dbp.optim.Adam(learning_rate=5e-3),
    schedule=dbp.optim.Cosine(warmup_steps=50),
    epochs=arguments.epochs,
    batch_size=32,
    shards=2,
)

if world().rank == 0:
    start = held_out[:LENGTH]
    written = write(model, trained.weights, start, 300)
    print("".join(characters[start]), "".join(characters[written]), sep=" ... ")
