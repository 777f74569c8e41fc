"""Augmentation: each layer against a plain loop over examples, and unchanged examples outside of training."""

import numpy as np
import pytest

from dbp import nn
from dbp.errors import UserError
from dbp.nn.layers.augmentation import rotated
from dbp.random import generator
from tests.nn.models import DRAW, inputs

IMAGES, SEQUENCES = inputs(40, 5, 7, 2), inputs(40, 9, 2)
EVERY = [
    nn.RandomFlip("both"),
    nn.RandomShift((2, 3)),
    nn.RandomCrop((5, 7)),
    nn.RandomRotation(45),
    nn.GaussianNoise(0.3),
    nn.Cutout(3),
    nn.Mixup(1.0),
]


def changed(layer, x, draw=DRAW):
    """Return the outputs of a layer in training, and the generator that it drew from, at its beginning."""
    return layer(nn.use({}, {}, draw).inside("layer"), x), generator(draw.seed, "noise of layer/", 1, *draw[1:])


@pytest.mark.parametrize("axis", ["horizontal", "vertical", "both"])
def test_flip(axis):
    y, random = changed(nn.RandomFlip(axis), IMAGES)
    across, down = random.random((2, 40)) < 0.5
    for image, before, a, d in zip(y, IMAGES, across, down, strict=True):
        expected = before[:, ::-1] if a and axis != "vertical" else before
        expected = expected[::-1] if d and axis != "horizontal" else expected
        np.testing.assert_array_equal(image, expected)


def test_flip_of_sequences():
    y, random = changed(nn.RandomFlip(), SEQUENCES)
    across, _ = random.random((2, 40)) < 0.5
    assert 5 < across.sum() < 35
    np.testing.assert_array_equal(y, [one[::-1] if a else one for one, a in zip(SEQUENCES, across, strict=True)])


def test_shift_is_a_crop_of_padded_images():
    y, random = changed(nn.RandomShift((2, 3)), IMAGES)
    down, across = (random.integers(-most, most + 1, (40, 1))[:, 0] for most in (2, 3))
    padded = np.pad(IMAGES, [(0, 0), (2, 2), (3, 3), (0, 0)])
    for image, whole, d, a in zip(y, padded, down, across, strict=True):
        np.testing.assert_array_equal(image, whole[2 + d : 7 + d, 3 + a : 10 + a])
    assert set(down) == set(range(-2, 3))
    assert set(across) == set(range(-3, 4))


def test_shift_of_sequences_moves_along_their_length_alone():
    y, random = changed(nn.RandomShift(4), SEQUENCES)
    random.integers(0, 1, (40, 1))
    padded, across = np.pad(SEQUENCES, [(0, 0), (4, 4), (0, 0)]), random.integers(-4, 5, (40, 1))[:, 0]
    np.testing.assert_array_equal(y, [one[4 + a : 13 + a] for one, a in zip(padded, across, strict=True)])


def test_crop_at_random_in_training_and_in_the_middle_otherwise():
    layer = nn.RandomCrop((3, 4))
    y, random = changed(layer, IMAGES)
    down, across = (random.integers(0, room + 1, (40, 1))[:, 0] for room in (2, 3))
    expected = [one[d : d + 3, a : a + 4] for one, d, a in zip(IMAGES, down, across, strict=True)]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(layer(nn.use({}), IMAGES), IMAGES[:, 1:4, 1:5])
    np.testing.assert_array_equal(nn.RandomCrop(4)(nn.use({}), SEQUENCES), SEQUENCES[:, 2:6])


def plainly_rotated(image, angle):
    """Return an image rotated about its middle, each number interpolated on its own."""
    height, width, _ = image.shape
    result = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            down, across = i - (height - 1) / 2, j - (width - 1) / 2
            row = np.cos(angle) * down - np.sin(angle) * across + (height - 1) / 2
            column = np.sin(angle) * down + np.cos(angle) * across + (width - 1) / 2
            for r in (int(np.floor(row)), int(np.floor(row)) + 1):
                for c in (int(np.floor(column)), int(np.floor(column)) + 1):
                    if 0 <= r < height and 0 <= c < width:
                        result[i, j] += image[r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return result


def test_rotation():
    y, random = changed(nn.RandomRotation(60), IMAGES)
    angles = np.deg2rad(random.uniform(-60, 60, (40, 1, 1)))[:, 0, 0]
    expected = [plainly_rotated(one, angle) for one, angle in zip(IMAGES, angles, strict=True)]
    np.testing.assert_allclose(y, expected, atol=1e-12)


def test_a_quarter_turn_is_exact_and_keeps_all_pixels():
    square = inputs(2, 6, 6, 1)
    turned = rotated(square, np.deg2rad([90.0, -90.0]).reshape(2, 1, 1), 6, 6)
    np.testing.assert_allclose(turned[0], np.rot90(square[0], -1), atol=1e-12)
    np.testing.assert_allclose(turned[1], np.rot90(square[1]), atol=1e-12)


def test_noise_has_the_deviation():
    noise = changed(nn.GaussianNoise(0.3), np.zeros((500, 80), np.float32))[0]
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 5 * 0.3 / 200
    assert noise.std() == pytest.approx(0.3, rel=0.02)


def test_cutout():
    y, random = changed(nn.Cutout((2, 3)), IMAGES)
    middles = [random.integers(0, length, (40, 1))[:, 0] for length in (5, 7)]
    for image, before, d, a in zip(y, IMAGES, *middles, strict=True):
        expected = before.copy()
        expected[max(0, d - 1) : d + 1, max(0, a - 1) : a + 2] = 0
        np.testing.assert_array_equal(image, expected)
    cut = changed(nn.Cutout(4), SEQUENCES)[0]
    assert set((cut == 0).all(axis=2).sum(axis=1)) == {2, 3, 4}


@pytest.mark.parametrize("layer", EVERY, ids=lambda layer: layer.kind)
def test_examples_pass_unchanged_outside_of_training(layer):
    np.testing.assert_array_equal(layer(nn.use({}), IMAGES), IMAGES)


def draws(layer, draw):
    """Return what a layer makes of larger images, so that a crop is random too."""
    return changed(layer, np.pad(IMAGES, [(0, 0), (1, 1), (1, 1), (0, 0)]), draw)[0]


@pytest.mark.parametrize("layer", EVERY, ids=lambda layer: layer.kind)
def test_draws_depend_on_seed_step_and_shard_alone(layer):
    first = draws(layer, DRAW)
    np.testing.assert_array_equal(first, draws(layer, nn.RandomKey(3, 5, 1)))
    for name in nn.RandomKey._fields:
        assert not np.array_equal(first, draws(layer, DRAW._replace(**{name: 7})))


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (nn.RandomFlip("both"), SEQUENCES, "axis must be 'horizontal' for sequences, which have no other, but is 'bot"),
        (nn.RandomCrop(6), IMAGES, r"size must not be larger than its inputs of \(5, 7\), but is 6"),
        (nn.RandomCrop(10), SEQUENCES, "size must not be larger than its inputs of 9, but is 10"),
        (nn.RandomShift(1), inputs(3, 4), r"takes \(height, width, channels\) per example, but its inputs have shape"),
        (nn.RandomRotation(5), SEQUENCES, r"takes \(height, width, channels\) per example, but its inputs have shape"),
    ],
)
def test_inputs_that_do_not_fit(layer, x, message):
    with pytest.raises(UserError, match=message):
        layer(nn.use({}), x)
