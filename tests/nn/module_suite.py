"""The abstract suite of the convenience modules: each of them inherits it.

A concrete class defines `make_module`; pytest collects the concrete classes only.
"""

import copy
import pickle

import pytest
import torch
from torch.func import functional_call, stack_module_state, vmap


def stacked(modules):
    """Return a function (X, in_dim of X) that runs all modules as one."""
    parameters, buffers = stack_module_state(modules)
    skeleton = copy.deepcopy(modules[0]).to("meta")

    def one(parameters, buffers, X):
        return functional_call(skeleton, (parameters, buffers), (X,))

    def together(X, in_dim=None):
        call = vmap(one, in_dims=(0, 0, in_dim), randomness="different")
        return call(parameters, buffers, X)

    return together, parameters


class ModuleSuite:
    """What every module must do. Override `make_module`, and `rows` where needed."""

    n_inputs = 6
    n_outputs = 3
    name = None

    def make_module(self, n_inputs=None, n_outputs=None, **options):
        """Return a new module."""
        raise TypeError(f"{type(self).__name__} must define make_module.")

    def rows(self, n_rows=9):
        """Return float32 rows."""
        return torch.randn(n_rows, self.n_inputs)

    @pytest.fixture(autouse=True)
    def _own_random_state(self):
        """Fix torch's global state, which initial weights are drawn from."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            yield

    def test_returns_raw_outputs(self):
        module, X = self.make_module(), self.rows()
        raw = module(X)
        assert raw.shape == (9, self.n_outputs)
        assert raw.dtype == torch.float32
        assert raw.isfinite().all()
        # Raw: of both signs, not pressed into a range by a last activation.
        others = torch.cat([self.make_module()(X) for _ in range(5)])
        assert others.min() < 0 < others.max()

    def test_row_depends_on_itself_alone(self):
        module, X = self.make_module(), self.rows()
        alone = torch.cat([module(row[None]) for row in X])
        torch.testing.assert_close(alone, module(X), rtol=1e-5, atol=1e-6)
        assert (module(X) - module(X)[0])[1:].abs().sum(1).min() > 0

    def test_gradient_reaches_every_parameter(self):
        module = self.make_module()
        module(self.rows(200)).square().sum().backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name

    def test_gradient_is_right(self):
        """Along a random direction, against a difference quotient in float64."""
        module, X = self.make_module().double(), self.rows().double()
        parameters = list(module.parameters())
        direction = [torch.randn_like(p) for p in parameters]

        def loss(step):
            moved = {
                name: p + step * d
                for (name, p), d in zip(
                    module.named_parameters(), direction, strict=True
                )
            }
            return functional_call(module, moved, (X,)).square().sum()

        slopes = torch.autograd.grad(loss(0.0), parameters)
        slope = sum(
            (s * d).sum() for s, d in zip(slopes, direction, strict=True)
        ).item()
        step = 1e-7
        quotient = (loss(step) - loss(-step)).item() / (2 * step)
        assert quotient == pytest.approx(slope, rel=1e-5)

    @pytest.mark.parametrize("own", [False, True], ids=["same-X", "own-X"])
    def test_stack_is_a_loop(self, own):
        modules = [self.make_module() for _ in range(3)]
        together, parameters = stacked(modules)
        X = torch.stack([self.rows() for _ in modules]) if own else self.rows()
        raw = together(X, 0 if own else None)
        apart = torch.stack([m(X[k] if own else X) for k, m in enumerate(modules)])
        torch.testing.assert_close(raw, apart, rtol=1e-6, atol=1e-6)
        assert (raw[0] - raw[1]).abs().max() > 1e-3

        raw.square().sum().backward()
        apart.square().sum().backward()
        for name, batched in parameters.items():
            grads = [dict(m.named_parameters())[name].grad for m in modules]
            torch.testing.assert_close(
                batched.grad, torch.stack(grads), rtol=1e-4, atol=1e-5
            )

    @pytest.mark.gpu
    def test_stack_on_cuda_is_a_loop_on_the_cpu(self):
        """No batching rule is missing there either: that would warn, and so fail."""
        modules, X = [self.make_module().double() for _ in range(3)], self.rows()
        apart = torch.stack([m(X.double()) for m in modules])
        apart.square().sum().backward()
        expected = [p.grad for p in modules[0].parameters()]
        together, parameters = stacked([m.cuda() for m in modules])
        raw = together(X.double().cuda())
        torch.testing.assert_close(raw.cpu(), apart, rtol=1e-8, atol=1e-10)
        raw.square().sum().backward()
        for batched, grad in zip(parameters.values(), expected, strict=True):
            torch.testing.assert_close(
                batched.grad[0].cpu(), grad.cpu(), rtol=1e-7, atol=1e-9
            )

    def test_dropout_differs_between_copies(self):
        modules = [self.make_module(dropout=0.5)] * 2
        together, _ = stacked(modules)
        X = self.rows()
        raw = together(X)
        assert (raw[0] - raw[1]).abs().max() > 1e-3
        calm = copy.deepcopy(modules[0]).eval()
        assert torch.equal(calm(X), calm(X))

    def test_state_dict_round_trip(self):
        first, second, X = self.make_module(), self.make_module(), self.rows()
        assert not torch.equal(first(X), second(X))
        second.load_state_dict(first.state_dict())
        assert torch.equal(first(X), second(X))

    @pytest.mark.parametrize(
        "copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
    )
    def test_copies_are_equal_and_apart(self, copied):
        module, X = self.make_module(), self.rows()
        other, before = copied(module), module(X)
        assert torch.equal(other(X), before)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter += 1.0
        assert torch.equal(module(X), before)

    def test_compiles_as_one_graph(self):
        module, X = self.make_module(), self.rows()
        torch.compiler.reset()
        compiled = torch.compile(module, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(X), module(X))

    def test_bfloat16_is_near(self):
        module, X = self.make_module(), self.rows()
        with torch.autocast("cpu", torch.bfloat16):
            rough = module(X)
        assert rough.dtype == torch.bfloat16
        exact = module(X)
        assert (rough.float() - exact).abs().max() < 0.05 * exact.abs().max()

    @pytest.mark.parametrize("shape", [(4, 7), (6,), (2, 3, 6)])
    def test_refuses_other_rows(self, shape):
        width = self.n_inputs
        shape = tuple({6: width, 7: width + 1}.get(side, side) for side in shape)
        with pytest.raises(
            ValueError, match=rf"{self.name}: expected rows of shape \(n_rows, {width}"
        ):
            self.make_module()(torch.zeros(shape))

    @pytest.mark.parametrize("name", ["n_inputs", "n_outputs"])
    @pytest.mark.parametrize("bad", [0, 2.5, True, "3"])
    def test_refuses_bad_sizes(self, name, bad):
        with pytest.raises(ValueError, match=f"{self.name}: {name} must be an integer"):
            self.make_module(**{name: bad})

    @pytest.mark.parametrize("bad", [-0.1, 1.0, "half", float("nan")])
    def test_refuses_bad_dropout(self, bad):
        with pytest.raises(ValueError, match=f"{self.name}: dropout must be a number"):
            self.make_module(dropout=bad)
