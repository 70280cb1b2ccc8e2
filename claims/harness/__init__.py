"""How pytest runs claims. conftest.py delegates to these rooms, in the order in which a run comes to them:

options        what was asked for, checked before anything is loaded
one_process    no workers: the claims on a subject share what was measured on it
collection     which tests are claims, and in which order they run
cases          which finding a test is to give
start          what would end a run is found out before its first claim
resume         what a run is to be stands on disk; a killed one can be gone on with
session        what a run knows: the cases to come, the findings made, the reports
workbench      the checkpoint under test and its laboratories
subject_facts  what a report says of the checkpoint
measuring      one case, on every seed, as a finding; the verdict is the test's outcome
bar            how far the run is
types          what a claim's test is given
ending         reports and table, also after an interruption

torch is not to be paid for by --help and --collect-only: what needs it (workbench, claims.measured) is imported by
`session.workbench`, inside a function, when the first claim is run. Claims name what they use of claims.measured as its
attributes, which load with their first use.
"""
