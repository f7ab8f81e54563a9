"""The floors of the library: who may import whom, and how large a part may grow.

A module imports only lower floors, or earlier names of its own line. Read from
the source with `ast`, so an import inside a function counts too.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "skmoe"

# floor: its lines, each from the bottom up. A package's own name is its __init__;
# lines of one floor know nothing of each other.
FLOORS = {
    0: [
        "exceptions _xp _special_xp _gaps _sklearn _expansion _gram_kernel "
        "_e_step_kernel _blocks _multinomial _elastic _tree _terms _truth "
        "_checks _tables _ragged _task_tables _arm _classics _simulated _correlated "
        "_switching datasets",
    ],
    1: [
        "_protocols likelihoods._normal likelihoods._classes "
        "likelihoods._saddle likelihoods._counts likelihoods._positive "
        "likelihoods._robust likelihoods._bounded likelihoods law._levels "
        "law._intervals law._modes law._pooled law._tabulated law._quantiles "
        "law._roots law._outline law._landscape law._heights law._regions "
        "law._crps law distribution",
        "nn.kernels._lookup_kernel nn.kernels._group_sums_kernel "
        "nn.kernels._activation_kernel nn.kernels._grouped_kernel "
        "nn.routing._slices "
        "nn.kernels._slot_kernel nn.kernels._sort_kernel nn.kernels._route_kernel "
        "nn.kernels._tabular_kernel nn.kernels._tabular_backward_kernel "
        "nn.kernels._tree_walk_kernel nn.kernels nn._arguments nn._embeddings "
        "nn._columns nn._attention nn._mlp nn._cnn nn._transformer nn._vit nn._state "
        "nn._warm nn._heads nn._rows nn._stack nn._optimiser nn._train nn._joint "
        "nn._code_table nn._noise nn._processes nn._table_rows nn._architectures "
        "nn._expert_bank nn._task_chain nn._mmoe nn._task_losses nn._task_data "
        "nn._weight_average nn._task_step nn._task_fit nn._task_model "
        "nn.parallel._exchange nn.routing._grouped nn.routing._activation "
        "nn.routing._slots nn.routing._fused_mlp nn.routing._largest "
        "nn.routing._router_losses nn.routing._routing_plan nn.routing._mlp_experts "
        "nn.routing._overflow nn.routing._wide_product nn.routing._router "
        "nn.routing._top_k_router nn.routing._noisy_router nn.routing._dense_router "
        "nn.routing._expert_choice nn.routing._soft_router nn.routing._fixed_routers "
        "nn.routing._routed_module nn.routing._expert_list nn._tree_walk "
        "nn._fast_feedforward nn.routing._moe_layer nn.routing._named_routers "
        "nn.routing._layer_routers nn.routing nn._sparse_vit nn._deep_mixture "
        "nn.upcycling._perceptron nn.upcycling._feed_forward nn.upcycling._moefy "
        "nn.upcycling nn.parallel._expert_parallel nn.parallel._expert_shards "
        "nn.parallel nn._table_network nn._sparse_network nn._leaf_network "
        "nn._sparse_model "
        "nn _torch_part",
    ],
    2: [
        "gates._constant gates._missing gates._covariance gates._softmax_kernel "
        "gates._softmax gates._gaussian gates._classifier gates._expanded "
        "gates._tree_kernel gates._descent gates._several gates._markov gates._tree "
        "gates._derivatives "
        "gates._torch gates",
        "experts._kept_rows experts._variance_prior experts._rows "
        "experts._weights experts._calibration experts._heads "
        "experts._contributions experts._fitting experts._net experts._adapted "
        "experts._known experts._special experts._glm_prior experts._families "
        "experts._count_families experts._real_families "
        "experts._family_derivatives experts._row_derivatives "
        "experts._linear_prior experts._linear_kernel experts._linear "
        "experts._logistic_kernel experts._newton experts._logistic "
        "experts._glm_kernel experts._glm_base experts._glm experts._binomial "
        "experts._robust experts._heteroscedastic experts._noise "
        "experts._gp_rows experts._gp_numerics experts._gp_sparse "
        "experts._gp_fit experts._gp_kernel experts._gp experts._hmm_chains "
        "experts._hmm_starts experts._hmm_emissions experts._hmm_model "
        "experts._hmm_rows "
        "experts._hmm_adapted experts._hmm experts._expanded "
        "experts._adapter experts._torch_head experts._torch experts",
    ],
    3: [
        "em._segments em._chains em._starts em._swaps em._chain_starts "
        "em._tree_split em._tree_starts em._monitor "
        "em._accelerate em._densities em._node em._node_problem em._balance "
        "em._units em._information em._sums em._device_step em._fused em._paths "
        "em._loop em._search em._gradient em._chain_scan "
        "em._forward_backward em._chain_node em._build em._checkpoint "
        "em._fingerprint em._start_data em._law em._ridge em._stack em._tend "
        "em._fit em._grow em._merge em._neighbours em",
    ],
    4: [
        "_wording _foreign_rows _placement _columns _arguments _coding _seen "
        "_callbacks _training _criteria _fitted _unwrapped _watched "
        "_composition _tree_arguments _nodes _targets _predictions _transformer "
        "reading._explained reading._moves reading._explain_flat reading._case "
        "reading._findings reading._diagnosis reading._diagram reading._mixin "
        "reading._explain_tree reading._tree_text reading._hard_tree reading "
        "statistics._coefficients statistics._covariance statistics._bootstrap "
        "statistics._result statistics._text statistics._summary "
        "statistics._mixin _em_shell _base sequence._place sequence._base "
        "sequence._states sequence._forecast sequence._regimes "
        "sequence._predictions sequence._markov sequence _hierarchy mixture hierarchy "
        "_out_of_bag "
        "_forest forest statistics._hypotheses statistics "
        "multitask._frames multitask._columns multitask._lists "
        "multitask._numbers multitask._vocabulary multitask._encoder "
        "multitask._labels multitask._label_columns multitask._label_weights "
        "multitask._targets multitask._scorers multitask._split multitask._chains "
        "multitask._skill multitask._monitor multitask._epochs multitask._plan "
        "multitask._training multitask._table multitask._answers "
        "multitask._usage multitask._affinity "
        "multitask._documented "
        "multitask._onnx_columns multitask._onnx_encoder multitask._onnx_network "
        "multitask._export multitask._estimator multitask._with_classes "
        "multitask._classifier multitask._regressor multitask._mixed multitask "
        "neural._usage neural._documented neural._routed neural._sparse "
        "neural._leaves neural",
    ],
    5: [
        "inspection._tree_page inspection._tree_drawing inspection._tree "
        "inspection._style inspection._laws inspection._subject "
        "inspection._probe inspection._gate_regions inspection._gate_profile "
        "inspection._usage inspection._responsibilities inspection._timeline "
        "inspection._regimes inspection._traces "
        "inspection._regimes inspection._band inspection._calibration "
        "inspection._coverage "
        "inspection._dendrogram inspection._task_experts inspection",
        "model_selection._dendrogram model_selection._criteria "
        "model_selection._request model_selection._bound model_selection._sweep "
        "model_selection._path model_selection._delegation "
        "model_selection._search model_selection",
        "conformal._ranks conformal._votes conformal._scores conformal._models "
        "conformal._calibrated conformal._base conformal._split "
        "conformal._cross conformal",
        "metrics",
    ],
    6: [
        "skmoe",
    ],
}
PLACES = {
    name: (floor, line, place)
    for floor, lines in FLOORS.items()
    for line, names in enumerate(lines)
    for place, name in enumerate(names.split())
}
PRIVATE_DOOR = "_sklearn"
MAX_LINES, MAX_BODY = 400, 40


def modules():
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__") or "skmoe"] = path
    return found


MODULES = modules()


def internal_imports(tree):
    """Yield the modules of this package that a module imports."""
    for dotted, names in imports(tree):
        if dotted.split(".")[0] == "skmoe":
            inner = dotted.partition(".")[2]
            for name in names or [None]:
                child = f"{inner}.{name}".lstrip(".")
                yield child if child in MODULES else inner or "skmoe"


def imports(tree):
    """Yield (dotted module, imported names) of every import statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), [a.name for a in node.names]


def upward(name, tree):
    """List the imports that break the floors."""
    floor, line, place = PLACES[name]
    wrong = []
    for target in internal_imports(tree):
        other = PLACES.get(target)
        if other is None:
            wrong.append(f"{target}, which is not in FLOORS")
        elif not (
            other[0] < floor or (other[:2] == (floor, line) and other[2] < place)
        ):
            wrong.append(f"{target} of floor {other[0]}")
    return wrong


def private_names(tree):
    """List the private scikit-learn names that a module imports."""
    return [
        f"{dotted}: {', '.join(names)}"
        for dotted, names in imports(tree)
        if dotted.split(".")[0] == "sklearn"
        and any(part.startswith("_") for part in [*dotted.split("."), *names])
    ]


def long_bodies(tree):
    """List the functions whose body, docstring not counted, is too long."""
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None
            body = node.body[1:] if documented else node.body
            length = node.end_lineno - body[0].lineno + 1 if body else 0
            if length > MAX_BODY:
                wrong.append(f"{node.name}: {length} lines")
    return wrong


def test_every_module_has_a_place():
    assert sorted(set(MODULES) - set(PLACES)) == [], "give these a place in FLOORS"
    assert sorted(set(PLACES) - set(MODULES)) == [], "take these out of FLOORS"


@pytest.mark.parametrize("name", MODULES)
def test_module_keeps_the_rules(name):
    source = MODULES[name].read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert name in PLACES, f"{name} has no floor: add it to FLOORS"
    assert upward(name, tree) == []
    assert [dotted for dotted, _ in imports(tree) if dotted.startswith(".")] == []
    assert name == PRIVATE_DOOR or private_names(tree) == []
    assert long_bodies(tree) == []
    assert len(source.splitlines()) <= MAX_LINES
    assert "utils" not in name.split(".")


@pytest.mark.parametrize(
    ("guard", "bad", "good"),
    [
        (lambda t: upward("_protocols", t), "import skmoe.em", "import skmoe._xp"),
        (lambda t: upward("_protocols", t), "from skmoe import em", "import numpy"),
        (
            lambda t: upward("gates", t),
            "def f():\n from skmoe.experts import LinearExpert",
            "from skmoe.gates._softmax import SoftmaxGate",
        ),
        (lambda t: upward("em", t), "import skmoe", "from skmoe import _protocols"),
        (
            private_names,
            "from sklearn.utils._array_api import get_namespace",
            "from sklearn.utils import check_random_state",
        ),
        (private_names, "from sklearn.base import _fit_context", "import sklearn.base"),
        (
            long_bodies,
            "def f():\n" + " x = 1\n" * (MAX_BODY + 1),
            "def f():\n 'Doc.'\n" + " x = 1\n" * MAX_BODY,
        ),
    ],
    ids=["higher", "higher-name", "sibling", "root", "private", "private-name", "body"],
)
def test_guards_see_what_they_guard_against(guard, bad, good):
    assert guard(ast.parse(bad))
    assert not guard(ast.parse(good))
