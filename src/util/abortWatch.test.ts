import { getEventListeners } from "node:events";
import { expect, it } from "vitest";
import { AbortWatch } from "./abortWatch.ts";

it("listens once to a signal, tells all that is left of its work, and then lets go of it", () => {
  const watch = new AbortWatch();
  const [one, other] = [new AbortController(), new AbortController()];
  const told: string[] = [];
  const leave = ["a", "b", "c"].map((name) => watch.add(one.signal, (reason) => told.push(`${name} ${reason}`)));
  const leaveOther = watch.add(other.signal, () => told.push("other"));
  const listeners = () => [one, other].map(({ signal }) => getEventListeners(signal, "abort").length);
  expect(listeners()).toEqual([1, 1]);
  leave[1]!();
  one.abort("stop");
  expect(told).toEqual(["a stop", "c stop"]);
  leaveOther();
  leave[0]!();
  leave[2]!();
  leave[2]!();
  expect(listeners()).toEqual([0, 0]);
  watch.add(undefined, () => told.push("never"))();
  const again = watch.add(other.signal, () => told.push("again"));
  other.abort();
  expect(told).toEqual(["a stop", "c stop", "again"]);
  again();
});
