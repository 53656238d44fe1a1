"""`hotstart serve`: a policy for robots on other machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..policy import checkpoint
from ..policy.diffusion_policy import DiffusionPolicy, build_sampler
from ..policy.runtime.warm_up import list_rows, warm_up
from ..spec import ConfigError
from ..system.interrupts import Interrupted
from ..system.versions import versions
from .rollouts import label
from .runtimes import set_up_model


def run(config: Mapping[str, Any]) -> int:
    """Serve until a signal comes; answers under way are sent first."""
    try:
        from ..real_robot.server.server import PolicyServer, ServerSettings, read_token
    except ImportError as error:
        raise ConfigError(
            f"a server needs the package {error.name}: pip install 'hotstart[serve]'"
        ) from error
    settings = ServerSettings(
        host=config["host"],
        port=config["port"],
        token=read_token(config["token_file"]),
        clients=config["clients"],
        batch=config["batch"],
        deadline_s=config["deadline_s"],
        max_age_s=config["max_age_s"],
        message_mb=config["message_mb"],
    )
    server = PolicyServer(load_policy(config), settings, describe_run(config))

    def tell(port: int) -> None:
        megabytes = settings.clients * server.largest * 3 / 1e6
        print(
            f"serving {config['checkpoint']} ({label(config)}) at {settings.host}:{port}, to "
            f"{settings.clients} clients at a time; messages take {megabytes:.0f} MB at most. "
            "Ctrl-C ends it",
            flush=True,
        )

    server.run(tell)
    words = f"{server.planning.planned} plans handed out, {server.refused} requests refused"
    if server.ended_by:
        raise Interrupted(words, server.ended_by)
    print(words)
    return 0


def load_policy(config: Mapping[str, Any]) -> DiffusionPolicy:
    """The policy of a composed configuration."""
    model, meta = checkpoint.load(config["checkpoint"], config["device"])
    policy = DiffusionPolicy(
        set_up_model(config, model),
        build_sampler(config["inference"]),
        config["executed"],
        config["delay"],
    )
    policy.rate_hz = meta.get("rate_hz")
    warm_up(policy, list_rows(config["batch"]))
    return policy


def describe_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """What clients are told of the checkpoint: its name, not where it lies."""
    return {
        "checkpoint": Path(config["checkpoint"]).name,
        "inference": label(config),
        "version": versions().get("hotstart"),
    }
