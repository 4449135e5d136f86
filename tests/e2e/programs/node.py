# SPDX-License-Identifier: MIT
"""node builds maps and arrays of objects, with its collector and its compiled code at work."""
NEEDS = ["node"]

PROGRAM = r"""
const n = Number(process.argv[1]); let x = 12345;
const next = () => (x = (Math.imul(x, 1664525) + 1013904223) >>> 0);
let rows = [], by = new Map();
for (let i = 0; i < n; i++) {
	const row = { id: i, key: next(), name: 'row ' + next().toString(36), more: [i, i + 1] };
	rows.push(row);
	const part = row.name.slice(0, 6);
	if (!by.has(part)) by.set(part, []);
	by.get(part).push(row);
}
rows.sort((a, b) => a.key - b.key || a.id - b.id);
let text = JSON.stringify(rows), hash = 0;
for (let i = 0; i < text.length; i++) hash = (Math.imul(hash, 31) + text.charCodeAt(i)) >>> 0;
console.log(text.length, hash);
const again = JSON.parse(text);
let sum = 0;
for (let i = 0; i < n; i++) if (again[i].name !== rows[i].name) throw 'differs';
for (const [part, list] of [...by].sort()) sum = (Math.imul(sum, 33) + list.length) >>> 0;
const floats = new Float64Array(n * 8).map((_, i) => Math.sqrt(i));
console.log(by.size, sum, floats.reduce((a, b) => a + b, 0).toFixed(3));
"""


def run(t):
    count = 1200000 if t.full else 120000
    return list(t.run(["node", "--max-old-space-size=4000", "-e", PROGRAM, str(count)]))
