"""`python -m reports`: look at reports, compare them, keep baselines.

main      run a command line, and give the exit status
STATUSES  what the exit statuses mean
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from reports import commands
from reports.schema import ReportError
from reports.text import plain

STATUSES = """\
exit status:
  0  done; compare: every finding is kept
  1  compare: something is to be accepted; accept: refused, nothing was written
  4  it cannot be done: a file that is no report, or a command that means nothing; one line says why
"""
EXAMPLES = {
    "": """\
  python -m reports list                                 which claims there are, and what is demanded
  python -m reports show reports/runs/base-20251125T100000Z
  python -m reports compare reports/baselines/r1.json reports/runs/step_300-20251125T100000Z
  python -m reports accept reports/runs/step_300-20251125T100000Z --reason "..."
""",
    "list": """\
  python -m reports list
  python -m reports list heads --json
""",
    "show": """\
  python -m reports show reports/baselines/base.json
  python -m reports show reports/baselines/base.json probe.decodable
  python -m reports show RUN heads.rescue[role_swapped] --json
""",
    "compare": """\
  python -m reports compare reports/baselines/r1.json reports/runs/r1-20251125T100000Z
  python -m reports compare OLD NEW --first reports/baselines/step_0.json     slow drift since step 0
  python -m reports compare OLD NEW --json | jq .passes
""",
    "accept": """\
  python -m reports accept reports/runs/r1-20251125T100000Z --reason "the new reward asks for it"
  python -m reports accept RUN heads.rescue --reason "..."                    this claim only
  python -m reports accept RUN --baseline baselines/mine.json --reason "..."
""",
    "summary": """\
  python -m reports summary RUN >> "$GITHUB_STEP_SUMMARY"
  python -m reports summary RUN --outputs "$GITHUB_OUTPUT"
""",
    "render": """\
  python -m reports render reports/runs/base-20251125T100000Z
  python -m reports render reports/baselines/base.json --into /tmp/page
  python -m reports render reports/baselines/*.json --into /tmp/page         one page, models by claims
""",
}


def main(arguments: Sequence[str]) -> int:
    """Run a command line. Whatever cannot be done is one line on stderr."""
    try:
        given = _parser().parse_args(arguments)
        return given.run(given)
    except ReportError as error:
        print(f"error: {plain(str(error))}", file=sys.stderr)
        return 1 if isinstance(error, commands.Refused) else 4
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
        return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command in one line, and ends with 4 as the claims do."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {plain(message)}; try {self.prog} --help", file=sys.stderr)
        sys.exit(4)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m reports",
        description="Look at reports of the claims, compare them, keep baselines.",
        epilog=_epilog(""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    every = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    report = "a report.json, or the folder of a run"

    add = _command(every, "list", "claims, their sources and what is demanded of them", commands.list_claims)
    add("part", nargs="?", default="", metavar="PART", help="only claims whose id holds this")
    _json(add)

    add = _command(every, "show", "a report, or one claim of it with all that stands behind it", commands.show)
    add("report", type=Path, metavar="REPORT", help=report)
    add("claim", nargs="?", default="", metavar="CLAIM", help="id of a claim, or a label such as heads.rescue[...]")
    _json(add)

    add = _command(every, "compare", "what became of every finding of a baseline", commands.compare_reports)
    add("old", type=Path, metavar="OLD", help=f"the baseline: {report}")
    add("new", type=Path, metavar="NEW", help=f"the run: {report}")
    add("--first", type=Path, metavar="REPORT", help="judge slow drift against this report, not against what the "
        "baseline accepted first")  # fmt: skip
    add("-v", "--verbose", action="store_true", help="tell figures of what is kept too")
    _json(add)

    add = _command(every, "accept", "put what changed in a run into its baseline", commands.accept_report)
    add("report", type=Path, metavar="REPORT", help=report)
    add("claims", nargs="*", metavar="CLAIM", help="only these, by id or label; all by default")
    add("--baseline", type=Path, metavar="FILE", help="default: reports/baselines/SUBJECT.json")
    add("--reason", default="", metavar="TEXT", help="why what changed is right; it stands in the baseline")
    _json(add)

    add = _command(every, "render", "write the pages of a report anew, or one page of several", commands.render_reports)
    add("reports", nargs="+", type=Path, metavar="REPORT", help=report)
    add("--baseline", type=Path, metavar="FILE", help="say on the page what changed against it")
    add(
        "--into",
        type=Path,
        metavar="FOLDER",
        help="where the pages are written; default: beside a report, of several the folder where you are",
    )

    add = _command(every, "summary", "a run in a screenful of Markdown, for the page of a CI job", commands.summarise)
    add("report", type=Path, metavar="REPORT", help=report)
    add("--baseline", type=Path, metavar="FILE", help="compare with it; by default as the run itself did")
    add("--outputs", type=Path, metavar="FILE", help="add name=value lines to it: verdict counts, passes")
    return parser


def _command(
    every: argparse._SubParsersAction[_Parser], name: str, about: str, run: Callable[[argparse.Namespace], int]
) -> Callable[..., argparse.Action]:
    parser = every.add_parser(
        name,
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        epilog=_epilog(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser.add_argument


def _epilog(name: str) -> str:
    return f"examples:\n{EXAMPLES[name]}\n{STATUSES}"


def _json(add: Callable[..., argparse.Action]) -> None:
    add("--json", action="store_true", help="print JSON, for programs")
