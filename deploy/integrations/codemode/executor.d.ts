import type { Executor, ExecuteOptions, ExecuteResult, ResolvedProvider } from "@cloudflare/codemode";

export interface MayflyExecutorOptions {
  /** URL of the API; `MAYFLY_URL` where it is not given. */
  url?: string;
  /** API key; `MAYFLY_TOKEN` where it is not given. */
  token?: string;
  /** Longest run of the code in milliseconds, without its waits for tools; the environment's default where it is not given. */
  timeout?: number;
  /** More fields of the submission: `limits`, `isolation`, `labels`, … */
  submission?: Record<string, unknown>;
}

export declare class MayflyExecutor implements Executor {
  constructor(options?: MayflyExecutorOptions);
  execute(
    code: string,
    providersOrFns: ResolvedProvider[] | Record<string, (...args: unknown[]) => Promise<unknown>>,
    options?: ExecuteOptions,
  ): Promise<ExecuteResult>;
}
