"""The numbers of examples that list none themselves, or more than they list: by the keys of their files in out/."""

from collections.abc import Iterator

from .row import Row

SS07 = "Schmiedl & Seifert, PRL 98, 108301 (2007)"
NEST = "Whitelam et al., arXiv:2506.15122 (NESTbench25)"
ZHANG = "Zhang, arXiv:2606.18290"
LIMITS = "Kodama & Hinczewski, arXiv:2510.06174"


def moving_trap(r: dict) -> Iterator[Row]:
    yield Row(
        "drag 0 to 5, drive found from paths: its mean work",
        SS07,
        25 / 3,
        r["work_found_exact"],
        2e-3,
    )


def breathing_trap(r: dict) -> Iterator[Row]:
    for key, exact, tau in ((None, 0.890571785, 1), ("fast", 1.203063208, 0.2)):
        part = r if key is None else r[key]
        what = f"stiffness 1 to 4 in {tau}, drive found from paths: its mean work"
        yield Row(what, SS07, exact, part["work_found_exact"], 1.5e-3)


def heat_and_drive(r: dict) -> Iterator[Row]:
    for name in ("idle", "found"):
        part = r[name]
        error = part["integral_fluctuation_stderr"]
        what = f"heated and driven ({name}): mean of exp(-W_diss)"
        yield Row(what, ZHANG + ", Eq. (6.6)", 1.0, part["integral_fluctuation"], 4 * error, error)
    best = r["dissipation_optimal"]
    yield Row(
        "heated and driven: least dissipation, found",
        "closed form",
        best,
        r["found"]["dissipation"],
        1e-3,
    )


def temperature_steered(r: dict) -> Iterator[Row]:
    source = "Dibak et al., arXiv:2108.01590 (the setting); moment equations"
    yield Row(
        "trap heated 1 to 2: <x^2> as it arrives", source, 1.567667642, r["unweighted_exact"], 1e-8
    )
    for name, what, exact in (
        ("unweighted", "<x^2> of paths", 1.567667642),
        ("weighted", "weighted", 2.0),
    ):
        error = r[f"{name}_stderr"]
        yield Row(f"trap heated 1 to 2: {what}", source, exact, r[name], 4 * error, error)
    ours = r["ess_share_exact"]
    what = "trap heated 1 to 2: share of paths that count"
    yield Row(what, "2/e, by a Riccati equation", 0.735758882, ours, 1e-8)
    best = r["found_reversed"]["cost"]
    what = "moved and stiffened: second moment of the weight in the bath that a search finds, 1 %"
    yield Row(what, "moment equations", r["best_cost"], best, 0.01 * r["best_cost"])
    for bath, mean, cost in (("1.0", 3.013424, 58.96697), ("0.7", 2.474015, 26.47121)):
        row = r["baths"][bath]
        what = f"moved and stiffened, 1/T = {bath} on the way"
        yield Row(f"{what}: mean reduced work", "moment equations", mean, row["mean_exact"], 3e-6)
        yield Row(
            f"{what}: second moment of the weight",
            "moment equations",
            cost,
            row["cost_exact"],
            2e-4 * cost,
        )


def engine(r: dict) -> Iterator[Row]:
    source = "Schmiedl & Seifert, EPL 81, 20003 (2008)"
    for row in r["strokes"]:
        what = f"engine, stroke {row['stroke']:.3f}: power"
        yield Row(what, source, row["exact"]["power"], row["ours"]["power"], 1e-4)
    for row in r["maximum_power"]:
        what = f"engine at Carnot efficiency {row['carnot']:.1f}: efficiency at greatest power"
        yield Row(what, source, row["exact"], row["ours"], 1e-3)


def nll_limit(r: dict) -> Iterator[Row]:
    for sigma, flow in (
        ("10", 1.419463277),
        ("20", 1.418994347),
        ("25", 1.418964961),
        ("30", 1.418952775),
    ):
        row = r["gaussian_ve"][sigma]
        yield Row(
            f"exact score, VE {sigma}: likelihood of the flow", LIMITS, flow, row["nll"], 2e-6
        )
        yield Row(
            f"exact score, VE {sigma}: their limit is the entropy",
            LIMITS,
            1.418938533,
            row["limit"],
            2e-6,
        )
        prior = {"10": 1.407572, "20": 1.415212, "25": 1.416373, "30": 1.417054}[sigma]
        what = f"exact score, VE {sigma}: the limit with the prior's entropy"
        yield Row(what, LIMITS, prior, row["limit_by_prior"], 2e-6)
    error = r["entropy_uniform_stderr"]
    yield Row(
        "entropy of U(-1, 1) from its scores",
        LIMITS,
        0.693147181,
        r["entropy_uniform"],
        4 * error,
        error,
    )
    yield Row(
        "exchange over intrinsic rate, VE, of a network",
        LIMITS,
        -2.0,
        r["ratio_ve"],
        1e-4,
        theirs=-2.0,
    )
    yield Row("the same of VP, N(1, 1/4), t = 0.1", "closed form", -1.9015, r["ratio_vp"], 2e-4)


def double_well(r: dict) -> Iterator[Row]:
    source = "landscape of Sivak & Crooks, PRE 94, 052106 (2016); an independent program"
    yield Row("pulled through a barrier, ramp: work", source, 8.8028, r["ramp"]["work"], 2e-4)
    yield Row(
        "the same, nine free knots: least work", source, 7.51076, r["least work"]["work"], 2e-5
    )
    off = max(abs(r[name]["off"]) for name in ("ramp", "least work"))
    yield Row("W_diss - S_tot - KL of both", ZHANG + ", Eq. (6.26)", 0.0, off, 1e-12)
    slow = r["tau 4.4"]
    error = slow["average_stderr"]
    what = "pulled in 4.4: mean of exp(-S_tot) of paths"
    yield Row(what, ZHANG + ", Eq. (4.22)", 1.0, slow["average"], 4 * error, error)


def optimal_landscapes(r: dict) -> Iterator[Row]:
    zhong = "landscape of Zhong & DeWeese; an independent program"
    for tau, ramp, least in (("0.2", 32.372, 29.739), ("1", 21.443, 14.878)):
        row = r["zhong_deweese"][tau]
        yield Row(f"tilted double well, {tau}, ramp: work", zhong, ramp, row["ramp"], 1e-3)
        yield Row(f"tilted double well, {tau}: least work", zhong, least, row["found"], 2e-3)
    row = r["quartic"]["0.1"]
    yield Row(
        "quartic trap 1 to 5 in 0.1, ramp: work",
        "an independent program",
        0.738204,
        row["ramp"],
        2e-6,
    )
    yield Row(
        "quartic trap 1 to 5 in 0.1: least work",
        "an independent program",
        0.69789,
        row["found"],
        4e-5,
    )
    row = r["sivak_crooks"]
    what = "pulled through a barrier, 33 free knots: least work"
    yield Row(what, "an independent program, 65 knots", 7.51060, row["found"], 2e-5)
    shapes = {
        "tilted double well, 0.2": (r["zhong_deweese"]["0.2"], (-0.553, 0.697, 0.554)),
        "tilted double well, 1": (r["zhong_deweese"]["1"], (-0.829, 0.363, 0.824)),
        "quartic trap 1 to 5 in 0.1": (r["quartic"]["0.1"], (1.800, None, 3.62)),
    }
    for what, (row, shape) in shapes.items():
        error, paths = row["by_paths_stderr"], row["by_paths"]
        within = 4 * error + row["found_error"]
        yield Row(
            f"{what}: the least work, of paths", "its density", row["found"], paths, within, error
        )
        for key, words, want in zip(
            ("jump_to", "middle", "jump_from"),
            ("after the first jump", "at half the time", "before the last jump"),
            shape,
            strict=True,
        ):
            if want is not None:  # the work is flat in them: 1 % of the way of the control
                way = 0.04 if "quartic" in what else 0.02
                said = f"{what}, least work: control {words}, 1 % of its way"
                yield Row(said, "an independent program", None, row[key], way, theirs=want)


def nestbench(r: dict) -> Iterator[Row]:
    exact = {"trap": 25 / 3, "trap_underdamped": 2.9078746}
    for name, row in r.items():
        what = f"NESTbench, {name.replace('_', ' ')}"
        if name in exact:
            yield Row(what, NEST, exact[name], row["value"], 2e-6, theirs=row["theirs"])
        else:
            error = row["stderr"] or None
            yield Row(what, NEST, None, row["value"], None, error, row["theirs"], row["theirs"])


def erasure(r: dict) -> Iterator[Row]:
    source = "Aurell et al., PRL 106, 250601 (2011)"
    for name in ("by_hand", "found"):
        share = r[f"{name}_bound"] / r[f"{name}_heat"]
        what = f"a bit erased ({name.replace('_', ' ')}): least heat of its two densities over its heat"
        yield Row(what, source, None, share, theirs=1.0, at_most=1.0)
    error = r["found_success_stderr"]
    pair = (r["price"], r["price_stderr"]), (r["check_price"], r["check_price_stderr"])
    error = pair[1][1]
    within = 4 * (error**2 + pair[0][1] ** 2) ** 0.5
    what = "the drive found: work and failures on steps half as long"
    yield Row(what, "on the search's own steps", pair[0][0], pair[1][0], within, error)


def free_energy(r: dict) -> Iterator[Row]:
    for name, row in r["table"].items():
        for verb, source in (
            ("jarzynski", "Jarzynski, PRL 78, 2690 (1997)"),
            ("bar", "Bennett, J. Comput. Phys. 22, 245 (1976)"),
        ):
            if row[f"{verb}_reliable"]:
                value, error = row[verb]
                what = f"hairpin, {name}: free energy, {verb}"
                yield Row(what, source, r["exact"], value, 4 * error, error)


def driven_2d(r: dict) -> Iterator[Row]:
    for name, row in r["rows"].items():
        if not isinstance(row, str):
            equation, value, allowed = row
            what = f"plane, all driven and stirred: {name}, residual"
            yield Row(what, f"{ZHANG}, Eq. {equation}", 0.0, value, allowed)


def measured_path(r: dict) -> Iterator[Row]:
    source = "moment equations"
    for name in ("work W", "heat Q", "entropy production", "free energy, Jarzynski"):
        row = r[name]
        what, error = f"500 recorded drags, from the file: {name}, kT", row["stderr"]
        yield Row(what, source, row["exact"], row["value"], 4 * error, error)
    for study in r["thinned"]:
        row = study["rows"][2]
        value, error, exact = row["work"]
        what = f"{study['name']}, a sample each {row['interval']:.3g}: work off by, %"
        yield Row(what, source, exact, value, 4 * error, error)


def user_score(r: dict) -> Iterator[Row]:
    value, error = r["optimised_by_paths_excess"], r["optimised_by_paths_excess_stderr"]
    what = "two moons, 20 levels by paths and by the curve: difference of -ELBO, nats"
    yield Row(what, "two searches of one optimum", 0.0, value, 4 * error, error)


def price_a_model(r: dict) -> Iterator[Row]:
    for name, row in r["paired"].items():
        what = f"eight modes, {name}: what it buys, by pairs of denoising errors, nats"
        exact, error = row["by_score_error"], row["stderr"]
        yield Row(what, ZHANG + ", Eq. (7.18)", exact, row["nats"], 4 * error, error)


PROGRAM = "an independent program"
MIXTURE = {  # N: <w>; KL and its error; the same by Jarzynski; effective paths of 256
    "6": (0.410, (0.027, 0.003), (0.0304, 0.0033), 0.45),
    "10": (0.255, (0.009, 0.002), (0.0109, 0.0022), 0.59),
    "25": (0.106, (0.0017, 0.0009), (0.0023, 0.0011), 0.80),
}
SHAPES = {  # N = 25, between the ends of least work
    "least work": 0.0973,
    "equal length": 0.0987,
    "AYS": 0.1038,
    "log-SNR": 0.1132,
    "Karras": 0.1139,
    "entropic": 0.1200,
    "arctan": 0.1302,
}


def schedule_mixture(r: dict) -> Iterator[Row]:
    for n, row in r["N"].items():
        what, error = f"eight modes, {n} steps, least work", row["pathwise_stderr"]
        source = "mean of the formula"
        yield Row(
            f"{what}: <w> of paths", source, row["optimised"], row["pathwise"], 4 * error, error
        )
        error = row["ift_stderr"]
        what = f"{what}: mean of exp(-w)"
        yield Row(what, "Jarzynski, PRL 78, 2690 (1997)", 1.0, row["ift"], 4 * error, error)


def samplers(r: dict) -> Iterator[Row]:
    for n, (work, kl, jarzynski, ess) in MIXTURE.items():
        row, what = r["mixture"][n], f"eight modes, {n} steps, least work"
        yield Row(f"{what}: <w>", PROGRAM, None, row["w"], theirs=work, at_most=work + 1e-3)
        for key, words, (theirs, its) in (
            ("kl", "KL(data || generated), of the density", kl),
            ("kl_jarzynski", "the same by Jarzynski's equality", jarzynski),
        ):
            error = row[f"{key}_stderr"]
            both = 4 * (error**2 + its**2) ** 0.5
            within = its + 4 * error if key == "kl" else both
            yield Row(f"{what}: {words}", PROGRAM, None, row[key], within, error, theirs)
        ours = row["ess_fraction"]
        yield Row(f"{what}: share of paths that count", PROGRAM, None, ours, 0.02, theirs=ess)
    for name, theirs in SHAPES.items():
        ours = r["mixture"]["25"]["dissipation"][name]
        what = f"eight modes, 25 levels, {name}: dissipated by the steps, 1 %"
        yield Row(what, PROGRAM, None, ours, 0.01 * theirs, theirs=theirs)
    for name, theirs, most in (("searched", 0.0563, 0.057), ("karras", 0.0574, 0.0574)):
        what = f"eight modes, DDIM, 5 steps, {name}: KL(data || generated)"
        yield Row(what, PROGRAM, None, r["ddim5"][name], theirs=theirs, at_most=most)
    klub = r["ays"]["klub_curve"]
    what = "eight modes, five levels: KLUB by its definition, against the curve, 1 %"
    source = "Sabour et al., arXiv:2404.14507"
    yield Row(what, source, klub, r["ays"]["klub_mc"], 0.01 * klub)


def price_impact(r: dict) -> Iterator[Row]:
    source = "Jha, arXiv:2512.03123"
    odds = r["triangle_odds"]
    yield Row("triangle, sigma = 0.2: P(profit)", source, 2.160232e-08, odds, 1e-13)
    for name, theirs in (("triangle", 0.0382), ("ramp", 0.0420)):
        what = f"{name}: sigma^2 that the printed bound implies, one and the same if it followed"
        yield Row(what, source, theirs, r["implied_sigma_squared"][name], 5e-5)


PICKED = {
    fn.__name__: fn
    for fn in (
        moving_trap,
        breathing_trap,
        heat_and_drive,
        temperature_steered,
        engine,
        nll_limit,
        double_well,
        optimal_landscapes,
        nestbench,
        erasure,
        free_energy,
        driven_2d,
        measured_path,
        user_score,
        price_a_model,
        schedule_mixture,
        samplers,
        price_impact,
    )
}
