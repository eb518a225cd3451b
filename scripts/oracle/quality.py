#!/usr/bin/env python3
"""Freezes what their authors' code makes of pictures by CLIP, LAION's aesthetic predictor, HPS v2 and PickScore,
for `tests/judges/`: from the bytes of JPEG files to the scores, with random weights (`seeded.py`) in files of the
true formats and names.

* `pictures/*.jpg`: portrait, landscape, tiny, grey, CMYK, turned by Exif, and sizes that leave odd numbers over.
* `weights/`: skeletons of the files, and the small ones beside them.
* `quality.json`: by score the numbers of pictures and captions, and one prepared picture of each kind.

Who computes: openai-clip 1.0.1 (ViT-B-32.pt through `clip.load`), open_clip 3.3 (L/14, H/14),
transformers (H/14, PickScore), hpsv2 1.2 (its model, its transform). Pictures are turned by `ImageOps.exif_transpose`
and made RGB before their code sees them, which is what pa-score does with any picture.

From the repository's root:
    python scripts/oracle/quality.py tests/fixtures/judges
    python scripts/oracle/quality.py tests/fixtures/judges --full      # ViT-B/32 in its true size, into full.json
"""

import gzip
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parent))
import seeded  # noqa: E402

CAPTIONS = [
    "a photo of a doctor",
    "A portrait of an elderly woman, smiling; 35mm, f/1.8!",
    "the café's naïve waiter — 100% sure",
    " ".join(["a very long caption about a baker and her bread"] * 12),
]
MERGES = 180
B32 = {"embed_dim": 64, "vision": (32, 8, 128, 2), "text": (77, 128, 2, 2)}
SIZES = {
    "portrait": (90, 141),
    "landscape": (161, 100),
    "tiny": (9, 7),
    "square": (96, 96),
    "wide": (200, 33),
    "grey": (75, 64),
    "cmyk": (64, 75),
    "turned": (120, 83),
}


def draw_pictures(out):
    out.mkdir(parents=True, exist_ok=True)
    face = Image.open("tests/fixtures/faces/astronaut.png").convert("RGB")
    for i, (name, (width, height)) in enumerate(SIZES.items()):
        side = 300 + 20 * i
        crop = face.crop((20, 10, 20 + side * width // max(width, height), 10 + side * height // max(width, height)))
        picture = crop.resize((width, height), Image.Resampling.BICUBIC)
        extra = {}
        if name == "grey":
            picture = picture.convert("L")
        if name == "cmyk":
            picture = picture.convert("CMYK")
        if name == "turned":
            exif = Image.Exif()
            exif[0x0112] = 6
            extra["exif"] = exif
        picture.save(out / f"{name}.jpg", quality=90, **extra)


def pictures(out):
    def read(name):
        return ImageOps.exif_transpose(Image.open(out / f"{name}.jpg")).convert("RGB")

    return {name: read(name) for name in SIZES}


def write_tokenizer(out):
    """The first merges of OpenAI's file, in its form and as vocab.json and merges.txt."""
    import clip.simple_tokenizer as theirs

    lines = gzip.open(theirs.default_bpe()).read().decode().split("\n")[: MERGES + 1]
    out.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(out / "bpe_simple_vocab_16e6.txt.gz", "wb", 9, mtime=0) as file:
        file.write("\n".join(lines).encode())
    tokenizer = theirs.SimpleTokenizer(str(out / "bpe_simple_vocab_16e6.txt.gz"))
    return tokenizer, lines[1:]


def as_transformers(tokenizer, merges, out):
    (out / "vocab.json").write_text(json.dumps(tokenizer.encoder, ensure_ascii=False))
    (out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    config = {"tokenizer_class": "CLIPTokenizer", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
              "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "model_max_length": 77}
    (out / "tokenizer_config.json").write_text(json.dumps(config))


def scores(images, texts):
    """Cosines: pictures by captions."""
    images = images / images.norm(dim=-1, keepdim=True)
    texts = texts / texts.norm(dim=-1, keepdim=True)
    return (images.double() @ texts.double().T).tolist()


class Carrier(torch.nn.Module):
    """A module of given parameters, by their dotted names, that computes nothing."""

    def __init__(self, state):
        super().__init__()
        for name, value in state.items():
            *path, last = name.split(".")
            place = self
            for part in path:
                if part not in place._modules:
                    place.add_module(part, Carrier({}))
                place = place._modules[part]
            place.register_parameter(last, torch.nn.Parameter(value, requires_grad=False))

    def forward(self, x):
        return x


def openai(sizes, vocabulary, work, out, name="ViT-B-32.pt", packed="gz"):
    """OpenAI's file: TorchScript, matrices in half precision; read and run by OpenAI's code."""
    import clip
    from clip.model import CLIP, convert_weights

    (image, patch, width, layers), (length, text_width, heads, text_layers) = sizes["vision"], sizes["text"]
    model = CLIP(sizes["embed_dim"], image, layers, width, patch, length, vocabulary, text_width, heads, text_layers)
    convert_weights(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}

    for value in state.values():
        value.zero_()
    torch.jit.save(torch.jit.script(Carrier(state)), work / name)
    seeded.skeleton(work / name, out / f"{name}.{packed}")
    seeded.fill(state)
    # What reads the file wants these three too.
    for key, number in [("input_resolution", image), ("context_length", length), ("vocab_size", vocabulary)]:
        state[key] = torch.tensor(float(number))
    model = clip.model.build_model(dict(state)).float().eval()
    return model, clip.clip._transform(image)


def open_clip_model(sizes, vocabulary, quick_gelu, head_width):
    import open_clip

    (image, patch, width, layers), (length, text_width, heads, text_layers) = sizes["vision"], sizes["text"]
    config = {
        "embed_dim": sizes["embed_dim"],
        "vision_cfg": {"image_size": image, "layers": layers, "width": width, "head_width": head_width,
                       "patch_size": patch},
        "text_cfg": {"context_length": length, "vocab_size": vocabulary, "width": text_width, "heads": heads,
                     "layers": text_layers},
    }
    if quick_gelu:
        config["quick_gelu"] = True
    model = open_clip.model.CLIP(**config).eval()
    return model, config


def open_clip_folder(folder, out, work, sizes, vocabulary, quick_gelu, head_width, weights):
    """A folder of open_clip's on the hub."""
    import open_clip
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from safetensors.torch import save_file

    model, config = open_clip_model(sizes, vocabulary, quick_gelu, head_width)
    state = {key: value.clone().contiguous() for key, value in model.state_dict().items()}
    seeded.fill(state, 1)
    model.load_state_dict(state)
    for value in state.values():
        value.zero_()
    if weights.endswith("safetensors"):
        save_file(state, work / weights)
    else:
        torch.save(state, work / weights)
    seeded.skeleton(work / weights, out / folder / f"{weights}.gz")
    preprocess = {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD, "interpolation": "bicubic",
                  "resize_mode": "shortest"}
    config = {"model_cfg": config, "preprocess_cfg": preprocess}
    (out / folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
    size = sizes["vision"][0]
    transform = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(size=size), is_train=False)
    return model, transform


def transformers_folder(folder, out, work, sizes, vocabulary, seed, tokenizer, merges):
    """A folder of transformers' on the hub."""
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizerFast

    (image, patch, width, layers), (length, text_width, heads, text_layers) = sizes["vision"], sizes["text"]
    text = {"vocab_size": vocabulary, "hidden_size": text_width, "intermediate_size": 4 * text_width,
            "num_hidden_layers": text_layers, "num_attention_heads": heads, "max_position_embeddings": length,
            "hidden_act": "gelu", "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1}
    vision = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
              "num_attention_heads": width // 40, "image_size": image, "patch_size": patch, "hidden_act": "gelu"}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=sizes["embed_dim"])
    model = CLIPModel(config).eval()
    state = {key: value.clone().contiguous() for key, value in model.state_dict().items()}
    seeded.fill(state, seed)
    model.load_state_dict(state)
    for value in state.values():
        value.zero_()
    save_file(state, work / "model.safetensors", metadata={"format": "pt"})
    place = out / folder
    seeded.skeleton(work / "model.safetensors", place / "model.safetensors.gz")
    config.save_pretrained(place)
    processor = CLIPImageProcessorPil(size={"shortest_edge": image}, crop_size={"height": image, "width": image})
    processor.save_pretrained(place)
    as_transformers(tokenizer, merges, place)
    words = CLIPTokenizerFast.from_pretrained(place)

    def embed(images):
        pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        tokens = words(CAPTIONS, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.no_grad():
            answer = model(pixel_values=pixels, **tokens)
        return answer.image_embeds, answer.text_embeds, pixels

    return embed, float(model.logit_scale.exp())


def hps(version, file, out, work, sizes, vocabulary, seed):
    """HPS' file: a training checkpoint of its own open_clip."""
    from hpsv2.src.open_clip.model import CLIP
    from hpsv2.src.open_clip.transform import image_transform

    (image, patch, width, layers), (length, text_width, heads, text_layers) = sizes["vision"], sizes["text"]
    vision = {"image_size": image, "layers": layers, "width": width, "head_width": 80, "patch_size": patch}
    text = {"context_length": length, "vocab_size": vocabulary, "width": text_width, "heads": heads,
            "layers": text_layers}
    model = CLIP(sizes["embed_dim"], vision, text, output_dict=True).eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    seeded.fill(state, seed)
    model.load_state_dict(state)
    for value in state.values():
        value.zero_()
    torch.save({"epoch": 3, "name": f"hps {version}", "state_dict": state}, work / file)
    seeded.skeleton(work / file, out / "hps" / f"{file}.gz")
    return model, image_transform(image, is_train=False, resize_longest_max=True)


class MLP(torch.nn.Module):
    """improved-aesthetic-predictor's `simple_inference.py`, its input as wide as the CLIP is."""

    def __init__(self, width):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(width, 1024), torch.nn.Dropout(0.2), torch.nn.Linear(1024, 128), torch.nn.Dropout(0.2),
            torch.nn.Linear(128, 64), torch.nn.Dropout(0.1), torch.nn.Linear(64, 16), torch.nn.Linear(16, 1))

    def forward(self, x):
        return self.layers(x)


def aesthetic(out, work, embeds):
    name = "sac+logos+ava1-l14-linearMSE.pth"
    model = MLP(embeds.shape[1]).eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    seeded.fill(state, 7)
    model.load_state_dict(state)
    for value in state.values():
        value.zero_()
    torch.save(state, work / name)
    seeded.skeleton(work / name, out / "openai" / f"{name}.gz")
    norm = np.linalg.norm(embeds.numpy(), axis=1, keepdims=True)
    with torch.no_grad():
        return model(torch.from_numpy(embeds.numpy() / norm)).flatten().tolist()


def tokens_of(tokenizer, length):
    """open_clip's and OpenAI's rows: cut before the end token, zeros behind it."""
    rows = torch.zeros(len(CAPTIONS), length, dtype=torch.long)
    start, end = tokenizer.encoder["<|startoftext|>"], tokenizer.encoder["<|endoftext|>"]
    for row, caption in zip(rows, CAPTIONS):
        ids = [start, *tokenizer.encode(caption), end][:length]
        ids[-1] = end
        row[: len(ids)] = torch.tensor(ids)
    return rows


def run(model, transform, images, tokens):
    pixels = torch.stack([transform(image) for image in images])
    with torch.no_grad():
        return model.encode_image(pixels).float(), model.encode_text(tokens).float(), pixels


def main():
    out = Path(sys.argv[1])
    torch.manual_seed(0)
    draw_pictures(out / "pictures")
    images = list(pictures(out / "pictures").values())
    weights = out / "weights"
    work = Path(tempfile.mkdtemp())
    if "--full" in sys.argv:
        return full(out, work, images)
    tokenizer, merges = write_tokenizer(weights / "openai")
    vocabulary = len(tokenizer.encoder)
    tokens = tokens_of(tokenizer, 77)
    result = {"pictures": list(SIZES), "captions": CAPTIONS, "prepared": {}, "scores": {}}

    def keep(key, embeds, scale):
        image, text, pixels = embeds
        result["scores"][key] = (torch.tensor(scores(image, text), dtype=torch.float64) * scale).tolist()
        wanted = [list(SIZES).index(name) for name in ["portrait", "wide", "tiny"]]
        result["prepared"][key] = {list(SIZES)[i]: pixels[i, :, 5::9, 3].flatten().tolist() for i in wanted}
        return image

    model, transform = openai(B32, vocabulary, work, weights / "openai")
    keep("clip_b32", run(model, transform, images, tokens), 100.0)
    sizes = {"embed_dim": 96, "vision": (56, 14, 128, 2), "text": (77, 128, 2, 2)}
    model, transform = open_clip_folder("openai/vit_large_patch14_clip_224.openai", weights, work, sizes, vocabulary,
                                        True, 64, "open_clip_model.safetensors")
    embeds = keep("clip_l14", run(model, transform, images, tokens), 100.0)
    result["scores"]["aesthetic"] = aesthetic(weights, work, embeds)
    sizes = {"embed_dim": 64, "vision": (56, 14, 160, 2), "text": (77, 128, 2, 2)}
    model, transform = open_clip_folder("openai/CLIP-ViT-H-14-laion2B-s32B-b79K", weights, work, sizes, vocabulary,
                                        False, 80, "open_clip_pytorch_model.bin")
    keep("clip_h14", run(model, transform, images, tokens), 100.0)
    embed, _ = transformers_folder("transformers/CLIP-ViT-H-14-laion2B-s32B-b79K", weights, work, sizes, vocabulary, 2,
                                   tokenizer, merges)
    keep("clip_h14 of transformers", embed(images), 100.0)
    for version, file, seed in [("v2.0", "HPS_v2_compressed.pt", 3), ("v2.1", "HPS_v2.1_compressed.pt", 4)]:
        model, transform = hps(version, file, weights, work, sizes, vocabulary, seed)
        keep(f"hps_{version}", run(model, transform, images, tokens), 100.0)
    embed, scale = transformers_folder("transformers/PickScore_v1", weights, work, sizes, vocabulary, 5, tokenizer,
                                       merges)
    keep("pick", embed(images), scale)
    (out / "quality.json").write_text(json.dumps(result))


def full(out, work, images):
    """ViT-B/32 as it is published, but for its numbers and the size of its vocabulary."""
    tokenizer, _ = write_tokenizer(out / "weights" / "openai")
    sizes = {"embed_dim": 512, "vision": (224, 32, 768, 12), "text": (77, 512, 8, 12)}
    model, transform = openai(sizes, len(tokenizer.encoder), work, out / "full", packed="gz.gz")
    image, text, _ = run(model, transform, images, tokens_of(tokenizer, 77))
    result = (torch.tensor(scores(image, text), dtype=torch.float64) * 100.0).tolist()
    (out / "full.json").write_text(json.dumps({"clip_b32": result}))


if __name__ == "__main__":
    main()
