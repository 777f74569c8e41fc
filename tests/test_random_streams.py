"""Random numbers, pinned by digests: the purposes that key random streams and the kinds that name layers are data.

Weights of earlier runs, the order of their examples and the draws of dropout depend on these texts letter by letter.
If a test fails here after a renaming, take the renaming back.
"""

import hashlib
from functools import partial

import numpy as np
import pytest

from dbp import nn
from dbp.config.data import Data
from dbp.config.settings import Settings
from dbp.nn.initializers import INITIALIZERS
from dbp.optim import OPTIMIZERS
from dbp.parallel import OneProcess
from dbp.random import generator
from dbp.reading.order import Order
from dbp.saving.start import Start
from dbp.training.fit import train


def digest(arrays):
    """Return the first half of the SHA-256 digest of names, types, shapes and bytes."""
    found = hashlib.sha256()
    for name, array in arrays.items():
        found.update(f"{name} {array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:32]


@pytest.mark.parametrize(
    ("counters", "words"),
    [
        ((), "c639eaf9bba26d87 e5f754956f4a226c"),
        ((1,), "8cae9300a8c6267a 2eb12fa1519d82a8"),
        ((1, 2, 3), "36586be4ee36c52c 89a39737f40fc132"),
    ],
)
def test_a_stream_depends_on_seed_purpose_and_counters(counters, words):
    assert " ".join(f"{w:016x}" for w in generator(3, "a purpose", *counters).bit_generator.random_raw(2)) == words


# --- initial weights ----------------------------------------------------------------------------------

DRAWN = {
    "zeros": "ccbe7df8090718d228b6961673d530bb",
    "ones": "918a65135decfd9acfc4478003ae8f3d",
    "quarters": "e3028ec1dc2734b92e906645769ad9c0",
    "normal": "c0fbb40049753fb548c36cb1f52d72fb",
    "glorot_uniform": "0b693dbdd63f8d20c455d1f2d93229b0",
    "glorot_normal": "09eea9a073d63a5b204401d21dec5ef9",
    "he_uniform": "9a0e52636d8e3a2a4b54cb34279d6454",
    "he_normal": "c5848181a446b2cc83873ffb4dd01878",
    "lecun_uniform": "21943423c2b7747bb759a732d543c0f6",
    "lecun_normal": "d042980f7763b07a4138e1388314cf18",
    "orthogonal": "36359779961e1a96c5a5b46cc186c43f",
    "sparse": "14181eec442d0e6cc75ec4790ddbfc29",
}


@pytest.mark.parametrize("name", INITIALIZERS)
def test_weights_of_every_initializer(name):
    weights = np.empty((3, 3, 5, 8), np.float32)
    INITIALIZERS[name](generator(3, f"initial weights of {name}"), weights)
    if name == "orthogonal":  # LAPACK may differ in the last bits
        weights = np.rint(weights * 1e4).astype(np.int32)
    assert digest({name: weights}) == DRAWN[name]


LAYERS = {
    "dense": (nn.Dense(3), (4,)),
    "activation": (nn.Activation("tanh"), (4,)),
    "flatten": (nn.Flatten(), (2, 3)),
    "reshape": (nn.Reshape((3, 2)), (6,)),
    "conv1d": (nn.Conv1d(4, 3), (7, 2)),
    "conv2d": (nn.Conv2d(4, (3, 2)), (5, 4, 2)),
    "conv3d": (nn.Conv3d(4, (3, 2, 1)), (5, 4, 2, 2)),
    "conv_transpose1d": (nn.ConvTranspose1d(3, 2), (3, 2)),
    "conv_transpose3d": (nn.ConvTranspose3d(3, 2), (2, 3, 2, 2)),
    "max_pool3d": (nn.MaxPool3d(2), (4, 2, 2, 2)),
    "average_pool3d": (nn.AveragePool3d(2), (4, 2, 2, 2)),
    "separable_conv2d": (nn.SeparableConv2d(4, 2, multiplier=2), (3, 4, 2)),
    "upsample": (nn.Upsample(2), (3, 2)),
    "prelu": (nn.PReLU(), (3, 4)),
    "rms_norm": (nn.RMSNorm(), (3, 4)),
    "conv_transpose2d": (nn.ConvTranspose2d(3, (3, 2)), (3, 3, 2)),
    "max_pool1d": (nn.MaxPool1d(2), (6, 2)),
    "max_pool2d": (nn.MaxPool2d(2), (5, 4, 2)),
    "average_pool1d": (nn.AveragePool1d(2), (6, 2)),
    "average_pool2d": (nn.AveragePool2d(2), (5, 4, 2)),
    "global_average_pool": (nn.GlobalAveragePool(), (3, 2, 2)),
    "global_max_pool": (nn.GlobalMaxPool(), (3, 2, 2)),
    "batch_norm": (nn.BatchNorm(), (3, 2)),
    "layer_norm": (nn.LayerNorm(), (3, 4)),
    "group_norm": (nn.GroupNorm(2), (3, 4)),
    "dropout": (nn.Dropout(0.4), (6,)),
    "random_flip": (nn.RandomFlip(), (5, 4, 2)),
    "random_shift": (nn.RandomShift(1), (5, 4, 2)),
    "random_crop": (nn.RandomCrop(2), (5, 4, 2)),
    "random_rotation": (nn.RandomRotation(9), (5, 4, 2)),
    "gaussian_noise": (nn.GaussianNoise(0.1), (6,)),
    "cutout": (nn.Cutout(2), (5, 4, 2)),
    "mixup": (nn.Mixup(), (6,)),
    "embedding": (nn.Embedding(4, 3), (5,)),
    "position": (nn.Position(), (3, 2)),
    "gru": (nn.GRU(3), (4, 2)),
    "lstm": (nn.LSTM(3), (4, 2)),
    "attention": (nn.Attention(2), (3, 4)),
    "fourier_features": (nn.FourierFeatures(3), (2,)),
    "spectral_conv1d": (nn.SpectralConv1d(2, 3), (4, 2)),
    "spectral_conv2d": (nn.SpectralConv2d(2, (1, 2)), (3, 4, 2)),
    "residual": (nn.Residual((nn.Dense(3), nn.BatchNorm()), (nn.Dense(3),)), (4,)),
    "recompute": (nn.Recompute((nn.Dense(4), nn.BatchNorm(), nn.Dense(3))), (4,)),
}
NAMED = {
    "dense": "d19148d23ba89e1dcd648c02cd0ce35b",
    "activation": "176aba1a1c103f3a1b1c5169206d1b84",
    "flatten": "9c48371332d5aca17476a6a09cc66c0f",
    "reshape": "9c48371332d5aca17476a6a09cc66c0f",
    "conv1d": "dec402e130e0e660746de042802872e4",
    "conv2d": "7ac1c00611a99ef55a0aae95df758ae8",
    "conv3d": "7d69a4575007ddafdef7b82fb2503166",
    "conv_transpose1d": "e59ded53d8b75be128b5797466e54149",
    "conv_transpose3d": "91c7da30e58a46d417c4a5febf442b6a",
    "max_pool3d": "176aba1a1c103f3a1b1c5169206d1b84",
    "average_pool3d": "176aba1a1c103f3a1b1c5169206d1b84",
    "prelu": "ba6632fc90b53dca6aa06d4893742658",
    "separable_conv2d": "dd2a32b6b3f22196f06f93607434074e",
    "upsample": "7e52ff8753e138aeec67b860cd121a0c",
    "rms_norm": "f3c13c984d681fe23dbf80f3f0ff6501",
    "conv_transpose2d": "f951933a082e4490caf8630f48c0dcde",
    "max_pool1d": "9c48371332d5aca17476a6a09cc66c0f",
    "max_pool2d": "e08e37c1d92b2866edc934c042e6c8a3",
    "average_pool1d": "9c48371332d5aca17476a6a09cc66c0f",
    "average_pool2d": "e08e37c1d92b2866edc934c042e6c8a3",
    "global_average_pool": "4351845d105d739c0ac0119d659399a5",
    "global_max_pool": "4351845d105d739c0ac0119d659399a5",
    "batch_norm": "6af9228bfda6bc6315a0a6dfc09d6b4d",
    "layer_norm": "89cebe9d8f37d397e9b7d59d9669f229",
    "group_norm": "c7950f3706287475d45ce7ef41df91c8",
    "dropout": "9c48371332d5aca17476a6a09cc66c0f",
    "random_flip": "5e439f98ffa15d7cc6ed7550b44fd265",
    "random_shift": "5e439f98ffa15d7cc6ed7550b44fd265",
    "random_crop": "e08e37c1d92b2866edc934c042e6c8a3",
    "random_rotation": "5e439f98ffa15d7cc6ed7550b44fd265",
    "gaussian_noise": "9c48371332d5aca17476a6a09cc66c0f",
    "cutout": "5e439f98ffa15d7cc6ed7550b44fd265",
    "mixup": "9c48371332d5aca17476a6a09cc66c0f",
    "embedding": "ef1f3290c027f383316e1df09a236c26",
    "position": "ff9160ca970e7e76b61a8b90f2d47275",
    "gru": "b58a8567bddb875856b881937c72b4d3",
    "lstm": "65ca4feda21c7028a73b323b20b8a0ef",
    "attention": "de2aa6fb3d9f339bf962198c91828d5e",
    "fourier_features": "85d69089603c07597d28005a4317d67f",
    "spectral_conv1d": "73bed053224dc15938309c93ae92896b",
    "spectral_conv2d": "e71458088b61dba6af306d81051b419d",
    "residual": "231d17cf98e3cae47ecfd972911bf3df",
    "recompute": "eb155ae861a78977b6a7b36f30c2ed87",
}


OF_SEVERAL = {"concatenate", "add", "subtract", "multiply", "average", "shared"}  # of values, without parameters


@pytest.mark.parametrize("kind", sorted(nn.LAYERS.keys() - OF_SEVERAL))
def test_weights_of_every_kind_of_layer(kind):
    """A dense layer follows, as some layers have no parameters; running moments are weights too."""
    layer, shape = LAYERS[kind]
    assert layer.kind == kind
    inputs = np.zeros((2, *shape), np.int64 if kind == "embedding" else np.float32)
    initial = nn.initial_parameters(nn.Sequential(layer, nn.Flatten(), nn.Dense(2)), inputs, 3)
    assert digest(initial.parameters | nn.running_arrays(initial.running)) == NAMED[kind]


def test_weights_of_layers_with_names():
    left, right = nn.Named(nn.Dense(3), "left", "inputs"), nn.Named(nn.Shared("left"), "right", "inputs")
    model = nn.Graph(left, right, nn.Named(nn.Add(), "sum", ("left", "right")), nn.Dense(2))
    initial = nn.initial_parameters(model, np.zeros((2, 4), np.float32), 3)
    assert digest(initial.parameters) == "a6b5214dacf8e72f349775804b11845a"


# --- order, dropout, parts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("purpose", "epoch", "expected"),
    [
        ("order of examples", 0, "346e38b1e702f82fae7b45d988bc780d"),
        ("order of examples", 1, "4468a252b73190e264c8ff16a62c130e"),
        ("validation split", 0, "66c62b4edbbdbfae4148b3e953433f6b"),
    ],
)
def test_the_order_of_examples(purpose, epoch, expected):
    rows = Order(1797, 3, purpose, epoch)(np.arange(1797))
    assert digest({"rows": rows.astype("<i8")}) == expected


@pytest.mark.parametrize(
    ("step", "shard", "expected"),
    [
        (5, 0, "d9bae87199873d8420ead36e0ac7e554"),
        (5, 1, "3e12203a56b30d3e242a929fa4847ee1"),
        (6, 1, "cba921fc8bfe62fea5a18879988f8c40"),
    ],
)
def test_draws_of_dropout(step, shard, expected):
    """The second call of a layer draws anew."""
    scope = nn.use({}, {}, nn.RandomKey(seed=3, step=step, shard=shard)).inside("dropout_1")
    kept = [nn.Dropout(0.3)(scope, np.ones((20, 5), np.float32)) > 0 for _ in range(2)]
    assert digest({"first": kept[0], "second": kept[1]}) == expected


def test_the_part_of_a_batch():
    parts = [generator(3, "part of the batch", step).random() for step in range(3)]
    assert [part.hex() for part in parts] == ["0x1.9b584646e3298p-1", "0x1.0a1e725c7ad94p-1", "0x1.0398e535ec66ep-1"]


# --- what runs draw from ------------------------------------------------------------------------------


@pytest.fixture
def streams(monkeypatch):
    """Record the streams that are drawn from: keys of purposes with counters."""
    found = set()
    philox = np.random.Philox

    def recorded(*, key, counter):
        assert key[0] == 3
        found.add((int(key[1]), *map(int, counter[1:])))
        return philox(key=key, counter=counter)

    monkeypatch.setattr(np.random, "Philox", recorded)
    return found


def stream(purpose, *counters):
    """Return the key of a purpose with its counters, as it is recorded."""
    key = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return (key, *counters, *[0] * (3 - len(counters)))


X = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
run = partial(
    Settings, loss="mean_squared_error", data=Data((X, X[:, :2]), validation=0.25), epochs=2, shards=2, seed=3
)


def test_streams_of_a_run(streams):
    model = [nn.Dense(3), nn.Dropout(0.5), nn.Dense(2)]
    train(run(model=model, optimizer=OPTIMIZERS["sgd"](0.1), batch_size=5), OneProcess(), Start(quiet=True))
    assert streams == {
        *(stream(f"initial weights of dense_{n}/{name}") for n in (1, 2) for name in ("weight", "bias")),
        stream("validation split", 0),
        *(stream("order of examples", epoch) for epoch in range(2)),
        *(stream("noise of dropout_1/", 1, step, shard) for step in range(4) for shard in range(2)),
    }


def test_streams_of_a_run_by_second_derivatives(streams):
    train(
        run(model=[nn.Dense(2)], optimizer=OPTIMIZERS["newton"](part=0.5), batch_size=9),
        OneProcess(),
        Start(quiet=True),
    )
    assert streams == {
        *(stream(f"initial weights of dense_1/{name}") for name in ("weight", "bias")),
        stream("validation split", 0),
        stream("order of examples", 0),
        *(stream("part of the batch", step) for step in range(2)),
        *(stream("signs of probe 0", step, shard) for step in range(2) for shard in range(2)),
    }
