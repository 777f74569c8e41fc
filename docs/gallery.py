"""Draw the pictures of docs/gallery.md: run examples, and draw what their models do (needs matplotlib).

dbp run -n 2 -- docs/gallery.py                 draw all pictures, in half an hour
dbp run -n 2 -- docs/gallery.py digits burgers  draw these
"""

import runpy
import sys
from pathlib import Path

import numpy as np

from dbp.data import HDF5Dataset
from dbp.nn import use
from dbp.parallel import world

EXAMPLES = Path(__file__).parent.parent / "examples"
FOLDER = Path(__file__).parent / "gallery"
COLORS = 96  # of a picture
HEIGHT = 1.3  # of a small image with its title, in times of its width
WRONG, RIGHT, GRAY, BLUE = "#c0392b", "#2c3e50", "#bdc3c7", "#2980b9"
# Words after the name of an example, with which it takes minutes.
SHORT = {"burgers": ["--epochs", "20", "--stages", "3", "--iterations", "300"]}


def example(name):
    """Run an example on all ranks and return its variables."""
    sys.argv = [f"{name}.py", *SHORT.get(name, [])]
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


# Each of these runs on all ranks, as examples do, and predicts on all; the picture of the first one is saved.


def digits():
    """Draw test images with the class and the probability that the model finds, wrong ones in red."""
    model = example("digits")["model"]
    test = HDF5Dataset("dbp:digits-test").read(slice(None))
    found = model.predict_proba(test.inputs)
    wrong = np.flatnonzero(found.argmax(axis=1) != test.targets)
    shown = np.concatenate([np.arange(16 - len(wrong[:4])), wrong[:4]])
    axes = panels(2, 8)
    for ax, row in zip(axes, shown, strict=True):
        kind = found[row].argmax()
        ax.imshow(test.inputs[row], cmap="gray_r")
        color = RIGHT if kind == test.targets[row] else WRONG
        ax.set_title(f"{kind}  {100 * found[row, kind]:.0f} %", fontsize=9, color=color)


def logistic():
    """Draw the weight of each pixel: red speaks for an even digit, blue for an odd one; beside digits of each kind."""
    weights = example("logistic")["model"].weights["dense_1/weight"].reshape(8, 8)
    test = HDF5Dataset("dbp:digits-test").read(slice(None))
    axes = panels(1, 5)
    axes[0].imshow(weights, cmap="RdBu_r", vmin=-abs(weights).max(), vmax=abs(weights).max())
    axes[0].set_title("weights", fontsize=9, color=RIGHT)
    for ax, kind in zip(axes[1:], (0, 6, 1, 7), strict=True):
        ax.imshow(test.inputs[np.flatnonzero(test.targets == kind)[0]], cmap="gray_r")
        ax.set_title("even" if kind % 2 == 0 else "odd", fontsize=9, color=RIGHT)


def autoencoder():
    """Draw test images above what 8 numbers keep of them."""
    made = example("autoencoder")
    draw_pairs(made["test"][:10], made["trained"].predict(made["test"][:10]), 8)


def draw_pairs(images, restored, side):
    """Draw images (count, side * side) in a row, and what a model has made of them below."""
    axes = panels(2, len(images))
    for ax, image in zip(axes, [*images, *restored], strict=True):
        ax.imshow(image.reshape(side, side), cmap="gray_r", vmin=0, vmax=1)


def burgers():
    """Draw the solution over space and time, and three moments of it beside the exact one."""
    made = example("burgers")
    x, t = np.meshgrid(np.linspace(-1, 1, 401), np.linspace(0.01, 1, 100))
    u = made["solution"](use(made["result"].weights), x.reshape(-1, 1), t.reshape(-1, 1)).reshape(x.shape)
    draw_moments(made, x, t, u)


def draw_moments(made, x, t, u):
    """Draw u over a grid of x and t, and three moments of it beside the exact solution."""
    plane, *moments = panels(1, 4, width=2.2, frames=True)
    plane.imshow(u.T, origin="lower", extent=(0, 1, -1, 1), aspect="auto", cmap="RdBu_r")
    plane.set_title("u(x, t)", fontsize=9, color=RIGHT)
    for ax, row in zip(moments, (25, 50, 75), strict=True):
        ax.plot(x[row], made["exact"](x[row], t[row]), color=GRAY, linewidth=5)
        ax.plot(x[row], u[row], color=WRONG, linewidth=1)
        ax.set_title(f"t = {t[row, 0]:.2f}", fontsize=9, color=RIGHT)


def co2():
    """Draw forecasts of twelve months each beside the measurements."""
    made = example("co2")
    months = made["FIRST_YEAR"] + (made["first"] + np.arange(len(made["series"]))) / 12
    ax = panels(1, 1, width=5, height=0.4, frames=True)[0]
    ax.plot(months[-90:], made["series"][-90:], color=GRAY, linewidth=5)
    last = len(made["series"]) - made["AHEAD"]  # where the last forecast begins
    for back in range(0, 72, 12):
        begin = last - back
        found = made["forecasts"]["LSTM"][-1 - back] + made["series"][begin - 1]
        ax.plot(months[begin : begin + made["AHEAD"]], found, color=WRONG, linewidth=1)
    ax.set_xticks(range(1995, 2003), range(1995, 2003), fontsize=7)
    ax.set_yticks((360, 370), ("360 ppm", "370 ppm"), fontsize=7)


def deeponet():
    """Draw functions, and their antiderivatives as they are and as the network finds them."""
    made = example("deeponet")
    u, s = made["functions"](4, made["LENGTH"], "draw")
    found = made["antiderivative"](use(made["trained"].weights), u.astype(np.float32))
    draw_functions(made["GRID"], u, s, found)


def fourier_operator():
    """Draw beginnings, and what they become by the equation and by the network."""
    made = example("fourier_operator")
    inputs, targets = made["pairs"](4, 256, "draw")
    draw_functions(inputs[0, :, 1], inputs[:, :, 0], targets[:, :, 0], made["trained"].predict(inputs)[:, :, 0])


def inverse_burgers():
    """Draw the solution that the network finds with the coefficients, and three moments of it beside the exact one."""
    made = example("inverse_burgers")
    x, t = np.meshgrid(np.linspace(-1, 1, 201), np.linspace(0.01, 1, 100))
    places = np.stack([x.ravel(), t.ravel()], axis=1)
    draw_moments(made, x, t, made["model"](use(made["trained"].weights), places)[:, 0].reshape(x.shape))


def poisson():
    """Draw a cut through the solution, and the errors of all three results there, on one scale."""
    made = example("poisson")
    x, y = np.meshgrid(np.linspace(0, 1, 41), np.linspace(0, 1, 41))
    places = np.stack([x, y, np.full(x.shape, 0.5)], axis=-1).reshape(-1, 3)
    exact = made["exact"](places)
    errors = [made["solution"](use(made[name].weights), places) - exact for name in ("begun", "further", "trained")]
    titles = "u(x, y, 1/2)", "error: L-BFGS", "L-BFGS, more steps", "Gauss-Newton"
    for ax, title, values in zip(panels(1, 4, width=1.8, height=1.2), titles, [exact, *errors], strict=True):
        largest = abs(errors[0] if ax.get_subplotspec().colspan.start else exact).max()
        ax.imshow(values.reshape(x.shape), cmap="RdBu_r", vmin=-largest, vmax=largest)
        ax.set_title(title, fontsize=9, color=RIGHT)


def surrogate():
    """Draw the conductivity of four plates, and their temperature as it is and as the network finds it."""
    made = example("surrogate")
    inputs, targets = made["test"]["inputs"], made["test"]["targets"]
    found = made["trained"].predict(inputs)["temperature"]
    axes = panels(3, 4, height=1.2)
    for row in range(4):
        low, high = 0, targets["temperature"][row].max()
        axes[row].imshow(inputs["conductivity"][row, :, :, 0], cmap="gray")
        axes[4 + row].imshow(targets["temperature"][row, :, :, 0], cmap="inferno", vmin=low, vmax=high)
        axes[8 + row].imshow(found[row, :, :, 0], cmap="inferno", vmin=low, vmax=high)
    for ax, title in zip(axes[::4], ("conductivity", "temperature", "found"), strict=True):
        ax.set_ylabel(title, fontsize=7, color=RIGHT)


def tied():
    """Draw the cost of both methods over the steps."""
    trained = example("tied")["trained"]
    ax = panels(1, 1, width=4, height=0.5, frames=True)[0]
    for color, (name, model) in zip((BLUE, WRONG), trained.items(), strict=True):
        costs = np.array(model.history["cost"])
        ax.plot(np.arange(1, len(costs) + 1) * model.steps / len(costs), costs, color=color, linewidth=1, label=name)
    ax.set_xscale("log")
    ax.set_xticks((10, 100, 1000), ("10", "100", "1,000"), fontsize=7)
    ax.set_yticks((0.3, 0.4, 0.5, 0.6), ("0.3", "0.4", "0.5", "0.6"), fontsize=7)
    ax.set_xlabel("steps", fontsize=7)
    ax.set_ylabel("cost of the training images", fontsize=7)
    ax.legend(fontsize=7, frameon=False)


def unet():
    """Draw test images above the disks in them, and the disks that the network finds."""
    made = example("unet")
    axes = panels(3, 8, height=1.05)
    for row in range(8):
        axes[row].imshow(made["test"][0][row, :, :, 0], cmap="gray_r")
        axes[8 + row].imshow(made["disks"][row, :, :, 0], cmap="gray_r", vmax=1.3)
        axes[16 + row].imshow(made["found"][row, :, :, 0], cmap="Reds", vmin=0, vmax=1.3)


def draw_functions(x, inputs, targets, found):
    """Draw functions over x, an example in each panel: given ones (blue), wanted ones (gray) and found ones (red)."""
    axes = panels(1, len(inputs), width=1.8, height=0.8, frames=True)
    for ax, *values in zip(axes, inputs, targets, found, strict=True):
        for y, color, width in zip(values, (BLUE, GRAY, WRONG), (1, 5, 1), strict=True):
            ax.plot(x, y, color=color, linewidth=width)


def panels(down, across, width=1.0, height=HEIGHT, frames=False):
    """Begin a picture of small images and return their axes, row by row."""
    from matplotlib import pyplot

    _, axes = pyplot.subplots(down, across, figsize=(across * width, down * height * width), squeeze=False)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        for side in ax.spines.values():
            side.set_visible(frames)
            side.set_color(GRAY)
    return list(axes.flat)


def save(name):
    """Write the picture, in few colors, so that the file is small."""
    from matplotlib import pyplot
    from PIL import Image  # comes with matplotlib

    file = FOLDER / f"{name}.png"
    pyplot.tight_layout(pad=0.4)
    pyplot.savefig(file, dpi=150, facecolor="white")
    pyplot.close()
    Image.open(file).convert("RGB").quantize(COLORS).save(file, optimize=True)


GENERAL = digits, logistic, autoencoder, burgers
SCIENCE = inverse_burgers, poisson, deeponet, fourier_operator, surrogate, tied, unet, co2
PICTURES = {draw.__name__: draw for draw in GENERAL + SCIENCE}

if __name__ == "__main__":
    names = sys.argv[1:] or list(PICTURES)
    for name in names:
        PICTURES[name]()
        if world().rank == 0:
            save(name)
