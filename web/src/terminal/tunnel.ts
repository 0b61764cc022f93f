// The client's end of a tunnel: numbered frames over carriers that come and go (src/tether/protocol/tunnel).
// One carrier is in use at a time, always through a relay. What the agent has not acknowledged is kept, and
// sent again on the next carrier. All work on frames is in turn: WebCrypto answers later.

import { bigEndian, type Bytes, fromBase64, joined, readBig, utf8 } from './bytes'
import { decode, encode, type Value } from './msgpack'

const NUMBERED = 0, ACKED = 1, OPENING = 2, USE = 3, PING = 4, PONG = 5, RETIRED = 6
const TAG = 16
const WINDOW = 8 << 20
const ACK_BYTES = 256 << 10
const ACK_MS = 100
const HEAD = 17

async function hmacKey(raw: Bytes): Promise<CryptoKey> {
  return crypto.subtle.importKey('raw', raw, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign'])
}

async function hmac(key: CryptoKey, data: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.sign('HMAC', key, data))
}

const parts = (...words: string[]): Bytes => joined(...words.map(utf8).flatMap((word) => [bigEndian(word.length, 4), word]))

function same(a: Uint8Array, b: Uint8Array): boolean {
  let differs = a.length ^ b.length
  for (let i = 0; i < a.length; i++) differs |= a[i]! ^ (b[i] ?? 0)
  return differs === 0
}

/** The tags of one direction of one carrier: it counts, so that no frame can be moved or doubled. */
class Tags {
  private count = 0
  constructor(private key: CryptoKey) {}

  async of(frame: Bytes): Promise<Bytes> {
    const prefix = joined(bigEndian(this.count++, 8), bigEndian(frame.length, 4))
    return (await hmac(this.key, joined(prefix, frame))).slice(0, TAG)
  }
}

type Carrier = { number: number; socket: WebSocket; ours: Tags; theirs: Tags; up: boolean }

export type Refusal = { code: string; cause: string; actor: string }

/** What the owner of a tunnel is told. */
export type TunnelEvents = {
  /** A frame of the layer above: to be consumed before the promise is kept. */
  frame: (frame: Bytes) => Promise<void>
  up: () => void
  /** The carrier is gone; another one is needed. */
  detached: () => void
  /** The agent has ended the tunnel, or says that it is over. */
  over: (why: Refusal | null) => void
}

export class Tunnel {
  over = false
  private key!: Promise<CryptoKey>
  private carrier: Carrier | null = null
  private turn = 0
  private sent = 0
  private acked = 0
  private kept = new Map<number, Bytes>()
  private keptBytes = 0
  private cursor = 1
  private received = 0
  private taken = 0
  private untold = 0
  private ackTimer: ReturnType<typeof setTimeout> | undefined
  private out: Promise<unknown> = Promise.resolve()
  private into: Promise<unknown> = Promise.resolve()
  private room: (() => void)[] = []

  constructor(
    private connectionId: string,
    tunnelKey: string,
    private events: TunnelEvents,
  ) {
    this.key = hmacKey(fromBase64(tunnelKey))
  }

  /** Use this socket, whose other leg is there, as carrier `number`. */
  async attach(number: number, socket: WebSocket): Promise<void> {
    const key = await this.key
    const tags = async (party: string) => new Tags(await hmacKey(await hmac(key, parts('frames', party, this.connectionId, String(number)))))
    const carrier: Carrier = (this.carrier = { number, socket, ours: await tags('client'), theirs: await tags('agent'), up: false })
    socket.onmessage = ({ data }) => {
      if (typeof data !== 'string') this.into = this.into.then(() => this.heard(carrier, new Uint8Array(data))).catch((wrong) => this.broken(carrier, wrong))
    }
    socket.onclose = () => this.gone(carrier)
    const received = this.taken
    const proof = await hmac(key, parts('attach', 'client', this.connectionId, String(number), String(received)))
    const join = { type: 'attach', connection_id: this.connectionId, carrier: number, party: 'client', received, proof }
    socket.send(joined(bigEndian(OPENING, 1), encode(join)))
    if (socket.readyState === WebSocket.CLOSED) this.gone(carrier)
  }

  /** Send a frame of the layer above; wait while too much waits for the agent. */
  async send(frame: Bytes): Promise<void> {
    while (this.keptBytes > WINDOW && !this.over) await new Promise<void>((free) => this.room.push(free))
    if (this.over) return
    this.kept.set(++this.sent, frame)
    this.keptBytes += frame.length + 64
    this.flush()
  }

  /** Nothing more is said: tell the agent that the end of the carrier is the end of all. */
  leave(): void {
    this.over = true
    this.word(joined(bigEndian(RETIRED, 1), utf8('over')))
    void this.out.then(() => this.carrier?.socket.close(1000))
  }

  /** Give the carrier up: it does not answer. */
  drop(): void {
    this.carrier?.socket.close(4000)
    if (this.carrier) this.gone(this.carrier)
  }

  /** Ask for an answer on the carrier. */
  ping(nonce: number): void {
    this.word(joined(bigEndian(PING, 1), bigEndian(nonce, 8)))
  }
  onPong: (nonce: number) => void = () => {}

  private gone(carrier: Carrier): void {
    if (this.carrier !== carrier) return
    this.carrier = null
    if (!this.over) this.events.detached()
  }

  private broken(carrier: Carrier, wrong: unknown): void {
    console.warn('tether: a carrier was left', wrong)
    carrier.socket.close(1002)
    this.gone(carrier)
  }

  private end(why: Refusal | null): void {
    if (this.over) return
    this.over = true
    this.carrier?.socket.close(1000)
    this.carrier = null
    for (const free of this.room.splice(0)) free()
    this.events.over(why)
  }

  private word(frame: Bytes): void {
    const carrier = this.carrier
    if (carrier) this.out = this.out.then(() => this.put(carrier, frame))
  }

  private async put(carrier: Carrier, frame: Bytes): Promise<void> {
    if (carrier !== this.carrier || carrier.socket.readyState !== WebSocket.OPEN) return
    carrier.socket.send(joined(await carrier.ours.of(frame), frame))
  }

  private flush(): void {
    const carrier = this.carrier
    if (!carrier?.up) return
    this.out = this.out.then(async () => {
      while (carrier === this.carrier && this.cursor <= this.sent) {
        const number = this.cursor++
        const frame = this.kept.get(number)
        if (frame) await this.put(carrier, joined(bigEndian(NUMBERED, 1), bigEndian(number, 8), bigEndian(this.acknowledge(), 8), frame))
      }
    })
  }

  private acknowledge(): number {
    clearTimeout(this.ackTimer)
    this.ackTimer = undefined
    this.untold = 0
    return this.taken
  }

  private tell(): void {
    const carrier = this.carrier
    if (!carrier?.up) return
    this.out = this.out.then(() => this.put(carrier, joined(bigEndian(ACKED, 1), bigEndian(this.acknowledge(), 8))))
  }

  private acknowledged(ack: number): void {
    while (this.acked < ack) {
      const frame = this.kept.get(++this.acked)
      this.kept.delete(this.acked)
      this.keptBytes -= (frame?.length ?? 0) + 64
    }
    this.cursor = Math.max(this.cursor, this.acked + 1)
    if (this.keptBytes <= WINDOW) for (const free of this.room.splice(0)) free()
  }

  private async heard(carrier: Carrier, raw: Bytes): Promise<void> {
    if (carrier !== this.carrier || this.over) return
    if (!carrier.up) return this.opened(carrier, raw)
    const frame = raw.slice(TAG)
    if (!same(await carrier.theirs.of(frame), raw.subarray(0, TAG))) throw new Error('a frame that the agent did not send')
    switch (frame[0]) {
      case NUMBERED: {
        this.acknowledged(readBig(frame, 9, 8))
        const number = readBig(frame, 1, 8)
        if (number <= this.received) return
        if (number !== this.received + 1) throw new Error('a frame is missing')
        this.received = number
        await this.events.frame(frame.slice(HEAD))
        this.taken++
        this.untold += frame.length
        if (this.untold >= ACK_BYTES) this.tell()
        else this.ackTimer ??= setTimeout(() => this.tell(), ACK_MS)
        return
      }
      case ACKED:
        return this.acknowledged(readBig(frame, 1, 8))
      case PING:
        return this.word(joined(bigEndian(PONG, 1), frame.slice(1)))
      case PONG:
        return this.onPong(readBig(frame, 1, 8))
      case RETIRED:
        if (new TextDecoder().decode(frame.slice(1)) === 'over') this.end(null)
    }
  }

  private async opened(carrier: Carrier, raw: Bytes): Promise<void> {
    if (raw[0] !== OPENING) throw new Error('no opening')
    const said = decode(raw.slice(1)) as { [key: string]: Value }
    const key = await this.key
    if (said['type'] === 'refused') {
      const word = (name: string) => String(said[name] ?? '')
      const proven = parts('refused', this.connectionId, String(carrier.number), word('code'), word('cause'), word('actor'), word('detail'))
      const proof = said['proof']
      if (word('code') === 'tunnel_over' && proof instanceof Uint8Array && same(await hmac(key, proven), proof)) {
        return this.end({ code: word('code'), cause: word('cause'), actor: word('actor') })
      }
      throw new Error(`refused: ${word('code')}`)
    }
    const received = Number(said['received'])
    const wanted = await hmac(key, parts('attach', 'agent', this.connectionId, String(carrier.number), String(received)))
    const proof = said['proof']
    if (said['type'] !== 'attach' || said['party'] !== 'agent' || !(proof instanceof Uint8Array) || !same(wanted, proof)) throw new Error('somebody else answered')
    this.acknowledged(received)
    carrier.up = true
    this.word(joined(bigEndian(USE, 1), bigEndian(++this.turn, 8), bigEndian(this.acknowledge(), 8)))
    this.cursor = this.acked + 1
    this.events.up()
    this.flush()
  }
}
