#!/usr/bin/env bash
# Builds a small web site into /output from inputs: here-documents, templates, find, xargs, tar and checksums.
set -euo pipefail
shopt -s nullglob

title=${SITE_TITLE:?no title}
out=/output/site
mkdir -p "$out"/{pages,data}

escape() { sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g'; }

page() {
  local name=$1 heading=$2
  cat >"$out/pages/$name.html" <<-HTML
	<!doctype html>
	<title>$heading — $title</title>
	<h1>$heading</h1>
	<pre>$(escape)</pre>
	<p>$((2 ** 10)) \$literal \`ticks\`</p>
	HTML
}

count=0
for file in inputs/posts/*.txt; do
  name=$(basename "$file" .txt)
  heading=$(head -n 1 "$file")
  tail -n +2 "$file" | page "$name" "$heading"
  count=$((count + 1))
done
for file in inputs/none/*.txt; do echo "never: $file"; done

cat >"$out/data/raw.txt" <<'RAW'
$title is not expanded, nor is $(date) or `pwd`
RAW
jq -n --arg title "$title" --argjson count "$count" '{title: $title, pages: $count, tags: ["a", "b"]}' >"$out/data/site.json"
jq -r '.tags | length as $n | "\(map(ascii_upcase) | join("+")) \($n)"' "$out/data/site.json"

(cd "$out" && find . -type f -print0 | sort -z | xargs -0 sha256sum >../SHA256SUMS)
(cd "$out" && sha256sum --quiet -c ../SHA256SUMS) && echo "sums good: $(wc -l <"$out/../SHA256SUMS")"
tar -C /output -czf /output/site.tar.gz site
tar -tzf /output/site.tar.gz | grep -c 'html$'
diff <(gzip -dc /output/site.tar.gz | tar -xO site/data/raw.txt) "$out/data/raw.txt" && echo same
