"""What `make test` leaves to `make thorough`: siblings of cases that stay, and cost most of their file.

Each entry is left out because others of the same test do the same with other numbers: no property, public name, error, step,
rule or precision is seen by these alone. Where cases are products (kinds x rules x baths), each level of each factor stays.
A search or a mean over paths is left out where another of the same room stays that goes through the same code. Patterns are
those of `fnmatch`, without its brackets.
"""

import fnmatch

LEFT = {
    # four systems stay that hold every feature between them, by all solvers and both rules
    "test_ledger.py": [
        f"test_first_law[{name}-default-alternating]"
        for name in ("function", "spline", "dragged", "network", "breathing", "end_jumps")
    ]
    + [
        f"test_first_law[{name}-default-alternating]"
        for name in ("temperature_jump", "double_well", "rotational", "plain_callable")
    ]
    + [f"test_account_gives_what_the_solve_gave[{name}]" for name in ("breathing", "double_well")]
    + ["test_reduced_work_of_a_reversed_run[100]"],
    # on either side stay the few, the many, one direction and two
    "test_free_energies.py": [
        "test_unreliable[one direction too small]",
        "test_unreliable[no overlap]",
        "test_unreliable[too few paths for a dissipation of 8]",
        "test_reliable[unequal]",
        "test_reliable[both directions]",
        "test_reliable[sixty of each]",
        "test_error_bars_are_calibrated[bar-0.0-case4]",
        "test_pymbar[unequal, the other way]",
        "test_pymbar[hardly any]",
        "test_bootstrap[second_cumulant-60]",
    ],
    "test_estimators.py": [
        "test_infinite[mean--inf]",
        "test_hardly_any_left_under_jit[0-integral_fluctuation]",
        "test_hardly_any_left_under_jit[1-jarzynski]",
        "test_reliable_samples_cover[1000-1.0-300-0.95]",
        "test_reliable_samples_cover[20000-3.0-20-0.0]",
    ],
    "test_protocols.py": [
        f"test_a_natural_loop_does_not_train_the_question[{name}]"
        for name in ("network", "reversed", "bounded", "steps", "function")
    ],
    # compiled, both derivatives stay
    "test_mixtures.py": [
        "test_held_weights_are_fine[jit of grad]",
        "test_held_weights_are_fine[jacfwd of jit]",
        "test_held_weights_are_fine[vmap of grad]",
        "test_in_an_ensemble[grad-eager]",
        "test_in_an_ensemble[jacfwd-eager]",
        "test_the_components_are[vmap of grad]",
        "test_the_components_are[grad of checkpoint]",
    ],
    "test_diffusion.py": [
        "test_generation_ends_in_the_data[VP learned-noise]",
        "test_the_chain_through_the_core[kind3-ddpm]",
        "test_the_equation_has_the_marginals[VP learned]",
        "test_networks_of_half_precision[float16]",
    ],
    "test_densities.py": [
        "test_duck_typed[Laplace]",
        "test_walls[a box]",
        "test_walls[a logarithm]",
        "test_gradients_next_to_a_wall[0]",
        "test_factor[3]",
        "test_factor[4]",
    ],
    # each kind of stream, both rules, one bath and two stay
    "test_flow.py": [
        f"test_identities_of_every_path[{case}]"
        for case in (
            "one bath-uniform-kernel",
            "one bath-shear-alternating",
            "one bath-shear-kernel",
            "one bath-swelling-alternating",
            "two-uniform-alternating",
            "two-uniform-kernel",
            "two-shear-alternating",
            "two-swelling-alternating",
            "two-swelling-kernel",
        )
    ]
    + [f"test_fluctuation_theorem_at_coarse_steps[{kind}]" for kind in ("uniform", "swelling")],
    # each adjoint stays with our step, each solver with one adjoint
    "test_gradients.py": [
        f"test_the_adjoint_does_not_matter[ShARK-{way}]"
        for way in ("default forward", "direct forward", "forward forward")
    ]
    + [
        "test_what_is_saved_does_not_matter[default reverse-4]",
        "test_what_is_saved_does_not_matter[recursive reverse-4]",
        "test_second_derivatives[direct]",
    ],
    # each way to fail by an ensemble, two of them by single runs
    "test_failed_paths.py": [
        f"{test}[{case}-simulate]"
        for test in (
            "test_a_failed_path_is_frozen_and_marked",
            "test_a_failed_path_does_not_poison_the_gradient",
        )
        for case in (
            "explodes-Euler",
            "explodes-ShARK",
            "is met by the wall-default",
            "ends behind the wall-default",
        )
    ]
    + [
        "test_a_failed_recording_does_not_poison_the_gradient[a missing state-running totals]",
        "test_a_failed_recording_does_not_poison_the_gradient[a state behind a wall-account]",
    ],
    "test_losses.py": [
        "test_an_index_means_the_same_time_on_every_grid_and_for_either_gradient[3-times1]",
        "test_losses_built_alike_share_what_is_compiled[mean_work]",
        "test_energy_distance[1.5-1.0]",
    ],
    # a trap that is moved, one that stiffens and one that is heated stay, and a gyrator
    "test_simulated.py": [
        "test_gradient_by_the_knots",
        "test_simulated_rotational_gyrator",
    ],
    "test_survival.py": ["test_killed_and_started_again[20]"],
    "test_schedules.py": [
        f"test_levels_that_do_not_fall[{name}]" for name in ("work, posterior", "work, tau")
    ]
    + ["test_paths_have_the_mean_of_the_formula[posterior]"],
    "test_flow_likelihood.py": [
        "test_chains_of_linear_betas[100]",
        "test_chains_of_linear_betas[1000]",
    ],
    "test_mcmc.py": ["test_chains_that_disagree[1]"],
    "test_own.py": ["test_reversed_run_obeys_it_too[inertial, a ratio]"],
    "test_fluctuation.py": [
        "test_every_step_size_exactly[4]",
        "test_every_step_size_exactly[8]",
        "test_kernel_rule_exactly[rotational]",
        "test_kernel_rule_over_paths[dt=0.25]",
        "test_naive_rule_over_paths[dt=0.25]",
    ],
    "test_noise.py": [
        "test_increments_are_normal[float32]",
        "test_increments_are_independent[float64]",
        "test_levy_areas[float32]",
    ],
    "test_simulate.py": [
        "test_what_is_saved_does_not_change_it[4-rows2]",
    ],
    "test_fokker_planck.py": [
        "test_equilibrium_rests[1-positive]",
    ],
    "test_measured.py": [
        "test_read_back[alternating]",
    ],
    # a ring that is driven and spins at a rate hold every feature; the other tests take sweeps site by site
    "test_jumps.py": [
        "test_first_law_and_account[sweeps]",
        "test_fluctuation_theorem[sweeps]",
        "test_reversed_path_and_path_ratio[sweeps]",
        "test_means_are_those_of_the_chain[sweeps]",
        "test_implied_work_is_the_given_one",
        "test_score_of_a_search",
    ],
    # all six go through the first law; here each system, rule and splitting is in one that stays
    "test_underdamped.py": ["test_verify"]
    + [f"{test}[seen{i}]" for test in ("test_account", "test_reversed_path") for i in (1, 3, 5)],
    # .ci/run runs the README as a newcomer does, in a plain environment
    "test_docs.py": ["test_page_runs[README.md]"],
    # the uncertainty relation is the same program but for its price
    "test_gallery_inference.py": ["test_equilibrium_is_not_called_driven[tur]"],
    # that its statements are the script's, all of them, is asked of every notebook
    "test_gallery_door.py": ["test_a_notebook_runs"],
    "test_bounds.py": [
        "test_geodesic_of_a_stiffness[100.0-0.003488-0.002502]",
        "test_geodesic_of_a_double_well",
    ],
    # of the table of frozen numbers one of each kind stays
    "test_frozen.py": [
        f"test_frozen[{name}]"
        for name in (
            "system_dragged",
            "system_end_jumps",
            "system_spline",
            "system_network",
            "system_plain_callable",
            "stored_paths_several_controls",
            "stored_paths_rotational",
            "moments_breathing",
            "moments_spline",
            "search_state_to_state",
            "noising_run_VE_EDM",
            "noising_VP_cosine",
        )
    ],
}


# in single precision, too: the same kinds in double precision see much smaller changes
LEFT32 = {
    "test_frozen.py": LEFT["test_frozen.py"]
    + [
        f"test_frozen[{name}]"
        for name in (
            "system_rotational",
            "system_temperature_jump",
            "two_blocks",
            "gradient_kernel",
            "noising_VE_EDM",
            "noising_VE_uniform",
            "noising_run_sub_VP",
            "generation_with_a_potential",
            "reverse_kernel",
            "curve_of_a_denoiser",
            "search_estimator_variance",
            "search_of_a_schedule",
        )
    ],
}


def left(file: str, name: str, lists: dict[str, list[str]]) -> str | None:
    """The pattern by which a test is left out, if any."""
    plain = lambda text: text.replace("[", "(").replace("]", ")")
    for pattern in lists.get(file, []):
        if fnmatch.fnmatchcase(plain(name), plain(pattern)):
            return pattern
    return None
