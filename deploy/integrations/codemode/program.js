// The program that runs in the sandbox: namespaces whose functions call the host, around the code of the model.

const IDENTIFIER = /^[a-zA-Z_$][a-zA-Z0-9_$]*$/;
const RESERVED = new Set(["mayfly", "console", "Promise", "Error", "Proxy", "require", "module", "process"]);

export function nameProblem(names) {
  const seen = new Set();
  for (const name of names) {
    if (RESERVED.has(name)) return `Name "${name}" is reserved`;
    if (!IDENTIFIER.test(name)) return `Name "${name}" is not a valid JavaScript identifier`;
    if (seen.has(name)) return `Name "${name}" is given twice`;
    seen.add(name);
  }
  return null;
}

// Every call goes to one tool, `call`, with its namespace and method: method names may be any, tool names may not.
export const TOOL = {
  name: "call",
  description: "Calls a function of a namespace.",
  inputSchema: {
    type: "object",
    properties: { namespace: { type: "string" }, method: { type: "string" }, args: { type: "array" } },
    required: ["namespace", "method", "args"],
    additionalProperties: false,
  },
};

export function programOf(code, namespaces, preludes) {
  return `'use strict';
const mayfly = require('mayfly');
(async () => {
  const report = (value) => mayfly.result(JSON.parse(JSON.stringify(value)));
  const namespace = (name) => new Proxy({}, {
    get(target, method) {
      if (Object.prototype.hasOwnProperty.call(target, method)) return target[method];
      if (typeof method !== 'string') return undefined;
      return async (...args) => {
        try {
          const { result } = await mayfly.tools.caller.call({ namespace: name, method, args });
          return result;
        } catch (error) {
          throw new Error(error.code === 'tool_failed' ? error.message : \`\${error.code}: \${error.message}\`);
        }
      };
    },
  });
${namespaces.map((name) => `  const ${name} = namespace(${JSON.stringify(name)});`).join("\n")}
${preludes.join("\n")}
  try {
    const result = await (${code}
)();
    report({ result });
  } catch (error) {
    report({ error: error instanceof Error ? error.message : String(error) });
  }
})();
`;
}
