"""What an encoder does, as nodes of an ONNX graph: columns in, codes out.

Imported by an export alone: it needs onnx.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

__all__ = ["EncoderGraph"]

BATCH = "batch"
ML = "ai.onnx.ml"


class EncoderGraph:
    """What `TableEncoder.transform` does, as nodes of a graph.

    Numbers stay doubles up to where they are standardised, so that the bin is that of
    the encoder, and integers are never made floats.

    Parameters
    ----------
    about : dict
        Of `TableEncoder.describe`.
    inputs : list of Input
        Of `inputs_for`.
    prefix : str
        In front of the names of all that the graph makes.

    Attributes
    ----------
    nodes : list of NodeProto
    constants : list of TensorProto
    numbers, codes : str
        Names of the results: float32 of shape (n_rows, n_numbers), and int64 of shape
        (n_rows, n_columns and those of the lists).
    """

    def __init__(self, about, inputs, prefix):
        self.inputs, self.prefix = inputs, prefix
        # Whether one input holds all columns.
        self._is_matrix = inputs[0].type == "double" and inputs[0].size is not None
        self.nodes, self.constants = [], []
        # Codes as they are made: where they belong, and their names.
        self._places, self._parts = [], []
        columns = list(enumerate(about["columns"]))
        numbers = [(j, c) for j, c in columns if c["kind"] == "number"]
        # In the order of the encoder's numbers.
        numbers.sort(key=lambda pair: pair[1]["number"])
        self.numbers = self._scaled(numbers, about["clip"])
        for j, column in columns:
            if column["kind"] != "number":
                self._encode(j, column, about["vocabularies"][column["vocabulary"]])
        self.codes = self._in_order()

    def value_infos(self):
        """Return the declarations of the inputs."""
        return [
            helper.make_tensor_value_info(
                one.name,
                getattr(TensorProto, one.type.upper()),
                [BATCH] if one.size is None else [BATCH, one.size],
            )
            for one in self.inputs
        ]

    # -- numbers -----------------------------------------------------------------------

    def _scaled(self, numbers, clip):
        """Add standardised numbers and indicators, and the codes of bins."""
        if not numbers:
            return self._empty(TensorProto.FLOAT)
        values = self._values([j for j, _ in numbers])
        missing = self._add("IsNaN", values)
        about = [column for _, column in numbers]
        mean = self._constant([c["mean"] for c in about], np.float64)
        factor = self._constant([c["factor"] for c in about], np.float64)
        scaled = self._add("Mul", self._add("Sub", values, mean), factor)
        zero = self._constant(0.0, np.float64)
        scaled = self._add("Where", self._add("IsNaN", scaled), zero, scaled)
        ends = [self._constant(end, np.float64) for end in (-clip, clip)]
        parts = [self._cast(self._add("Clip", scaled, *ends), TensorProto.FLOAT)]
        with_gaps = [
            (c["indicator"], i)
            for i, c in enumerate(about)
            if c["indicator"] is not None
        ]
        if with_gaps:
            gaps = self._columns_of(missing, [i for _, i in sorted(with_gaps)])
            parts.append(self._cast(gaps, TensorProto.FLOAT))
        if "column" in about[0]:
            self._add_bins(values, missing, about)
        return self._side_by_side(parts)

    def _add_bins(self, values, missing, about):
        """Add the codes of the bins: all edges of all columns at once."""
        edges = np.full((len(about), max(len(c["edges"]) for c in about) + 1), np.inf)
        for row, column in zip(edges, about, strict=True):
            row[: len(column["edges"])] = column["edges"]
        each = self._add("Unsqueeze", values, self._integers(2))
        below = self._add("Less", self._constant(edges, np.float64), each)
        below = self._cast(below, TensorProto.INT64)
        place = self._add("ReduceSum", below, self._integers(2), keepdims=0)
        first = self._integers(*(c["first_bin"] for c in about))
        gap = self._integers(*(c["missing"] for c in about))
        codes = self._add("Where", missing, gap, self._add("Add", place, first))
        self._places += [c["column"] for c in about]
        self._parts.append(codes)

    def _values(self, columns):
        """Return columns of numbers, of shape (n_rows, n_columns)."""
        if self._is_matrix:
            return self._columns_of(self.inputs[0].name, columns)
        return self._side_by_side([self._upright(self.inputs[j].name) for j in columns])

    # -- categories --------------------------------------------------------------------

    def _encode(self, j, column, vocabulary):
        """Add the codes of a column of categories, or of lists of them."""
        if self._is_matrix:
            codes = self._of_doubles(self._values([j]), vocabulary)
        else:
            given = self.inputs[j]
            codes = self._looked_up(given.name, given.codes, vocabulary["unseen"])
            codes = codes if given.size is not None else self._upright(codes)
        self._parts.append(codes)
        if column["kind"] == "list":
            start = column["start"]
            self._places += range(start, start + column["length"])
        else:
            self._places.append(column["column"])

    def _of_doubles(self, values, vocabulary):
        """Return codes of integers that came as doubles; fractions are unseen."""
        known = dict(zip(vocabulary["categories"], vocabulary["codes"], strict=True))
        unseen, missing = (
            self._integers(vocabulary[key]) for key in ("unseen", "missing")
        )
        gap = self._add("IsNaN", values)
        # Beyond 2^53 a double may stand for another integer, beyond 2^63 for none.
        near = self._add(
            "Less", self._add("Abs", values), self._constant(2.0**53, np.float64)
        )
        whole = self._add("Equal", self._add("Floor", values), values)
        held = self._add("And", near, whole)
        zero = self._constant(0.0, np.float64)
        integers = self._cast(self._add("Where", held, values, zero), TensorProto.INT64)
        codes = self._looked_up(integers, known, vocabulary["unseen"])
        codes = self._add("Where", held, codes, unseen)
        return self._add("Where", gap, missing, codes)

    def _looked_up(self, given, codes, unseen):
        """Return the codes of categories."""
        text = any(isinstance(key, str) for key in codes)
        if not codes:  # a column without any category: nothing is known
            codes = {0: unseen}
        keys = {"keys_strings" if text else "keys_int64s": list(codes)}
        return self._add(
            "LabelEncoder",
            given,
            domain=ML,
            values_int64s=list(codes.values()),
            default_int64=unseen,
            **keys,
        )

    def _in_order(self):
        """Return all codes, in the order of the encoder."""
        if not self._parts:
            return self._empty(TensorProto.INT64)
        codes = self._side_by_side(self._parts)
        order = np.argsort(self._places).tolist()
        if order == list(range(len(order))):
            return codes
        return self._columns_of(codes, order)

    # -- nodes -------------------------------------------------------------------------

    def _add(self, kind, *given, **options):
        """Add a node; return the name of its result."""
        name = f"{self.prefix}{kind}_{len(self.nodes)}"
        node = helper.make_node(kind, list(given), [name], name=name, **options)
        self.nodes.append(node)
        return name

    def _constant(self, values, dtype):
        """Add a constant; return its name."""
        name = f"{self.prefix}constant_{len(self.constants)}"
        tensor = numpy_helper.from_array(np.array(values, dtype), name)
        self.constants.append(tensor)
        return name

    def _integers(self, *values):
        return self._constant(values, np.int64)

    def _cast(self, name, kind):
        return self._add("Cast", name, to=kind)

    def _upright(self, name):
        return self._add("Unsqueeze", name, self._integers(1))

    def _columns_of(self, name, columns):
        return self._add("Gather", name, self._integers(*columns), axis=1)

    def _side_by_side(self, names):
        return names[0] if len(names) == 1 else self._add("Concat", *names, axis=1)

    def _empty(self, kind):
        """Return an array without columns, with as many rows as the first input."""
        first = self.inputs[0].name
        n_rows = self._add("Shape", first, start=0, end=1)
        shape = self._add("Concat", n_rows, self._integers(0), axis=0)
        nothing = helper.make_tensor("nothing", kind, [1], [0])
        return self._add("ConstantOfShape", shape, value=nothing)
