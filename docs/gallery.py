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
HEIGHT = 1.3  # of a small image with its title, in times of its width
WRONG, RIGHT, GRAY, BLUE = "#c0392b", "#2c3e50", "#bdc3c7", "#2980b9"
# Words after the name of an example, with which it takes minutes and not an hour.
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
    """Write the picture."""
    from matplotlib import pyplot

    pyplot.tight_layout(pad=0.4)
    pyplot.savefig(FOLDER / f"{name}.png", dpi=150, facecolor="white")
    pyplot.close()


GENERAL = digits, logistic, autoencoder, burgers
SCIENCE = deeponet, co2
PICTURES = {draw.__name__: draw for draw in GENERAL + SCIENCE}

if __name__ == "__main__":
    names = sys.argv[1:] or list(PICTURES)
    for name in names:
        PICTURES[name]()
        if world().rank == 0:
            save(name)
