"""Milliseconds per chunk of MoDE's denoiser: experts by prepared routes, and by masks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ..policy.denoisers.experts import Routes, select_experts
from ..policy.denoisers.mode import Block, ModeContext, ModeModulation, ModeTransformer
from ..policy.diffusion.contract import Denoiser, Preconditioner
from ..policy.diffusion.objective import staircase_times
from ..policy.diffusion.schedule import VPCosine, grid
from ..policy.diffusion.solvers import DDIM
from ..policy.samplers.loop import sample
from ..spec import Horizon, option

PRESETS = {"cpu": (6, 256), "paper": (8, 1024)}
"""Layers and width."""
WIDTH = 7
TOKENS, TOKEN_WIDTH = 4, 64


@dataclass
class Options:
    """Untrained weights, DDIM from noise and one stair of streaming; all give the same plans."""

    presets: tuple[str, ...] = option(
        ("cpu", "paper"), "sizes: cpu (6 layers of 256) and paper (8 layers of 1024)"
    )
    rows: tuple[int, ...] = option((1, 16), "rows per call")
    steps: int = option(10, "evaluations per chunk")
    planned: int = option(24, "action steps of a plan")
    calls: int = option(10, "calls of each way, in turns")
    threads: int = option(1, "threads; 0 leaves torch's own choice")


class Masked(ModeTransformer):
    """The network as it is usually written: routers at every step, an expert per mask of tokens."""

    def forward(
        self, x: Tensor, level: Tensor, context: ModeContext, prepared: ModeModulation | None = None
    ) -> Tensor:
        """See ModeTransformer; nothing is prepared."""
        phi, h = self.embedding(level), self.actions(x) + self.position[: x.shape[1]]
        mask = self._mask(x.shape[1], context)
        for block, prefix in zip(self.blocks, context.layers, strict=True):
            h, *_ = block.attend(h, phi, prefix, mask)
            h = h + self._experts(
                block,
                block.norm_experts(h),
                select_experts(block.router(phi), self.top, sample=False),
            )
        return self.out(self.norm_out(h))

    def _experts(self, block: Block, h: Tensor, routes: Routes) -> Tensor:
        out = torch.zeros_like(h)
        for expert in range(len(block.experts.up_projection)):
            picked = routes.expert == expert  # (B, T, k)
            mask = picked.any(-1)
            if mask.any():
                weight = (routes.weight * picked).sum(-1)[mask].unsqueeze(-1).to(h.dtype)
                out[mask] += weight * block.experts.apply_expert(expert, h[mask])
        return out


@dataclass(frozen=True)
class Tokens(ModeContext):
    """The condition tokens (B, K, E) as they came; no layer's keys and values are kept."""

    tokens: Tensor


class Everything(Masked):
    """Masked, and every evaluation passes the condition tokens through all layers again."""

    def encode_context(self, tokens: Tensor) -> Tokens:
        """Keep the tokens (B, K, E) only."""
        return Tokens((), tokens)

    def forward(
        self, x: Tensor, level: Tensor, context: ModeContext, prepared: ModeModulation | None = None
    ) -> Tensor:
        """F(x (B, T, A), level (B, T), Tokens) -> (B, T, A)."""
        assert isinstance(context, Tokens)
        return super().forward(x, level, super().encode_context(context.tokens))


def run(options: Options) -> None:
    """Print p50 and p95 per chunk, the ratio to masks with all tokens, and MACs."""
    if options.threads:
        torch.set_num_threads(options.threads)
    for preset in options.presets:
        net = make(ModeTransformer, preset)
        count = sum(p.numel() for p in net.parameters()) / 1e6
        print(f"{preset}: {count:.1f} M parameters, {torch.get_num_threads()} threads")
        columns = f"{'p50 ms':>9}{'p95 ms':>9}{'ratio':>8}{'G MAC':>9}{'largest difference':>20}"
        print(f"  {'rows':>4}  {'levels':<8}{'sampler':<24}{columns}")
        for rows in options.rows:
            _compare(options, preset, net, rows)


def make(
    kind: type[ModeTransformer], preset: str, dtype: torch.dtype = torch.float32
) -> ModeTransformer:
    """A network whose routers differ from level to level; the same weights for every kind."""
    torch.manual_seed(0)
    layers, embed = PRESETS[preset]
    net = (
        kind(WIDTH, TOKENS, TOKEN_WIDTH, heads=8, layers=layers, embed=embed)
        .eval()
        .requires_grad_(False)
    )
    for block in net.blocks:
        torch.nn.init.normal_(block.router.layers.get_parameter("2.weight"), std=0.5)
    return net.set_precision(dtype)


def _compare(options: Options, preset: str, net: ModeTransformer, rows: int) -> None:
    masked, everything = make(Masked, preset), make(Everything, preset)
    half = make(ModeTransformer, preset, torch.bfloat16)
    for kind, levels in (("uniform", uniform(options)), ("stairs", stairs(options))):
        networks = {
            "masks, all tokens": make_call(everything, levels, rows, prepared=False),
            "masks": make_call(masked, levels, rows, prepared=False),
            "prepared routes": make_call(net, levels, rows),
            "prepared routes, bf16": make_call(half, levels, rows),
        }
        times, first = _in_turns(networks, options.calls), networks["masks"]()
        for name, seconds in times.items():
            with FlopCounterMode(display=False) as counter:
                plan = networks[name]()
            p50, p95 = np.percentile(seconds, (50, 95)) * 1e3
            ratio = np.median(times["masks, all tokens"]) / np.median(seconds)
            macs = counter.get_total_flops() / 2e9
            apart = float((plan - first).abs().max())
            print(
                f"  {rows:>4}  {kind:<8}{name:<24}{p50:>9.1f}{p95:>9.1f}{ratio:>8.2f}{macs:>9.2f}"
                f"{apart:>20.1e}"
            )


def uniform(options: Options) -> Tensor:
    """Levels (S + 1, T) of a fresh sample."""
    return grid(VPCosine(), options.steps).unsqueeze(1).expand(-1, options.planned)


def stairs(options: Options) -> Tensor:
    """Levels (S + 1, T) of one stair of three blocks, in as many evaluations."""
    horizon = Horizon(1, options.planned, options.planned // 3)
    progress = torch.linspace(0, 1, options.steps + 1, dtype=torch.float64)
    return VPCosine().level(staircase_times(horizon, progress)).float()


def make_call(
    net: ModeTransformer, levels: Tensor, rows: int, prepared: bool = True
) -> Callable[[], Tensor]:
    """A whole call: condition tokens once, then plans (R, T, A) down `levels` (S + 1, T)."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, levels.shape[1], WIDTH, generator=generator)
    tokens = torch.randn(rows, TOKENS, TOKEN_WIDTH, generator=generator)
    denoiser = Denoiser(net, Preconditioner())
    each = levels.unsqueeze(1).expand(-1, rows, -1)  # (S + 1, R, T)

    @torch.no_grad()
    def call() -> Tensor:
        table = None
        if prepared:
            table = denoiser.prepare(levels)
        bound = denoiser.bind(net.encode_context(tokens), 1.0, table)
        return sample(bound, DDIM(), x, None, each)

    return call


def _in_turns(samplers: dict[str, Callable[[], Tensor]], calls: int) -> dict[str, list[float]]:
    """Seconds of every call; a first turn warms the machine up and is dropped."""
    times: dict[str, list[float]] = {sampler: [] for sampler in samplers}
    for turn in range(calls + 1):
        for sampler, call in samplers.items():
            began = time.perf_counter()
            call()
            if turn:
                times[sampler].append(time.perf_counter() - began)
    return times
