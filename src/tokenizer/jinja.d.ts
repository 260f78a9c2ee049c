/** The parts of `@huggingface/jinja` that are used. Its own declarations name files without endings, which Node's resolution does not find. */
declare module "@huggingface/jinja" {
  interface RuntimeValue {
    readonly value: unknown;
  }
  interface Statement {
    readonly type: string;
  }
  export class Environment {
    set(name: string, value: unknown): RuntimeValue;
  }
  export class Interpreter {
    constructor(environment: Environment);
    run(program: Statement): RuntimeValue;
    evaluate(statement: Statement | undefined, environment: Environment): RuntimeValue;
  }
  export class Template {
    readonly parsed: Statement;
    constructor(template: string);
  }
}
