// Turns a nested survey in JSON into flat rows, grouped summaries and a CSV; deep updates without mutation.
'use strict';
const fs = require('fs');

const survey = JSON.parse(fs.readFileSync('inputs/survey.json', 'utf8'), (key, value) =>
  key === 'at' ? new Date(value) : value,
);

function flatten(value, prefix = '') {
  if (value === null || typeof value !== 'object' || value instanceof Date) return { [prefix]: value };
  return Object.entries(value).reduce(
    (row, [key, inner]) => ({ ...row, ...flatten(inner, prefix ? `${prefix}.${key}` : key) }), {});
}

function update(value, [head, ...rest], change) {
  if (head === undefined) return change(value);
  const copy = Array.isArray(value) ? [...value] : { ...value };
  copy[head] = update(value[head], rest, change);
  return copy;
}

const groupBy = (items, key) =>
  items.reduce((groups, item) => groups.set(key(item), [...(groups.get(key(item)) ?? []), item]), new Map());

const rows = survey.answers.map((answer) => flatten(answer));
const columns = [...new Set(rows.flatMap(Object.keys))].sort();
const cell = (value) => {
  if (value === undefined || value === null) return '';
  const text = value instanceof Date ? value.toISOString() : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const csv = [columns, ...rows.map((row) => columns.map((name) => row[name]))];
fs.writeFileSync('/output/answers.csv', csv.map((line) => line.map(cell).join(',')).join('\n') + '\n');

console.log('columns', columns.join(' '));
for (const [country, group] of [...groupBy(survey.answers, (a) => a.person.country)].sort()) {
  const scores = group.map((a) => a.scores.food + a.scores.room);
  const mean = scores.reduce((a, b) => a + b, 0) / scores.length;
  console.log(country, group.length, mean.toFixed(3), Math.max(...scores));
}
const months = groupBy(survey.answers, (a) => a.at.getUTCMonth() + 1);
console.log('months', JSON.stringify([...months.keys()].sort((a, b) => a - b)));
const changed = update(survey, ['answers', 0, 'scores', 'food'], (score) => score + 100);
console.log('updated', changed.answers[0].scores.food - survey.answers[0].scores.food,
  changed.answers[1] === survey.answers[1], changed.answers[0] === survey.answers[0]);
console.log(JSON.stringify({ big: 12345678901234567890n.toString(), none: undefined, text: 'é\u2028\u{1F600}' }));
