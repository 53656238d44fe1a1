"""Warm start of a LeRobot policy: no training, a fifth of the network's evaluations.

    python examples/warm_start_lerobot.py FOLDER [EPISODES]

FOLDER is what LeRobot's save_pretrained wrote of a diffusion policy on Push-T from pictures
(config.json and model.safetensors). For keypoints, change `names` and the tasks as docs/data.md
says. The script imports it and evaluates it with DDIM in 10 steps and with RTI, which begins from
the plan before, in 2. For each it prints the score with its 95 % interval, the evaluations of a
later plan (NFE) and the milliseconds of a plan; then the difference, paired by seed. It takes
minutes to an hour on two cores, as the network is large; take 500 episodes or more for a claim.
"""

import sys

import hotstart

folder = sys.argv[1]
episodes = int(sys.argv[2]) if len(sys.argv) > 2 else 100
run = hotstart.import_checkpoint(
    folder,
    "runs/lerobot",
    fps=10,
    task="pusht",
    names={"observation.state": "agent_pos"},
    overwrite=True,
)
results = []
for sampler in (hotstart.Fresh(steps=10), hotstart.WarmStart(steps=2)):
    result = hotstart.evaluate(run, sampler, task="pusht_image", episodes=episodes)
    score = result["score"]
    ms = result["inference_ms"]["p50"]
    interval = f"{score['mean']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    print(f"{result['inference']}: score {interval}, {result['nfe']['warm']:g} NFE, {ms:.1f} ms")
    results.append(result)
fresh, warm = results
difference = hotstart.pair_results(warm, fresh).score
print(f"RTI - DDIM: {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]")
