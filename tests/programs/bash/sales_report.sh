#!/usr/bin/env bash
# A sales report from a CSV by awk: totals by region, a bar chart, the best seller; details into /output.
set -euo pipefail

csv=inputs/sales.csv
[[ -r $csv ]] || { echo "cannot read $csv" >&2; exit 66; }

echo "rows: $(tail -n +2 "$csv" | wc -l)"

awk -F, '
  NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
  $column["amount"] !~ /^[0-9]+$/ { bad++; next }
  {
    region = $column["region"]; amount = $column["amount"]
    total[region] += amount; count[region]++
    if (amount > most[region]) { most[region] = amount; who[region] = $column["seller"] }
    all += amount
  }
  END {
    for (region in total)
      printf "%-8s %8d %5d %7.2f %s\n", region, total[region], count[region], total[region] / count[region], who[region] \
        | "sort -k2,2nr -k1,1"
    close("sort -k2,2nr -k1,1")
    printf "total %d, bad %d\n", all, bad
  }
' "$csv"

echo "-- months"
tail -n +2 "$csv" | cut -d, -f1,4 | grep -E ',[0-9]+$' | sed -E 's/^([0-9]{4}-[0-9]{2})-[0-9]{2}/\1/' |
  awk -F, '{ sum[$1] += $2 } END { for (m in sum) print m, sum[m] }' | sort |
  while read -r month sum; do
    bar=$(printf '%*s' $((sum / 2000)) '' | tr ' ' '#')
    printf '%s %7d %s\n' "$month" "$sum" "$bar"
  done

mkdir -p /output/regions
tail -n +2 "$csv" | awk -F, '$4 ~ /^[0-9]+$/ { print > ("/output/regions/" $2 ".csv") }'
for file in /output/regions/*.csv; do
  sort -t, -k4,4nr -k1,1 -k3,3 "$file" | sed -n 1,3p >"${file%.csv}.top"
  rm "$file"
done
echo "files: $(find /output -type f | wc -l)"
