"""Evaluate and compare: two samplers on one checkpoint, each charged for the time that it plans.

    python examples/compare_samplers.py RUN [EPISODES]

RUN is any run of a simulated task, say of `hotstart train data/pusht.zarr task=pusht`. While a plan
is made the simulation goes on: here each evaluation of the network is charged with 10 ms. The
script prints a table with 95 % intervals, then the difference of the scores, paired by seed. It
writes results/*.json, which `hotstart compare` reads, and plots into results/. 100 episodes of
Push-T take some minutes on two cores; take 500 or more for a claim.
"""

import sys

import hotstart

run = sys.argv[1]
episodes = int(sys.argv[2]) if len(sys.argv) > 2 else 100
files = []
for sampler in (hotstart.Fresh(steps=10), hotstart.WarmStart(steps=2)):
    file = f"results/{type(sampler).__name__}.json"
    hotstart.evaluate(
        run,
        sampler,
        episodes=episodes,
        latency=f"{10 * sampler.steps}ms",
        planner="async",  # asks for a plan before the last one is used up
        out=file,
        overwrite=True,
    )
    files.append(file)
comparison = hotstart.compare(*files, out="results", overwrite=True)
print(comparison)
for name, difference in comparison.differences.items():
    score = difference.score
    print(f"{name} scores {score.mean:+.3f} [{score.low:+.3f}, {score.high:+.3f}] beside DDIM")
