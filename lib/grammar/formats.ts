/** Formats of strings that are kept to, as regular expressions of the whole; others say nothing about a text. */
const HOUR = '([01][0-9]|2[0-3])';
const TIME = `${HOUR}:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?`;
const ZONE = `(Z|[+-]${HOUR}:[0-5][0-9])`;
// Days that every month has: a grammar knows no calendar.
const DATE = '[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])';
const BYTE = '(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])';
const LABEL = '[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
const HEX = '[0-9a-fA-F]';

export const formats: Readonly<Record<string, string>> = {
  date: DATE,
  time: `${TIME}${ZONE}`,
  'date-time': `${DATE}T${TIME}${ZONE}`,
  email: `[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,16}){0,2}@${LABEL}(\\.${LABEL}){1,3}`,
  hostname: `${LABEL}(\\.${LABEL}){0,3}`,
  ipv4: `${BYTE}(\\.${BYTE}){3}`,
  ipv6: `${HEX}{1,4}(:${HEX}{1,4}){7}`,
  uuid: `${HEX}{8}-${HEX}{4}-${HEX}{4}-${HEX}{4}-${HEX}{12}`,
  uri: `https?://${LABEL}(\\.${LABEL}){0,3}(/[A-Za-z0-9._~-]{0,64}){0,8}`,
};
