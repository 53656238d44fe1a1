"""Play at the gate without a policy: an arithmetic world whose dynamics are known."""

import numpy as np
from hotstart.envs.gate import GateEnv
from hotstart.world_model.play import Play

CHUNK = 4


def record_play(episodes=60, seed=0, steps=30):
    """Noisy walks to the gate and the goal; half of the episodes are disturbed."""
    env = GateEnv(max_steps=steps)
    rng = np.random.default_rng(seed)
    states, actions, reached, score, ends = [], [], [], [], []
    explored = []
    for number in range(episodes):
        observation, info = env.reset(seed=seed * 1000 + number)
        noise = rng.uniform(0.1, 0.6)
        success, value = info["success"], info["score"]
        for _ in range(steps):
            state = observation["state"]
            way = np.array([0.05, state[2] - state[1]])
            if state[0] > 0.02:
                way = np.array([0.4, state[3]]) - state[:2]
            action = np.clip(way / 0.05 + noise * rng.standard_normal(2), -1, 1)
            states.append(state)
            actions.append(action)
            reached.append(success)
            score.append(value)
            explored.append(number % 2 == 1)
            observation, value, _, _, info = env.step(action)
            success = info["success"]
        ends.append(len(states))
    return Play(
        observations={"state": np.array(states, np.float32)},
        actions=np.array(actions, np.float64),
        reached=np.array(reached),
        score=np.array(score, np.float64),
        explored=np.array(explored),
        episode_ends=np.array(ends),
        obs_spec=env.obs_spec,
        action_spec=env.action_spec,
        rate_hz=env.rate_hz,
        content_hash="gate",
    )
