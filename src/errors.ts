/**
 * Every error this library throws on purpose. A message reads "place: fault, actual, expected"; `hint` is the next thing
 * to try. Anything else that escapes is a defect; messages of impossible states start with "internal:".
 */

export interface ErrorDetails {
  /** What to do next: a command or a changed setting. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** Base of all deliberate errors; `code` is stable and meant for programs. */
export class OlmoeError extends Error {
  readonly code: string;
  readonly hint: string | undefined;

  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = details.hint;
  }
}

/** A model config, recipe or option that can not be used; the message lists every fault. */
export class ConfigError extends OlmoeError {
  constructor(message: string, details?: ErrorDetails) {
    super("E_CONFIG", message, details);
  }
}

/** Tensors whose shapes or ids do not fit together. */
export class ShapeError extends OlmoeError {
  constructor(message: string, details?: ErrorDetails) {
    super("E_SHAPE", message, details);
  }
}

/** A checkpoint or tensor file that is missing, damaged or of another model. */
export class CheckpointError extends OlmoeError {
  constructor(message: string, details?: ErrorDetails) {
    super("E_CHECKPOINT", message, details);
  }
}

/** A tokenizer that can not be loaded, trained or applied. */
export class TokenizerError extends OlmoeError {
  constructor(message: string, details?: ErrorDetails) {
    super("E_TOKENIZER", message, details);
  }
}

/** A source, document or token file that can not be read. */
export class DataError extends OlmoeError {
  constructor(message: string, details?: ErrorDetails) {
    super("E_DATA", message, details);
  }
}

/** Memory, disk or a file permission ran out. */
export class ResourceError extends OlmoeError {
  constructor(message: string, details?: ErrorDetails) {
    super("E_RESOURCE", message, details);
  }
}

/** Training that can not go on, such as a loss that is not a number. */
export class TrainingError extends OlmoeError {
  constructor(message: string, details?: ErrorDetails) {
    super("E_TRAINING", message, details);
  }
}

/** Something this build or machine does not offer. */
export class UnsupportedError extends OlmoeError {
  constructor(message: string, details?: ErrorDetails) {
    super("E_UNSUPPORTED", message, details);
  }
}

/** Wrong use of the command line; the process exits with 2. */
export class UsageError extends OlmoeError {
  constructor(message: string, details?: ErrorDetails) {
    super("E_USAGE", message, details);
  }
}
