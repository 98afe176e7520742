/** Bytes as they come, of tokens that stand for one each: what of them is whole characters. */
export class ByteRun {
  private decoder = utf8();
  private bytes = 0;
  private whole = 0;
  private invalid = false;

  push(byte: number): void {
    this.bytes++;
    if (this.invalid) return;
    try {
      if (this.decoder.decode(Uint8Array.of(byte), { stream: true }) !== '') this.whole = this.bytes;
    } catch {
      this.invalid = true;
    }
  }

  /** How many of them are whole characters. */
  get wholeBytes(): number {
    return this.whole;
  }

  /** No further byte can make characters of them. */
  get isInvalid(): boolean {
    return this.invalid;
  }

  clear(): void {
    this.decoder = utf8();
    this.bytes = 0;
    this.whole = 0;
    this.invalid = false;
  }
}

const utf8 = () => new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
