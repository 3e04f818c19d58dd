#!/usr/bin/env bash
# Arithmetic: integer expressions, bases, bit operations, a sieve, gcd, factorials by bc, Roman numerals, seq.
set -euo pipefail

gcd() {
  local a=$1 b=$2
  while ((b)); do
    local rest=$((a % b))
    a=$b b=$rest
  done
  echo "$a"
}

sieve() {
  local -a composite=()
  local -i limit=$1 n m count=0 last=0
  for ((n = 2; n <= limit; n++)); do
    [[ ${composite[n]:-} ]] && continue
    last=$n
    count+=1
    for ((m = n * n; m <= limit; m += n)); do composite[m]=1; done
  done
  echo "primes up to $limit: $count, last $last"
}

roman() {
  local number=$1 out='' pair
  for pair in 1000:M 900:CM 500:D 400:CD 100:C 90:XC 50:L 40:XL 10:X 9:IX 5:V 4:IV 1:I; do
    while ((number >= ${pair%:*})); do
      out+=${pair#*:}
      ((number -= ${pair%:*})) || true
    done
  done
  echo "$out"
}

collatz() {
  local -i n=$1 steps=0
  until ((n == 1)); do
    ((n = n % 2 ? 3 * n + 1 : n / 2))
    steps+=1
  done
  echo "$steps"
}

echo "gcd $(gcd 1071 462) $(gcd 123456 7890)"
sieve 3000
echo "bases $((16#ff)) $((2#101101)) $((8#777)) $((36#zz)) $(printf '%x %o' 48879 511)"
echo "bits $((0xF0 & 0x3C)) $((1 << 40)) $((~5)) $((-17 / 5)) $((-17 % 5)) $((2 ** 62))"
echo "overflow $((9223372036854775807 + 1))"
echo "roman $(roman 1994) $(roman 3888)"
echo "collatz $(collatz 27) $(collatz 871)"
echo "factorial $(bc <<<'define f(n) { if (n < 2) return 1; return n * f(n - 1) }; f(30)' | tr -d '\\\n')"
echo "pi $(BC_LINE_LENGTH=0 bc -l <<<'scale=50; 4*a(1)')"
echo "sums $(seq 1 100 | paste -sd+ - | bc) $(seq 2 3 50 | awk '{ s += $1 * $1 } END { print s, s / NR }')"
(echo "$((10 / $((5 - 5))))") 2>/dev/null || echo "status $?"
let 'x = 5, y = x++ * 2, x += y'
echo "let $x $y"
