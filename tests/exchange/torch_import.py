"""Weights of real PyTorch modules, imported into dbp, and a comparison of the outputs of both."""

import copy

import numpy as np
import pytest

from dbp import nn
from dbp.config.settings import Settings
from dbp.config.to_table import table_from
from dbp.config.toml import to_toml
from dbp.data import ArrayDataset
from dbp.exchange import export, import_weights
from dbp.nn import as_model
from dbp.optim import SGD
from dbp.trained.model_on_data import ModelOnData
from tests.jobs import newest_checkpoint

torch = pytest.importorskip("torch", reason="torch is not installed, so there is nothing to compare with")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: install [safetensors]")


def randomized(module):
    """Return the module in evaluation mode, with no weight at its initial 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    for array in module.state_dict().values():
        if array.dtype.is_floating_point:
            array += torch.rand(array.shape, generator=generator, dtype=array.dtype) * 0.5
    return module.double().eval()


def imported(module, layers, shape, renames, folder, channels=None):
    """Import the module's weights into a checkpoint of the layers."""
    safetensors.save_file(module.state_dict(), folder / "weights.safetensors")
    settings = Settings(as_model(layers), "mean_squared_error", "nowhere.h5", SGD(0.1), 1, 1, dtype="float64")
    (folder / "config.toml").write_text(to_toml(table_from(settings)))
    import_weights(
        folder / "weights.safetensors",
        folder / "config.toml",
        folder / "out.h5",
        origin="pytorch",
        renames=renames,
        input_shape=shape,
        overwrite=True,
        channels=channels,
    )
    return newest_checkpoint(folder / "out.h5").model


def compare(module, layers, shape, renames, folder, channels_last=False, channels=None):
    """Compare the outputs of both for the same examples; PyTorch takes images channels first."""
    module = randomized(module)
    weights = imported(module, layers, shape, renames, folder, channels)
    x = np.random.default_rng(0).standard_normal((3, *shape))
    data = ArrayDataset(x, np.zeros(3))
    got = ModelOnData(as_model(layers), nn.MeanSquaredError(), weights, data, x.dtype).outputs(x)
    turned = torch.from_numpy(x) if channels_last or len(shape) == 1 else torch.from_numpy(x).movedim(-1, 1)
    expected = module(turned).detach()
    if expected.ndim > 2 and not channels_last:
        expected = expected.movedim(1, -1)
    np.testing.assert_allclose(got, expected.numpy(), rtol=1e-9, atol=1e-9)
    compare_exported(module, turned, shape, renames, folder, channels)


def compare_exported(module, x, shape, renames, folder, channels):
    """Compare the module with one that has the state_dict that dbp exports of its weights."""
    back = ["=".join(reversed(rename.split("="))) for rename in renames]
    options = {"input_shape": shape, "to": "pytorch", "renames": back, "channels": channels}
    export(folder / "out.h5", folder / "back.pt", overwrite=True, **options)
    other = copy.deepcopy(module)
    for array in other.state_dict().values():
        array.zero_()
    other.load_state_dict(torch.load(folder / "back.pt", weights_only=True))
    torch.testing.assert_close(other(x), module(x), rtol=1e-12, atol=1e-12)
