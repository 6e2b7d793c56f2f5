"""`make reproduce`: every number of theory and literature that the library reproduces, ours beside theirs, on one page.

    python -m reproduce            all of it: runs the examples whose results are not in out/ yet; writes docs/reproduced.md
    python -m reproduce --quick    closed forms and corrections only, two CPU minutes; writes nothing
    python -m reproduce --kept     as the first, but takes what is in out/, and runs no example

Ends with an error if a number is off by more than it may be.
"""
