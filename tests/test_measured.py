"""Measured paths: what the CSV reader meets in real files, and the ledger of what it read."""

import functools as ft
import re
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compare import close

import thermojax as tjx
from thermojax.densities import Boltzmann, Gaussian
from thermojax.measured import Measured, _csv, _quick, from_columns, read_csv, read_each

NAMES = {"time": "t", "positions": "x", "controls": "trap"}
ROWS = ["0.0,1.0,2.0", "0.1,1.1,2.5", "0.2,1.2,3.0"]
TRAP = tjx.Overdamped(tjx.potentials.MovingTrap(1.0))
START = Gaussian(0.0, 1.0)


def account(system, data, initial, final=None, **how):
    return tjx.account(data.process(system, initial, final), data.path, **how)


@pytest.fixture
def lab(tmp_path):
    """Write lines (or bytes) as they are, and read them."""

    def read(*lines, name="lab.csv", reader=read_csv, **changes):
        text = lines[0] if isinstance(lines[0], bytes) else "\n".join([*lines, ""]).encode()
        (tmp_path / name).write_bytes(text)
        return reader(tmp_path / name, **{**NAMES, **changes})

    return read


def header(*rows, names="t,x,trap"):
    return names, *(rows or ROWS)


# ---- what is read as it comes
latin = "t,x (µm),trap\n".encode("latin-1") + "\n".join(ROWS).encode()
READ = {
    "plain": (header(), {}),
    "no end of line at the end": (["\n".join(header())], {}),
    "comments and empty lines": (["# from the lab", "", *header(), "# end", ""], {}),
    "matlab comments": (["% from the lab", *header()], {}),
    "units": (["t,x,trap", "s,um,nanometre", *ROWS], {}),
    "units in part": (["t,x,trap", "s,,um", *ROWS], {}),
    "names in a comment": (["# more", "# t x trap", *[r.replace(",", " ") for r in ROWS]], {}),
    "semicolons": ([r.replace(",", ";") for r in header()], {}),
    "decimal commas": ([r.replace(",", ";").replace(".", ",") for r in header()], {}),
    "quoted decimal commas": (
        ["t,x,trap", *('"' + r.replace(",", '","').replace(".", ",") + '"' for r in ROWS)],
        {},
    ),
    "tabs": ([r.replace(",", "\t") for r in header()], {}),
    "white space": ([r.replace(",", "   ") for r in header()], {}),
    "another delimiter": ([r.replace(",", "|") for r in header()], {"delimiter": "|"}),
    "byte-order mark": ([b"\xef\xbb\xbf" + "\n".join(header()).encode()], {}),
    "Windows": (["\r\n".join(header()).encode()], {}),
    "UTF-16": (["\n".join(header()).encode("utf-16")], {}),
    "Latin-1": ([latin], {"positions": "x (µm)"}),
    "the other mu": (header(names="t,x (\u03bcm),trap"), {"positions": "x (\u00b5m)"}),
    "stray spaces": (header(names=" t , x ,trap  "), {"positions": "x "}),
    "spaces around numbers": (["t,x,trap", *(r.replace(",", " , ") for r in ROWS)], {}),
    "delimiters at the end": ([r + "," for r in header()], {}),
    "empty rows of a spreadsheet": ([*header(), ",,", ",,"], {}),
    "other columns": (
        ["n,t,y,x,trap", *("a,{},none,{},{}".format(*r.split(",")) for r in ROWS)],
        {},
    ),
    "names above their units": (
        ["# t x trap", "# s um um", *[r.replace(",", " ") for r in ROWS]],
        {},
    ),
    "names in a comment, delimiters at the end": (["# t,x,trap", *(r + "," for r in ROWS)], {}),
    "names in a comment, a path by words": (
        ["# run t x trap", *("a " + r.replace(",", " ") for r in ROWS)],
        {"path": "run"},
    ),
    "PLUMED": (
        ["#! FIELDS t x trap", "#! SET min_x -pi", *(" " + r.replace(",", "  ") for r in ROWS)],
        {},
    ),
    "a tab after the mark": (["#\tt\tx\ttrap", *(r.replace(",", "\t") for r in ROWS)], {}),
    "row numbers under the mark": (
        ["#\tt\tx\ttrap", *(f"{i}\t" + r.replace(",", "\t") for i, r in enumerate(ROWS))],
        {},
    ),
    "empty cells under the mark": (
        ["#\tt\tx\ttrap", *("\t" + r.replace(",", "\t") for r in ROWS)],
        {},
    ),
    "names with units in white space": (
        ["t (s)   x (um)   trap", *[r.replace(",", "   ") for r in ROWS]],
        {"time": "t (s)", "positions": "x (um)"},
    ),
    "names of several words": (
        ["# elapsed time  bead position  trap", *[r.replace(",", "  ") for r in ROWS]],
        {"time": "elapsed time", "positions": "bead position"},
    ),
    "decimal commas in white space": (
        ["# t x trap", *[r.replace(",", " ").replace(".", ",") for r in ROWS]],
        {},
    ),
    "decimal commas that are said": (
        [r.replace(",", ";").replace(".", ",") for r in header()],
        {"decimal": ","},
    ),
    "units, and a pure number": (["t,x,trap", "s,1,1", *ROWS], {}),
    "units of all kinds": (["t,x,trap", "[s],(µm),kT/nm^2", *ROWS], {}),
    "a clock": (["t,x,trap", *(f"17000000{i:02}.1{r[3:]}" for i, r in enumerate(ROWS))], {}),
}


@pytest.mark.parametrize("name", READ)
def test_read(name, lab):
    lines, changes = READ[name]
    data = lab(*lines, **changes)
    ts = [[0.0, 1.0, 2.0]] if name == "a clock" else [[0.0, 0.1, 0.2]]
    np.testing.assert_allclose(data.path.ts, ts, rtol=1e-6)
    np.testing.assert_allclose(data.path.xs, [[[1.0], [1.1], [1.2]]], rtol=1e-6)
    np.testing.assert_allclose(data.controls, [[2.0, 2.5, 3.0]], rtol=1e-6)
    assert data.path.ok.all()


def test_the_digits_of_a_clock_survive(lab):
    """A time of 1.7e9 s has no milliseconds in float32; its difference to the first has."""
    data = lab(*header("1700000000.123,1,2", "1700000000.124,1.1,2", "1700000000.125,1.2,2"))
    np.testing.assert_allclose(data.path.ts, [[0.0, 0.001, 0.002]], atol=2e-7)


@pytest.mark.parametrize("interleaved", [False, True])
def test_trajectories_of_one_file(lab, interleaved):
    rows = [f"{i},{10 * i + j},{j + i},{2 * j}" for i in (7, 3) for j in range(3)]
    rows = [rows[i] for i in (0, 3, 1, 4, 2, 5)] if interleaved else rows
    data = lab("id,t,x,trap", *rows, path="id")
    np.testing.assert_array_equal(data.path.ts, [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(data.path.xs[..., 0], [[7, 8, 9], [3, 4, 5]])  # first come first


def test_trajectories_of_several_files(tmp_path):
    files = [tmp_path / f"{i}.csv" for i in range(2)]
    for i, file in enumerate(files):
        file.write_text("\n".join(["t,x,y,trap,k", *(f"{j},{i},{j},{2 * j},1" for j in range(3))]))
    columns = {"time": "t", "positions": ("x", "y")}
    data = read_csv(files, **columns, controls={"at": ("trap", "k"), "k": "k"})
    assert data.path.xs.shape == (2, 3, 2)
    np.testing.assert_array_equal(data.path.xs[:, 0, 0], [0, 1])
    assert jax.tree.map(jnp.shape, data.controls) == {"at": (2, 3, 2), "k": (2, 3)}


def test_thousands(lab):
    """What can be read in one way only, or is said, is read."""
    rows = ["t;x;trap", "0;1,234,567;0", "1;2,000;0"]
    np.testing.assert_array_equal(lab(*rows).path.xs[0, :, 0], [1234567, 2000])
    rows = ["t,x,trap", '0,"1,234",0', '1,"2,345.5",0']
    np.testing.assert_array_equal(lab(*rows, decimal=".").path.xs[0, :, 0], [1234, 2345.5])
    rows = ["t;x;trap", "0;1.234,5;0", "1;2.345;0"]
    np.testing.assert_array_equal(lab(*rows, decimal=",").path.xs[0, :, 0], [1234.5, 2345])


def test_the_interval_in_the_place_of_a_clock(lab):
    data = lab("x,trap", "1,2", "3,4", "5,6", time=0.25)
    np.testing.assert_array_equal(data.path.ts, [[0, 0.25, 0.5]])
    np.testing.assert_array_equal(data.controls, [[2, 4, 6]])


# ---- columns that are no file
COLUMNS = {"t": [5, 6, 7, 1, 2, 3], "x": np.arange(6.0), "trap": np.ones(6), "run": list("aaabbb")}


def test_columns():
    data = from_columns(COLUMNS, **NAMES, path="run")
    np.testing.assert_array_equal(data.path.ts, [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(data.path.xs[..., 0], [[0, 1, 2], [3, 4, 5]])
    assert data.path.xs.dtype == data.path.ts.dtype == jnp.asarray(0.0).dtype
    batch = {"t": np.arange(3), "x": np.arange(6).reshape(2, 3), "trap": np.ones((2, 3))}
    close(from_columns(batch, **NAMES), data)
    seconds = np.datetime64("2026-01-01") + np.arange(3) * np.timedelta64(500, "ms")
    data = from_columns({**batch, "t": seconds}, **NAMES)
    np.testing.assert_allclose(data.path.ts[0], [0, 0.5, 1])


I = np.arange(4)
DAY = np.datetime64("2026-01-01", "ns")


@pytest.mark.parametrize(
    ("clock", "step"),
    [
        (1_700_000_000_000_000_000 + 1000 * I, 1000),
        ((1_700_000_000_000_000_000 + 1000 * I).astype(np.uint64), 1000),
        (np.array([-100, -30, 40, 110], np.int8), 70),
        (2**24 - 4 + I.astype(np.float32), 1),
        (DAY + 1000 * I, 1e-6),
    ],
)
def test_the_digits_of_whole_numbers_and_dates_survive(clock, step):
    """They are subtracted as such."""
    data = from_columns({"t": clock, "x": I, "trap": I}, **NAMES)
    np.testing.assert_allclose(np.diff(data.path.ts[0]), step, rtol=1e-9)


def test_dates_of_another_year():
    """Every trajectory's own first is taken off before the seconds are formed."""
    dates = np.r_[DAY + 1000 * I, DAY + np.timedelta64(3000, "D") + 1000 * I]
    rows = {"t": dates, "x": np.r_[I, I], "trap": np.r_[I, I], "run": list("aaaabbbb")}
    data = from_columns(rows, **NAMES, path="run")
    np.testing.assert_allclose(np.diff(data.path.ts), 1e-6, rtol=1e-9)


def test_a_clock_of_too_many_digits(lab):
    """Float64 has no microseconds of today: said, with the interval to give; milliseconds pass."""
    stamps = [f"1700000000.{10 * i:06d},{i},{i}" for i in range(9)]
    with pytest.warns(
        UserWarning, match=r"'t': float64 rounds times up to 1\.7e\+09.*time=(1|1\.00.)e-05"
    ):
        lab(*header(*stamps))
    with pytest.warns(UserWarning, match=r"uneven.*or one of whole numbers or dates"):
        from_columns({"t": 1.7e9 + 1e-5 * I, "x": I, "trap": I}, **NAMES)


def test_a_table_of_pandas():
    pandas = pytest.importorskip("pandas")
    data = from_columns(pandas.DataFrame(COLUMNS), **NAMES, path="run")
    close(data, from_columns(COLUMNS, **NAMES, path="run"))
    holes = pandas.DataFrame(COLUMNS).astype({"x": "Float64"})
    holes.loc[1, "x"] = pandas.NA
    with pytest.raises((ValueError, TypeError), match="column 'x'"):
        from_columns(holes, **NAMES, path="run")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"x": np.array([0, 1, np.nan, 3, 4, 5])},
            r"row 2, column 'x': the value is missing \(nan\)",
        ),
        (
            {"x": np.ma.array(np.arange(6.0), mask=[0, 1, 0, 0, 0, 0])},
            r"row 1, column 'x': the value is missing",
        ),
        (
            {"t": np.ma.array(np.full(6, DAY) + np.arange(6), mask=[0, 0, 1, 0, 0, 0])},
            r"row 2, column 't': the value is missing \(NaT\)",
        ),
        (
            {"run": np.ma.array(list("aaabbb"), mask=[0, 0, 0, 1, 0, 0])},
            "row 3, column 'run'.*missing",
        ),
        ({"x": np.arange(5.0)}, r"one length.*column 'x' does not fit"),
        ({"x": np.array(list("abcdef"))}, "column 'x' must be real numbers"),
        ({"x": np.arange(6) * 1j}, "column 'x' must be real numbers"),
        ({"t": [0, 0, 1, 2, 3, 4]}, "row 1, column 't': 0.0 does not come after"),
        ({"run": ["a", "a", "a", "b", "b", ""]}, "row 5, column 'run'.*missing"),
    ],
)
def test_columns_refused(changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        from_columns({**COLUMNS, **changes}, **NAMES, path="run")


def test_a_column_not_there():
    with pytest.raises(ValueError, match=r"columns has no 'y'. It has: 't', 'x'"):
        from_columns(COLUMNS, **{**NAMES, "positions": "y"})


def test_unequal_lengths(lab):
    rows = ["id,t,x,trap", "a,0,0,0", "a,1,1,1", "b,0,0,0", "b,1,1,1", "b,2,2,2"]
    with pytest.raises(ValueError, match=r"'a' of .*2 samples, .*'b' of .* has 3\..*read_each"):
        lab(*rows, path="id")
    each = lab(*rows, path="id", reader=read_each)
    assert [one.path.xs.shape for one in each] == [(1, 2, 1), (1, 3, 1)]


def test_lost_frames_are_reported(lab):
    with pytest.warns(UserWarning, match=r"1 steps .* longest 2 times, up to .*lab.csv, line 5: l"):
        data = lab(*header("0,1,2", "1,1,2", "2,1,2", "4,1,2", "5,1,2"))
    np.testing.assert_array_equal(data.path.ts, [[0, 1, 2, 4, 5]])


def calls(of):
    """How many functions `of` calls, those in C too: a measure of its work that no machine changes."""
    seen = []
    sys.setprofile(lambda frame, event, arg: event in ("call", "c_call") and seen.append(event))
    try:
        of()
    finally:
        sys.setprofile(None)
    return len(seen)


def test_many_rows(tmp_path):
    """Longer than any buffer, right to the last row, with as many calls for each further row and few of them."""

    def write(name, count):
        file = tmp_path / name
        rows = (f"{i * 1e-3:.3f},{i % 7 / 8},{i % 5}\n" for i in range(count))
        file.write_text("t,x,trap\n" + "".join(rows))
        return file

    file, i = write("long.csv", 30_000), np.arange(30_000)
    data = read_csv([file, file], **NAMES)
    found = data.path.ts, data.path.xs[..., 0], data.controls
    for got, column in zip(found, (i / 1000, i % 7 / 8, i % 5), strict=True):
        np.testing.assert_array_equal(got, [column.astype(got.dtype)] * 2)
    assert account(TRAP, data, START).path.ok.all()

    files = [write(f"{count}.csv", count) for count in (1000, 2000, 4000)]
    few, more, most = (calls(ft.partial(read_csv, file, **NAMES)) for file in files)
    assert most - more == pytest.approx(2 * (more - few), rel=0.1)
    assert most - more < 60 * 2000  # calls a row, 42 of them


UNEQUAL = (7, 4, 7, 5)


def pulls(control):
    """Paths of unequal length, each on its own clock."""
    rng, parts = np.random.default_rng(1), []
    for i, n in enumerate(UNEQUAL):
        ts = np.linspace(0, 1, 7)[:n]
        parts.append(
            {"run": [str(i)] * n, "t": 50 * i + ts, "x": rng.normal(size=n), "trap": np.sin(ts)}
        )
    columns = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
    names = {"time": "t", "positions": "x", "path": "run", "controls": control}
    return from_columns(columns, **names, pad=True), [from_columns(p, **names) for p in parts]


def mirrored(path):
    ts = path.ts[:, :1] + path.ts[:, -1:] - path.ts
    return tjx.Path(ts[:, ::-1], path.xs[:, ::-1])


STEPS = tjx.protocols.Steps(jnp.array([0.0, 0.35, 1.0]), jnp.array([1.0, 2.0]), 0.0, 3.0)


@pytest.mark.parametrize(
    ("drive", "rule"),
    [(None, "kernel"), (STEPS, "alternating"), (lambda t: jnp.sin(3 * t), "alternating")],
    ids=["own", "steps", "function"],
)
def test_unequal_lengths_in_one_batch(drive, rule):
    """A last sample that is held adds nothing, whoever knows the drive: the totals are those of each path alone."""
    data, alone = pulls("trap" if drive is None else None)
    system = tjx.Overdamped(TRAP.potential, lambda x, lam: jnp.sin(x))
    np.testing.assert_array_equal(data.lengths, UNEQUAL)
    process = data.process(system, START, START, protocol=drive)
    run = tjx.account(process, data.path, rule=rule)
    for i, one in enumerate(alone):
        own = one.process(system, START, START, protocol=drive)
        single = tjx.account(own, one.path, rule=rule)
        close(
            tuple(single)[1:], jax.tree.map(lambda v, i=i: v[i : i + 1], tuple(run)[1:]), rtol=1e-9
        )
        close(tjx.reduced_work(own, single), tjx.reduced_work(process, run)[i : i + 1], rtol=1e-9)
        for of in (tjx.log_prob, tjx.onsager_machlup):
            close(of(own, one.path), of(process, data.path)[i : i + 1], rtol=1e-9)
            if drive is None:
                back, behind = tjx.reverse(own), tjx.reverse(process)
                found = of(behind, mirrored(data.path))[i : i + 1]
                close(of(back, mirrored(one.path)), found, rtol=1e-9)
    moved = data.path._replace(xs=data.path.xs.at[1, -1].add(0.1))  # negative control
    assert abs(tjx.account(process, moved, rule=rule).work - run.work)[1] > 1e-3


def test_held_samples_are_no_data():
    """Of a process made by hand, and of paths without their lengths, it is said; one that stays alone is not padded."""
    rng = np.random.default_rng(1)
    xs = rng.normal(size=(3, 120, 1)).cumsum(1)
    xs[0, 6:] = xs[0, 6]
    path = tjx.Path(jnp.linspace(0.0, 1.0, 120), jnp.asarray(xs))
    process = tjx.Process(TRAP, lambda t: 0.0 * t, START)
    for of in (tjx.log_prob, tjx.onsager_machlup):
        with pytest.warns(UserWarning, match=r"1 of 3 paths do not move.*data\.process"):
            of(process, path)
        of(process, tjx.Path(path.ts, path.xs[0]))
        of(process, path._replace(xs=path.xs[1:]))
        of(process, path._replace(xs=path.xs[:1].repeat(3, 0)))  # all stay
        of(process, path._replace(ok=jnp.array([False, True, True])))  # one failed, and is frozen
    with pytest.warns(UserWarning, match=r"data and not data\.path"):
        tjx.inference.entropy_production(
            path._replace(xs=jnp.concatenate([path.xs, jnp.sin(path.xs)], -1))
        )


def test_many_lengths_compile_once():
    ts = np.linspace(0.0, 1.0, 40)
    rows = [(i, t) for i in range(30) for t in ts[: 10 + i]]
    run, t = map(np.array, zip(*rows, strict=True))
    columns = {"run": run, "t": t, "x": np.cos(t + run), "trap": t}
    data = from_columns(columns, **NAMES, path="run", pad=True)
    assert data.path.xs.shape == (30, 39, 1)
    process = data.process(TRAP, START)
    sums = tjx.account(process, data.path).work  # one call, one shape
    shortest = from_columns({k: v[:10] for k, v in columns.items()}, **NAMES)
    np.testing.assert_allclose(sums[0], account(TRAP, shortest, START).work[0], rtol=1e-6)


def test_a_known_drive(lab):
    """Where the drive is known the file needs no column of it; its end jumps are seen, which samples smear."""
    data = lab("t,x", "10.0,0.0", "10.5,1.0", "11.0,1.5", controls=None)
    assert data.controls is None
    drive = tjx.protocols.Steps(jnp.array([0.0, 1.0]), jnp.array([1.0]), 0.0, 2.0)
    run = tjx.account(data.process(TRAP, START, protocol=drive), data.path)
    np.testing.assert_allclose(run.work, [0.5 + (0.5 * 0.25 - 0.5 * 0.25)], atol=1e-6)
    with pytest.raises(ValueError, match=r"no controls of their own.*protocol="):
        data.process(TRAP, START)
    short = tjx.protocols.ramp(0.0, 1.0, 0.5)
    with pytest.raises(ValueError, match="span"):
        tjx.account(data.process(TRAP, START, protocol=short), data.path)
    unequal, _ = pulls(None)
    with pytest.raises(ValueError, match="span"):
        unequal.process(TRAP, START, protocol=short)


def test_a_batch_that_stops_early_is_warned_of():
    """The largest gap counts, and where each path has its own drive its own end; a plateau at the end is no gap."""
    ts = jnp.broadcast_to(jnp.linspace(0.0, 1.0, 5), (3, 5))
    xs = jnp.zeros((3, 5, 1))

    def quietly(process, ts):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tjx.account(process, tjx.Path(ts, xs))

    drives = jax.vmap(lambda stop: tjx.protocols.ramp(0.0, stop, 1.0))(jnp.array([1.0, 0.0, 1.0]))
    one = lambda drive: tjx.Process(tjx.Overdamped(TRAP.potential), drive, START)
    ramp = one(tjx.protocols.ramp(0.0, 1.0, 1.0))
    quietly(ramp, ts)
    with pytest.warns(UserWarning, match=r"grid of path 2 ends at t = 0\.8.*protocol at 1"):
        tjx.account(ramp, tjx.Path(ts.at[2, -1].set(0.8).at[0, -1].set(0.9), xs))
    with pytest.warns(UserWarning, match=r"grid of path 1 starts at t = 0\.1"):
        tjx.account(ramp, tjx.Path(ts.at[1, 0].set(0.1), xs))
    quietly(one(drives), ts.at[1, -1].set(0.9))
    with pytest.warns(UserWarning, match="path 2"):
        tjx.account(one(drives), tjx.Path(ts.at[2, -1].set(0.9), xs))
    level = tjx.protocols.Piecewise(jnp.array([0.0, 0.5, 1.0]), jnp.array([0.0, 1.0, 1.0]))
    quietly(one(level), 0.8 * ts)


def test_a_path_that_stops_early_does_not_reach_the_end():
    """One sample of 2000 early is a whole step: the jump to `after` is no part of it."""
    ts = np.linspace(0.0, 1.0, 2001)
    columns = [
        {"t": ts[:n], "x": np.zeros(n), "trap": ts[:n], "id": np.full(n, n)} for n in (2001, 2000)
    ]
    joined = {name: np.concatenate([c[name] for c in columns]) for name in columns[0]}
    data = from_columns(joined, time="t", positions="x", path="id", pad=True)
    drive = tjx.protocols.Steps(jnp.array([0.0, 1.0]), jnp.array([1.0]), 0.0, 2.0)
    run = tjx.account(data.process(TRAP, START, protocol=drive), data.path)
    np.testing.assert_allclose(run.work, [2.0, 0.5], atol=1e-5)


def test_batches_on_one_clock():
    """Times `(m,)` for all of 60 paths: all that takes a run takes theirs, by one drive or each by its own."""
    ts = jnp.linspace(0.0, 1.0, 5)
    xs = jnp.sin(jnp.arange(300.0)).reshape(60, 5, 1)
    data = Measured(tjx.Path(ts, xs), jnp.broadcast_to(ts, (60, 5)))
    for process in (
        data.process(TRAP, START, START),
        data.process(TRAP, START, START, protocol=tjx.protocols.ramp(0.0, 1.0, 1.0)),
    ):
        run = tjx.account(process, data.path)
        for mine in (run, run._replace(path=data.path)):
            reduced = tjx.reduced_work(process, mine)
            np.testing.assert_allclose(reduced, run.work, rtol=1e-5)
            assert tjx.dissipated_work(process, mine).shape == (60,)


def test_both_directions():
    """Free energy of a squeezed trap, from columns of forward and of reverse runs: the works are those of the runs."""
    system = tjx.Overdamped(tjx.potentials.Breathing())
    drive = tjx.protocols.ramp(1.0, 2.0, 1.0)
    process = tjx.Process(system, drive, START, Gaussian(0.0, 0.5))
    ts = jnp.linspace(0.0, 1.0, 9)
    there = tjx.ensemble(process, ts, jax.random.key(0), 300, save="all")
    back = tjx.ensemble(tjx.reverse(process), ts, jax.random.key(1), 300, save="all")
    k = jnp.broadcast_to(1 + ts, (300, 9))
    forward, backward = Measured(there.path, k), Measured(back.path, k[:, ::-1])
    found = tjx.measured.bar(forward, backward, system)
    works = tjx.reduced_work(process, there), tjx.reduced_work(tjx.reverse(process), back)
    close(found, tjx.estimators.bar(*works), rtol=1e-6)
    assert abs(found.value - 0.5 * np.log(2)) < 4 * found.stderr  # 0.01
    known = tjx.measured.bar(
        forward._replace(controls=None), backward._replace(controls=None), system, protocol=drive
    )
    close(known, found, rtol=1e-6)
    with pytest.raises(ValueError, match="reverse runs start where the forward ones end"):
        tjx.measured.bar(forward, forward, system)


# ---- large tables, by pandas


def outcome(lab, lines, changes):
    try:
        data = lab(*lines, reader=read_each, **changes)
    except ValueError as error:
        return str(error)
    return jax.tree.map(np.asarray, data)


def messy():
    """Tables as instruments write them, each spoilt at a few places."""
    rng = np.random.default_rng(0)
    spoil = [
        "",
        " ",
        "nan",
        "x",
        "1,5",
        '"1"',
        '"1',
        "# 1",
        "1 #",
        "%",
        "\r",
        "\n",
        "\n ",
        "1_0",
        "\t",
        "\N{NO-BREAK SPACE}1",
        "s",
    ]
    for i in range(400):
        delimiter = (",", "\t", ";", " ", ", ")[i % 5]
        rows = [["run", "t", "x", "trap", "note"][: 4 + i % 2]]
        rows += [
            [str(k // 4), f"{k % 4}", f"{k / 7}", " -1e-3", "so"][: len(rows[0])] for k in range(8)
        ]
        for _ in range(rng.integers(3)):
            row = rows[rng.integers(1, 9)]
            at = rng.integers(len(row))
            row[at] = (
                row[at] + spoil[rng.integers(len(spoil))]
                if rng.random() < 0.3
                else spoil[rng.integers(len(spoil))]
            )
            if rng.random() < 0.2:
                row.pop()
            elif rng.random() < 0.2:
                row.append(str(spoil[rng.integers(len(spoil))]))
        end = ("\n", "\r\n", f"{delimiter}\n")[i % 7 % 3]
        yield end.join([*["# from the lab"][i % 2 :], *map(delimiter.join, rows), ""]).encode()


def test_large_tables(lab, monkeypatch):
    """Read by pandas or line by line: the same numbers, the same words."""
    pytest.importorskip("pandas")
    cases = [(lines, changes) for lines, changes, *_ in [*READ.values(), *REFUSED.values()]]
    cases += [([text], {"path": "run"}) for text in messy()]
    found, by_pandas = [], []
    columns = _csv.columns
    monkeypatch.setattr(
        _csv, "columns", lambda *args: by_pandas.append(columns(*args)) or by_pandas[-1]
    )
    monkeypatch.setattr(_quick, "ROWS", 3)
    for least in (0, 2**60):
        monkeypatch.setattr(_quick, "LARGE", least)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of gaps
            found.append([outcome(lab, *case) for case in cases])
    for one, other in zip(*found, strict=True):
        assert type(one) is type(other)
        if isinstance(one, str):
            assert one == other
        else:
            jax.tree.map(np.testing.assert_array_equal, one, other)
    half = len(by_pandas) // 2
    assert all(cells is None for cells in by_pandas[half:])
    assert 100 < sum(cells is not None for cells in by_pandas[:half]) < half
    assert 100 < sum(isinstance(one, str) for one in found[0]) < len(cases) - 100


# ---- what is refused
line = r"lab\.csv, line "
REFUSED = {
    "empty": ([b""], {}, "lab.csv holds no data"),
    "comments only": (["# t,x,trap"], {}, "holds no data"),
    "names only": (["t,x,trap"], {}, "no row of numbers"),
    "one sample": (header(ROWS[0]), {}, f"{line}2 is the only sample"),
    "no names": (ROWS, {}, f"{line}1: the columns have no names, '0.0,1.0,2.0'.*line of names on top"),
    "a name not there": (header(), {"positions": "position"}, "no column 'position'.*'t', 'x', 'trap'"),
    "a name misspelt": (header(names="t,x,Trap (um)"), {"controls": "trap (µm)"}, r"Did you mean 'Trap \(um\)'\?"),
    "a name twice": (header(names="t,x,x"), {}, "2 columns named 'x'"),
    "lines before the names": (["Instrument 7", *header()], {}, "no column 't'.*start with #"),
    "wrong delimiter": (header(), {"delimiter": ";"}, "no column 't'.*'t,x,trap'.*delimiter="),
    "empty cell": (header("0,1,2", "1,,2"), {}, f"{line}3, column 'x': the value is missing \\(''\\).*delete the row"),
    "NaN": (header("0,1,2", "1,NaN,2"), {}, f"{line}3, column 'x': the value is missing \\('NaN'\\)"),
    "infinite": (header("0,1,2", "1,2,inf"), {}, f"{line}3, column 'trap': not a finite number \\('inf'\\)"),
    "text": (header("0,1,2", "# lost", "1,lost,2"), {}, f"{line}4, column 'x': not a finite number \\('lost'\\)"),
    "a unit in the cell": (header("0,1,2", "1,1 um,2"), {}, f"{line}3, column 'x'.*'1 um'"),
    "names again": (header(*ROWS, "t,x,trap"), {}, f"{line}5, column 't'.*'t'"),
    "cut off": (header(*ROWS, "0.3,1"), {}, f"{line}5: 2 cells under 3 names"),
    "decimal commas between commas": (header("0,0,1,5,2,0"), {}, f"{line}2: 6 cells.*decimal commas"),
    "comma and point": (["t;x;trap", "0;1,234;0", "1;2.5;0"], {}, r"comma \('1,234'\) and with a point \('2.5'\)"),
    "thousands": (["t,x,trap", '0,"1,234",0', '1,"2,345",0'], {}, r"'1,234', which may be 1234 or 1\.234.*decimal="),
    "not thousands": (["t;x;trap", "0;1,23;0", "1;2;0"], {"decimal": "."}, f"{line}2, column 'x'.*'1,23'"),
    "an underscore": (header("0,1_000,2", "1,2,3"), {}, f"{line}2, column 'x'.*'1_000'"),
    "decimal": (header(), {"decimal": "'"}, "decimal must be"),
    "a row of words": (header("lost,lost,lost", "0,1,2", "1,2,3"), {}, f"{line}2, column 't'.*'lost'"),
    "units and another number": (header("s,2,um", "0,1,2", "1,2,3"), {}, f"{line}2, column 't'.*'s'"),
    "numbers alone are no units": (header("1,1,1", "0,1,2", "1,2,3"), {}, f"{line}3, column 't': 0.0 does not come"),
    "two rows of units": (header("s,um,um", "s,um,um", "0,1,2", "1,2,3"), {}, f"{line}3, column 't'.*'s'"),
    "NaN under names in a comment": (["# t,x,trap", "0,nan,2", "1,2,3"], {}, f"{line}2, column 'x': the value is missing"),
    "a comment that is no names": (["# Monday", *ROWS], {}, "no column 't'.*no names, put a line of them on top.*'Monday'"),
    "a name misspelt in a comment": (["# t,x,Trap", *ROWS], {}, r"no column 'trap'\. Did you mean 'Trap'\?"),
    "a coarse clock": (
        header(*(f"{i // 2 * 2},{i % 3},0" for i in range(20))),
        {},
        f"{line}3, column 't': 0.0 does not come after.*10 of 19 steps.*keep all rows.*time=1\\. .*path=",
    ),
    "an interval below zero": (header(), {"time": -1.0}, "time must name a column, or be the time between"),
    "a period of no column": (header(), {"period": {"y": 1.0}}, r"period must name columns.*\['y'\]"),
    "a period of zero": (header(), {"period": 0.0}, "period of 'x' must be finite and greater"),
    "quotation mark": (["t,x,trap", "0,1,2", '1,"1,2', *["2,3,4"] * 30000], {}, "quotation mark"),
    "time twice": (header("0,1,2", "0,1,2"), {}, f"{line}3, column 't': 0.0 does not come after 0.0 of line 2.*path="),
    "time backwards": (header("0,1,2", "1,1,2", "0,1,2"), {}, f"{line}4, column 't'.*Sort the rows"),
    "a trajectory without name": (["id,t,x,trap", "a,0,1,2", ",1,1,2"], {"path": "id"}, f"{line}3, column 'id'.*missing"),
    "a trajectory of one": (["id,t,x,trap", "a,0,1,2", "a,1,1,2", "b,0,1,2"], {"path": "id"}, f"{line}4 is the only"),
    "not text": ([b"PK\x03\x04\x00\x00"], {}, "not a text file. Save the table as CSV"),
    "no position": (header(), {"positions": ()}, "positions must name at least one"),
    "no control": (header(), {"controls": {}}, "controls must name at least one"),
    "two delimiters": (header(), {"delimiter": ";;"}, "delimiter must be one character"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, lab):
    lines, changes, words = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        lab(*lines, **changes)
    said = str(caught.value)
    assert re.search(words, said), said
    assert len(said) < 700


def test_refused_files(tmp_path):
    (tmp_path / "bead_07.csv").write_text("\n".join(header()))
    with pytest.raises(FileNotFoundError, match=r"no file .*bead_7\.csv.*mean 'bead_07\.csv'"):
        read_csv(tmp_path / "bead_7.csv", **NAMES)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_csv(tmp_path / "nowhere" / "bead_7.csv", **NAMES)
    with pytest.raises(ValueError, match="at least one file"):
        read_csv([], **NAMES)


def test_too_many_digits_for_single_precision(lab):
    far = header("0,1000000.001,0", "1,1000000.002,0", "2,1000000.004,0")
    long = header(*(f"{i * 1e-4 + (1000 if i > 5 else 0)},{i % 2},0" for i in range(10)))
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match="'x': steps of 0.0016 .* lost in float32.*jax_enable"):
            lab(*far)
        with pytest.raises(ValueError, match=r"'t': steps of 0.0001 .* lost in float32"):
            lab(*long)
    stage = header(*(f"{i},{i % 2},{1e6 + i / 1000}" for i in range(5)))
    with jax.enable_x64(False), pytest.raises(ValueError, match="'trap': differences of 0.004"):
        lab(*stage)
    with jax.enable_x64(True):
        assert lab(*far).path.xs.dtype == jnp.float64


def test_own_arrays_in_single_precision():
    """Refused as the reader refuses them: an offset of 1e4 on a bead's position is worth tenths of kT."""
    rng = np.random.default_rng(0)
    ts, walk = np.linspace(0, 0.1, 201), 0.02 * rng.normal(size=(3, 201, 1)).cumsum(1)
    trap = np.broadcast_to(1.5 * ts, (3, 201))
    static = tjx.Process(TRAP, lambda t: 0 * t, START)
    path = tjx.Path
    with jax.enable_x64(False):
        far = [
            (
                path(ts, 1e4 + walk),
                1e4 + trap,
                r"path\.xs\[\.\.\., 0\]: steps of 0\.0.*nearer origin",
            ),
            (path(ts, jnp.asarray(1e4 + walk)), trap, "nearer origin"),
            (path(1.7e9 + ts, walk), trap, r"path\.ts: steps of 0\.0005.*Start the clock at zero"),
            (path(ts, walk), 1e4 + trap * 1e-3, r"data\.controls: differences of .*nearer origin"),
        ]
        for data, controls, words in far:
            with pytest.raises(ValueError, match=words + ".*enable_x64"):
                Measured(data, controls).process(TRAP, START)
        for data in (far[0][0], far[2][0]):
            with pytest.raises(ValueError, match="lost in float32"):
                tjx.account(static, data)
        near = Measured(path(ts, walk), trap)
        work = np.asarray(tjx.account(near.process(TRAP, START), near.path).work, float)
    with jax.enable_x64(True):
        moved = Measured(path(ts, 1e4 + walk), 1e4 + trap)
        exact = tjx.account(moved.process(TRAP, START), moved.path).work
    np.testing.assert_allclose(work, exact, atol=1e-6)


# ---- the ledger
def cooled_trap():
    system = tjx.Overdamped(
        lambda x, lam: 0.5 * lam["k"] * jnp.sum((x - lam["x"]) ** 2), temperature=lambda c: c["T"]
    )
    ts = jnp.linspace(0.0, 1.0, 21)
    drive = {"x": jnp.sin(ts), "k": 1 + ts, "T": 2 - ts**2}
    protocol = tjx.protocols.Piecewise(ts, drive)
    first, last = (Boltzmann(system, lam) for lam in (protocol.before, protocol.after))
    return tjx.Process(system, protocol, first, last), ts


def saved(file, process, path, shift=0.0):
    """All digits of an ensemble, as a file."""
    drive = process.protocol.values
    with file.open("w") as lines:
        print("id,t,x,trap,k,T", file=lines)
        for i, xs in enumerate(np.asarray(path.xs)[..., 0]):
            for j, x in enumerate(xs):
                cells = path.ts[i, j], x + shift, drive["x"][j], drive["k"][j], drive["T"][j]
                print(i, *map(float, cells), sep=",", file=lines)
    controls = {"x": "trap", "k": "k", "T": "T"}
    return read_csv(file, time="t", positions="x", controls=controls, path="id")


@pytest.mark.smoke
@pytest.mark.parametrize("rule", ["alternating", "kernel"])
def test_read_back(tmp_path, rule):
    """What was simulated and saved in full has the totals of the simulation."""
    process, ts = cooled_trap()
    run = tjx.ensemble(process, ts, jax.random.key(0), 40, save="all", rule=rule)
    data = saved(tmp_path / "run.csv", process, run.path)
    again = account(process.system, data, process.initial, process.final, rule=rule)
    close(tuple(again), tuple(run), rtol=1e-12)
    for i in (0, 39):  # and every path those of itself alone
        one = lambda v, i=i: v[i]
        protocol, path = (jax.tree.map(one, v) for v in (data.protocols, data.path))
        alone = tjx.Process(process.system, protocol, process.initial, process.final)
        close(tjx.account(alone, path, rule=rule), jax.tree.map(one, again))
    # positions off by a thousandth would be caught
    data = saved(tmp_path / "off.csv", process, run.path, shift=1e-3)
    off = account(process.system, data, process.initial, process.final, rule=rule)
    assert np.abs(off.work - run.work).min() > 1e-6


def test_every_path_has_its_own_control():
    ts, xs = jnp.linspace(0.0, 1.0, 5), jnp.zeros((2, 5, 1))
    data = Measured(tjx.Path(ts, xs), jnp.stack([ts, 2 * ts]))
    run = account(TRAP, data, START, cumulative=True)
    np.testing.assert_allclose(run.work[:, -1], [0.5, 2.0])
    np.testing.assert_allclose(run.work[:, 0], 0)
    process = data.process(TRAP, START, Gaussian(0.5, 1.0))
    run = tjx.account(process, data.path)
    np.testing.assert_allclose(tjx.reduced_work(process, run), [0.5, 2.0])
    alone = jax.vmap(
        lambda protocol, x: tjx.path_ratio(
            own := process.replace(protocol=protocol), tjx.reverse(own), tjx.Path(ts, x)
        )
    )(data.protocols, xs)
    ratio = tjx.path_ratio(process, tjx.reverse(process), data.path)
    np.testing.assert_allclose(ratio, alone, rtol=1e-12)
    kernel = tjx.account(process, data.path, rule="kernel")
    np.testing.assert_allclose(kernel.entropy.total, alone, rtol=1e-12)
    np.testing.assert_allclose(tjx.dissipated_work(process, kernel), alone, rtol=1e-12)


@pytest.mark.parametrize("knots", [64, 65, 300])
def test_many_samples(knots):
    """Between many knots a protocol finds its way by bisection: on the knots, between and beyond them."""
    ts = jnp.linspace(0.0, 1.0, knots) ** 2
    at = jnp.concatenate([ts, 0.5 * (ts[1:] + ts[:-1]), jnp.array([-1.0, 2.0])])
    values = jnp.sin(9 * ts)
    line = jax.vmap(tjx.protocols.Piecewise(ts, values))(at)
    np.testing.assert_allclose(line, np.interp(at, ts, values), atol=1e-6)
    steps = jax.vmap(tjx.protocols.Steps(ts, values[:-1]))(at)
    i = np.clip(np.searchsorted(ts, at, side="right") - 1, 0, knots - 2)
    np.testing.assert_array_equal(steps, values[i])


def test_differentiable():
    ts = jnp.linspace(0.0, 1.0, 5)
    data = Measured(tjx.Path(ts, jnp.zeros((1, 5, 1))), ts[None])

    def work(stiffness):
        system = tjx.Overdamped(tjx.potentials.MovingTrap(stiffness))
        return account(system, data, START).work[0]

    np.testing.assert_allclose(jax.grad(work)(3.0), 0.5)


def test_arrays_that_do_not_fit():
    ts, xs, trap = jnp.linspace(0.0, 1.0, 5), jnp.zeros((2, 5, 1)), jnp.zeros((2, 5))
    for path, controls, words in [
        (tjx.Path(ts, xs[0]), trap, r"data\.path\.xs must have shape \(paths, times, d\)"),
        (tjx.Path(ts[1:], xs), trap, r"data\.path\.ts must have shape .*\(4,\) for states"),
        (tjx.Path(ts, xs), trap[:1], r"data\.controls must have shape .*\(1, 5\)"),
        (tjx.Path(ts[::-1], xs), trap, "strictly increasing"),
    ]:
        with pytest.raises(ValueError, match=words):
            account(TRAP, Measured(path, controls), START)
    with pytest.warns(DeprecationWarning, match=r"data\.process"):
        old = tjx.measured.account
    with pytest.raises(TypeError, match="Measured"):
        old(TRAP, tjx.Path(ts, xs), START)
    data = Measured(tjx.Path(ts, xs), trap)
    close(old(TRAP, data, START), account(TRAP, data, START))
    with pytest.raises(ValueError, match=r"protocol for each of 2 paths, so path\.xs must have"):
        tjx.account(data.process(TRAP, START), tjx.Path(ts, xs[0]))


# ---- thinned paths: by how much docs/measured.md says that they are off
@pytest.mark.parametrize(
    ("duration", "every", "percent"),
    [(10, 40, 0.91), (10, 80, 3.48), (1, 100, 0.89), (1, 400, 14.09)],
)
def test_thinned_work_is_too_low(duration, every, percent):
    """The work of a dragged trap is linear in x: the mean path tells the exact bias."""
    ts = np.linspace(0.0, duration, 401)
    mean = ts - (1 - np.exp(-ts))  # behind a trap that moves with speed 1
    exact = duration - (1 - np.exp(-duration))
    few = slice(None, None, every)
    work = account(
        TRAP, Measured(tjx.Path(ts[few], mean[None, few, None]), ts[None, few]), START
    ).work[0]
    off = 100 * (1 - work / exact)
    assert off == pytest.approx(percent, abs=0.006)
    step = ts[every]
    trapezoid = step**2 / 12 * (1 - np.exp(-duration)) / exact
    assert off == pytest.approx(100 * trapezoid, rel=0.1)


def test_a_jump_between_two_samples():
    """Seen as a ramp over one interval, within which the bead relaxes: off by half of the interval."""
    interval = 0.1
    ts = jnp.arange(4.0) * interval
    after = 1 - jnp.exp(-(jnp.array([0.5, 1.5]) * interval))
    xs = jnp.concatenate([jnp.zeros(2), after])[None, :, None]
    work = account(TRAP, Measured(tjx.Path(ts, xs), jnp.array([[0.0, 0.0, 1.0, 1.0]])), START).work
    np.testing.assert_allclose(work[0] / 0.5, np.exp(-interval / 2))


def test_held_samples_are_no_moves_of_a_medium_that_flows():
    """What fills up the shorter of two recordings stays where it is while the medium goes by: no work, heat or entropy."""
    flowing = tjx.Overdamped(tjx.potentials.Harmonic(2.0), velocity=lambda x, lam: 3 + 0 * x)
    ts = np.linspace(0, 4, 41)
    x = 1.5 + 0.7 * np.random.default_rng(0).standard_normal(41)
    long = {"t": np.r_[ts, ts[:11]], "x": np.r_[x, x[:11]], "id": np.r_[np.zeros(41), np.ones(11)]}
    both = from_columns(long, time="t", positions="x", path="id", pad=True)
    alone = from_columns({"t": ts[:11], "x": x[:11]}, time="t", positions="x")
    wide = Gaussian(1.5, 0.5)

    def priced(data, rule):
        process = data.process(flowing, wide, wide, protocol=tjx.protocols.ramp(0.0, 0.0, 4.0))
        run = tjx.account(process, data.path, rule=rule)
        ratio = tjx.path_ratio(process, tjx.reverse(process), data.path)
        back = tjx.account(tjx.reverse(process), mirrored(data.path), rule=rule)
        return [v[-1] for v in (run.work, run.heat, run.entropy.medium, ratio, back.work)]

    for rule in ("alternating", "kernel"):
        found, wanted = priced(both, rule), priced(alone, rule)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert abs(wanted[0]) > 1


@pytest.mark.parametrize("ask", ["path_ratio", "log_prob", "onsager_machlup"])
def test_an_angle_that_is_cut_is_said_by_all_who_read_paths(ask):
    spun = tjx.Overdamped(None, force=lambda x, lam: jnp.full_like(x, 3.0))
    ts = np.linspace(0, 20, 401)
    process = tjx.Process(spun, tjx.protocols.ramp(0.0, 0.0, 20.0), START, START)
    others = (tjx.reverse(process),) if ask == "path_ratio" else ()
    verb = getattr(tjx, ask)

    def asked(x):
        return verb(process, *others, tjx.Path(jnp.asarray(ts), jnp.asarray(x)[:, None]))

    with pytest.warns(UserWarning, match=r"an angle cut at 6.28319.*Unwrap it \(numpy.unwrap\)"):
        asked((3 * ts + np.pi) % (2 * np.pi) - np.pi)
    asked(3 * ts)


def test_an_angle_that_is_cut_is_said_of_any_number_of_paths():
    spun = tjx.Overdamped(None, force=lambda x, lam: jnp.full_like(x, 3.0))
    ts = np.linspace(0, 20, 401)
    cut = ((3 * ts + np.pi) % (2 * np.pi) - np.pi)[None, :, None]
    process = tjx.Process(spun, tjx.protocols.ramp(0.0, 0.0, 20.0), START, START)
    path = tjx.Path(jnp.asarray(ts), jnp.asarray(np.repeat(cut, 11_000, 0)))
    with pytest.warns(UserWarning, match=r"Give period=6.28319, or unwrap it"):
        tjx.account(process, path)


@pytest.mark.parametrize("seed", range(6))
def test_a_control_that_stays_has_no_direction(seed):
    rng = np.random.default_rng(seed)
    ts = np.linspace(0, 1, 21)

    def runs(control):
        noisy = control + 1e-3 * rng.standard_normal((50, 21))
        x = rng.standard_normal((50, 21))
        return from_columns({"t": ts, "x": x, "c": noisy}, time="t", positions="x", controls="c")

    cycle = np.sin(np.pi * ts)
    assert np.isfinite(tjx.measured.bar(runs(cycle), runs(cycle), TRAP).value)
    with pytest.raises(ValueError, match="reverse runs start where the forward ones end"):
        tjx.measured.bar(runs(ts), runs(ts), TRAP)
