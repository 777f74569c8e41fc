"""The digits, trained from Python.

On two ranks: dbp run -n 2 -- examples/digits.py
"""

import dbp
from dbp.nn import Dense, Flatten

model = dbp.fit(
    model=[Flatten(), Dense(128, "relu"), Dense(10)],
    loss="cross_entropy",
    data=dbp.Data(train="dbp:digits-train", test="dbp:digits-test"),
    optimizer=dbp.optim.Adam(learning_rate=3e-3),
    epochs=5,
    batch_size=64,
    shards=4,
)
