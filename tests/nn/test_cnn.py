"""The small convolutional network: as a module, its image, and digits."""

import pytest
import torch
from sklearn.datasets import load_digits

from skmoe.nn import SmallCNN
from tests.nn.module_suite import ModuleSuite


class TestSmallCNN(ModuleSuite):
    name = "SmallCNN"
    n_inputs = 36

    def make_module(self, n_inputs=None, n_outputs=None, **options):
        n_inputs = self.n_inputs if n_inputs is None else n_inputs
        n_outputs = self.n_outputs if n_outputs is None else n_outputs
        return SmallCNN(n_inputs, n_outputs, **{"channels": (4, 6), **options})


class TestSmallCNNAverageOfColours(TestSmallCNN):
    n_inputs = 3 * 5 * 7

    def make_module(self, n_inputs=None, n_outputs=None, **options):
        options = {"image_shape": (3, 5, 7), "pooling": "average", **options}
        return super().make_module(n_inputs, n_outputs, **options)


def test_pixels_are_in_the_order_of_the_shape():
    """The first convolution, written out on one pixel of the image."""
    module = SmallCNN(2 * 4 * 5, 1, image_shape=(2, 4, 5), channels=3).double()
    row = torch.randn(1, 40, dtype=torch.float64)
    convolution = module.stages[0]
    found = convolution(row.reshape(1, *module.image_shape))[0, 1, 2, 3]
    expected = convolution.bias[1].clone()
    for channel in range(2):
        for up in range(3):
            for left in range(3):
                pixel = channel * 20 + (2 + up - 1) * 5 + (3 + left - 1)
                expected += convolution.weight[1, channel, up, left] * row[0, pixel]
    torch.testing.assert_close(found, expected)


def test_average_forgets_the_place_and_flatten_keeps_it():
    """A blob at two places of an image, both far from its edges."""
    images = torch.zeros(2, 32, 32)
    images[0, 8:12, 8:12] = 1.0
    images[1, 8:12, 16:20] = 1.0
    X = images.flatten(1)
    torch.manual_seed(0)
    average = SmallCNN(1024, 2, channels=(4, 4), pooling="average")
    flat = SmallCNN(1024, 2, channels=(4, 4))
    torch.testing.assert_close(*average(X), rtol=1e-5, atol=1e-6)
    assert (flat(X)[0] - flat(X)[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("image_shape", "expected"),
    [(None, (1, 6, 6)), ((4, 9), (1, 4, 9)), ([4, 3, 3], (4, 3, 3))],
)
def test_image_shapes(image_shape, expected):
    module = SmallCNN(36, 1, image_shape=image_shape)
    assert module.image_shape == expected
    assert module(torch.zeros(2, 36)).shape == (2, 1)


def test_more_stages_than_halvings():
    module = SmallCNN(6, 1, image_shape=(2, 3), channels=(3, 3, 3))
    assert module(torch.randn(4, 6)).shape == (4, 1)


def digits_losses(module, n_steps=40, lr=0.01):
    """Return the cross-entropy on digits before and after a few steps of Adam."""
    X, y = load_digits(return_X_y=True)
    X, y = torch.tensor(X[:600] / 16, dtype=torch.float32), torch.tensor(y[:600])
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    losses = []
    for step in range(n_steps):
        rows = torch.arange(100 * step, 100 * step + 100) % 600
        loss = torch.nn.functional.cross_entropy(module(X[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    right = (module(X).argmax(1) == y).double().mean().item()
    return losses, right


@pytest.mark.parametrize(
    ("pooling", "high", "low"), [("flatten", 0.3, 0.95), ("average", 1.4, 0.6)]
)
def test_learns_digits(pooling, high, low):
    torch.manual_seed(0)
    losses, right = digits_losses(SmallCNN(64, 10, pooling=pooling))
    assert losses[0] > 2.0
    assert losses[-1] < high
    assert right > low


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (5, 6)}, r"image_shape \(5, 6\) has 30 pixels, but rows have"),
        ({"image_shape": (36,)}, r"must be \(height, width\) or \(channels, height"),
        ({"image_shape": 36}, r"must be \(height, width\) or \(channels, height"),
        ({"image_shape": (6, 6.0)}, "image_shape must be an integer >= 1, got 6.0"),
        (
            {"n_inputs": 35},
            "SmallCNN: 35 columns are no square image: give",
        ),
        ({"channels": (4, -1)}, "SmallCNN: channels must be an integer >= 1, got -1"),
        ({"channels": "ab"}, "SmallCNN: channels must hold integers >= 1, got 'ab'"),
        ({"activation": "step"}, "SmallCNN: activation must be one of 'gelu'"),
        ({"pooling": "max"}, "pooling must be one of 'flatten', 'average', got 'max'"),
    ],
)
def test_refuses_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SmallCNN(**{"n_inputs": 36, "n_outputs": 1, **options})
