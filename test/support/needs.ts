/** What a case needs and a machine may lack: it is left out there, and says why. */
const told = new Set<string>();

/** What `long` of scale.ts is for. */
export const LONG = 'npm run check:full, which has the time for it';

/** Whether it is there; where it is not, the file says so, once. */
export function needs(there: unknown, what: string): boolean {
  if (there) return true;
  if (!told.has(what)) console.log(`left out: what needs ${what}`);
  told.add(what);
  return false;
}
