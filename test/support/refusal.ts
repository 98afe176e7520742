import { describeModel, StatespaceError } from 'statespace';

/** What describeModel says of a config: nothing, or its error. */
export function refusal(config: Record<string, unknown>): string | undefined {
  try {
    describeModel(config);
    return undefined;
  } catch (error) {
    if (!(error instanceof StatespaceError) || error.code !== 'ERR_UNSUPPORTED_MODEL') throw error;
    return error.message;
  }
}
