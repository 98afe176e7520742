/** The same tests at two sizes: small in `npm test`, whole in `npm run check:full`, which sets STATESPACE_LONG=1. */
export const long = process.env.STATESPACE_LONG === '1';

export const amount = (quick: number, full: number): number => (long ? full : quick);
