"""The comparison of a model's values and derivatives with those of the same model in PyTorch."""

import numpy as np

import dbp.autodiff as ad
from dbp import nn
from tests.nn.torch_layers import TorchScope, follow, torch

DRAW = nn.RandomKey(seed=0, step=0, shard=0)


def start(model, x):
    """Return parameters, none at its initial 0 or 1, and running moments."""
    initial = nn.initial_parameters(model, x, 0, "float64")
    parameters, running = initial.parameters, initial.running
    rng = np.random.default_rng(1)
    for array in parameters.values():
        array += 0.2 * rng.standard_normal(array.shape)
    for moments in running.values():
        moments.mean += rng.standard_normal(moments.mean.shape)
        moments.variance += rng.random(moments.variance.shape)
    return parameters, running


def tensors(arrays):
    return {name: torch.tensor(array, requires_grad=array.dtype == np.float64) for name, array in arrays.items()}


def assert_close(got, expected, what):
    """Check arrays by name for equality up to the rounding of the largest number of all."""
    size = max(float(t.detach().abs().max()) for t in expected if t.numel())
    for (name, array), t in zip(got.items(), expected, strict=True):
        np.testing.assert_allclose(array, t.detach(), rtol=1e-9, atol=1e-11 * size, err_msg=f"{what} {name}")


def pullbacks(output, leaves, cotangent=None, keep=True):
    """Return the leaves' cotangents by PyTorch, zero where the output does not depend on a leaf."""
    return torch.autograd.grad(
        output, leaves, cotangent, create_graph=keep, retain_graph=True, materialize_grads=True, allow_unused=True
    )


def torch_products(outputs, cost_of, leaves, tangents):
    """Return the Hessian product and the Gauss-Newton product J^T H J v, all by reverse mode."""
    gradients = pullbacks(cost_of(outputs), leaves)
    hessian = pullbacks(sum((g * v).sum() for g, v in zip(gradients, tangents, strict=True)), leaves)
    dummy = torch.zeros_like(outputs, requires_grad=True)
    pulled = pullbacks(outputs, leaves, dummy)
    (moved,) = pullbacks(sum((g * v).sum() for g, v in zip(pulled, tangents, strict=True)), [dummy])  # J v
    free = outputs.detach().requires_grad_()
    (slope,) = pullbacks(cost_of(free), [free])
    (curved,) = pullbacks((slope * moved.detach()).sum(), [free])  # H J v
    return hessian, pullbacks(outputs, leaves, curved.detach(), keep=False)  # J^T H J v


def compare(model, x, training=True):
    """Compare values, gradients, second-order products and running moments, by parameters and real inputs."""
    parameters, running = start(model, x)
    points = {**parameters, "x": x} if x.dtype == np.float64 else parameters
    call_of = lambda given: nn.call_with(given, running, DRAW if training else None)  # noqa: E731
    scope = TorchScope(tensors(points), training)
    scope.running = {n: (torch.tensor(m.mean), torch.tensor(m.variance)) for n, m in running.items()}

    def outputs_of(given):
        return model(nn.Scope(call_of(given)), given.get("x", x))

    def cost_of(z):
        return ad.sum_(ad.sin(z) * z) + 0.1 * ad.square(ad.sum_(z))

    def torch_cost_of(z):
        return (torch.sin(z) * z).sum() + 0.1 * z.sum() ** 2

    leaves = list(scope.weights.values())
    outputs = follow(model, scope, scope.weights.get("x", torch.tensor(x)))
    assert_close({"": outputs_of(points)}, [outputs], "outputs")
    _, gradient = ad.value_and_gradient(lambda given: cost_of(outputs_of(given)))(points)
    assert_close(gradient, pullbacks(torch_cost_of(outputs), leaves), "gradient by")

    rng = np.random.default_rng(2)
    tangents = {name: rng.standard_normal(array.shape) for name, array in points.items()}
    (hessian,) = ad.hessian_product(lambda given: cost_of(outputs_of(given)), (points,), (tangents,))
    (gauss_newton,) = ad.gauss_newton_product(outputs_of, cost_of, (points,), (tangents,))
    moved = [torch.tensor(t) for t in tangents.values()]
    expected = torch_products(outputs, torch_cost_of, leaves, moved)
    assert_close(hessian, expected[0], "Hessian product by")
    assert_close(gauss_newton, expected[1], "Gauss-Newton product by")
    compare_running(model, call_of(points), points.get("x", x), running, scope)


def compare_running(model, call, x, running, scope):
    """Check that running moments equal PyTorch's after a training pass and stay otherwise."""
    model(nn.Scope(call), x)
    if call.random_key is not None and running:
        nn.update_running_moments(running, np.concatenate(nn.moment_sums(running, call.observed)))
    for path, moments in running.items():
        assert_close({"mean": moments.mean, "variance": moments.variance}, scope.running[path], f"{path} running")
