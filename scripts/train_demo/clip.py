"""Trains a tiny CLIP on the world and writes the reference bank. Results: `WORK/clip/`, `WORK/reference.safetensors`.

Its cosine of picture and caption is the demo's text-image agreement score; distances to the bank of
reference pictures are its quality score. Within a batch every caption that truly describes a picture
counts as positive ("a photo of a doctor" describes each doctor), so the score does not punish a picture for
what a short caption leaves open.
"""

import argparse
import json
import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import dataset
import tokenizer
import vae as autoencoder
import world
from judges import IMAGE_MEAN, IMAGE_STD, augment, draw_mixture, round_trips
from training import Log, set_learning_rate

WIDTH = 64
PICTURES = 10_000
ROUND_TRIPS = 1000
TEST_PICTURES = 1000
REFERENCE_PICTURES = 2000
STEPS = 1000
BATCH = 96
LEARNING_RATE = 1.5e-3
WARMUP = 100


def build():
    """An untrained CLIPModel (0.4 M parameters)."""
    from transformers import CLIPConfig, CLIPModel

    bos, eos = tokenizer.special_ids()
    text = {
        "vocab_size": tokenizer.vocabulary_size(),
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": WIDTH,
        "max_position_embeddings": tokenizer.MAX_LENGTH,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": eos,
    }
    vision = {
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "projection_dim": WIDTH,
        "image_size": 64,
        "patch_size": 8,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def random_caption(rng, sample):
    """A true caption of a picture: neutral, or naming some of what is visible."""
    if sample.visibility != world.VISIBLE or rng.random() < 0.25:
        return world.neutral_caption(sample.name), (None, None, None)
    attributes = (sample.gender, sample.skin, sample.age)
    named = tuple(value if rng.random() < 0.7 else None for value in attributes)
    return world.specific_caption(sample.name, *named), named


def draw_pictures(count, seed):
    """Visible portraits of uniform attributes (88%), ambiguous ones (2%) and things (10%)."""
    return draw_mixture(count, seed, visible=0.88, ambiguous=0.02)


def describes(samples, named):
    """[N pictures, N captions]: whether caption j is true of picture i."""
    names = sorted({sample.name for sample in samples})
    job = torch.tensor([names.index(sample.name) for sample in samples])
    true = job[:, None] == job[None, :]
    for axis, values in enumerate((world.GENDERS, world.SKINS, world.AGES)):
        shown = torch.tensor([values.index(s[axis + 3]) if s[axis + 3] else -1 for s in samples])
        said = torch.tensor([values.index(n[axis]) if n[axis] else -2 for n in named])
        true &= (said[None, :] == -2) | (shown[:, None] == said[None, :])
    return true


def contrastive_loss(scores, true):
    """Symmetric cross-entropy with the probability shared among all true pairs."""
    rows = (true.float() / true.sum(1, keepdim=True) * -F.log_softmax(scores, dim=1)).sum(1).mean()
    columns = (true.float() / true.sum(0, keepdim=True) * -F.log_softmax(scores, dim=0)).sum(0).mean()
    return (rows + columns) / 2


def encode_captions(captions):
    """Token ids cut after the longest caption: attention is causal, so what follows its end changes nothing."""
    _, eos = tokenizer.special_ids()
    ids = torch.tensor(tokenizer.encode(captions, eos))
    return ids[:, : int((ids != eos).sum(1).max()) + 1]


@torch.no_grad()
def embed_pictures(model, pixels):
    """L2-normalised picture embeddings [N, WIDTH] of uint8 pictures."""
    parts = []
    for part in pixels.split(200):
        vision = model.vision_model(pixel_values=dataset.to_model_range(part))
        parts.append(F.normalize(model.visual_projection(vision.pooler_output), dim=-1))
    return torch.cat(parts)


@torch.no_grad()
def embed_captions(model, captions):
    """L2-normalised caption embeddings [N, WIDTH]."""
    text = model.text_model(input_ids=encode_captions(captions))
    return F.normalize(model.text_projection(text.pooler_output), dim=-1)


def top_1(model, pixels, samples):
    """Share of pictures whose best caption, among all captions of full detail, is their own."""
    captions = sorted({sample.caption for sample in samples})
    scores = embed_pictures(model, pixels) @ embed_captions(model, captions).T
    right = [captions[best] == sample.caption for best, sample in zip(scores.argmax(1), samples)]
    return sum(right) / len(right)


def train(work_dir):
    torch.manual_seed(5)
    log = Log("clip")
    vae = autoencoder.load(work_dir)
    pixels, samples = draw_pictures(PICTURES, seed=51)
    decoded = round_trips(vae, pixels[:ROUND_TRIPS], seed=52)
    pixels, samples = torch.cat([pixels, decoded]), samples + samples[:ROUND_TRIPS]
    log(f"{len(samples)} pictures")
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.05)
    rng, generator = random.Random(53), torch.Generator().manual_seed(54)
    for step in range(STEPS):
        rate = LEARNING_RATE * min(1, (step + 1) / WARMUP, 1.5 * (1 - step / STEPS) + 0.01)
        set_learning_rate(optimizer, rate)
        pick = torch.randint(0, len(samples), (BATCH,), generator=generator)
        chosen = [samples[index] for index in pick]
        captions, named = zip(*(random_caption(rng, sample) for sample in chosen))
        pictures = augment(dataset.to_model_range(pixels[pick]), generator)
        vision = model.vision_model(pixel_values=pictures)
        text = model.text_model(input_ids=encode_captions(list(captions)))
        image = F.normalize(model.visual_projection(vision.pooler_output), dim=-1)
        words = F.normalize(model.text_projection(text.pooler_output), dim=-1)
        scores = model.logit_scale.exp().clamp(max=60) * image @ words.T
        loss = contrastive_loss(scores, describes(chosen, named))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            log(f"step {step + 1}/{STEPS} loss {loss.item():.4f}")
    model.eval()
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(60))
    fresh, fresh_samples = draw_reference(TEST_PICTURES, seed=59)
    figures = {"top_1": top_1(model, fresh, fresh_samples), "captions": len({s.caption for s in fresh_samples})}
    log(json.dumps(figures))
    write(model, Path(work_dir), figures)


def draw_reference(count, seed):
    """Pictures as they should be: every occupation and thing in turn, uniform attributes, all visible."""
    rng = random.Random(seed)
    names = world.OCCUPATIONS + list(world.THINGS)
    samples = []
    for index in range(count):
        what = names[index % len(names)]
        samples.append(world.thing(rng, what) if isinstance(what, str) else world.uniform_portrait(rng, what))
    return dataset.pixels_of(samples), samples


def write(model, work_dir, figures):
    """The model in transformers' layout with fp16 weights, its preprocessing, and the reference bank."""
    folder = work_dir / "clip"
    bank = embed_pictures(model, draw_reference(REFERENCE_PICTURES, seed=60)[0])
    save_file({"embeds": bank.half()}, str(work_dir / "reference.safetensors"))
    model.half().save_pretrained(folder)
    preprocessing = {
        "do_center_crop": False,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": IMAGE_MEAN,
        "image_processor_type": "CLIPImageProcessor",
        "image_std": IMAGE_STD,
        "rescale_factor": 1 / 255,
        "resample": 3,
        "size": {"height": 64, "width": 64},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")
    (work_dir / "clip_figures.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", required=True)
    train(parser.parse_args().work_dir)
