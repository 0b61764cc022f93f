// The control link of this page: who may open a tunnel, through which relay, and with what key.
// One for all terminals of the page; it comes back by itself. Its absence ends no terminal.

import { decode, encode, type Value } from './msgpack'

const FIRST_MS = 500
const MOST_MS = 15_000

export type Answer = { kind: string; body: { [key: string]: Value } }

export class Denied extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly cause_ = '',
    readonly actor = '',
  ) {
    super(message)
  }
}

export class Control {
  private socket: WebSocket | null = null
  private opened: Promise<WebSocket> | null = null
  private waiting = new Map<number, { keep: (answer: Answer) => void; fail: (wrong: Error) => void }>()
  private requests = 0
  private instance = crypto.randomUUID().replaceAll('-', '')

  /** Ask, and wait for the answer with the same number. */
  async ask(kind: string, body: { [key: string]: Value }): Promise<{ [key: string]: Value }> {
    const socket = await (this.opened ??= this.open())
    const id = ++this.requests
    const answer = await new Promise<Answer>((keep, fail) => {
      this.waiting.set(id, { keep, fail })
      socket.send(encode([kind, { request_id: id, ...body }]))
    }).finally(() => this.waiting.delete(id))
    const said = answer.body
    if (answer.kind.endsWith('_denied')) throw new Denied(String(said['code']), String(said['message']), String(said['cause'] ?? ''), String(said['actor'] ?? ''))
    return said
  }

  /** Leave in order. */
  close(): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(encode(['goodbye', { cause: 'client.closed' }]))
    this.socket?.close(1000)
  }

  private open(): Promise<WebSocket> {
    const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/api/v1/control`, 'tether')
    socket.binaryType = 'arraybuffer'
    this.socket = socket
    const opened = new Promise<WebSocket>((keep, fail) => {
      socket.onopen = () => socket.send(encode(['hello', { protocol: [2, 0], role: 'client', version: 'web', instance_id: this.instance }]))
      socket.onmessage = ({ data }) => {
        const [kind, body] = decode(new Uint8Array(data)) as [string, { [key: string]: Value }]
        if (kind === 'welcome') keep(socket)
        else if (kind === 'ping') socket.send(encode(['pong', { n: body['n'] ?? 0 }]))
        else if (kind === 'goodbye') {
          socket.send(encode(['goodbye_ack', {}]))
          socket.close(1000)
        } else this.waiting.get(Number(body['request_id']))?.keep({ kind, body })
      }
      socket.onclose = () => {
        if (this.socket === socket) {
          this.socket = null
          this.opened = null
        }
        const lost = new Error('The server cannot be reached.')
        fail(lost)
        for (const { fail: tell } of this.waiting.values()) tell(lost)
      }
    })
    return opened
  }
}

/** How long to wait before the try after `tries` failed ones. */
export const patience = (tries: number): number => Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(tries, 6)) * (0.8 + 0.4 * Math.random())
