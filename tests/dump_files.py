"""Dumps as a device writes them."""

import json


def computed(vectors):
    return {name: t.bits.copy() for name, t in vectors.tensors.items() if t.role == "output"}


def write_raw(path, tensors, dtype="float16"):
    described, data = {}, b""
    for name, bits in tensors.items():
        described[name] = {"dtype": dtype, "shape": list(bits.shape), "offset": len(data)}
        data += bits.astype(bits.dtype.newbyteorder("<")).tobytes()
    path.write_bytes(data)
    path.with_suffix(".json").write_text(json.dumps(described))
    return path


def hexadecimal(bits):
    return [f"{word:0{2 * bits.dtype.itemsize}x}" for word in bits.reshape(-1).tolist()]
