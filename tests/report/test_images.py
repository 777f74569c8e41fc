"""Images in data URIs."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from dbp.report.images import data_uri, image_shape


def test_what_passes_for_an_image():
    shapes = [(28, 28), (28, 28, 1), (32, 40, 3), (784,), (100, 3), (28, 28, 2), (5, 5), (1000, 1000, 3), (8, 100)]
    found = [image_shape(shape) for shape in shapes]
    assert found == [(28, 28, 1), (28, 28, 1), (32, 40, 3), *[None] * 6]


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_an_image_is_read_back(channels, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, channels))
    pixels[0, 0, 0], pixels[0, 1, 0] = 0, 255
    uri = data_uri(pixels / 255 * 4 - 2, -2.0, 2.0)
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)
