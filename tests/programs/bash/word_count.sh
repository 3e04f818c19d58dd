#!/usr/bin/env bash
# Word statistics of a text on standard input with pipes only: tr, sort, uniq, awk, sed, comm, fold, paste.
set -o pipefail
export LC_ALL=C

tee text.txt | wc -lwc | awk '{ print "lines", $1, "words", $2, "bytes", $3 }'

tr -cs '[:alpha:]' '\n' <text.txt | tr '[:upper:]' '[:lower:]' | sed '/^$/d' >words.txt
echo "words $(wc -l <words.txt), distinct $(sort -u words.txt | wc -l)"

echo '-- most frequent'
sort words.txt | uniq -c | sort -k1,1nr -k2,2 | head -n 5 | awk '{ printf "%-10s%d\n", $2, $1 }'

echo '-- by length'
awk '{ count[length($0)]++ } END { for (n in count) print n, count[n] }' words.txt | sort -n | paste -sd' ' -

echo '-- once only'
sort words.txt | uniq -u | paste -sd, - | fold -w 60

echo '-- not in the dictionary'
comm -23 <(sort -u words.txt) <(sort -u inputs/dictionary.txt) | sed -n '1,5p' | nl -w2 -s': '

echo '-- anagrams'
while read -r word; do
  printf '%s %s\n' "$(fold -w1 <<<"$word" | sort | tr -d '\n')" "$word"
done < <(sort -u words.txt) | sort | awk '
  $1 == last { group = group " " $2; next }
  { if (group ~ / /) print group; last = $1; group = $2 }
  END { if (group ~ / /) print group }'

grep -c '^e' words.txt | sed 's/^/starting with e: /'
