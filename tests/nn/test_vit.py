"""The small vision transformer: as a module, its patches, and digits."""

import pytest
import torch

from skmoe.nn import SmallViT
from tests.nn.module_suite import ModuleSuite
from tests.nn.test_cnn import digits_losses


class TestSmallViT(ModuleSuite):
    name = "SmallViT"
    n_inputs = 36

    def make_module(self, n_inputs=None, n_outputs=None, **options):
        n_inputs = self.n_inputs if n_inputs is None else n_inputs
        n_outputs = self.n_outputs if n_outputs is None else n_outputs
        options = {"width": 8, "depth": 2, "heads": 2, **options}
        return SmallViT(n_inputs, n_outputs, **options)


class TestSmallViTOfColours(TestSmallViT):
    n_inputs = 3 * 4 * 6

    def make_module(self, n_inputs=None, n_outputs=None, **options):
        options = {"image_shape": (3, 4, 6), "patch": 2, **options}
        return super().make_module(n_inputs, n_outputs, **options)


def test_patches_are_squares_of_the_image():
    module = SmallViT(2 * 4 * 6, 1, image_shape=(2, 4, 6), patch=2)
    seen = []
    module.embed.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    X = torch.arange(48.0)[None]
    module(X)
    image = X.reshape(2, 4, 6)
    squares = [
        image[:, top : top + 2, left : left + 2].flatten()
        for top in (0, 2)
        for left in (0, 2, 4)
    ]
    assert torch.equal(seen[0][0], torch.stack(squares))


def test_positions_tell_patches_apart():
    torch.manual_seed(0)
    module = SmallViT(64, 2, patch=4)
    image = torch.randn(8, 8)
    swapped = torch.cat([image[4:], image[:4]])
    X = torch.stack([image, swapped]).flatten(1)
    assert (module(X)[0] - module(X)[1]).abs().max() > 1e-4
    with torch.no_grad():
        module.position.zero_()
    torch.testing.assert_close(*module(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("image_shape", "patch"),
    [((8, 8), 2), ((28, 28), 7), ((32, 32), 8), ((3, 32, 48), 8), ((3, 5), 1)],
)
def test_patch_of_none(image_shape, patch):
    n_inputs = torch.Size(image_shape).numel()
    assert SmallViT(n_inputs, 1, image_shape=image_shape, depth=1).patch == patch


def test_learns_digits():
    torch.manual_seed(0)
    losses, right = digits_losses(SmallViT(64, 10, width=32, depth=2), 80, 0.003)
    assert losses[0] > 2.0
    assert losses[-1] < 0.8
    assert right > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 3}, "must divide height and width, got patch=3 for an image of 8"),
        ({"patch": 0}, "SmallViT: patch must be an integer >= 1, got 0"),
        ({"image_shape": (9, 9)}, r"image_shape \(9, 9\) has 81 pixels, but rows have"),
        ({"n_inputs": 63}, "SmallViT: 63 columns are no square image"),
        ({"width": 30}, "SmallViT: width must be a multiple of heads, got width=30"),
    ],
)
def test_refuses_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SmallViT(**{"n_inputs": 64, "n_outputs": 1, **options})
