#!/usr/bin/env node
// The text that the shipped model is trained on: Jane Austen's six novels (public domain) out of Debian's r-cran-janeaustenr
// 1.0.0-1, where R keeps them as vectors of lines. No R is needed:
//   apt-get download r-cran-janeaustenr && dpkg-deb -x r-cran-janeaustenr_*.deb austen
//   node scripts/shipped/text.mjs austen > austen.txt
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, inflateSync } from 'node:zlib';

const SHA256 = 'de615b6d9c651e8744d9a35d47ad45f59973d9c40561b1c2056b19b0cc23c78c';

/** R's serialisation (R Internals, section 1.8), as far as lines of text and an index of them need it. */
class Reader {
  at = 0;
  constructor(bytes) {
    this.bytes = bytes;
    if (bytes.toString('latin1', 0, 2) !== 'X\n') throw new Error('not serialised by R as XDR');
    this.at = 2;
    const version = this.int();
    this.at += 8;
    const encoding = version === 3 ? this.int() : 0;
    this.at += encoding;
  }

  int() {
    this.at += 4;
    return this.bytes.readInt32BE(this.at - 4);
  }

  many(read) {
    return Array.from({ length: this.int() }, read);
  }

  value() {
    const flags = this.int();
    const read = () => this.value();
    switch (flags & 255) {
      case 254:
        return null;
      case 255: // a reference to a symbol that came before: only names of attributes
        return undefined;
      case 1:
        return this.value();
      case 2: {
        const tag = flags & 1024 ? this.value() : undefined;
        const head = this.value();
        return { ...this.value(), ...(tag === undefined ? {} : { [tag]: head }) };
      }
      case 9: {
        const length = this.int();
        if (length < 0) return undefined;
        this.at += length;
        return this.bytes.toString('utf8', this.at - length, this.at);
      }
      case 10:
      case 13:
        return this.many(() => this.int());
      case 16:
      case 19: {
        const items = this.many(read);
        const names = flags & 512 ? this.value()?.names : undefined;
        return names ? Object.fromEntries(items.map((item, i) => [names[i], item])) : items;
      }
      default:
        throw new Error(`R's type ${flags & 255} is not read here`);
    }
  }
}

const folder = join(process.argv[2] ?? '.', 'usr/lib/R/site-library/janeaustenr/data');
const index = new Reader(gunzipped(readFileSync(join(folder, 'Rdata.rdx')))).value();
const data = readFileSync(join(folder, 'Rdata.rdb'));

function gunzipped(bytes) {
  return bytes[0] === 0x1f ? gunzipSync(bytes) : inflateSync(bytes);
}

/** Lines of print as paragraphs of one line each; no marks of italics. */
function paragraphs(lines) {
  const text = lines.map((line) => line.trim()).join('\n');
  return text
    .split(/\n{2,}/)
    .map((p) => p.replace(/\s+/g, ' ').replaceAll('_', '').trim())
    .filter(Boolean)
    .join('\n');
}

const variables = Object.values(index)[0];
const novels = Object.values(variables).map(([first, length]) => {
  const lines = new Reader(inflateSync(data.subarray(first + 4, first + length))).value();
  return paragraphs(lines);
});
const text = `${novels.join('\n')}\n`;
const hash = createHash('sha256').update(text).digest('hex');
if (hash !== SHA256)
  throw new Error(`the text has the SHA-256 ${hash}, not ${SHA256}: another version of the package?`);
process.stdout.write(text);
