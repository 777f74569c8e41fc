"""The digits, reported to Weights & Biases: settings, the numbers of every tenth step, of each epoch and of the test.

On two ranks, with `pip install wandb`: dbp run -n 2 -- examples/wandb_run.py
"""

import dbp
from dbp.listeners import End, Epoch, Start, Step
from dbp.nn import Dense, Flatten


@dbp.listener(every=10)
def report(event):
    """Report an event to the service, or to the folder wandb where WANDB_MODE is offline; called on rank 0 alone."""
    import wandb

    match event:
        case Start():
            wandb.init(project="digits", config=dict(event.settings))
        case Step():
            wandb.log({f"step/{name}": value for name, value in event.values.items()}, step=event.step)
        case Epoch():
            wandb.log({f"epoch/{name}": value for name, value in event.values.items()}, step=event.step)
        case End():
            wandb.log({f"test/{name}": value for name, value in event.values.items()}, step=event.step)
            wandb.finish(exit_code=1 if event.error else 0)


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
