/** Giving way to the event loop. */

let channel: MessageChannel | undefined;
const waiting: (() => void)[] = [];

/** The next turn of a page's event loop: its timers wait four milliseconds and more once they are nested. */
function pageTurn(resolve: () => void): void {
  if (channel === undefined) {
    channel = new MessageChannel();
    channel.port1.onmessage = () => waiting.shift()?.();
  }
  waiting.push(resolve);
  channel.port2.postMessage(null);
}

/** Lets timers, messages, signals and input through, once each that is waiting. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else pageTurn(resolve);
  });
}
