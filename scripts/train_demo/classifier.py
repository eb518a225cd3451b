"""Trains the attribute classifier of the demo world. Result: `WORK/classifier/`.

One small ResNet trunk (transformers' ResNetForImageClassification: its config keys and weight names)
whose linear layer holds the logits of all heads side by side; `heads` in config.json says which logits are
whose, in order.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import dataset
import vae as autoencoder
import world
from judges import IMAGE_MEAN, IMAGE_STD, augment, draw_mixture, round_trips
from training import Log

HEADS = {
    "gender": list(world.GENDERS),
    "skin": list(world.SKINS),
    "age": list(world.AGES),
    "visible": list(world.VISIBILITY),
}
PICTURES = 9000
ROUND_TRIPS = 2500
TEST_PICTURES = 2000
TEST_ROUND_TRIPS = 600
EPOCHS = 4
BATCH = 96
LEARNING_RATE = 3e-3
NO_LABEL = -100  # cross_entropy's ignore_index: attributes of pictures that do not show them


def build():
    """An untrained network (0.3 M parameters)."""
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        num_channels=3,
        embedding_size=24,
        hidden_sizes=[24, 48, 72, 96],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        hidden_act="relu",
        downsample_in_first_stage=False,
        num_labels=sum(len(labels) for labels in HEADS.values()),
    )
    return ResNetForImageClassification(config)


def ambiguous_portrait(rng, job):
    """An ambiguous portrait: four in ten of any occupation that hides the face, the others of `job`."""
    closed = [job for job in world.OCCUPATIONS if job.look.closed]
    return world.ambiguous_portrait(rng, rng.choice(closed) if rng.random() < 0.4 else job)


def draw_world(count, seed):
    """Fresh pictures and their targets: 76% visible portraits, 12% ambiguous, 12% things."""
    pixels, samples = draw_mixture(count, seed, visible=0.76, ambiguous=0.12, draw_ambiguous=ambiguous_portrait)
    return pixels, targets_of(samples)


def targets_of(samples):
    """Label numbers [N, heads], NO_LABEL where an attribute is not visible."""
    rows = []
    for sample in samples:
        values = (sample.gender, sample.skin, sample.age, sample.visibility)
        rows.append([labels.index(value) if value else NO_LABEL for value, labels in zip(values, HEADS.values())])
    return torch.tensor(rows)


def split_heads(logits):
    """One logits tensor per head, by head name."""
    return dict(zip(HEADS, logits.split([len(labels) for labels in HEADS.values()], dim=1)))


def loss_of(logits, targets):
    parts = split_heads(logits)
    return sum(F.cross_entropy(part, targets[:, i], label_smoothing=0.02) for i, part in enumerate(parts.values()))


@torch.no_grad()
def predict(model, pixels):
    """Label numbers [N, heads] of uint8 pictures."""
    batches = [model(dataset.to_model_range(part)).logits for part in pixels.split(200)]
    return torch.stack([part.argmax(1) for part in split_heads(torch.cat(batches)).values()], dim=1)


def accuracy(model, pixels, targets):
    """Share of right labels per head, over the pictures that have one."""
    predicted = predict(model, pixels)
    result = {}
    for index, head in enumerate(HEADS):
        known = targets[:, index] != NO_LABEL
        result[head] = (predicted[known, index] == targets[known, index]).float().mean().item()
    return result


def train(work_dir):
    torch.manual_seed(3)
    log = Log("classifier")
    vae = autoencoder.load(work_dir)
    pixels, targets = draw_world(PICTURES, seed=31)
    decoded = round_trips(vae, pixels[:ROUND_TRIPS], seed=32)
    pixels, targets = torch.cat([pixels, decoded]), torch.cat([targets, targets[:ROUND_TRIPS]])
    log(f"{len(pixels)} pictures")
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.02)
    steps = EPOCHS * (len(pixels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    generator = torch.Generator().manual_seed(33)
    for epoch in range(EPOCHS):
        for pick in torch.randperm(len(pixels), generator=generator).split(BATCH)[: len(pixels) // BATCH]:
            pictures = augment(dataset.to_model_range(pixels[pick]), generator)
            loss = loss_of(model(pictures).logits, targets[pick])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        log(f"epoch {epoch + 1}/{EPOCHS} loss {loss.item():.4f}")
    model.eval()
    write(model, Path(work_dir) / "classifier")
    log("done")


def evaluate(work_dir):
    """Accuracy on freshly drawn pictures and on such decoded from noisy latents, into `WORK/classifier_figures.json`."""
    model, vae = load(work_dir), autoencoder.load(work_dir)
    fresh, fresh_targets = draw_world(TEST_PICTURES, seed=39)
    figures = {"drawn": accuracy(model, fresh, fresh_targets)}
    few = TEST_ROUND_TRIPS
    figures["decoded"] = accuracy(model, round_trips(vae, fresh[:few], seed=40), fresh_targets[:few])
    print(json.dumps(figures))
    (Path(work_dir) / "classifier_figures.json").write_text(json.dumps(figures, indent=2) + "\n")


def write(model, folder):
    """config.json and model.safetensors (fp16)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: tensor.half().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    names = [f"{head}:{label}" for head, labels in HEADS.items() for label in labels]
    config = {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "depths": list(model.config.depths),
        "downsample_in_bottleneck": False,
        "downsample_in_first_stage": False,
        "embedding_size": model.config.embedding_size,
        "heads": HEADS,
        "hidden_act": "relu",
        "hidden_sizes": list(model.config.hidden_sizes),
        "id2label": {str(index): name for index, name in enumerate(names)},
        "image_channels": "RGB",
        "image_mean": IMAGE_MEAN,
        "image_size": 64,
        "image_std": IMAGE_STD,
        "label2id": {name: index for index, name in enumerate(names)},
        "layer_type": "basic",
        "num_channels": 3,
        "num_labels": len(names),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load(work_dir):
    """The trained classifier, in eval mode."""
    from safetensors.torch import load_file

    model = build()
    tensors = load_file(str(Path(work_dir) / "classifier" / "model.safetensors"))
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    return model.eval().requires_grad_(False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--evaluate", action="store_true", help="measure the trained one instead of training")
    arguments = parser.parse_args()
    (evaluate if arguments.evaluate else train)(arguments.work_dir)
