// The events of an execution's stream, as objects {id, type, data}. A broken stream is resumed behind the last event.

const MOST_FAILURES = 10;
const PAUSE_MILLISECONDS = 250;

export async function* follow(url, headers, signal) {
  let last = null;
  for (let failures = 0; ; failures++) {
    try {
      const resume = last === null ? {} : { "Last-Event-ID": last };
      const answer = await fetch(url, { headers: { ...headers, ...resume, Accept: "text/event-stream" }, signal });
      if (!answer.ok) throw new Error(`${url} answered ${answer.status}`);
      for await (const event of parsed(answer.body)) {
        failures = 0;
        last = event.id;
        yield event;
        if (event.type === "done") return;
      }
    } catch (error) {
      if (signal.aborted || failures >= MOST_FAILURES) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLISECONDS * (failures + 1)));
  }
}

export async function* parsed(body) {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of body) {
    const blocks = (rest + decoder.decode(piece, { stream: true })).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const fields = { id: null, event: "message", data: "" };
      for (const line of block.split(/\r?\n/)) {
        const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
        if (name in fields) fields[name] = value;
      }
      if (fields.data) yield { id: fields.id, type: fields.event, data: JSON.parse(fields.data) };
    }
  }
}
