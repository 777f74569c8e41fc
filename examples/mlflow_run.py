"""The digits, reported to MLflow: settings, the numbers of each epoch and the test, for `mlflow ui`.

On two ranks, with `pip install mlflow` (mlflow-skinny needs a server in MLFLOW_TRACKING_URI):

    dbp run -n 2 -- examples/mlflow_run.py
"""

import dbp
from dbp.listeners import End, Epoch, Start
from dbp.nn import Dense, Flatten


def report(event):
    """Report an event to the tracking server that MLFLOW_TRACKING_URI names; called on rank 0 alone."""
    import mlflow

    match event:
        case Start():
            mlflow.set_experiment("digits")
            mlflow.start_run()
            mlflow.log_params(dict(event.settings))
        case Epoch():
            mlflow.log_metrics(dict(event.values), step=event.step)
        case End():
            mlflow.log_metrics({f"test_{name}": value for name, value in event.values.items()})
            mlflow.end_run("FAILED" if event.error else "FINISHED")


dbp.fit(
    model=[Flatten(), Dense(32, "relu"), Dense(10)],
    loss="cross_entropy",
    data=dbp.Data(train="dbp:digits-train", test="dbp:digits-test"),
    optimizer=dbp.optim.Adam(3e-3),
    epochs=3,
    batch_size=64,
    shards=4,
    listeners=[report],
)
