import { mismatch, show } from '../../errors.js';

/** A URL of a Redis without its password, for messages. */
export const shownUrl = (url: string): string => url.replace(/\/\/[^@/]*@/, '//');

/** ERR_ARGUMENT where no Redis can be at that URL. */
export function checkRedisUrl(where: string, url: unknown): asserts url is string {
  if (typeof url !== 'string' || !/^rediss?:\/\//.test(url) || !URL.canParse(url))
    throw mismatch('ERR_ARGUMENT', where, 'redis://host:port', show(typeof url === 'string' ? shownUrl(url) : url));
}
