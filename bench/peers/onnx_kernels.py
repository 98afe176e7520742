"""The selective scan's recurrence as an ONNX Scan op in ONNX Runtime. Softplus, skip and gate are outside of the timing."""
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from serve import argument_threads, inputs, samples, serve

THREADS = argument_threads()


def info(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def scan_session(channels, states):
    steps = [("Mul", ["dt", "A"], "dtA"), ("Exp", ["dtA"], "decay"), ("Mul", ["decay", "h"], "kept"),
             ("Mul", ["dtu", "B"], "added"), ("Add", ["kept", "added"], "next"), ("MatMul", ["next", "C"], "y")]
    body = helper.make_graph(
        [helper.make_node(op, given, [made]) for op, given, made in steps], "token",
        [info("h", [channels, states]), info("dt", [channels, 1]), info("dtu", [channels, 1]), info("B", [1, states]),
         info("C", [states, 1])],
        [info("next", [channels, states]), info("y", [channels, 1])])
    names = ["h0", "dts", "dtus", "Bs", "Cs"]
    graph = helper.make_graph(
        [helper.make_node("Scan", names, ["last", "ys"], body=body, num_scan_inputs=4)], "scan",
        [info("A", [channels, states]), info("h0", [channels, states]), info("dts", ["L", channels, 1]),
         info("dtus", ["L", channels, 1]), info("Bs", ["L", 1, states]), info("Cs", ["L", states, 1])],
        [info("last", [channels, states]), info("ys", ["L", channels, 1])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def answer(job):
    t = inputs(job)
    u, z, B, C = (t[name][0] for name in ("u", "z", "B", "C"))
    dt = np.logaddexp(0, t["delta"][0] + t["deltaBias"]).astype(np.float32)
    channels, states = t["A"].shape
    session = scan_session(channels, states)
    feed = {"A": t["A"], "h0": np.zeros((channels, states), np.float32), "dts": dt[:, :, None],
            "dtus": (dt * u)[:, :, None], "Bs": B[:, None, :], "Cs": C[:, :, None]}
    y = session.run(["ys"], feed)[0][:, :, 0]
    ((y + t["D"] * u) * (z / (1 + np.exp(-z)))).astype(np.float32).tofile(job["result"])
    return {"form": "Scan op", "seconds": samples(lambda: session.run(["ys"], feed), job["reps"])}


serve({"peer": f"ONNX Runtime {onnxruntime.__version__}", "kernels": ["scan"], "dtypes": ["f32"]}, answer)
