"""The table of `hotstart bench mutations`: single edits of hotstart's own code that a test must
notice.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One edit of one file, and the tests that are run against it."""

    name: str
    file: str
    old: str
    """Text that stands in the file exactly once."""
    new: str
    tests: tuple[str, ...]
    """Files below tests/, or single tests as pytest names them."""
    reason: str = ""
    """Why it may survive; empty: it must not."""


POLICY = "policy/diffusion_policy.py"
STATE = "policy/state.py"
TRAINING = "policy/training/trainer.py"
OBJECTIVE = "policy/diffusion/objective.py"
SOLVERS = "policy/diffusion/solvers.py"
WARM = "policy/samplers/warm_start.py"
ACTIONS = "policy/actions.py"
CONTROL = "control/loop.py"
PROCESSES = ("policy/training/test_processes.py",)
TRAINS = tuple(
    f"policy/training/test_trainer.py::test_{name}"
    for name in (
        "held_out_episodes_are_never_trained_on",
        "validation_is_of_the_average_that_is_saved",
        "every_window_is_taken_once_an_epoch",
        "every_step_has_levels_and_noise_of_its_own_and_the_same_again",
        "the_learning_rate_warms_up_and_falls_to_zero",
        "a_warm_up_that_is_not_given_leaves_time_to_train",
        "a_step_takes_the_schedules_rate_and_clipped_gradients_and_is_averaged",
    )
)
"""What is left out there trains for seconds."""
RESUMES = (
    "policy/training/test_trainer_resumed.py::test_the_best_loss_is_remembered_over_a_stop",
    "policy/training/test_trainer_resumed.py::test_a_killed_run_goes_on_to_the_bit[unet]",
)
SEEDS = ("test_seeds.py",)
LOOP = ("test_control.py", "test_control_late.py")
POLICIES = ("policy/test_diffusion_policy.py", "policy/test_policy_rows.py")

WHAT_A_POLICY_DOES = (
    Mutant(
        "snap_to_the_other_side",
        POLICY,
        "torch.where(plan < 0, -size, size)",
        "torch.where(plan < 0, size, -size)",
        (*POLICIES, "policy/test_actions.py"),
    ),
    Mutant(
        "adopt_forgets_levels",
        STATE,
        "return replace(state, plan=put_rows(state.plan, rows, plan))",
        "plan = replace(put_rows(state.plan, rows, plan), level=state.plan.level)\n"
        "    return replace(state, plan=plan)",
        (*POLICIES, "policy/samplers/test_streaming.py"),
    ),
    Mutant(
        "adopt_forgets_the_pose",
        STATE,
        "return replace(state, plan=put_rows(state.plan, rows, plan))",
        "plan = replace(put_rows(state.plan, rows, plan), observed=state.plan.observed)\n"
        "    return replace(state, plan=plan)",
        (*POLICIES, "policy/test_actions.py"),
    ),
    Mutant(
        "delay_is_not_handed_out",
        POLICY,
        "count = self.horizon.executed + self.horizon.delay",
        "count = self.horizon.executed",
        POLICIES,
    ),
    Mutant(
        "noisy_steps_are_handed_out",
        POLICY,
        "count = int(noisy[0])",
        "pass",
        (*POLICIES, "policy/samplers/test_streaming.py"),
    ),
    Mutant(
        "plans_are_not_counted",
        POLICY,
        "Plan(x, level, state.plan.count[rows] + 1, observed)",
        "Plan(x, level, state.plan.count[rows], observed)",
        POLICIES,
    ),
    Mutant(
        "reset_keeps_the_old_plan",
        POLICY,
        "return put_rows(state, np.asarray(rows), self.initial_state(seeds))",
        "new = put_rows(state, np.asarray(rows), self.initial_state(seeds))\n"
        "        return replace(new, plan=state.plan)",
        POLICIES,
    ),
    Mutant(
        "no_step_to_execute_counts_as_not_given",
        POLICY,
        "if executed is None:",
        "if not executed:",
        ("policy/test_doors.py",),
    ),
    Mutant(
        "plan_is_not_rebased",
        POLICY,
        "self.model.actions.rebase(plan, before, now)",
        "plan",
        ("policy/test_actions.py",),
    ),
    Mutant(
        "calibration_does_not_shift",
        "policy/fitting/calibration.py",
        "torch.full((len(kept),), horizon.executed)",
        "torch.full((len(kept),), 0)",
        ("policy/fitting/test_calibration.py",),
    ),
    Mutant(
        "calibration_forgets_the_steady_state",
        "policy/fitting/calibration.py",
        "gain < 1 and gain / (1 - gain) <= MEMORY",
        "gain < 1 and gain <= MEMORY",
        ("policy/fitting/test_calibration.py",),
    ),
    Mutant(
        "gains_are_not_shares_of_the_drift",
        "policy/fitting/calibration.py",
        "(len(pairs), len(STARTS)))) / drift",
        "(len(pairs), len(STARTS))))",
        ("policy/fitting/test_calibration.py",),
    ),
)

SEEDS_DROPPED = (
    Mutant(
        "initialisation_without_its_seed",
        TRAINING,
        "torch_seed(settings.seed, Purpose.INITIALISATION)",
        "torch_seed(0, Purpose.INITIALISATION)",
        SEEDS,
    ),
    Mutant(
        "split_without_its_seed",
        "policy/training/data.py",
        "settings.validation_share, settings.seed)",
        "settings.validation_share, 0)",
        SEEDS,
    ),
    Mutant(
        "shuffle_without_its_seed",
        "policy/training/batches.py",
        "torch_seed(self.seed, Purpose.SHUFFLE, epoch)",
        "torch_seed(0, Purpose.SHUFFLE, epoch)",
        SEEDS,
    ),
    Mutant(
        "shuffle_without_its_epoch",
        "policy/training/batches.py",
        "torch_seed(self.seed, Purpose.SHUFFLE, epoch)",
        "torch_seed(self.seed, Purpose.SHUFFLE)",
        (*SEEDS, *TRAINS),
    ),
    Mutant(
        "levels_and_noise_without_their_seed",
        TRAINING,
        "torch_seed(self.settings.seed, purpose, step)",
        "torch_seed(0, purpose, step)",
        SEEDS,
    ),
    Mutant(
        "levels_and_noise_share_a_stream",
        TRAINING,
        "generator = self._generator(Purpose.NOISE, step)",
        "generator = self._generator(Purpose.LEVELS, step)",
        (*SEEDS, *TRAINS),
    ),
    Mutant(
        "layers_without_their_seed",
        TRAINING,
        "torch.manual_seed(torch_seed(settings.seed, Purpose.LAYERS, step))",
        "torch.manual_seed(torch_seed(0, Purpose.LAYERS, step))",
        SEEDS,
    ),
    Mutant(
        "layers_draw_the_same_at_every_step",
        TRAINING,
        "torch_seed(settings.seed, Purpose.LAYERS, step)",
        "torch_seed(settings.seed, Purpose.LAYERS)",
        (*SEEDS, *TRAINS),
    ),
    Mutant(
        "layers_are_not_seeded",
        TRAINING,
        "torch.manual_seed(torch_seed(settings.seed, Purpose.LAYERS, step))",
        "pass",
        (
            *SEEDS,
            "policy/test_image_encoders.py::test_pictures_train_the_same_however_they_are_loaded_and_after_a_stop",
        ),
    ),
    Mutant(
        "the_instruction_is_never_dropped",
        "policy/encoders/language.py",
        "uniform < self.condition_dropout",
        "uniform < 0",
        ("policy/test_language.py::test_an_instruction_is_dropped_as_a_whole_in_training_only",),
    ),
    Mutant(
        "stochastic_routing_draws_nothing",
        "policy/denoisers/experts.py",
        "    elif sample:\n        scores = logits + _draw_gumbel(logits, len(logits))",
        "    elif sample:\n        scores = logits",
        ("policy/test_mode.py",),
    ),
    Mutant(
        "rollouts_without_their_seeds",
        CONTROL,
        "policy.initial_state([*seeds, *[0] * (rows - len(seeds))])",
        "policy.initial_state([0] * robot.rows)",
        LOOP,
    ),
    Mutant(
        "branches_draw_alike",
        "policy/diffusion/noise.py",
        "(int(branch), self.draws, int(plan))",
        "(0, self.draws, int(plan))",
        ("policy/samplers/test_bidirectional.py",),
    ),
    Mutant(
        "draws_of_a_plan_are_alike",
        "policy/diffusion/noise.py",
        "(int(branch), self.draws, int(plan))",
        "(int(branch), 0, int(plan))",
        ("policy/test_policy_rows.py",),
    ),
    Mutant(
        "plans_of_a_row_draw_alike",
        "policy/diffusion/noise.py",
        "(int(branch), self.draws, int(plan))",
        "(int(branch), self.draws, 0)",
        ("policy/test_policy_rows.py",),
    ),
)

TRAINED = (
    Mutant(
        "learning_rate_is_never_set",
        TRAINING,
        'group["lr"] = self.settings.rate(self.step)',
        'group["lr"] = self.settings.learning_rate',
        TRAINS,
    ),
    Mutant(
        "gradients_are_not_clipped",
        TRAINING,
        "clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)",
        "clip_grad_norm_(self.model.parameters(), math.inf)",
        TRAINS,
    ),
    Mutant(
        "average_one_step_off",
        TRAINING,
        "self.ema.update(self.model, self.step)",
        "self.ema.update(self.model, self.step + 1)",
        TRAINS,
    ),
    Mutant(
        "average_of_another_power",
        TRAINING,
        "EMA(self.model, settings.ema_power)",
        "EMA(self.model)",
        TRAINS,
    ),
    Mutant(
        "decay_of_the_average",
        "policy/training/ema.py",
        "1 - (1 + step) ** -self.power",
        "1 - (2 + step) ** -self.power",
        ("policy/training/test_ema.py",),
    ),
    Mutant(
        "best_loss_is_forgotten",
        TRAINING,
        'self.best = float(state["best"])',
        "pass",
        RESUMES,
    ),
    Mutant(
        "optimiser_is_not_resumed",
        TRAINING,
        '        load_optimizer(self.optimizer, tensors, "optimizer")\n',
        "",
        RESUMES,
    ),
    Mutant(
        "validation_sees_the_raw_weights",
        TRAINING,
        "self.learner.compute_loss(self.ema.model, batch, step)",
        "self.learner.compute_loss(self.model, batch, step)",
        TRAINS,
    ),
    Mutant(
        "statistics_of_held_out_episodes",
        "policy/training/data.py",
        "found = dataset_statistics(dataset, index, weigh)",
        "found = dataset_statistics(dataset, None, weigh)",
        TRAINS,
    ),
    Mutant(
        "observation_noise_is_left_out",
        "policy/training/learner.py",
        "self.compute_loss(self.synchronized, batch, step, noise)",
        "self.compute_loss(self.synchronized, batch, step)",
        (*SEEDS, *TRAINS),
    ),
    Mutant(
        "warm_up_longer_than_the_training",
        "policy/training/settings.py",
        "return min(WARMUP, steps // 10)",
        "return WARMUP",
        TRAINS,
    ),
    Mutant(
        "sign_of_v",
        "policy/diffusion/contract.py",
        "return Scales(one, alpha, -sigma)",
        "return Scales(one, alpha, sigma)",
        ("policy/test_contract.py",),
    ),
    Mutant(
        "a_process_counts_its_own_noisy_steps",
        OBJECTIVE,
        "counted = (whole_time > 0).sum() * (len(time) / len(whole_time))",
        "counted = noisy.sum()",
        PROCESSES,
    ),
    Mutant(
        "a_process_balances_its_own_levels",
        OBJECTIVE,
        "denoiser.network.losses(schedule.level(whole_time))",
        "denoiser.network.losses(level)",
        PROCESSES,
    ),
    Mutant(
        "gradients_are_not_averaged",
        "policy/training/processes.py",
        "if current_share().world == 1:",
        "if True:",
        PROCESSES,
    ),
    Mutant(
        "crops_are_drawn_for_own_rows_only",
        "policy/encoders/augment.py",
        "draw_rows(lambda n: torch.randint(places, (n, 1), device=device), count)",
        "torch.randint(places, (count, 1), device=device)",
        PROCESSES,
    ),
    Mutant(
        "routes_are_drawn_for_own_rows_only",
        "policy/denoisers/mode.py",
        ", by_row=True",
        "",
        PROCESSES,
    ),
    Mutant(
        "clean_steps_count_in_the_loss",
        OBJECTIVE,
        "weight = schedule.weight(level) * noisy",
        "weight = schedule.weight(level)",
        ("policy/test_objective.py",),
    ),
    Mutant(
        "prefix_is_not_clean",
        OBJECTIVE,
        "< clean, 0.0, constant)",
        "< clean, TIME_LEAST, constant)",
        ("policy/test_objective.py",),
    ),
    Mutant(
        "own_losses_do_not_follow_the_learned_weights",
        OBJECTIVE,
        "return loss + pull * sum(own.values())",
        "return loss + sum(own.values())",
        ("policy/test_objective.py",),
    ),
    Mutant(
        "weight_of_a_flow",
        "policy/diffusion/schedule.py",
        "return (alpha + sigma) ** 2",
        "return alpha + sigma",
        ("policy/test_schedule.py",),
    ),
    Mutant(
        "condition_routes_outlive_an_update",
        "policy/denoisers/mode.py",
        "key = (self.serial, self.weights_version, tokens)",
        "key = (self.serial, 0, tokens)",
        ("policy/test_mode.py",),
    ),
    Mutant(
        "observations_are_not_centred",
        "policy/normalizer.py",
        "return (value - centre) / torch.where(",
        "return value / torch.where(",
        ("policy/test_normalizer.py",),
    ),
    Mutant(
        "actions_are_not_scaled_back",
        "policy/normalizer.py",
        "return value * scale + centre",
        "return value + centre",
        ("policy/test_normalizer.py",),
    ),
    Mutant(
        "constants_are_not_pinned",
        "policy/normalizer.py",
        "torch.where(scale == 0, centre.to(value.dtype), value)",
        "value",
        ("policy/test_constants.py", "policy/test_normalizer.py"),
    ),
    Mutant(
        "relative_rotations_are_not_turned_back",
        ACTIONS,
        "return self.origin + position @ inverse, self.axes.unsqueeze(1) @ matrix",
        "return self.origin + position @ inverse, inverse.unsqueeze(1) @ matrix",
        ("policy/test_actions.py",),
    ),
    Mutant(
        "rebased_from_the_same_pose",
        ACTIONS,
        "self.encode(self.decode(plan, before), now)",
        "self.encode(self.decode(plan, now), now)",
        ("policy/test_actions.py",),
    ),
)

SAMPLED = (
    Mutant(
        "noise_is_raised_too_far",
        "policy/diffusion/schedule.py",
        "(sigma_to**2 - (ratio * sigma) ** 2)",
        "(sigma_to**2 - sigma**2)",
        ("policy/samplers/test_streaming.py",),
    ),
    Mutant(
        "grid_forgets_its_start",
        "policy/diffusion/schedule.py",
        "torch.linspace(start, 0.0, check_steps(steps)",
        "torch.linspace(1.0, 0.0, check_steps(steps)",
        ("policy/test_schedule.py",),
    ),
    Mutant(
        "sign_of_ddims_noise",
        SOLVERS,
        "eps = (x - alpha * x0) / sigma",
        "eps = (x + alpha * x0) / sigma",
        ("policy/test_solvers.py",),
    ),
    Mutant(
        "noise_of_a_stochastic_step",
        SOLVERS,
        "self.eta * (sigma_next / sigma) * torch.sqrt(shrink)",
        "self.eta * torch.sqrt(shrink)",
        ("policy/test_solvers.py", "policy/test_solvers_diffusers.py"),
    ),
    Mutant(
        "extrapolation_of_dpm_solver",
        SOLVERS,
        "share = (after - now) / (2 * (now - before))",
        "share = (after - now) / (now - before)",
        ("policy/test_solvers.py",),
    ),
    Mutant(
        "order_of_plms",
        SOLVERS,
        "(1.5, -0.5)",
        "(0.5, 0.5)",
        ("policy/test_solvers.py",),
    ),
    Mutant(
        "ramp_begins_at_the_plans_first_step",
        WARM,
        "((index - end) / (last - end).clamp_min(1))",
        "(index / last.clamp_min(1))",
        ("policy/samplers/test_warm_start.py",),
    ),
    Mutant(
        "fallback_counts_discrete_numbers",
        WARM,
        "(estimate - guess)[:, chunk, ~request.model.discrete]",
        "(estimate - guess)[:, chunk]",
        ("policy/samplers/test_warm_start.py",),
    ),
    Mutant(
        "gripper_begins_at_its_old_side",
        WARM,
        "torch.where(request.model.discrete, torch.zeros_like(guess), guess)",
        "torch.where(request.model.discrete, guess, guess)",
        ("policy/samplers/test_warm_start.py",),
    ),
    Mutant(
        "plan_moves_on_by_one_too_few",
        "policy/samplers/base.py",
        "torch.arange(length, device=values.device) + steps.unsqueeze(1)",
        "torch.arange(length, device=values.device) + (steps.unsqueeze(1) - 1).clamp_min(0)",
        ("policy/samplers/test_warm_start.py", "policy/samplers/test_streaming.py"),
    ),
    Mutant(
        "stream_forgets_the_levels_it_had",
        "policy/samplers/streaming.py",
        "self._descend(request, before.plan, before.level, ",
        "self._descend(request, before.plan, torch.zeros_like(before.level), ",
        ("policy/samplers/test_streaming.py",),
    ),
    Mutant(
        "frozen_prefix_one_step_too_long",
        "policy/samplers/real_time_chunking.py",
        "given = index < length.unsqueeze(1)",
        "given = index <= length.unsqueeze(1)",
        ("policy/samplers/test_real_time_chunking.py",),
    ),
    Mutant(
        "guidance_is_not_held_back_near_clean",
        "policy/diffusion/guidance.py",
        "torch.minimum(self.beta * sigma, 1 / alpha.clamp_min(1e-6))",
        "1 / alpha.clamp_min(1e-6)",
        ("policy/samplers/test_real_time_chunking.py",),
    ),
    Mutant(
        "guidance_of_the_instruction",
        "policy/diffusion/guidance.py",
        "guided = unconditional + self.weight",
        "guided = conditional + self.weight",
        ("policy/samplers/test_classifier_free.py",),
    ),
    Mutant(
        "weak_plans_draw_what_strong_ones_drew",
        "policy/samplers/bidirectional.py",
        "self._sample(request, self.weak, first=self.samples)",
        "self._sample(request, self.weak, first=0)",
        ("policy/samplers/test_bidirectional.py",),
    ),
    Mutant(
        "anchored_start_without_noise",
        "policy/samplers/anchored.py",
        "add_noise(request.model.anchor(), noise, ",
        "add_noise(request.model.anchor(), torch.zeros_like(noise), ",
        ("policy/samplers/test_anchored.py",),
    ),
)

KEPT = (
    Mutant(
        "window_runs_into_the_next_episode",
        "datasets/windows.py",
        "return first, self.ends[numbers] - 1",
        "return first, self.ends[numbers]",
        ("datasets/test_windows.py",),
    ),
    Mutant(
        "window_begins_at_its_newest_observation",
        "datasets/windows.py",
        "np.arange(self.horizon.planned) - self.horizon.past",
        "np.arange(self.horizon.planned)",
        ("datasets/test_windows.py",),
    ),
    Mutant(
        "steps_that_windows_share_count_twice",
        "datasets/statistics.py",
        "np.unique(index)",
        "np.ravel(index)",
        ("datasets/test_statistics.py",),
    ),
    Mutant(
        "end_is_written_before_the_numbers",
        "datasets/store.py",
        "        for key in self.keys:\n            values = np.concatenate(",
        '        write_rows(self._writable_array("meta/episode_ends"), ends, len(self._ends))\n'
        "        for key in self.keys:\n            values = np.concatenate(",
        ("datasets/test_store_killed.py",),
    ),
    Mutant(
        "old_checkpoint_goes_before_the_new_one_stands",
        "policy/checkpoint/writer.py",
        "        folder.rename(before)\n    fresh.rename(folder)",
        "        shutil.rmtree(folder)\n    fresh.rename(folder)",
        ("policy/test_checkpoint_attacks.py::test_a_kill_at_any_moment_leaves_a_whole_checkpoint",),
    ),
    Mutant(
        "a_flipped_bit_is_not_noticed",
        "policy/checkpoint/files.py",
        "if wanted is not None and hash_file(folder / name) != wanted:",
        "if wanted is not None and not hash_file(folder / name):",
        ("policy/test_checkpoint_untrusted.py",),
    ),
)

RUN = (
    Mutant(
        "late_actions_are_not_counted",
        "control/splicing.py",
        "int((~on_time).sum())",
        "0",
        ("test_splice.py",),
    ),
    Mutant(
        "pending_actions_overlap_the_new_chunk",
        "control/splicing.py",
        "pending.times_s < times_s[0] - half_step_s",
        "pending.times_s < times_s[-1] - half_step_s",
        ("test_splice.py",),
    ),
    Mutant(
        "queue_is_not_postponed",
        CONTROL,
        "        self.queue.put_off(lost_s)\n",
        "",
        LOOP,
    ),
    Mutant(
        "questions_are_not_postponed",
        CONTROL,
        "self.asked_s = self.asked_s + lost_s",
        "self.asked_s = self.asked_s",
        LOOP,
    ),
    Mutant(
        "actions_executed_meanwhile_are_forgotten",
        CONTROL,
        "self.passed[row] = max(0, math.ceil((now_s - begin_s) / self.period_s - LATE_S))",
        "self.passed[row] = 0",
        LOOP,
    ),
    Mutant(
        "frozen_steps_are_all_that_are_left",
        CONTROL,
        "np.minimum(passed - executed + left[rows], meanwhile)",
        "left[rows]",
        LOOP,
    ),
    Mutant(
        "plans_that_are_not_finite_pass",
        "checks.py",
        "wrong = ~(np.abs(actions) <= LARGEST)  # NaN too",
        "wrong = np.abs(actions) > LARGEST",
        ("test_checks.py",),
    ),
    Mutant(
        "score_is_the_best_ever",
        "control/log.py",
        "        self.score = score\n",
        "        self.score = max(self.score, score)\n",
        ("test_control.py",),
    ),
    Mutant(
        "short_turns_enter_the_history",
        CONTROL,
        "self.elapsed - self.observed >= self.robot.substeps",
        "self.elapsed - self.observed >= 0",
        LOOP,
    ),
    Mutant(
        "patience_is_doubled",
        CONTROL,
        "(now_s - self.asked_s > self.settings.patience_s)",
        "(now_s - self.asked_s > 2 * self.settings.patience_s)",
        ("test_control_late.py",),
    ),
    Mutant(
        "questions_outlive_a_reset",
        "planners.py",
        "            self._under_way.clear()\n",
        "",
        ("test_control_late.py",),
    ),
    Mutant(
        "delayed_answers_outlive_a_reset",
        "planners.py",
        "self._plans, self._due = {}, {}\n\n    def submit",
        "self._plans = {}\n\n    def submit",
        ("test_control_late.py",),
    ),
    Mutant(
        "rows_of_workers_are_mixed_up",
        "rows.py",
        "whole[own] = array",
        "whole[own] = array[::-1]",
        ("envs/test_vector_env.py::test_workers_change_nothing",),
    ),
    Mutant(
        "score_of_push_t",
        "envs/pusht.py",
        "np.clip(np.asarray(covered) / SUCCESS_COVERAGE, 0.0, 1.0)",
        "np.clip(np.asarray(covered), 0.0, 1.0)",
        (
            "envs/test_pusht.py::test_score_of_states_is_the_best_of_each_episode",
            "envs/test_pusht.py::test_score_of_the_human_demonstrations",
            "envs/test_pusht.py::test_reaching_the_goal_terminates",
        ),
    ),
    Mutant(
        "wilsons_half_width",
        "evaluation/intervals.py",
        "z * z / (4 * n * n)",
        "z * z / (2 * n * n)",
        ("evaluation/test_intervals.py",),
    ),
    Mutant(
        "pairs_are_resampled_apart",
        "evaluation/intervals.py",
        "return bootstrap_mean(first - second, seed, resamples)",
        "return bootstrap_mean(first - second[::-1], seed, resamples)",
        ("evaluation/test_intervals.py",),
    ),
)

MUTANTS: tuple[Mutant, ...] = (*WHAT_A_POLICY_DOES, *SEEDS_DROPPED, *TRAINED, *SAMPLED, *KEPT, *RUN)
