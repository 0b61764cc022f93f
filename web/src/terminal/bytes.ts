// Small things about bytes.

export type Bytes = Uint8Array<ArrayBuffer>

export function joined(...parts: Uint8Array[]): Bytes {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** `n` in `bytes` bytes, the highest first. */
export function bigEndian(n: number, bytes: number): Bytes {
  const out = new Uint8Array(bytes)
  for (let i = bytes - 1; i >= 0; i--) {
    out[i] = n % 256
    n = Math.floor(n / 256)
  }
  return out
}

export function readBig(data: Uint8Array, at: number, bytes: number): number {
  let n = 0
  for (let i = at; i < at + bytes; i++) n = n * 256 + data[i]!
  return n
}

export function fromBase64(text: string): Bytes {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0))
}

export function toBase64(data: Uint8Array): string {
  return btoa(String.fromCharCode(...data))
}

export const utf8 = (text: string): Bytes => new TextEncoder().encode(text)

/** Bytes that come in pieces. */
export class Buffer {
  private parts: Uint8Array[] = []
  length = 0

  push(part: Uint8Array): void {
    this.parts.push(part)
    this.length += part.length
  }

  /** The first `n` bytes; they stay. */
  peek(n: number): Bytes {
    if (this.parts.length > 1 && this.parts[0]!.length < n) this.parts = [joined(...this.parts)]
    return this.parts[0]!.slice(0, n) as Bytes
  }

  /** The first `n` bytes; they are taken out. */
  take(n: number): Bytes {
    const out = this.peek(n)
    const rest = this.parts[0]!.subarray(n)
    if (rest.length) this.parts[0] = rest
    else this.parts.shift()
    this.length -= n
    return out
  }
}
