#!/usr/bin/env bash
# Indexed and associative arrays, functions with locals and name references, string operations, select by pattern.
set -u

declare -A stock=() price=()
declare -a journal=()

add() {
  local item=$1
  local -i count=$2
  ((count > 0)) || { journal+=("refused $item"); return 1; }
  stock[$item]=$((${stock[$item]:-0} + count))
  journal+=("add $item $count")
}

take() {
  local item=$1
  local -i count=$2 have=${stock[$item]:-0}
  if ((have < count)); then
    journal+=("short $item $((count - have))")
    return 2
  fi
  stock[$item]=$((have - count))
  ((stock[$item])) || unset "stock[$item]"
  journal+=("take $item $count")
}

total() {
  local -n out=$1
  local item
  out=0
  for item in "${!stock[@]}"; do
    ((out += stock[$item] * ${price[$item]:-0}))
  done
}

while IFS=';' read -r verb item number rest; do
  verb=${verb//[[:space:]]/}
  case $verb in
    '' | '#'*) continue ;;
    price) price[$item]=$number ;;
    add | take) "$verb" "$item" "$number" || echo "line failed with $?: $verb $item" >&2 ;;
    *) echo "unknown verb ${verb^^} (rest: ${rest:-none})" >&2 ;;
  esac
done <inputs/moves.txt

for item in $(printf '%s\n' "${!stock[@]}" | sort); do
  printf '%-14s %4d %6s\n' "${item^}" "${stock[$item]}" "${price[$item]-n/a}"
done
total worth
echo "worth $worth, kinds ${#stock[@]}, journal ${#journal[@]}"
echo "last: ${journal[-1]}; middle: ${journal[*]:2:2}"
path=/srv/data/archive.tar.gz
echo "${path##*/} ${path%%.*} ${path/data/backup} ${#path} ${path: -6:3}"
