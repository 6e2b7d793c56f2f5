"""What `make test` leaves to `make thorough`: siblings of cases that stay, and cost most of their file.

Each entry is left out because others of the same test do the same with other numbers: no property, public name, error, step,
rule or precision is seen by these alone. Patterns are those of `fnmatch`, without its brackets.
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
    ],
    "test_protocols.py": [
        f"test_a_natural_loop_does_not_train_the_question[{name}]"
        for name in ("network", "reversed", "bounded", "steps", "function")
    ],
    # its identities are tested one by one
    "test_underdamped.py": ["test_verify"],
    # compiled, both derivatives stay
    "test_mixtures.py": [
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
    "test_densities.py": ["test_duck_typed[Laplace]"],
    "test_measured.py": [
        "test_read_back[alternating]",
        "test_unequal_lengths_in_one_batch[own]",
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
    # .ci/run runs the README as a newcomer does, in a plain environment
    "test_docs.py": ["test_page_runs[README.md]"],
    # the uncertainty relation is the same program but for its price
    "test_gallery_inference.py": ["test_equilibrium_is_not_called_driven[tur]"],
    # that its statements are the script's, all of them, is asked of every notebook
    "test_gallery_door.py": ["test_a_notebook_runs"],
    "test_bounds.py": ["test_geodesic_of_a_stiffness[100.0-0.003488-0.002502]"],
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
            "search_mean_dissipation",
            "search_state_to_state",
            "noising_run_VE_EDM",
            "noising_VP_cosine",
        )
    ],
}


def left(file: str, name: str) -> str | None:
    """The pattern by which a test is left out, if any."""
    plain = lambda text: text.replace("[", "(").replace("]", ")")
    for pattern in LEFT.get(file, []):
        if fnmatch.fnmatchcase(plain(name), plain(pattern)):
            return pattern
    return None
