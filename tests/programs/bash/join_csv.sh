#!/usr/bin/env bash
# Joins CSV files by key, validates rows, and ends with the number of problems as exit code.
set -uo pipefail
IFS=$'\n\t'

employees=inputs/hr/employees.csv
badges=inputs/hr/badges.csv
problems=0

complain() {
  printf '%s:%d: %s\n' "$1" "$2" "$3" >&2
  problems=$((problems + 1))
}

line=0
: >clean.csv
while IFS=, read -r id name team salary extra || [[ -n $id ]]; do
  line=$((line + 1))
  ((line == 1)) && continue
  if [[ -n ${extra:-} ]]; then complain employees "$line" "too many fields"
  elif ! [[ $id =~ ^E([0-9]{3})$ ]]; then complain employees "$line" "bad id '$id'"
  elif ! [[ $salary =~ ^[1-9][0-9]*$ ]]; then complain employees "$line" "bad salary '$salary'"
  else printf '%s,%s,%s,%d\n' "$id" "$name" "$team" "$salary" >>clean.csv
  fi
done <"$employees"
cut -d, -f1 clean.csv | grep -q '^E' || exit 99

join -t, -j1 -o 1.1,1.2,1.3,2.2 <(sort -t, -k1,1 clean.csv) <(tail -n +2 "$badges" | sort -t, -k1,1) |
  tee /output/joined.csv | awk -F, '{ teams[$3]++ } END { for (t in teams) print t ": " teams[t] }' | sort
echo "without badge: $(join -t, -v1 <(sort clean.csv) <(sort "$badges") | cut -d, -f2 | sort | paste -sd' ' -)"
echo "salaries: $(cut -d, -f4 clean.csv | sort -n | awk '
  { v[NR] = $1; s += $1 }
  END { printf "min %d median %.1f max %d sum %d", v[1], (v[int((NR+1)/2)] + v[int(NR/2)+1]) / 2, v[NR], s }')"
echo "initials: $(cut -d, -f2 clean.csv | sed -E 's/^(.)[^ ]* (.).*/\1\2/' | sort | uniq -d | paste -sd' ' -)"
if [[ $# -gt 0 ]]; then
  for team in "$@"; do printf '%s=%s\n' "$team" "$(grep -c ",$team," clean.csv)"; done
fi
exit "$problems"
