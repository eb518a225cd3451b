"""From diffusers' tensor names to those of Stability AI's original code, as single-file checkpoints
have them: the inverse of what pa-export does, written apart from it.

`scripts/oracle/checkpoints.py` holds these maps to diffusers' own converter.
"""

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def unet(names, layers_per_block):
    """{diffusers: original} of a UNet's tensors."""
    return {name: f"model.diffusion_model.{unet_name(name, layers_per_block, names)}" for name in names}


def unet_name(name, layers, names):
    module, kind = name.rsplit(".", 1)
    if module in UNET_TOP:
        return f"{UNET_TOP[module]}.{kind}"
    part = module.split(".")
    if part[0] == "mid_block":
        index = {"attentions": 1, "resnets": 2 * int(part[2])}[part[1]]
        return f"middle_block.{index}.{inner(part[1], part[3:])}.{kind}"
    block, what, index = int(part[1]), part[2], int(part[3])
    if part[0] == "down_blocks":
        if what == "downsamplers":
            return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{kind}"
        place = f"input_blocks.{1 + block * (layers + 1) + index}"
    else:
        attends = any(other.startswith(f"up_blocks.{block}.attentions.") for other in names)
        if what == "upsamplers":
            return f"output_blocks.{block * (layers + 1) + layers}.{2 if attends else 1}.conv.{kind}"
        place = f"output_blocks.{block * (layers + 1) + index}"
    return f"{place}.{0 if what == 'resnets' else 1}.{inner(what, part[4:])}.{kind}"


def inner(what, part):
    inside = ".".join(part)
    return RESNET[inside] if what == "resnets" else inside


def vae(names):
    """{diffusers: original} of a VAE's tensors; the attention's matrices are 1×1 convolutions there."""
    ups = 1 + max((int(n.split(".")[2]) for n in names if n.startswith("decoder.up_blocks.")), default=0)
    return {name: f"first_stage_model.{vae_name(name, ups)}" for name in names}


def vae_name(name, ups):
    part = name.split(".")
    if part[1] == "down_blocks":
        part[1:3] = ["down", part[2]]
    elif part[1] == "up_blocks":
        part[1:3] = ["up", str(ups - 1 - int(part[2]))]
    elif part[1] == "mid_block":
        if part[2] == "resnets":
            part[1:4] = ["mid", f"block_{int(part[3]) + 1}"]
        else:
            attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out",
                         "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"}
            part[1:] = ["mid", "attn_1", attention[part[4]], part[-1]]
    name = ".".join(part)
    for ours, theirs in [(".resnets.", ".block."), (".downsamplers.0.", ".downsample."),
                         (".upsamplers.0.", ".upsample."), ("conv_shortcut", "nin_shortcut"),
                         ("conv_norm_out", "norm_out")]:
        name = name.replace(ours, theirs)
    return name


def is_vae_matrix(name):
    """Whether the original has this VAE weight as a 1×1 convolution."""
    return ".attentions." in name and name.endswith(".weight") and "norm" not in name


def clip(names, prefix):
    """{transformers: original} of OpenAI's CLIP, which keeps transformers' names."""
    return {n: f"{prefix}.{n if n.startswith('text_model.') else 'text_model.' + n}" for n in names}


def open_clip(names, prefix):
    """{transformers: original} of open_clip's text tower. Three projections share one original name:
    their rows are stacked in the order q, k, v. `text_projection` is transposed."""
    return {name: f"{prefix}.{open_clip_name(name.removeprefix('text_model.'))}" for name in names}


def open_clip_name(name):
    if name == "text_projection.weight":
        return "text_projection"
    if name == "embeddings.position_embedding.weight":
        return "positional_embedding"
    if name.startswith("embeddings."):
        return name.removeprefix("embeddings.")
    name = name.replace("final_layer_norm", "ln_final").replace("encoder.layers", "transformer.resblocks")
    for projection in ("q_proj", "k_proj", "v_proj"):
        name = name.replace(f"self_attn.{projection}.", "attn.in_proj_")
    name = name.replace("self_attn.", "attn.")
    for ours, theirs in OPEN_CLIP.items():
        name = name.replace(f".{ours}.", f".{theirs}.")
    return name
