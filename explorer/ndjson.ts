/** Lines of JSON as they come from the server. */

/**
 * @param onLine called with each value.
 * @throws an Error with the server's own words where it answers with a fault, in its status or in a line.
 */
export async function readLines(response: Response, onLine: (value: Record<string, unknown>) => void): Promise<void> {
  if (!response.ok || response.body === null) {
    throw faultOf(await response.json().catch(() => ({ error: `the server answered ${response.status}` })));
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const parsed = JSON.parse(line) as Record<string, unknown>;
      if ("error" in parsed) throw faultOf(parsed);
      onLine(parsed);
    }
  }
}

function faultOf({ error, hint }: Record<string, unknown>): Error {
  return new Error([error, hint].filter(Boolean).join("\n"));
}
