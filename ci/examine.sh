#!/usr/bin/env bash
# Examine a checkpoint in CI: docs/ci.md. What it is to do comes from the environment, never from text put into commands.
#   MODEL      checkpoint, as --model takes it            OUT        folder for reports (default: claims-report)
#   BASELINE   report to compare with, a path in the      BASE       branch or commit to read BASELINE from, so that a
#              repository that is examined, or empty                 change cannot edit what it is judged by; or empty
#   REFERENCE  checkpoint to compare with, or empty       TIER       as_published, audited or both (default)
#   ARGS       further words for pytest, such as -k heads PYTHON     interpreter (default: python)
# It ends with the exit status of pytest: 0 only if all is as expected, with a baseline if every finding is kept.
set -euo pipefail

repository=$PWD
suite=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${OUT:-claims-report}
case $out in /*) ;; *) out=$repository/$out ;; esac
python=${PYTHON:-python}
mkdir -p "$out"

model=${MODEL:?name a checkpoint in MODEL}
[ -e "$model" ] && model=$(realpath "$model")
options=(--model "$model" --tier "${TIER:-both}" --report-dir "$out" --junitxml "$out/junit.xml")
if [ -n "${REFERENCE:-}" ]; then
  [ -e "$REFERENCE" ] && REFERENCE=$(realpath "$REFERENCE")
  options+=(--reference "$REFERENCE")
fi
if [ -n "${BASELINE:-}" ]; then
  if [ -n "${BASE:-}" ]; then
    git -C "$repository" show "$BASE:$BASELINE" > "$out/baseline.json"
  else
    cp "$BASELINE" "$out/baseline.json"
  fi
  options+=(--baseline "$out/baseline.json")
fi
read -r -a more <<< "${ARGS:-}"

status=0
(cd "$suite" && "$python" -m pytest claims/ "${options[@]}" ${more[@]+"${more[@]}"}) || status=$?

run=$(find "$out/runs" -mindepth 1 -maxdepth 1 -type d 2>/dev/null | sort | tail -n 1)
if [ -n "$run" ]; then
  (cd "$suite" && "$python" -m reports summary "$run" --outputs "${GITHUB_OUTPUT:-/dev/null}") | tee "$out/summary.md" >> "${GITHUB_STEP_SUMMARY:-/dev/null}"
  echo "report: $run/report.html"
fi
exit "$status"
