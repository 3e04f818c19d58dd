// Generators and iterators: lazy pipelines, delegation, two-way generators, async generators, BigInt sequences.
'use strict';

function* naturals(start = 1n) {
  for (let n = start; ; n++) yield n;
}
function* map(items, f) { for (const item of items) yield f(item); }
function* filter(items, f) { for (const item of items) if (f(item)) yield item; }
function* take(items, count) {
  if (count <= 0) return 'none';
  for (const item of items) {
    yield item;
    if (--count === 0) return 'done';
  }
  return 'short';
}
function* fibonacci() {
  let [a, b] = [0n, 1n];
  while (true) {
    yield a;
    [a, b] = [b, a + b];
  }
}
function* permutations(items) {
  if (items.length < 2) yield items;
  else for (let i = 0; i < items.length; i++)
    for (const rest of permutations([...items.slice(0, i), ...items.slice(i + 1)])) yield [items[i], ...rest];
}
function* inorder(tree) {
  if (!tree) return;
  yield* inorder(tree.left);
  yield tree.key;
  yield* inorder(tree.right);
}
function insert(tree, key) {
  if (!tree) return { key, left: null, right: null };
  const side = key < tree.key ? 'left' : 'right';
  return { ...tree, [side]: insert(tree[side], key) };
}
function* accountant() {
  let balance = 0;
  try {
    while (true) {
      try {
        balance += yield balance;
      } catch (error) {
        balance = 0;
      }
    }
  } finally {
    console.log('closed with', balance);
  }
}
async function* pages(total, size) {
  for (let start = 0; start < total; start += size) {
    await new Promise((resolve) => setImmediate(resolve));
    yield Array.from({ length: Math.min(size, total - start) }, (_, i) => start + i);
  }
}

console.log([...take(map(filter(naturals(), (n) => n % 7n === 3n), (n) => n ** 20n), 4)].join(' '));
console.log(`${[...take(fibonacci(), 150)].at(-1)}`);
console.log([...permutations([...'abcd'])].map((p) => p.join('')).slice(-3).join(' '));
let tree = null;
for (let i = 0, n = 7; i < 200; i++, n = (n * 137 + 11) % 1009) tree = insert(tree, n);
const keys = [...inorder(tree)];
console.log(keys.length, keys.every((key, i) => i === 0 || keys[i - 1] <= key), keys.slice(0, 5).join(' '));
const books = accountant();
books.next();
console.log([books.next(10).value, books.next(-3).value, books.throw(new Error('x')).value, books.next(5).value].join(' '));
console.log(JSON.stringify(books.return('end')), books[Symbol.iterator]() === books);
const taking = take([1], 5);
console.log(JSON.stringify([taking.next(), taking.next(), taking.next()]));
(async () => {
  let sum = 0, count = 0;
  for await (const page of pages(1050, 100)) {
    count++;
    sum += page.reduce((a, b) => a + b, 0);
  }
  console.log('pages', count, sum);
})();
