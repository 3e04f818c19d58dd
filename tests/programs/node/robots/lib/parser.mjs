export function* parse(program) {
  for (const [, verb, count] of program.matchAll(/([A-Z])(\d*)/g)) yield { verb, count: Number(count || 1) };
}
