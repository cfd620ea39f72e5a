"""Exported models small enough to be built in a test, with a known answer."""

from __future__ import annotations

import numpy as np
import pytest


def save_tflite(path, weights, shape, *, signature=None, last=None, dtype=np.float32):
    """Write y = flat(x) @ weights.T as 'body/hidden', then ``last`` of it as 'head/out'."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    kinds = {np.float32: schema.TensorType.FLOAT32, np.int8: schema.TensorType.INT8}
    d = len(weights)
    content = [b"", np.asarray(weights, np.float32).tobytes()]

    def tensor(name, shape, buffer=0, kind=np.float32):
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name, list(shape), buffer, kinds[kind]
        return made

    x = tensor("audio", shape, kind=dtype)
    x.shapeSignature = signature
    tensors = [x, tensor("body/w", weights.shape, 1)]
    tensors += [tensor(name, (1, d)) for name in ("body/hidden", "head/out")]
    codes, operators = [], []
    builtin = schema.BuiltinOperator
    steps = [(builtin.FULLY_CONNECTED, [0, 1, -1], 2), (last or builtin.ABS, [2], 3)]
    for code, inputs, output in steps:
        codes.append(schema.OperatorCodeT())
        codes[-1].builtinCode = codes[-1].deprecatedBuiltinCode = code
        codes[-1].version = 1
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(codes) - 1, inputs, [output]
        if code == builtin.FULLY_CONNECTED:
            operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
            operator.builtinOptions = schema.FullyConnectedOptionsT()
        operators.append(operator)
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, operators, [0], [3]
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], codes
    model.buffers = []
    for data in content:
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(data, np.uint8) if data else None
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def save_onnx(
    path, weights, shape, *, metadata=None, last="Abs", beside=None, to=None, kind="FLOAT"
):
    """Write y = x @ weights.T as output 'body/hidden', and ``last`` of it as 'head/out'.

    ``shape`` of the input may hold names; the outputs come with it.  The input is
    first reshaped to ``to``, and the weights are in the file ``beside`` if given.
    """
    onnx = pytest.importorskip("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    dtype = helper.tensor_dtype_to_np_dtype(getattr(types, kind))
    matrix = np.ascontiguousarray(np.asarray(weights, dtype).T)
    w = onnx.numpy_helper.from_array(matrix, "w")
    if beside is not None:
        w.ClearField("raw_data")
        w.data_location = types.EXTERNAL
        pair = w.external_data.add()
        pair.key, pair.value = "location", str(beside)
    steps = [helper.make_node("MatMul", ["x", "w"], ["body/hidden"])]
    tensors = [w]
    if to is not None:
        tensors.append(onnx.numpy_helper.from_array(np.array(to, np.int64), "to"))
        steps = [
            helper.make_node("Reshape", ["x", "to"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["body/hidden"]),
        ]
    steps.append(helper.make_node(last, ["body/hidden"], ["head/out"]))
    free = [None] * len(shape if to is None else to)
    outputs = [
        helper.make_tensor_value_info(name, getattr(types, kind), free)
        for name in ("head/out", "body/hidden")
    ]
    audio = helper.make_tensor_value_info("x", getattr(types, kind), shape)
    graph = helper.make_graph(steps, "toy", [audio], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
