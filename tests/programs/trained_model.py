"""Train on arrays, use the model, and print a digest of the results. Started by tests/trained/test_trained_model.py."""

import sys

import numpy as np

import dbp
from dbp.checkpoint import digest_arrays
from dbp.parallel import world
from tests.small_data import X, Y

x = X if "other" not in sys.argv[1:] or world().rank == 0 else X + 1
model = dbp.fit(
    model=[dbp.nn.Dense(700, "tanh"), dbp.nn.Dense(3)],  # so wide that rows are taken in several blocks
    loss="cross_entropy",
    data=dbp.Data(train=(X, Y), standardize="inputs"),
    optimizer="adam",
    epochs=2,
    batch_size=20,
    shards=3,
    quiet=True,
)
many = np.concatenate([x] * 40)
found = {
    "outputs": model.predict(many),
    "probabilities": model.predict_proba(many),
    "classes": model.predict_classes(many),
    "figures": np.array(list(model.evaluate((x, Y)).values())),
}
model.save("model.h5", overwrite=True)
again = dbp.load("model.h5")
found["again"] = again.predict(many)
if world().rank == 0:
    print("digest", digest_arrays(found), len(many))
