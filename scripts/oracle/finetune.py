"""Computes `pa-finetune --trace` again in PyTorch, diffusers and peft, and compares every number.

    python scripts/oracle/finetune.py --model models/demo --data DATA --trace TRACE [--freeze FILE]

MODEL is the checkpoint that the bundle was exported from, DATA the data set (for the text embeddings), TRACE
the folder of `step-NNNNN.safetensors`, all steps from the first. Hyper-parameters are read from the files.

What is computed here, from what, and how far apart the two may be. Differences are the largest of a tensor,
as a share of the largest value of that tensor, unless said otherwise.

| what | from | tolerance |
| --- | --- | --- |
| `sample`, `target` | latents, noise, timestep by diffusers' DDPMScheduler | ROUNDING |
| `mse`, `ref_mse` | sample, target, text, LoRA by UNet2DConditionModel with peft, in fp64 | NETWORK |
| `grad.*` | autograd through that network, weighted by the trace's c_i | GRADIENT |
| `loss`, `mu`, `weight` (c_i) | mse, ref_mse by the official loss code; c_i is autograd's dloss/dmse_i | ROUNDING |
| `grad_norm`, the clipped gradient | grad by clip_grad_norm_ | ROUNDING |
| `lr` | diffusers' get_scheduler | ROUNDING |
| `scale`, with --snr-gamma | timestep by diffusers' compute_snr | ROUNDING |
| `lora.after.*` | before, clipped gradients of all steps by torch.optim.AdamW | ROUNDING |
| `target`, with --online | v_old of the LoRA that the round began with, and `advantage` | NETWORK |
| the whole step: `lora.after` - `lora.before` | only latents, noise, timestep and the first step's LoRA | UPDATE |

The last line is the whole chain in torch's hands: its own network gives the errors, its own loss the factors,
its own gradients and moments the update, step after step from its own weights. Adam divides each gradient by
its own size, so elements whose gradients are near zero move by a full learning rate in a direction that is
rounding; it is therefore measured as a norm over all factors: |update - torch's| / |torch's|.

`--freeze` writes torch's numbers for the tests (tests/finetune/torch.rs).

Needs torch, diffusers, peft, safetensors, numpy.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import compute_snr
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file

# A few operations in fp32.
ROUNDING = 1e-5
# The network in fp32 against fp64.
NETWORK = 1e-5
# Its gradients, summed over samples whose factors have opposite signs, so that part of them cancels.
GRADIENT = 1e-4
# Share of the update's norm.
UPDATE = 1e-3


class Checks:
    """Largest error of each kind of comparison."""

    def __init__(self):
        self.worst = {}

    def __call__(self, what, found, expected, tolerance):
        found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
        assert found.shape == expected.shape, f"{what}: {tuple(found.shape)}, expected {tuple(expected.shape)}"
        scale = expected.abs().max().clamp(min=1e-300)
        error = ((found - expected).abs().max() / scale).item() if expected.abs().max() > 0 else found.abs().max().item()
        self.note(what, error, tolerance)

    def note(self, what, error, tolerance):
        worst = self.worst.get(what, (0.0, tolerance))[0]
        self.worst[what] = (max(worst, error) if error == error else float("inf"), tolerance)

    def report(self):
        failed = False
        for what, (error, tolerance) in self.worst.items():
            bad = not error <= tolerance
            failed |= bad
            print(f"{'FAIL' if bad else 'ok  '} {what:28} {error:.1e} (at most {tolerance:.0e})")
        return not failed


def official_loss(kind, mse, ref_mse, scale, beta, alpha, set_size):
    """PopAlign's main.py with --dataloader dpo, Diffusion-DPO's train.py, and plain fine-tuning on winners.

    `scale` is what each sample's term is multiplied with (1 in those codes), as their w_y.
    Both codes hold a batch as cat(winners, losers); a trace holds winner and loser of each pair in turn.
    """
    winners, losers = slice(0, None, 2), slice(1, None, 2)
    model_losses = torch.cat([mse[winners], mse[losers]])
    ref_losses = torch.cat([ref_mse[winners], ref_mse[losers]])
    pairs = len(mse) // 2
    if kind == "popalign":
        labels = torch.cat([torch.ones(pairs), torch.zeros(pairs)]).to(mse)
        rewards = -model_losses + ref_losses
        kl = (alpha * rewards[labels == 1].mean() + (1 - alpha) * rewards[labels == 0].mean()).detach()
        sgn = labels * 2 - 1
        weights = torch.cat([scale[winners], scale[losers]])
        return (weights * -F.logsigmoid(sgn * beta * (rewards - kl))).mean(), kl
    if kind == "set":
        # The paper's equation 8: one sigmoid for each pair of sets, the logs of their likelihoods summed.
        rewards = ref_mse - mse
        lead = (rewards[winners] - rewards[losers]).reshape(-1, set_size)
        return (scale[::2].reshape(-1, set_size)[:, 0] * -F.logsigmoid(0.5 * beta * lead.sum(1))).mean(), torch.zeros(())
    if kind == "dpo":
        model_losses_w, model_losses_l = model_losses.chunk(2)
        ref_losses_w, ref_losses_l = ref_losses.chunk(2)
        model_diff = model_losses_w - model_losses_l
        ref_diff = ref_losses_w - ref_losses_l
        inside_term = -0.5 * beta * (model_diff - ref_diff)
        return (scale[winners] * -F.logsigmoid(inside_term)).mean(), torch.zeros(())
    return (scale[winners] * model_losses[:pairs]).mean(), torch.zeros(())


class Round:
    """A round of --online: DiffusionNFT's loss as its authors write it, on the LoRA that the round began with.

    train_nft_sd3.py, without its division of each error by its own size; of the loss what the trace logs, which is
    without what no LoRA changes.
    """

    def __init__(self, options):
        self.online = json.loads(options["online"])
        self.length = int(options["steps"]) // self.online["rounds"]
        self.strength = self.online["strength"]
        self.old = None

    def begin(self, number, factors):
        if (number - 1) % self.length == 0:
            self.old = {name: value.clone() for name, value in factors.items()}

    def prediction(self, network, factors, step, text):
        network.load(factors)
        return network.predict(step, text)

    def loss(self, prediction, old, target, advantage):
        errors = lambda policy: (policy - target).square().mean(dim=(1, 2, 3))
        b, reward = self.strength, (1 + advantage) / 2
        positive, negative = (1 - b) * old + b * prediction, (1 + b) * old - b * prediction
        whole = reward * errors(positive) + (1 - reward) * errors(negative)
        return (whole - (1 - advantage.square()) * errors(old)).mean()


def whole_loss(options, label, mse, ref_mse, scale):
    """The pairs' loss, and `--preserve` times that of the pictures labelled -1.

    Their term is PopAlign's for winners with the offset at the reference: each is to stay as likely as it was.
    """
    beta, paired = float(options["beta"]), label >= 0
    if options["loss"] == "nft":
        loss, mu = (scale[paired].to(mse) * mse[paired]).mean(), torch.zeros(())
    else:
        loss, mu = official_loss(
            options["loss"], mse[paired], ref_mse[paired], scale[paired].to(mse), beta, float(options["alpha"]),
            int(options["set_size"]),
        )
    if (~paired).any():
        rewards = ref_mse[~paired] - mse[~paired]
        loss = loss + float(options["preserve"]) * -F.logsigmoid(beta * rewards).mean()
    return loss, mu


class Network:
    """The UNet in fp64 with a peft adapter."""

    def __init__(self, model, factors, options):
        self.unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float64).eval()
        rank = next(v.shape[0] for k, v in factors.items() if "lora_A" in k)
        modules = sorted({name.rsplit(".lora_", 1)[0] for name in factors})
        # The graph's rank may be above the run's, whose alpha counts for its own.
        share = 1.0 if options["lora_alpha"] == "null" else float(options["lora_alpha"]) / int(options["rank"])
        self.unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank * share, target_modules=modules))
        self.parameters = {}
        for name, parameter in self.unet.named_parameters():
            parameter.requires_grad_("lora_" in name)
            if "lora_" in name:
                self.parameters[name.replace(".default", "")] = parameter
        assert self.parameters.keys() == factors.keys(), "the adapters have different layers"
        self.takes_pooled = self.unet.config.addition_embed_type == "text_time"

    def load(self, factors):
        with torch.no_grad():
            for name, value in factors.items():
                self.parameters[name].copy_(value)

    def predict(self, step, text):
        return self.unet(
            step["sample"].double(), step["timestep"], text["prompt_embeds"], added_cond_kwargs=text["added"]
        ).sample

    def errors(self, step, text):
        """(mse, ref_mse) per sample; mse is differentiable."""
        def mse():
            out = self.predict(step, text)
            return F.mse_loss(out, step["target"].double(), reduction="none").mean(dim=(1, 2, 3))

        policy = mse()
        with torch.no_grad():
            self.unet.disable_adapters()
            reference = mse()
            self.unet.enable_adapters()
        return policy, reference

    def gradients(self, value):
        return dict(zip(self.parameters, torch.autograd.grad(value, list(self.parameters.values()))))


class Text:
    """Embeddings and size conditions of a data set."""

    def __init__(self, data, pooled):
        self.tensors = load_file(data / "text.safetensors")
        layout = json.loads((data / "manifest.json").read_text())["layout"]
        h, w = layout["height"], layout["width"]
        self.time_ids = torch.tensor([h, w, 0, 0, h, w], dtype=torch.float64)
        self.pooled = pooled

    def add(self, step):
        """The empty caption's embeddings stand in the trace."""
        for name, value in step.items():
            kind = name.split(".")[0]
            if kind in ("prompt_embeds", "pooled"):
                like = next(tensor for other, tensor in self.tensors.items() if other.startswith(f"{kind}."))
                self.tensors[name] = value.reshape(like.shape)

    def of(self, ids):
        pick = lambda kind: torch.stack([self.tensors[f"{kind}.{i:08x}"] for i in ids.tolist()]).double()
        added = {}
        if self.pooled:
            added = {"text_embeds": pick("pooled"), "time_ids": self.time_ids.expand(len(ids), -1)}
        return {"prompt_embeds": pick("prompt_embeds"), "added": added}


class Optimizer:
    """clip_grad_norm_, AdamW and the schedule, as the official training loop calls them."""

    def __init__(self, factors, options):
        self.parameters = {name: torch.nn.Parameter(value.clone()) for name, value in factors.items()}
        self.clip = float(options["grad_clip"])
        self.adamw = torch.optim.AdamW(
            self.parameters.values(),
            lr=float(options["lr"]),
            betas=(float(options["adam_beta1"]), float(options["adam_beta2"])),
            eps=float(options["adam_eps"]),
            weight_decay=float(options["weight_decay"]),
            foreach=False,
        )
        self.schedule = get_scheduler(
            options["schedule"],
            self.adamw,
            num_warmup_steps=int(options["warmup"]),
            num_training_steps=int(options["steps"]),
        )

    def step(self, gradients):
        """Returns (norm before clipping, learning rate)."""
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name].to(parameter.dtype).clone()
        limit = self.clip if self.clip > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), limit)
        lr = self.schedule.get_last_lr()[0]
        self.adamw.step()
        self.schedule.step()
        return norm.item(), lr

    def values(self):
        return {name: parameter.detach() for name, parameter in self.parameters.items()}


def named(step, prefix):
    return {name.removeprefix(prefix): value for name, value in step.items() if name.startswith(prefix)}


def check_diffusion(check, model, step, levels, old, pull):
    """The noised latents and their targets, which of a round's pictures, the first, are moved away from `old`."""
    level = levels[step["timestep"]].double()[:, None, None, None]
    latents, noise = step["latents"].double(), step["noise"].double()
    config = json.loads((model / "scheduler/scheduler_config.json").read_text())
    if config.get("prediction_type") == "v_prediction":
        target = level.sqrt() * noise - (1 - level).sqrt() * latents
    else:
        target = noise
    check("sample", step["sample"], level.sqrt() * latents + (1 - level).sqrt() * noise, ROUNDING)
    moved, tolerance = target.clone(), ROUNDING
    if old is not None:
        moved[: len(old)] = old + pull[:, None, None, None] * (target[: len(old)] - old)
        tolerance = NETWORK
    check("target", step["target"], moved, tolerance)
    return target


def check_scale(check, options, step, schedule):
    """What min-SNR weighting multiplies the pairs' terms with, of a list of pairs without weights of its own."""
    if options["snr_gamma"] == "null":
        return
    snr = compute_snr(schedule, step["timestep"])
    least = torch.stack([snr, float(options["snr_gamma"]) * torch.ones_like(snr)], dim=1).min(dim=1)[0]
    weights = least / (snr + 1 if schedule.config.prediction_type == "v_prediction" else snr)
    check("scale", step["scale"], torch.where(step["label"] >= 0, weights, torch.ones_like(weights)), ROUNDING)


def noise_schedule(model):
    """diffusers' own scheduler."""
    config = json.loads((model / "scheduler/scheduler_config.json").read_text())
    keys = ("prediction_type", "beta_start", "beta_end", "beta_schedule", "num_train_timesteps", "trained_betas")
    return DDPMScheduler(**{key: config[key] for key in keys if key in config})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--freeze", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    paths = sorted(args.trace.glob("step-*.safetensors"))
    assert paths and paths[0].name == "step-00001.safetensors", f"{args.trace} does not begin with the first step"
    with safe_open(paths[0], "pt") as file:
        options = file.metadata()
    check, frozen = Checks(), {}
    schedule = noise_schedule(args.model)
    levels = schedule.alphas_cumprod
    network = tail = whole = text = last = None
    of_trace = Round(options) if "online" in options else None
    in_torch = Round(options) if "online" in options else None
    moved = [0.0, 0.0]
    for number, path in enumerate(paths, 1):
        step = load_file(path)
        before, after, grad = named(step, "lora.before."), named(step, "lora.after."), named(step, "grad.")
        if network is None:
            network = Network(args.model, before, options)
            text = Text(args.data, network.takes_pooled)
            tail = Optimizer(before, options)
            whole = Optimizer({name: value.double() for name, value in before.items()}, options)
        elif any(not torch.equal(before[name], last[name]) for name in before):
            sys.exit(f"{path} does not begin where the step before it ended")
        last = after
        check_scale(check, options, step, schedule)
        text.add(step)
        embeddings = text.of(step["caption_id"])
        old = pull = None
        if of_trace:
            advantage = step["advantage"].double()
            pull, drawn = advantage / of_trace.strength, len(advantage)
            of_trace.begin(number, before)
            old = of_trace.prediction(network, of_trace.old, step, embeddings)[:drawn].detach()
        target = check_diffusion(check, args.model, step, levels, old, pull)

        # The network at the trace's weights.
        network.load(before)
        mse, ref_mse = network.errors(step, embeddings)
        check("mse", step["mse"], mse.detach(), NETWORK)
        check("ref_mse", step["ref_mse"], ref_mse, NETWORK)
        expected = network.gradients((step["weight"].double() * mse).sum())
        for name, value in expected.items():
            check("grad", grad[name], value, GRADIENT)

        # The loss of the trace's errors.
        leaf = step["mse"].double().requires_grad_()
        loss, mu = whole_loss(options, step["label"], leaf, step["ref_mse"].double(), step["scale"])
        (factors,) = torch.autograd.grad(loss, leaf)
        check("loss", step["loss"], loss.detach(), ROUNDING)
        check("mu", step["mu"], mu.reshape(()), ROUNDING)
        check("weight", step["weight"], factors, ROUNDING)

        # Clipping and AdamW of the trace's gradients.
        norm, lr = tail.step(grad)
        check("grad_norm", step["grad_norm"], norm, ROUNDING)
        check("lr", step["lr"], lr, ROUNDING)
        for name, value in tail.values().items():
            check("lora.after", after[name], value, ROUNDING)

        # Everything in torch's hands.
        start = {name: value.clone() for name, value in whole.values().items()}
        if in_torch:
            in_torch.begin(number, start)
            old = in_torch.prediction(network, in_torch.old, step, embeddings)[:drawn].detach()
            step["target"][:drawn] = (old + pull[:, None, None, None] * (target[:drawn] - old)).float()
        network.load(start)
        mse, ref_mse = network.errors(step, embeddings)
        loss, _ = whole_loss(options, step["label"], mse, ref_mse, step["scale"])
        if in_torch:
            # The authors' own form instead of errors against moved targets.
            prediction = network.predict(step, embeddings)[:drawn]
            own = in_torch.loss(prediction, old, target[:drawn], advantage)
            moved_errors = (step["scale"][:drawn].double() * mse[:drawn]).mean()
            loss = loss - moved_errors + own
        gradients = network.gradients(loss)
        whole.step(gradients)
        for name, value in whole.values().items():
            update = value - start[name]
            moved[0] += (after[name].double() - before[name].double() - update).square().sum().item()
            moved[1] += update.square().sum().item()
        if args.freeze:
            freeze(frozen, number, number == len(paths), loss, mse, ref_mse, gradients, whole.values())
    if moved[1] > 0:
        check.note("the whole step", (moved[0] / moved[1]) ** 0.5, UPDATE)
    print(f"{args.trace}: {options['loss']}, {len(paths)} steps, batch {len(step['label'])}, {len(before)} factors")
    passed = check.report()
    if args.freeze:
        args.freeze.parent.mkdir(parents=True, exist_ok=True)
        save_file(frozen, args.freeze, metadata={"loss": options["loss"], "steps": str(len(paths))})
    sys.exit(0 if passed else 1)


def freeze(frozen, number, last, loss, mse, ref_mse, gradients, values):
    """What the tests compare with: the errors of each step, gradients and weights of the last one."""
    frozen[f"{number}.loss"] = loss.detach().float().reshape(1)
    frozen[f"{number}.mse"] = mse.detach().float()
    frozen[f"{number}.ref_mse"] = ref_mse.float()
    norm = torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()
    frozen[f"{number}.grad_norm"] = norm.float().reshape(1)
    if last:
        for name, value in values.items():
            frozen[f"lora.{name}"] = value.float().contiguous()


if __name__ == "__main__":
    main()
