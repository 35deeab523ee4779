"""Train the embedded encoder `tiny` without labels: masked modelling of mixtures, on spectrograms and acoustic units.

Recordings are mixed with noise, and the encoder gets a part of the patches of the mixture. From their tokens

1. a narrow decoder reconstructs the clean spectrogram at masked patches (MAE, He et al. 2022; Audio-MAE, 2022), and
2. linear heads predict, at visible and at masked patches, the acoustic unit (assets/units.py) of the recording that
   dominates the patch, and from the cls token the units of all recordings in the mixture (HuBERT, Hsu et al. 2021;
   mixtures as in SSLAM, 2025).

Decoder and unit heads are discarded. The moving average of the encoder's weights is shipped. Labels and file names are
not used.

    python assets/pretrain.py --corpus CORPUS --out RUN --steps 2600      # resumes where RUN stopped
    python assets/pretrain.py --corpus CORPUS --out RUN --export src/otoscope/encoders

CORPUS is the folder that assets/corpus.py wrote. Runs on CPU, or on a GPU with --device cuda.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from dataclasses import dataclass, fields
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from otoscope.audio.fbank import fbank
from otoscope.encoders._transformer import Block
from otoscope.encoders.tiny import BINS, DEPTH, DIM, FREQ, MEAN, PATCH, SPREAD, PatchViT, positions
from otoscope.files import replacing
from units import GRAINS, STRETCH, find_units

FLOOR = math.log(torch.finfo(torch.float32).eps)
KINDS = {"event": 0.7, "music": 0.15, "speech": 0.15}
LOSSES = ("spectrum", "hidden", "seen", "cls")
SAVE_EVERY = 100  # steps
LONGEST = 64  # patches in time: 10 s
JITTER = 40  # frames by which a view may begin before or after its stretch


@dataclass(frozen=True)
class Phase:
    """A stretch of training: up to which share of the steps, clip length in patches, clips a step, sources a clip."""

    until: float
    steps: int
    batch: int
    sources: int


PHASES = (Phase(0.75, 16, 64, 3), Phase(1.0, 64, 16, 6))


class Corpus:
    """Log-mel maps of every recording, in one float16 array [frames, 128], cut and mixed at random."""

    def __init__(self, folder: Path) -> None:
        text = (folder / "index.json").read_bytes()
        index = json.loads(text)
        audio = np.load(folder / "audio.npy", mmap_mode="r")
        cache = folder / f"mel-{hashlib.sha256(text).hexdigest()[:12]}.npz"
        if not cache.exists():
            maps = [self._mel(audio[item["start"] : item["start"] + item["length"]]) for item in index]
            with replacing(cache) as temporary, open(temporary, "wb") as file:
                np.savez(file, mel=np.concatenate(maps), length=np.array([len(m) for m in maps]))
        with np.load(cache) as arrays:
            self.mel, self.length = torch.from_numpy(arrays["mel"]), arrays["length"]
        self.start = np.concatenate([[0], np.cumsum(self.length)[:-1]])
        kinds = np.array([item["kind"] for item in index])
        self.units = find_units(self.mel.numpy(), self.start, self.length, kinds == "music")
        self.of_kind = {kind: np.flatnonzero(kinds[self.units.recording] == kind) for kind in KINDS}
        rarity = 1 / np.sqrt(np.bincount(self.units.unit[:, 1])[self.units.unit[:, 1]])
        self.weight = {kind: rarity[rows] / rarity[rows].sum() for kind, rows in self.of_kind.items()}

    @staticmethod
    def _mel(samples: np.ndarray) -> np.ndarray:
        return fbank(torch.from_numpy(samples.astype(np.float32) / 32768)[None], bins=BINS)[0].half().numpy()

    def view(self, out: Tensor, rng: np.random.Generator) -> int:
        """Write a random stretch at a random speed and place into `out`, log-mel [frames, 128]; returns its number."""
        kind = rng.choice(list(KINDS), p=list(KINDS.values()))
        stretch = int(rng.choice(self.of_kind[kind], p=self.weight[kind]))
        recording, frames, speed = self.units.recording[stretch], len(out), rng.uniform(0.8, 1.25)
        begin = max(0, int(self.units.frame[stretch]) + int(rng.integers(-JITTER, JITTER // 4)))
        total = int(self.length[recording])
        length = max(1, min(int((total - begin) / speed), frames, STRETCH))
        rows = np.minimum(begin + (np.arange(length) * speed).astype(int), total - 1)
        onset = int(rng.integers(0, frames - length + 1))
        out[onset : onset + length] = self.mel[torch.from_numpy(self.start[recording] + rows)].float()
        return stretch


@dataclass(frozen=True)
class Batch:
    """Mixtures and their sources.

    mixed, clean [B, frames, 128]: normalised log-mel with and without noise; of [S]: the mixture a source is in;
    unit [S, 3]: its acoustic units; share [S, N]: its part of each patch's power, 0..1.
    """

    mixed: Tensor
    clean: Tensor
    of: Tensor
    unit: Tensor
    share: Tensor


def draw_batch(corpus: Corpus, phase: Phase, rng: np.random.Generator) -> Batch:
    """Mix a batch. Powers add; every source has its own speed, pitch (up to 3 semitones), equalisation and level."""
    counts = rng.integers(1, phase.sources + 1, phase.batch)
    of = torch.from_numpy(np.repeat(np.arange(phase.batch), counts))
    views = torch.full((len(of), phase.steps * PATCH, BINS), FLOOR)
    stretch = [corpus.view(view, rng) for view in views]
    level = torch.from_numpy((rng.uniform(-15, 0, len(of)) + rng.uniform(-12, 3, phase.batch)[of]).astype(np.float32))
    parts = coloured(views, rng) * 10 ** (level[:, None, None] / 10)
    total = torch.zeros(phase.batch, phase.steps * PATCH, BINS).index_add_(0, of, parts)
    noisy = total + noise_like(total, 3, 30, rng)
    return Batch(
        normal(noisy), normal(total), of, torch.from_numpy(corpus.units.unit[stretch]), share(parts, noisy[of])
    )


def normal(power: Tensor) -> Tensor:
    """Power to the encoder's normalised log-mel."""
    return ((power + math.exp(FLOOR)).log() - MEAN) / SPREAD


def share(part: Tensor, whole: Tensor) -> Tensor:
    """Mean part of the power in each patch: two [S, frames, 128] to [S, N]."""
    ratio = part / (whole + math.exp(FLOOR))
    return ratio.unflatten(2, (FREQ, PATCH)).unflatten(1, (-1, PATCH)).mean((2, 4)).flatten(1)


def uniform(low: float, high: float, count: int, rng: np.random.Generator) -> Tensor:
    """[count, 1, 1] uniform draws."""
    return torch.from_numpy(rng.uniform(low, high, (count, 1, 1)).astype(np.float32))


def coloured(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """Log-mel [S, frames, 128] to power, shifted in pitch and tilted in spectrum at random."""
    axis, S = torch.linspace(-1, 1, BINS), len(mel)
    tilt = axis * uniform(-1.5, 1.5, S, rng) + (3 * axis * uniform(0, 1, S, rng)).sin() * uniform(-1, 1, S, rng)
    return (pitch_shifted(mel, 2 ** (uniform(-3, 3, S, rng) / 12)) + tilt).exp()


def noise_like(power: Tensor, low: float, high: float, rng: np.random.Generator) -> Tensor:
    """Noise of random colour, `low` to `high` dB below the mean power of each clip [B, frames, 128]."""
    shape = (torch.linspace(-1, 1, BINS) * uniform(-3, 3, len(power), rng)).exp()
    level = power.mean((1, 2), keepdim=True) * 10 ** (-uniform(low, high, len(power), rng) / 10)
    grain = rng.standard_exponential((2, *power.shape), dtype=np.float32).mean(0)
    return shape / shape.mean(2, keepdim=True) * level * torch.from_numpy(grain)


def pitch_shifted(mel: Tensor, ratio: Tensor) -> Tensor:
    """Log-mel [B, frames, 128] with every frequency times `ratio` [B, 1, 1], by interpolation between bins."""
    low, high = 1127 * math.log1p(20 / 700), 1127 * math.log1p(8000 / 700)
    centre = low + (high - low) * torch.arange(1, BINS + 1) / (BINS + 1)
    hz = 700 * ((centre / 1127).exp() - 1) / ratio
    place = ((1127 * (hz / 700).log1p() - low) / (high - low) * (BINS + 1) - 1).clamp(0, BINS - 1)
    below = place.floor().clamp(max=BINS - 2)
    index = below.long().expand_as(mel)
    return torch.lerp(mel.gather(2, index), mel.gather(2, index + 1), place - below)


def block_masks(count: int, steps: int, keep: int, generator: torch.Generator) -> Tensor:
    """Inverse block masks (data2vec 2.0): indices of `keep` visible patches out of steps x 8, [count, keep].

    Random 4 x 4 blocks are drawn; patches are ranked by the number of blocks that cover them, ties at random.
    """
    blocks = max(1, round(1.3 * keep / 16))
    score = torch.rand(count, steps, FREQ, generator=generator)
    top = torch.randint(-1, max(steps - 2, 1), (count, blocks), generator=generator)
    left = torch.randint(-1, FREQ - 2, (count, blocks), generator=generator)
    t, f = torch.arange(steps), torch.arange(FREQ)
    in_time = (t >= top[..., None]) & (t < top[..., None] + 4)
    in_freq = (f >= left[..., None]) & (f < left[..., None] + 4)
    opened = (in_time[..., None] & in_freq[:, :, None]).any(1)
    return (score + opened).flatten(1).topk(keep, 1).indices


class Decoder(nn.Module):
    """From the encoder's visible tokens to hidden patches: two narrow transformer blocks, discarded after training."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.width = width
        self.enter, self.spectrum, self.units = nn.Linear(DIM, width), nn.Linear(width, PATCH * PATCH), UnitHead(width)
        self.hidden = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList(Block(width, 4) for _ in range(2))
        self.norm = nn.LayerNorm(width)

    def forward(self, seen: Tensor, places: Tensor, hidden: Tensor) -> Tensor:
        """seen [B, V, D], places [B, V, width], hidden [B, H, width] -> [B, H, width]."""
        x = torch.cat([self.enter(seen) + places, self.hidden + hidden], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, -hidden.shape[1] :])


class UnitHead(nn.Module):
    """A linear classifier of the acoustic units, at every grain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, sum(GRAINS))

    def forward(self, tokens: Tensor, of: Tensor, unit: Tensor) -> Tensor:
        """Mean cross-entropy of each source at each token: tokens [B, n, W], of [S], unit [S, 3] -> [S, n]."""
        total = torch.zeros(())
        for grain, logits in enumerate(self.linear(tokens).split(GRAINS, -1)):
            total = total - logits.log_softmax(-1)[of, :, unit[:, grain]]
        return total / len(GRAINS)


class Pretraining(nn.Module):
    """The encoder in training, its moving average, and the parts that are discarded after training."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.average, self.decoder = PatchViT(), PatchViT(), Decoder()
        self.token_units, self.cls_units = UnitHead(DIM), UnitHead(DIM)
        self.average.load_state_dict(self.encoder.state_dict())
        self.average.requires_grad_(False)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The losses of a batch: hidden spectrum, units at hidden patches, at seen patches, and from cls."""
        B, steps = len(batch.mixed), batch.mixed.shape[1] // PATCH
        N = steps * FREQ
        start = int(torch.randint(0, LONGEST - steps + 1, (), generator=generator))
        seen = int(N * (0.4 + 0.45 * float(torch.rand((), generator=generator))))
        order = block_masks(B, steps, N, generator).to(batch.mixed.device)
        seen_at, hidden_at = order[:, :seen], order[:, max(seen, N - N // 4) :]
        x = self.encoder.patches(batch.mixed, start).flatten(1, 2)
        encoded = self.encoder.layers(x.gather(1, seen_at[..., None].expand(-1, -1, DIM)))[-1]
        cls, tokens = encoded[:, :1], encoded[:, 1:]
        place = positions(steps, self.decoder.width, start).flatten(0, 1).to(cls)
        guess = self.decoder(tokens, place[seen_at], place[hidden_at])
        want = batch.clean.view(B, steps, PATCH, FREQ, PATCH).transpose(2, 3).reshape(B, N, -1)
        want = want.gather(1, hidden_at[..., None].expand(-1, -1, PATCH * PATCH))
        spectrum = functional.smooth_l1_loss(self.decoder.spectrum(guess), want, beta=0.5)
        hidden = dominated(self.decoder.units(guess, batch.of, batch.unit), batch.share, hidden_at[batch.of])
        visible = dominated(self.token_units(tokens, batch.of, batch.unit), batch.share, seen_at[batch.of])
        return spectrum, hidden, visible, self.cls_units(cls, batch.of, batch.unit).mean()

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Update the moving average of the encoder's weights."""
        for slow, fast in zip(self.average.parameters(), self.encoder.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)


def dominated(loss: Tensor, share: Tensor, places: Tensor) -> Tensor:
    """Mean of a loss [S, n] over patches, weighted by the squared share [S, N] of the source at these places [S, n]."""
    weight = share.gather(1, places).square()
    return (loss * weight).sum() / (weight.sum() + 1e-6)


def rate(progress: float, step: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then half a cosine."""
    return peak * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0)) + 0.01)


def optimisers_of(model: Pretraining, lr: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the encoder's blocks, AdamW for everything else.

    Muon (torch 2.9 or newer) took about half of AdamW's steps: loss at seen patches 4.29, not 4.81, after 150 steps.
    """
    matrices = [p for p in model.encoder.blocks.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.03, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)]


def train(args: argparse.Namespace) -> None:
    """Train for `--steps`; checkpoint every 100, resume from the last."""
    torch.manual_seed(args.seed)
    corpus, model = Corpus(args.corpus), Pretraining().to(args.device)
    optimisers = optimisers_of(model, args.lr)
    step, seconds, recent = 0, 0.0, []
    checkpoint, log = args.out / "checkpoint.pt", args.out / "loss.jsonl"
    args.out.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=args.device)
        model.load_state_dict(saved["model"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        step, seconds = saved["step"], saved["seconds"]
    while step < args.steps:
        began = time.monotonic()
        phase = next(p for p in PHASES if step < p.until * args.steps)
        recent.append(one_step(model, optimisers, corpus, phase, step, args))
        step, seconds = step + 1, seconds + time.monotonic() - began
        if step % 25 == 0:
            line = {"step": step, "minutes": round(seconds / 60, 2), "patches": phase.steps}
            line |= dict(zip(LOSSES, np.mean(recent, 0).round(4).tolist(), strict=True))
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)
            recent = []
        if step % SAVE_EVERY == 0 or step == args.steps:
            state = {"model": model.state_dict(), "optimisers": [o.state_dict() for o in optimisers]}
            with replacing(checkpoint) as temporary:
                torch.save(state | {"step": step, "seconds": seconds}, temporary)


def one_step(
    model: Pretraining,
    optimisers: list[torch.optim.Optimizer],
    corpus: Corpus,
    phase: Phase,
    step: int,
    args: argparse.Namespace,
) -> list[float]:
    """One optimiser step; everything random in it follows from the seed and the step's number."""
    progress, rng = step / args.steps, np.random.default_rng([args.seed, step])
    batch = draw_batch(corpus, phase, rng)
    batch = Batch(**{field.name: getattr(batch, field.name).to(args.device) for field in fields(Batch)})
    for group in [group for optimiser in optimisers for group in optimiser.param_groups]:
        group["lr"] = rate(progress, step, args.lr)
    losses = model(batch, torch.Generator().manual_seed(args.seed * 1_000_003 + step))
    model.zero_grad(set_to_none=True)
    (losses[0] + 0.5 * losses[1] + losses[2] + 0.5 * losses[3]).backward()
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 3.0)
    for optimiser in optimisers:
        optimiser.step()
    model.follow(0.998 - 0.048 * (1 - progress) ** 2)
    return [float(loss.detach()) for loss in losses]


def export(out: Path, into: Path) -> None:
    """Write the moving average as float16 safetensors, `tiny.safetensors`, and the loss curve, `tiny-loss.png`."""
    saved = torch.load(out / "checkpoint.pt", weights_only=True, map_location="cpu")
    weights = {k.removeprefix("average."): v.half() for k, v in saved["model"].items() if k.startswith("average.")}
    with replacing(into / "tiny.safetensors") as temporary:
        save_file(weights, temporary)
    lines = [json.loads(line) for line in (out / "loss.jsonl").read_text().splitlines()]
    figure, axes = plt.subplots(1, len(LOSSES), figsize=(12, 2.6), layout="constrained")
    for axis, loss in zip(axes, LOSSES, strict=True):
        axis.plot([line["step"] for line in lines], [line[loss] for line in lines])
        axis.set(title=loss, xlabel="step")
    figure.savefig(into / "tiny-loss.png", dpi=80)
    print(f"{into / 'tiny.safetensors'}: {DEPTH} blocks, {saved['step']} steps, {saved['seconds'] / 60:.0f} minutes")


def main() -> None:
    """Parse the command line; train, or export what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2600)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--export", type=Path, help="only write what was trained as tiny.safetensors into this folder")
    args = parser.parse_args()
    if args.export:
        export(args.out, args.export)
    else:
        train(args)


if __name__ == "__main__":
    main()
