"""A deep autoencoder: images of digits through 8 numbers and back, beside what PCA keeps in 8 numbers.

A mean squared error of 0.0112 on the test images, that of PCA being 0.0244, in 4 s on two cores:
    dbp run -n 2 -- examples/autoencoder.py
"""

import argparse

import numpy as np

import dbp
from dbp.data import HDF5Dataset
from dbp.nn import Dense, Sequential
from dbp.parallel import world

CODE = 8

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=100)
epochs = parser.parse_args().epochs

model = Sequential(
    *(Dense(128, "gelu"), Dense(64, "gelu"), Dense(CODE)),
    *(Dense(64, "gelu"), Dense(128, "gelu"), Dense(64)),
)
train, test = (
    HDF5Dataset(f"dbp:digits-{part}").read(slice(None)).inputs.reshape(-1, 64) / 16 for part in ("train", "test")
)
trained = dbp.fit(
    model=model,
    loss="mean_squared_error",
    data=dbp.Data(train=(train, train), test=(test, test)),  # the targets are the inputs
    optimizer=dbp.optim.Adam(learning_rate=3e-3),
    schedule=dbp.optim.Cosine(),
    epochs=epochs,
    batch_size=64,
    shards=4,
)

by_network = trained.predict(test)  # on all ranks together
if world().rank == 0:
    center = train.mean(axis=0)
    axes = np.linalg.svd(train - center, full_matrices=False)[2][:CODE]  # the principal components
    by_pca = center + (test - center) @ axes.T @ axes
    for name, restored in (("autoencoder", by_network), (f"PCA with {CODE} components", by_pca)):
        print(f"mean squared error of test images, {name}: {np.mean((restored - test) ** 2):.4f}")
