// A sealed channel to an agent, end to end: see src/tether/net/e2e_channel.py, whose client's end this is.

import { bigEndian, Buffer, type Bytes, fromBase64, joined, readBig, toBase64, utf8 } from './bytes'

const MAX_RECORD = 64 << 10
const TAG = 16
const HEAD = 4

/** The raw Ed25519 key in an OpenSSH line; throws where there is none. */
export function hostKey(line: string): Bytes {
  const [kind, body = ''] = line.split(' ')
  const raw = fromBase64(body)
  if (kind !== 'ssh-ed25519' || raw.length !== 51) throw new Error('This workspace has a host key of another kind than Ed25519.')
  return raw.slice(19)
}

export class Sealed {
  private buffer = new Buffer()
  private sealing: CryptoKey | null = null
  private opening: CryptoKey | null = null
  private sent = 0
  private received = 0

  private constructor(
    private connectionId: string,
    private pair: CryptoKeyPair,
    private mine: Bytes,
    private host: Bytes,
  ) {}

  /** A fresh key pair, before there is a connection. */
  static async keys(): Promise<{ pair: CryptoKeyPair; line: string; raw: Bytes }> {
    const pair = (await crypto.subtle.generateKey({ name: 'X25519' }, false, ['deriveBits'])) as CryptoKeyPair
    const raw = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey))
    return { pair, raw, line: `x25519 ${toBase64(raw)}` }
  }

  static make(connectionId: string, keys: { pair: CryptoKeyPair; raw: Bytes }, host: Bytes): Sealed {
    return new Sealed(connectionId, keys.pair, keys.raw, host)
  }

  get open(): boolean {
    return this.sealing !== null
  }

  /** The first bytes to send. */
  greeting(): Bytes {
    return record(this.mine)
  }

  /** `data` as records to send. Await one call before the next. */
  async seal(data: Bytes): Promise<Bytes> {
    const out: Bytes[] = []
    for (let at = 0; at < data.length; at += MAX_RECORD) {
      const some = data.slice(at, at + MAX_RECORD)
      out.push(record(new Uint8Array(await crypto.subtle.encrypt(nonce(this.sent++), this.sealing!, some))))
    }
    return joined(...out)
  }

  /** What arrived, opened. Throws where it is not what the agent would have sent. */
  async receive(data: Uint8Array): Promise<Bytes> {
    this.buffer.push(data)
    const plain: Bytes[] = []
    while (this.buffer.length >= HEAD) {
      const length = readBig(this.buffer.peek(HEAD), 0, HEAD)
      if (length > MAX_RECORD + TAG) throw new Error('The terminal sent a record that is too large.')
      if (this.buffer.length < HEAD + length) break
      const body = this.buffer.take(HEAD + length).slice(HEAD)
      if (this.opening) plain.push(new Uint8Array(await crypto.subtle.decrypt(nonce(this.received++), this.opening, body)))
      else await this.greeted(body)
    }
    return joined(...plain)
  }

  private async greeted(body: Bytes): Promise<void> {
    const theirs = body.slice(0, 32)
    const said = joined(utf8('tether-sealed-1'), utf8(this.connectionId), this.mine, theirs)
    const transcript = new Uint8Array(await crypto.subtle.digest('SHA-256', said))
    const host = await crypto.subtle.importKey('raw', this.host, { name: 'Ed25519' }, false, ['verify'])
    const right = body.length === 96 && (await crypto.subtle.verify({ name: 'Ed25519' }, host, body.slice(32), transcript))
    if (!right) throw new Error("Somebody else answered in the workspace's place: its host key has not signed this connection.")
    const peer = await crypto.subtle.importKey('raw', theirs, { name: 'X25519' }, false, [])
    const shared = await crypto.subtle.deriveBits({ name: 'X25519', public: peer }, this.pair.privateKey, 256)
    const base = await crypto.subtle.importKey('raw', shared, 'HKDF', false, ['deriveKey'])
    const derive = (info: string, use: KeyUsage) =>
      crypto.subtle.deriveKey({ name: 'HKDF', hash: 'SHA-256', salt: transcript, info: utf8(info) }, base, { name: 'AES-GCM', length: 256 }, false, [use])
    this.opening = await derive('agent to client', 'decrypt')
    this.sealing = await derive('client to agent', 'encrypt')
  }
}

const record = (data: Bytes): Bytes => joined(bigEndian(data.length, HEAD), data)

const nonce = (number: number) => ({ name: 'AES-GCM', iv: bigEndian(number, 12) })
