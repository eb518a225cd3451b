"""Loads what `pa-finetune` wrote into diffusers and checks that it does there what it does here.

    python scripts/oracle/lora_roundtrip.py --model models/demo --run OUT [--bundle BUNDLE] [--pictures DIR]
    python scripts/oracle/lora_roundtrip.py --freeze-names tests/fixtures/finetune/sdxl_kohya_names.txt

OUT is the output folder of a run. Both of its files, `pytorch_lora_weights.safetensors` and
`kohya_lora_weights.safetensors`, go through the pipeline's `load_lora_weights`. Then

* every layer of the file is in the UNet, with its rank, alpha and values, and no other layer is;
* the UNet's output is that of a plain UNet whose weights had alpha / r * B A added (EXACT), and differs
  from that without the LoRA;
* with --bundle, it is that of the bundle's `unet` with the factors fed as inputs (NETWORK);
* the folder's README.md is a model card that the hub's library reads, and `modelspec.hash_sha256` and
  `sshs_model_hash` are what kohya's `addnet_hash_safetensors` computes;
* with --pictures, a folder that `pa-datagen --lora` wrote from the same bundle, every picture is the one that
  diffusers draws from the same initial latents (PICTURE).

`--freeze-names` writes kohya's name of each of SDXL's 560 attention layers as diffusers understands it.

Needs torch, diffusers, transformers, peft, safetensors, huggingface_hub, numpy, Pillow; onnxruntime for --bundle.
"""

import argparse
import datetime
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import (
    _convert_non_diffusers_lora_to_diffusers,
    _maybe_map_sgm_blocks_to_diffusers,
)
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file

from pictures import PICTURE, differences

FILES = ("pytorch_lora_weights.safetensors", "kohya_lora_weights.safetensors")
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
# One sum of products in another order, fp32.
EXACT = 1e-5
# A whole network in another program, fp32.
NETWORK = 1e-4


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def unet_inputs(unet, batch=2):
    generator = torch.Generator().manual_seed(1)
    size = unet.config.sample_size
    randn = lambda *shape: torch.randn(shape, generator=generator)
    pooled = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
    added = {"text_embeds": randn(batch, pooled), "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(batch, 1)}
    return randn(batch, 4, size, size), torch.tensor(321), randn(batch, 77, unet.config.cross_attention_dim), added


@torch.no_grad()
def output_of(unet, inputs):
    sample, timestep, text, added = inputs
    return unet(sample, timestep, text, added_cond_kwargs=added).sample


def factors(path):
    """{module path: (A, B)} of the diffusers file."""
    tensors, found = load_file(path), {}
    for name, value in tensors.items():
        module, side = name.removeprefix("unet.").rsplit(".lora_", 1)
        found.setdefault(module, {})[side[0]] = value
    return {module: (sides["A"], sides["B"]) for module, sides in found.items()}


def merged(model, loras, scale):
    """A plain UNet with the factors' products added to its weights."""
    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32).eval()
    for module, (a, b) in loras.items():
        unet.get_submodule(module).weight.data += scale * (b.double() @ a.double()).float()
    return unet


def check_layers(unet, loras, alpha):
    """Every layer of the file is in the UNet with its values, and no other."""
    layers = {name: unet.get_submodule(name) for name, module in unet.named_modules() if hasattr(module, "lora_A")}
    assert layers.keys() == loras.keys(), sorted(layers.keys() ^ loras.keys())[:4]
    for name, layer in layers.items():
        (adapter,) = layer.lora_A.keys()
        a, b = loras[name]
        assert layer.r[adapter] == a.shape[0] and layer.scaling[adapter] == alpha / a.shape[0], name
        assert torch.equal(layer.lora_A[adapter].weight, a) and torch.equal(layer.lora_B[adapter].weight, b), name


def check_metadata(run):
    with safe_open(run / FILES[0], "pt") as file:
        config = json.loads(file.metadata()["lora_adapter_metadata"])
    with safe_open(run / FILES[1], "pt") as file:
        kohya = file.metadata()
    manifest = json.loads((run / "manifest.json").read_text())
    rank = manifest["config"]["rank"]
    assert config["unet.r"] == rank and config["unet.lora_alpha"] == rank, config
    assert int(kohya["ss_network_dim"]) == rank and float(kohya["ss_network_alpha"]) == rank, kohya
    assert kohya["ss_network_module"] == "networks.lora" and kohya["modelspec.sai_model_spec"], kohya
    print(f"ok   rank and alpha {rank} in both files' metadata")
    return rank


def check_published(run):
    """The card as the hub's library reads it, the hash as kohya's and the web UIs' tools compute it."""
    card = ModelCard.load(run / "README.md", ignore_metadata_errors=False)
    assert card.data.library_name == "diffusers" and {"lora", "popalign"} <= set(card.data.tags), card.data
    with safe_open(run / FILES[1], "pt") as file:
        kohya = file.metadata()
    content = (run / FILES[1]).read_bytes()
    # addnet_hash_safetensors: what follows the header.
    digest = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    assert kohya["sshs_model_hash"] == digest and kohya["modelspec.hash_sha256"] == "0x" + digest, kohya
    assert datetime.date.fromisoformat(kohya["modelspec.date"]) and float(kohya["ss_training_started_at"]) > 0, kohya
    print("ok   model card, hashes and dates")


def onnx_output(bundle, loras, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle / "unet/model.onnx", providers=["CPUExecutionProvider"])
    sample, timestep, text, added = inputs
    feed = {"sample": sample, "timestep": timestep, "encoder_hidden_states": text, **added}
    feed = {name: value.numpy() for name, value in feed.items()}
    spec = next(i for i in session.get_inputs() if i.name == "timestep")
    feed["timestep"] = feed["timestep"].astype(np.int64 if "int64" in spec.type else np.float32)
    for spec in session.get_overridable_initializers():
        module, _, side = spec.name.rpartition(".lora_")
        if module in loras:
            value = loras[module]["AB".index(side[0])].numpy()
            full = np.zeros(spec.shape, np.float32)
            full[tuple(slice(0, n) for n in value.shape)] = value
            feed[spec.name] = full
    return torch.from_numpy(session.run(None, feed)[0])


def check(args):
    torch.set_num_threads(1)
    rank = check_metadata(args.run)
    check_published(args.run)
    loras = factors(args.run / FILES[0])
    failed = False

    def report(what, error, tolerance):
        nonlocal failed
        failed |= not error <= tolerance
        print(f"{'ok  ' if error <= tolerance else 'FAIL'} {what}: {error:.1e} (at most {tolerance:.0e})")

    plain = merged(args.model, {}, 0.0)
    inputs = unet_inputs(plain)
    base = output_of(plain, inputs)
    expected = output_of(merged(args.model, loras, 1.0), inputs)
    moved = relative(expected, base)
    print(f"     the LoRA moves the UNet's output by {moved:.1e}")
    failed |= moved < 1e-4
    if args.bundle:
        report("the bundle's unet with LoRA inputs", relative(onnx_output(args.bundle, loras, inputs), expected), NETWORK)
    for name in FILES:
        pipe = StableDiffusionXLPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        pipe.load_lora_weights(args.run, weight_name=name)
        check_layers(pipe.unet, loras, rank)
        report(f"{name}, {len(loras)} layers", relative(output_of(pipe.unet.eval(), inputs), expected), EXACT)
        if args.pictures:
            found = [difference for _, difference in differences(pipe, args.pictures)]
            report(f"{name}, {len(found)} pictures, levels of 255", max(found, default=0), PICTURE)
    sys.exit(1 if failed else 0)


def sdxl_config():
    """What SDXL's attention layers follow from; the weights are not needed."""
    return dict(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=2,
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def freeze_names(path):
    """`<kohya name> <module path>` for each layer, by diffusers' own conversion."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sdxl_config())
    modules = [name for name, _ in unet.named_modules() if name.endswith(TARGETS)]
    # The original code's numbers (sgm, openaimodel.py): input block 3i + 1 + layer, output block 3i + layer.
    places = {}
    for block in (1, 2):
        for layer in range(2):
            places[f"down_blocks.{block}.attentions.{layer}"] = f"input_blocks_{3 * block + 1 + layer}_1"
    for block in (0, 1):
        for layer in range(3):
            places[f"up_blocks.{block}.attentions.{layer}"] = f"output_blocks_{3 * block + layer}_1"
    places["mid_block.attentions.0"] = "middle_block_1"
    state = {}
    for module in modules:
        place = next(p for p in places if module.startswith(p + "."))
        kohya = f"lora_unet_{places[place]}_{module.removeprefix(place + '.').replace('.', '_')}"
        # A value that names the layer, to be found again after diffusers renamed the keys.
        state[f"{kohya}.lora_down.weight"] = torch.full((1, 1), float(len(state)))
        state[f"{kohya}.lora_up.weight"] = torch.full((1, 1), float(len(state)))
        state[f"{kohya}.alpha"] = torch.tensor(1.0)
    marks = {value.item(): name.removesuffix(".lora_down.weight") for name, value in state.items() if "lora_down" in name}
    mapped = _maybe_map_sgm_blocks_to_diffusers(dict(state), UNet2DConditionModelConfig(unet.config))
    converted, _ = _convert_non_diffusers_lora_to_diffusers(mapped)
    found = {}
    for name, value in converted.items():
        if name.endswith("lora.down.weight"):
            # `attn1.processor.to_out_lora.down.weight` is diffusers' old name of `attn1.to_out.0`.
            module = name.removeprefix("unet.").replace(".processor.", ".").removesuffix("_lora.down.weight")
            found[module + ".0" if module.endswith("to_out") else module] = marks[value.item()]
    assert sorted(found) == sorted(modules), sorted(set(found) ^ set(modules))[:4]
    path.write_text("".join(f"{found[module]} {module}\n" for module in sorted(modules)))
    print(f"{len(modules)} names")


class UNet2DConditionModelConfig(dict):
    """A configuration whose keys are attributes, as the conversion reads them."""

    __getattr__ = dict.__getitem__


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--freeze-names", type=Path)
    args = parser.parse_args()
    if args.freeze_names:
        freeze_names(args.freeze_names)
    else:
        check(args)


if __name__ == "__main__":
    main()
