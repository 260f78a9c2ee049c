/** Parameter-name patterns: `*` stands for any characters, everything else for itself. */
import { ConfigError } from "../errors.ts";

function toExpression(pattern: string): RegExp {
  const parts = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".*")}$`);
}

/**
 * Tells which names any of the patterns matches.
 * @param place the setting, for the message.
 * @throws ConfigError for a pattern that matches no name.
 */
export function matchNames(patterns: readonly string[], names: readonly string[], place: string): Set<string> {
  const matched = new Set<string>();
  for (const pattern of patterns) {
    const expression = toExpression(pattern);
    const hits = names.filter((name) => expression.test(name));
    if (hits.length === 0) {
      throw new ConfigError(`${place}: "${pattern}" matches no parameter`, {
        hint: `names look like ${names.slice(0, 3).join(", ")}`,
      });
    }
    for (const name of hits) matched.add(name);
  }
  return matched;
}
