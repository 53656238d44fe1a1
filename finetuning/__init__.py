"""Fine-tuning of diffusion policies with reinforcement learning, from any source of rollouts."""
