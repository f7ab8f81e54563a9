"""Export of fitted multi-task estimators for serving."""

import json
from importlib import import_module
from pathlib import Path

from sklearn.utils.validation import check_is_fitted

from skmoe.multitask._onnx_columns import free_name, inputs_for

__all__ = ["OnnxExport"]

# In front of all names but those of inputs and outputs.
ENCODER, NETWORK = "skmoe/encoder/", "skmoe/network/"
# What one file can hold.
MOST_BYTES = 2**31 - 1


class OnnxExport:
    """Export of a fitted multi-task estimator as one ONNX file."""

    def to_onnx(self, path):
        """Write the fitted estimator to an ONNX file, its encoder included.

        Rows go in as they are, and predictions come out, equal to those of
        ``predict`` and ``predict_proba`` but for the rounding of float32. There is no
        need of skmoe or torch to run the file, ``onnxruntime`` will do.

        **Inputs.** For an estimator fitted to a data frame each column is an input of
        the same name:

        - numbers: double, of shape (n_rows,), NaN where missing;
        - categories that are integers or booleans (False is 0, True is 1): int64 of
          shape (n_rows,), the smallest integer, -2**63, where missing;
        - other categories: string of shape (n_rows,), the text that `str` makes of
          them, numbers without a fraction as integers, "" where missing;
        - lists: int64 or string of shape (n_rows, length), with the length of the
          longest list in ``fit`` but at most ``max_list_length``. Give the last
          entries of longer ones, and fill up with -2**63 or "". A missing entry of a
          list is -2**63 + 1 or "<missing>".

        An estimator fitted to an array, or to a frame without names that are text,
        has one input "X", double of shape (n_rows, n_features), NaN where missing;
        with lists, or with categories that are text, fractions or integers from 2**53
        on, it has an input for each column as above, named "x0", "x1", ...

        **Outputs.** One a task, with its name: probabilities of shape (n_rows,
        n_classes) as float, or means in y's unit or rates of shape (n_rows,) as
        double. A name that is taken by an input or by another task gets "_" behind it.

        **Metadata**, as JSON: "skmoe_version"; "inputs", for each the name, the columns
        it holds, type, size, and what stands for missing entries and for padding (other
        than the above where a category has that value); "tasks", for each the name,
        kind, output and classes.

        Parameters
        ----------
        path : str or path-like
            Of the file to write.

        Raises
        ------
        ImportError
            If onnx or onnxscript is not installed.
        ValueError
            If categories of a column cannot be told apart by their text, or the model
            does not fit in one ONNX file, 2 GB.
        """
        check_is_fitted(self, "_fitted")
        _check_size(self.network_)
        Path(path).write_bytes(_onnx_model(self).SerializeToString())


def _check_size(network):
    """Raise a ValueError if a file cannot hold the weights."""
    n_bytes = 4 * sum(param.numel() for param in network.parameters())
    if n_bytes > MOST_BYTES:
        raise ValueError(
            f"an ONNX file holds less than 2 GB, and the weights take {n_bytes} bytes: "
            "merge rare categories by min_frequency, or lower embedding_size."
        )


def _onnx_model(estimator):
    """Return encoder and network as one model."""
    try:
        onnx = import_module("onnx")
        import_module("onnxscript")
    except ImportError as error:
        raise ImportError(
            "to_onnx needs onnx and onnxscript: pip install 'skmoe[onnx]'"
        ) from error
    fitted, parts = estimator._fitted, "skmoe.multitask._onnx_"
    about, lists = fitted.encoder.describe(), fitted.encoder.lists_
    inputs = inputs_for(about, hasattr(estimator, "feature_names_in_"))
    encoder = import_module(f"{parts}encoder").EncoderGraph(about, inputs, ENCODER)
    n_codes = about["n_columns"] + sum(slot.length for slot in lists)
    network_model = import_module(f"{parts}network").network_model
    model = network_model(estimator.network_, fitted.tasks, n_codes)
    onnx.compose.add_prefix(model, NETWORK, inplace=True)
    outputs, taken = [], {one.name for one in inputs}
    for task in fitted.tasks:
        outputs.append(free_name(str(task.name), taken | set(outputs)))
    _join(onnx.helper, model.graph, encoder, outputs)
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 2))
    model.producer_name = "skmoe"
    model.producer_version = import_module("skmoe").__version__
    _describe(onnx.helper, model, inputs, zip(fitted.tasks, outputs, strict=True))
    return model


def _join(helper, graph, encoder, outputs):
    """Put an encoder in front of a network, and give the outputs their names."""
    given = [encoder.numbers, encoder.codes]
    ends = [out.name for out in graph.output]
    nodes = [
        *encoder.nodes,
        *_renaming(helper, given, [one.name for one in graph.input]),
        *graph.node,
        *_renaming(helper, ends, outputs),
    ]
    del graph.node[:], graph.input[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.input.extend(encoder.value_infos())
    graph.initializer.extend(encoder.constants)
    for out, name in zip(graph.output, outputs, strict=True):
        out.name = name


def _renaming(helper, old, new):
    """Return nodes that pass values on under other names."""
    return [
        helper.make_node("Identity", [a], [b], name=f"{a} as {b}")
        for a, b in zip(old, new, strict=True)
    ]


def _describe(helper, model, inputs, tasks):
    """Write what one who serves a model must know into its metadata."""
    about = {
        "skmoe_version": model.producer_version,
        "inputs": [one.describe() for one in inputs],
        "tasks": [
            {
                "name": str(task.name),
                "kind": task.kind,
                "output": output,
                "classes": None if task.classes is None else task.classes.tolist(),
            }
            for task, output in tasks
        ],
    }
    # Labels may be anything that can be sorted.
    texts = {key: json.dumps(value, default=str) for key, value in about.items()}
    helper.set_model_props(model, texts)
