#!/usr/bin/env bash
# printf, read, getopts, patterns, here-strings, process substitution, unicode, binary-safe output, ulimit-free loops.
set -euo pipefail

verbose=0 width=20 names=()
while getopts ':vw:n:' option; do
  case $option in
    v) verbose=1 ;;
    w) width=$OPTARG ;;
    n) names+=("$OPTARG") ;;
    \?) echo "unknown option -$OPTARG" >&2; exit 64 ;;
    :) echo "-$OPTARG needs a value" >&2; exit 64 ;;
  esac
done
shift $((OPTIND - 1))

centre() {
  local text=$1
  local left=$(((width - ${#text}) / 2))
  printf '%*s%s\n' "$left" '' "$text"
}

reverse() {
  local text=$1 out='' i
  for ((i = ${#text} - 1; i >= 0; i--)); do out+=${text:i:1}; done
  printf '%s' "$out"
}

caesar() { tr 'a-zA-Z' 'n-za-mN-ZA-M' <<<"$1"; }

for name in "${names[@]}"; do centre "$name"; done
((verbose)) && echo "verbose, ${#names[@]} names, rest: $*"
echo "lengths ${#1} $(printf '%s' "$1" | wc -c) ${1^^} $(reverse "$1")"
caesar 'Hello, World'
mapfile -t lines < <(sed -n 'p' inputs/poem.txt)
for index in "${!lines[@]}"; do
  [[ ${lines[index]} == *[aA]utumn* ]] && printf '%d:%s\n' "$index" "${lines[index]}"
done
sed -E ':again; s/^([0-9]+)([0-9]{3})/\1,\2/; t again' <<<'1234567890'
sed -n '/start/,/end/{/start/d;/end/d;p}' inputs/poem.txt | tac
printf '%05d|%-6s|%6.2f|%q|%b\n' 42 ab 3.14159 'a b$c' 'tab\there'
printf '\x00\x01\xff\xfe' | od -An -tx1 | tr -s ' '
diff inputs/poem.txt <(sed 's/grey/gray/' inputs/poem.txt) || true
IFS=: read -r first _ third <<<'one:two:three:four'
echo "$first $third"
date -u -d @1700000000 +%FT%TZ
echo {1..3}{a,b} $'caf\u00e9' "${RANDOM//[0-9]/}end"
