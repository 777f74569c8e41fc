"""First-order methods step for step as PyTorch's."""

import numpy as np
import pytest

from dbp.optim import SGD, Adagrad, Adam, AdamW, Muon, NAdam, RMSprop
from tests.optim.noisy_objective import SHAPES, STEPS, Noisy, alike, trained


def torch_trained(make, objective, count=STEPS, clip=None):
    """Return what trained() returns, by PyTorch's optimizer of parameters by name; its dense weights are transposed."""
    torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")
    named = objective.named(objective.start.copy())
    tensors = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in named.items()}
    optimizers = make(torch, tensors)
    average = None
    for step in range(1, count + 1):
        noise = objective.named(objective.noise(step))
        for name, tensor in tensors.items():
            tensor.grad = torch.from_numpy(noise[name].copy()) + tensor.detach()
        if clip:
            clip(torch, list(tensors.values()))
        for optimizer in optimizers:
            optimizer.step()
        flat = np.concatenate([tensor.detach().numpy().reshape(-1) for tensor in tensors.values()])
        average = flat.copy() if average is None else average + max(0.2, 10 / (step + 9)) * (flat - average)
        yield flat, average


def one(kind, **options):
    """Return a function that makes one PyTorch optimizer for all parameters."""
    return lambda torch, tensors: [getattr(torch.optim, kind)(tensors.values(), **options)]


PAIRS = [
    (SGD(0.05), one("SGD", lr=0.05)),
    (SGD(0.05, 0.9), one("SGD", lr=0.05, momentum=0.9)),
    (SGD(0.05, 0.9, nesterov=True), one("SGD", lr=0.05, momentum=0.9, nesterov=True)),
    (Adagrad(), one("Adagrad")),
    (RMSprop(), one("RMSprop")),
    (RMSprop(1e-3, alpha=0.9, momentum=0.8), one("RMSprop", lr=1e-3, alpha=0.9, momentum=0.8)),
    (Adam(), one("Adam")),
    (Adam(0.1, 0.7, 0.9, 1e-3), one("Adam", lr=0.1, betas=(0.7, 0.9), eps=1e-3)),
    (AdamW(decay=("*",)), one("AdamW")),
    (NAdam(), one("NAdam")),
    (NAdam(0.05, 0.8, 0.99, momentum_decay=0.1), one("NAdam", lr=0.05, betas=(0.8, 0.99), momentum_decay=0.1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("method", "make"), PAIRS, ids=lambda value: getattr(value, "kind", ""))
def test_step_for_step_as_pytorch(method, make, dtype):
    objective = Noisy(dtype)
    expected = [flat for flat, _ in torch_trained(make, objective)]
    alike(trained(method, objective)[0], expected, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "method"),
    [("SGD", SGD), ("Adagrad", Adagrad), ("RMSprop", RMSprop), ("Adam", Adam), ("NAdam", NAdam), ("AdamW", AdamW)],
)
def test_options_are_those_of_pytorch(kind, method, dtype):
    """Decay of arrays with two or more axes, a rate for one layer, gradient clipping, averaging."""
    rates, objective = {"second/*": 0.5, "*/bias": 3.0}, Noisy(dtype)

    def make(torch, tensors):
        groups = []
        for name, tensor in tensors.items():
            rate = 0.01 * (0.5 if name.startswith("second/") else 1) * (3 if name.endswith("bias") else 1)
            groups.append({"params": [tensor], "lr": rate, "weight_decay": 0.3 if tensor.ndim > 1 else 0.0})
        return [getattr(torch.optim, kind)(groups, lr=0.01)]

    def clip(torch, tensors):
        torch.nn.utils.clip_grad_norm_(tensors, 5.0)
        torch.nn.utils.clip_grad_value_(tensors, 0.7)

    expected = list(torch_trained(make, objective, clip=clip))
    ours = method(0.01, weight_decay=0.3, layer_rates=rates, clip_norm=5.0, clip_value=0.7, average=0.8)
    seen, state = trained(ours, objective)
    alike(seen, [flat for flat, _ in expected], dtype)
    alike([state.inference_weights(seen[-1])], [expected[-1][1]], dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_as_pytorch(monkeypatch, nesterov, dtype):
    """Muon updates the matrix between the layers, as exactly as dbp computes; AdamW updates the rest."""
    torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    shapes = {name: shape for name, shape in SHAPES.items() if name != "kernel"}
    objective = Noisy(dtype, shapes=shapes)
    turned = []

    class Turned(torch.optim.Muon):
        """PyTorch's Muon for weights with outputs first."""

        def step(self):
            inner.grad = weight.grad.T.contiguous()
            super().step()
            with torch.no_grad():
                weight.copy_(inner.T)

    def make(torch, tensors):
        nonlocal weight, inner
        weight = tensors["second/weight"]
        inner = weight.detach().T.contiguous().requires_grad_()
        turned.append(inner)
        decayed = [tensor for name, tensor in tensors.items() if tensor.ndim > 1 and name != "second/weight"]
        plain = [tensor for tensor in tensors.values() if tensor.ndim == 1]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
        adamw = torch.optim.AdamW(groups, lr=3e-3)
        return [adamw, Turned([inner], lr=0.02, weight_decay=0.1, momentum=0.9, nesterov=nesterov)]

    weight = inner = None
    expected = [flat for flat, _ in torch_trained(make, objective)]
    method = Muon(0.02, momentum=0.9, nesterov=nesterov, adamw_learning_rate=3e-3, weight_decay=0.1)
    alike(trained(method, objective)[0], expected, dtype)
