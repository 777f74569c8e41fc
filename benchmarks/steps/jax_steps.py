"""JAX's side: the whole step jitted, with donated parameters, in one process on two processors."""

from __future__ import annotations

import os
import time

from cases import CLASSES, RANKS, TOKENS, Case
from measure import Alone, Report, Step, take_first_steps

if hasattr(os, "sched_setaffinity"):  # XLA starts a thread for each processor that it may use
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:RANKS])

import jax
import jax.numpy as jnp
import numpy as np
from jax_layers import DIMENSIONS, Builder


def sgd(w: jax.Array, g: jax.Array, state: tuple[jax.Array, ...], _number: jax.Array) -> tuple:
    """Update by SGD with momentum 0.9 and learning rate 0.01."""
    velocity = 0.9 * state[0] + g
    return w - 0.01 * velocity, (velocity,)


def adam(w: jax.Array, g: jax.Array, state: tuple[jax.Array, ...], number: jax.Array) -> tuple:
    """Update by Adam with its usual settings and learning rate 0.001."""
    m = 0.9 * state[0] + 0.1 * g
    v = 0.999 * state[1] + 0.001 * g * g
    root = jnp.sqrt(v / (1 - 0.999**number)) + 1e-8
    return w - 0.001 * (m / (1 - 0.9**number)) / root, (m, v)


def cost_of(case: Case, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the mean of the losses, over the positions too if each has one."""
    if case.autoencoder:
        return jnp.mean((outputs - targets) ** 2)
    chosen = jnp.take_along_axis(outputs, targets[..., None], axis=-1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(outputs, axis=-1) - chosen)


def data_of(case: Case, layout: str) -> tuple[jax.Array, jax.Array]:
    """Return the inputs and targets of one mini-batch."""
    rng, examples = np.random.default_rng(0), case.batch * RANKS
    if case.language:
        tokens = rng.integers(TOKENS, size=(examples, case.shape[0] + 1))
        return jnp.array(tokens[:, :-1]), jnp.array(tokens[:, 1:])
    inputs = rng.standard_normal((examples, *case.shape), np.float32)
    if case.images and layout == "NCHW":
        inputs = inputs.transpose(0, 3, 1, 2)
    x = jnp.array(inputs)
    return x, x if case.autoencoder else jnp.array(rng.integers(CLASSES, size=examples))


def step_of(case: Case, layout: str) -> tuple[Step, Alone]:
    """Return a training step, and the ranks object that waits for it."""
    x, targets = data_of(case, layout)
    parameters, forward = Builder(layout).network(case.network, x)
    rule, vectors = (adam, 2) if case.adam else (sgd, 1)

    def update(parameters: list, state: list, number: jax.Array, x: jax.Array, targets: jax.Array) -> tuple:
        def cost(parameters: list) -> jax.Array:
            return cost_of(case, forward(parameters, x), targets)

        value, gradient = jax.value_and_grad(cost)(parameters)
        leaves, tree = jax.tree.flatten(parameters)
        new = [rule(w, g, s, number) for w, g, s in zip(leaves, jax.tree.leaves(gradient), state, strict=True)]
        return jax.tree.unflatten(tree, [w for w, _ in new]), [s for _, s in new], number + 1, value

    jitted = jax.jit(update, donate_argnums=(0, 1, 2))
    state = [tuple(jnp.zeros_like(w) for _ in range(vectors)) for w in jax.tree.leaves(parameters)]
    now = [parameters, state, jnp.float32(1), jnp.float32(0)]

    def step() -> None:
        now[:] = jitted(*now[:3], x, targets)

    return step, Alone(wait=lambda: jax.block_until_ready(now))


def trial(case: Case, layout: str) -> float:
    """Return the seconds of a few steps."""
    step, ranks = step_of(case, layout)
    take_first_steps(step)
    ranks.barrier()
    start = time.perf_counter()
    take_first_steps(step)
    ranks.barrier()
    return time.perf_counter() - start


def main() -> None:
    """Measure each case in turn, those with images in the layout that is faster in a trial."""
    report = Report(__doc__)
    report.versions = {"jax": jax.__version__}
    for name, case in report.cases.items():
        layout = min(DIMENSIONS, key=lambda layout, case=case: trial(case, layout)) if case.images else "NHWC"
        report.add("JAX", name, *step_of(case, layout))
        report.results["JAX"][name]["layout"] = layout
    report.write(Alone())


if __name__ == "__main__":
    main()
