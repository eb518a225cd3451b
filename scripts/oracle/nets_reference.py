"""Runs diffusers, transformers and peft on a tiny configuration: the values that src/nets must give.

Nothing in these networks couples the samples of a batch, so a batch of three is stored and the tests
also run its first one and its first two. Everything runs in fp64: what is stored is exact to fp32, and
the tests measure one program's rounding, not the difference of two. (diffusers keeps its sinusoids in
fp32 nevertheless, so they are what its users get.)
"""

import json

import diffusers
import torch
import transformers
from peft import LoraConfig
from safetensors.torch import save_file

from nets_configs import TOKENS, VOCABULARY

BATCH = 3
LORA_TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]
# Linear layers of other shapes: two axes, halves that gate each other, around the transformers.
MORE_TARGETS = [*LORA_TARGETS, "time_emb_proj", "ff.net.0.proj", "ff.net.2", "linear_1", "proj_in"]


def randomise(model, generator):
    """Random weights in which every parameter matters, rounded to what fp16 holds."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif name.endswith("running_mean"):
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
            elif not value.is_floating_point():
                continue
            elif value.ndim == 1 and name.endswith("weight"):
                value.copy_(1 + 0.2 * torch.randn(value.shape, generator=generator))
            elif value.ndim <= 1:
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
            elif "embedding" in name and value.ndim == 2 and "linear" not in name:
                value.copy_(0.5 * torch.randn(value.shape, generator=generator))
            else:
                scale = (value[0].numel()) ** -0.5
                value.copy_(scale * torch.randn(value.shape, generator=generator))
            value.copy_(value.half())
    return model.double().eval()


def save(model, folder, config, rename=None):
    """`config.json` and the weights as fp16, under the file name that the library itself uses."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half().contiguous() for k, v in model.state_dict().items() if v.is_floating_point()}
    if rename:
        state = rename(state)
    name = "diffusion_pytorch_model" if isinstance(model, diffusers.ModelMixin) else "model"
    save_file(state, folder / f"{name}.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def old_attention_names(state):
    """The VAE attention as checkpoints before diffusers 0.17 name it, shaped as 1x1 convolutions."""
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    renamed = {}
    for key, value in state.items():
        for new, old in names.items():
            if new in key:
                key = key.replace(new, old)
                value = value[:, :, None, None] if value.ndim == 2 else value
        renamed[key] = value
    return renamed


def token_ids(generator):
    """[3, TOKENS]: beginning, words, the end token (the highest id), padding that repeats the end."""
    ids = torch.randint(3, VOCABULARY - 2, (BATCH, TOKENS), generator=generator)
    ids[:, 0] = 0
    for row, end in enumerate(torch.randint(3, TOKENS - 1, (BATCH,), generator=generator).tolist()):
        ids[row, end:] = VOCABULARY - 1
    return ids


def text(config, projection, folder, generator):
    """Hidden states, pooled and projected outputs of one text encoder, as optimum names them."""
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    model = randomise(kind(transformers.CLIPTextConfig(**config)), generator)
    save(model, folder, {**config, "architectures": [kind.__name__], "model_type": "clip_text_model"})
    ids = token_ids(generator)
    with torch.no_grad():
        result = model(input_ids=ids, output_hidden_states=True)
    outputs = {f"hidden_states.{i}": h for i, h in enumerate(result.hidden_states)}
    outputs["last_hidden_state"] = result.last_hidden_state
    outputs["text_embeds" if projection else "pooler_output"] = (
        result.text_embeds if projection else result.pooler_output
    )
    return {"input_ids": ids}, outputs


def vae(config, folder, generator, old_names, size):
    """Moments and decoded pictures; `size` is the latent's (height, width)."""
    model = randomise(diffusers.AutoencoderKL(**config), generator)
    save(model, folder, {**config, "_class_name": "AutoencoderKL"}, old_attention_names if old_names else None)
    factor = 2 ** (len(config["block_out_channels"]) - 1)
    picture = torch.rand(BATCH, 3, size[0] * factor, size[1] * factor, generator=generator) * 2 - 1
    latent = torch.randn(BATCH, config["latent_channels"], *size, generator=generator)
    picture, latent = picture.double(), latent.double()
    with torch.no_grad():
        moments = model.encode(picture).latent_dist.parameters
        decoded = model.decode(latent).sample
    return (
        ({"sample": picture}, {"latent_parameters": moments}),
        ({"latent_sample": latent}, {"sample": decoded}),
    )


def unet(config, folder, generator, size, targets):
    """One denoiser: the plain forward at two sizes, the paired forward with per-sample LoRA gradients."""
    model = randomise(diffusers.UNet2DConditionModel(**config), generator)
    save(model, folder, {**config, "_class_name": "UNet2DConditionModel"})
    inputs = unet_inputs(config, generator, size)
    with torch.no_grad():
        out = forward(model, inputs, torch.tensor(float(inputs["timestep"][0])))
        wide = {k: v[:1] for k, v in unet_inputs(config, generator, (size[0], 2 * size[1])).items()}
        wide["timestep"] = torch.tensor(17.25)
        wide_out = forward(model, wide, wide["timestep"])
    plain = {**inputs, "timestep": inputs["timestep"][0]}
    return {
        "unet": (plain, {"out_sample": out}),
        "unet_wide": (wide, {"out_sample": wide_out}),
        "unet_grad": gradient(model, inputs, generator, targets),
    }


def unet_inputs(config, generator, size):
    """Random conditioning; time ids look like SDXL's pixel sizes."""
    inputs = {
        "sample": torch.randn(BATCH, config["in_channels"], *size, generator=generator),
        "timestep": torch.tensor([801.0, 41.0, 333.0]),
        "encoder_hidden_states": torch.randn(BATCH, TOKENS, config["cross_attention_dim"], generator=generator),
    }
    if config.get("addition_embed_type") == "text_time":
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        inputs["text_embeds"] = torch.randn(BATCH, pooled, generator=generator)
        inputs["time_ids"] = torch.randint(0, 1024, (BATCH, 6), generator=generator)
    return {name: value.double() for name, value in inputs.items()}


def forward(model, inputs, timestep):
    """What the pipelines call."""
    added = None
    if "time_ids" in inputs:
        added = {"text_embeds": inputs["text_embeds"], "time_ids": inputs["time_ids"]}
    return model(inputs["sample"], timestep, inputs["encoder_hidden_states"], added_cond_kwargs=added).sample


def gradient(model, inputs, generator, targets):
    """`mse`, `ref_mse` and the gradient of every LoRA factor, one sample at a time through autograd."""
    rank, scale = 2, 0.75
    model.add_adapter(LoraConfig(r=rank, lora_alpha=rank * scale, target_modules=targets))
    target = torch.randn(inputs["sample"].shape, generator=generator).double()
    factors = {}
    for name, value in sorted(model.named_parameters()):
        value.requires_grad_("lora_" in name)
        if "lora_" in name:
            # A keeps the size of what it is given, B makes of that a small change.
            size = value.shape[1] ** -0.5 if "lora_A" in name else 0.2
            value.data = (torch.randn(value.shape, generator=generator) * size).double()
            factors[name.replace(".default", "")] = value
    mse, ref_mse, grads = [], [], {name: [] for name in factors}
    for i in range(BATCH):
        one = {k: v[i : i + 1] for k, v in inputs.items()}
        model.disable_adapters()
        with torch.no_grad():
            ref_mse.append((forward(model, one, one["timestep"]) - target[i : i + 1]).pow(2).mean())
        model.enable_adapters()
        loss = (forward(model, one, one["timestep"]) - target[i : i + 1]).pow(2).mean()
        mse.append(loss.detach())
        for name, grad in zip(factors, torch.autograd.grad(loss, list(factors.values()))):
            grads[name].append(grad)
    fed = {**inputs, "target": target, "lora_scale": torch.tensor(scale)}
    fed |= {name: value.detach() for name, value in factors.items()}
    outputs = {"mse": torch.stack(mse), "ref_mse": torch.stack(ref_mse)}
    outputs |= {f"grad.{name}": torch.stack(value) for name, value in grads.items()}
    return fed, outputs
