// One terminal in a page: a sealed tunnel to its agent, resumed for as long as it takes, with one line that
// says what is going on. The shell lives at the agent; a page that is loaded again finds it by its id.

import { bigEndian, Buffer, type Bytes, joined, readBig, utf8 } from './bytes'
import { Control, Denied, patience } from './control'
import { decode, encode, type Value } from './msgpack'
import { hostKey, Sealed } from './sealed'
import { Tunnel } from './tunnel'

const DATA_CHUNK = 64 << 10
const PAIRING_MS = 20_000
const SILENT_MS = 8_000
const QUIET_MS = 10_000

export type State = 'connecting' | 'attached' | 'detached' | 'ended'

export type TerminalEvents = {
  /** Show this; the promise is kept once it is shown. */
  output: (data: Uint8Array) => Promise<void>
  /** Forget what is shown, and show this. */
  snapshot: (vt: string, title: string) => Promise<void>
  state: (state: State, line: string) => void
  attached: (id: string, name: string) => void
}

const AGAIN = new Set(['agent_not_connected', 'relay_unavailable', 'server_stopping', 'too_many_requests'])

export class TerminalClient {
  id: string
  private control: Control
  private tunnel: Tunnel | null = null
  private sealed: Sealed | null = null
  private frames = new Buffer()
  private connectionId = ''
  private carriers = 0
  private size = { rows: 24, cols: 80 }
  private ready = false
  private done = false
  private detachedAt = 0
  private tries = 0
  private out: Promise<unknown> = Promise.resolve()
  private checking: ReturnType<typeof setInterval> | undefined
  private pinged = 0
  private answeredAt = 0
  private wake: (() => void) | null = null
  private sentence = ''

  constructor(
    control: Control,
    private workspace: string,
    id: string,
    private events: TerminalEvents,
  ) {
    this.control = control
    this.id = id
  }

  /** Begin, and go on until the terminal has ended. */
  async run(size: { rows: number; cols: number }): Promise<void> {
    this.size = size
    if (!globalThis.isSecureContext || !crypto.subtle) {
      return this.finish('A terminal needs an encrypted page: open this server by HTTPS, or on localhost.')
    }
    this.events.state('connecting', `Connecting to ${this.workspace}…`)
    addEventListener('online', this.woken)
    document.addEventListener('visibilitychange', this.woken)
    this.checking = setInterval(() => this.check(), 2000)
    await this.begin()
  }

  input(data: Bytes): void {
    if (this.ready && !this.done) this.say(joined(bigEndian(0, 1), data))
  }

  resize(rows: number, cols: number): void {
    this.size = { rows, cols }
    if (this.ready) this.message('resize', { rows, cols })
  }

  /** Leave; the shell lives on, and is found again by its id. */
  detach(): void {
    if (this.done) return
    this.done = true
    this.stop()
    if (this.tunnel && !this.tunnel.over) {
      // not sealed: a page that is being closed has no time for more
      void this.tunnel.send(joined(bigEndian(1, 1), encode(['goodbye', { cause: 'session.detached' }])))
      this.tunnel.leave()
    }
  }

  private stop(): void {
    clearInterval(this.checking)
    removeEventListener('online', this.woken)
    document.removeEventListener('visibilitychange', this.woken)
  }

  private woken = (): void => {
    if (document.visibilityState === 'visible') {
      this.wake?.()
      this.check()
    }
  }

  /** Whether the carrier still answers: what is asleep or cut off says nothing. */
  private check(): void {
    const now = performance.now()
    if (!this.tunnel || !this.ready || this.detachedAt) return
    if (this.pinged && now - this.answeredAt > SILENT_MS && now - this.pinged > SILENT_MS - 2000) {
      this.pinged = 0
      return this.tunnel.drop()
    }
    if (!this.pinged && now - this.answeredAt > QUIET_MS) {
      this.pinged = now
      this.tunnel.ping(Math.floor(now))
    }
  }

  private async begin(): Promise<void> {
    while (!this.done) {
      try {
        return await this.open()
      } catch (wrong) {
        if (wrong instanceof Denied && !AGAIN.has(wrong.code)) return this.finish(sentence(wrong.message))
        this.events.state('connecting', `${sentence((wrong as Error).message)} Trying again…`)
        await this.pause()
      }
    }
  }

  private async open(): Promise<void> {
    const keys = await Sealed.keys()
    const grant = await this.control.ask('tunnel_request', { workspace: this.workspace, public_key: keys.line, purpose: 'terminal' })
    const word = (name: string) => String(grant[name] ?? '')
    this.connectionId = word('connection_id')
    this.sealed = Sealed.make(this.connectionId, keys, pinned(word('workspace_id'), word('host_key')))
    this.frames = new Buffer()
    this.ready = false
    this.carriers = 1
    const tunnel: Tunnel = new Tunnel(this.connectionId, word('tunnel_key'), {
      frame: (frame) => this.heard(tunnel, frame),
      up: () => this.up(),
      detached: () => void this.resume(tunnel),
      over: (why) => this.over(why?.cause ?? '', why?.actor ?? ''),
    })
    this.tunnel = tunnel
    const socket = await paired(word('relay_url'), word('ticket'))
    tunnel.onPong = () => this.answered()
    await tunnel.attach(1, socket)
    await tunnel.send(joined(bigEndian(0, 1), this.sealed.greeting()))
  }

  private up(): void {
    this.answered()
    this.tries = 0
    if (this.detachedAt) {
      const gap = Math.round((performance.now() - this.detachedAt) / 100) / 10
      this.detachedAt = 0
      this.events.state('attached', `Connected again after ${gap} s; nothing was lost.`)
    }
  }

  private answered(): void {
    this.answeredAt = performance.now()
    this.pinged = 0
  }

  /** The carrier is gone. The shell lives on; come back by another one. */
  private async resume(tunnel: Tunnel): Promise<void> {
    if (this.done || tunnel !== this.tunnel || this.detachedAt) return
    this.detachedAt = performance.now()
    while (!this.done && !tunnel.over && this.detachedAt) {
      const offline = navigator.onLine === false ? 'This computer is offline.' : 'The way to the workspace is interrupted.'
      this.events.state('detached', `${offline} The shell goes on; reconnecting…`)
      try {
        const carrier = ++this.carriers
        const grant = await this.control.ask('carrier_request', { connection_id: this.connectionId, carrier })
        const socket = await paired(String(grant['relay_url']), String(grant['ticket']))
        await tunnel.attach(carrier, socket)
        await this.pause(2000)
        if (this.detachedAt) tunnel.drop()
      } catch (wrong) {
        if (wrong instanceof Denied && wrong.code === 'tunnel_over') return this.over(wrong.cause_, wrong.actor)
        if (wrong instanceof Denied && wrong.code === 'tunnel_unknown') return void this.anew()
        if (wrong instanceof Denied && !AGAIN.has(wrong.code)) return this.finish(sentence(wrong.message))
        await this.pause()
      }
    }
  }

  /** The connection is over, and perhaps the shell is not. */
  private over(cause: string, _actor: string): void {
    if (this.done) return
    if (this.sentence) return this.finish(this.sentence)
    if (LOST.test(cause) || cause === '') return void this.anew()
    this.finish(`The connection ended (${cause}).`)
  }

  private async anew(): Promise<void> {
    this.tunnel = null
    this.detachedAt = 0
    this.events.state('connecting', 'The connection is over; looking for the shell…')
    await this.pause()
    await this.begin()
  }

  private async pause(ms = patience(this.tries++)): Promise<void> {
    await new Promise<void>((keep) => {
      const timer = setTimeout(keep, ms)
      this.wake = () => {
        clearTimeout(timer)
        keep()
      }
    })
    this.wake = null
  }

  private finish(line: string): void {
    this.done = true
    this.stop()
    this.tunnel?.leave()
    this.events.state('ended', line)
  }

  // -- what is said over the tunnel ---------------------------------------------------------------

  private message(kind: string, body: { [key: string]: Value }): void {
    this.say(joined(bigEndian(1, 1), utf8(JSON.stringify([kind, body]))))
  }

  private say(payload: Bytes): void {
    this.seal(joined(bigEndian(payload.length, 4), payload))
  }

  private seal(plain: Bytes): void {
    const { tunnel, sealed } = this
    if (!tunnel || !sealed?.open) return
    this.out = this.out.then(async () => {
      const data = await sealed.seal(plain)
      for (let at = 0; at < data.length; at += DATA_CHUNK) await tunnel.send(joined(bigEndian(0, 1), data.slice(at, at + DATA_CHUNK)))
    })
  }

  private async heard(tunnel: Tunnel, frame: Bytes): Promise<void> {
    this.answered()
    if (frame[0] === 1) return this.linkMessage(tunnel, frame.slice(1))
    const sealed = this.sealed!
    const wasOpen = sealed.open
    let plain: Bytes
    try {
      plain = await sealed.receive(frame.slice(1))
    } catch (wrong) {
      return this.finish(sentence((wrong as Error).message || 'What arrived was not sealed by the workspace.'))
    }
    if (sealed.open && !wasOpen) {
      const { rows, cols } = this.size
      this.seal(utf8(`${JSON.stringify(['init', { rows, cols, id: this.id, history: 2000 }])}\n`))
    }
    this.frames.push(plain)
    while (this.frames.length >= 4) {
      const length = readBig(this.frames.peek(4), 0, 4)
      if (this.frames.length < 4 + length) break
      const payload = this.frames.take(4 + length).slice(4)
      if (payload[0] === 0) await this.events.output(payload.subarray(1))
      else await this.told(JSON.parse(new TextDecoder().decode(payload.subarray(1))))
    }
  }

  private linkMessage(tunnel: Tunnel, raw: Bytes): void {
    const [kind, body] = decode(raw) as [string, { [key: string]: Value }]
    const send = (message: Value) => void tunnel.send(joined(bigEndian(1, 1), encode(message)))
    if (kind === 'ping') send(['pong', { n: body['n'] ?? 0 }])
    if (kind === 'goodbye') {
      send(['goodbye_ack', {}])
      const cause = String(body['cause'] ?? '')
      tunnel.leave()
      this.over(cause, String(body['actor'] ?? ''))
    }
  }

  private async told([kind, body]: [string, Record<string, unknown>]): Promise<void> {
    switch (kind) {
      case 'attached':
        this.id = String(body['id'])
        this.ready = true
        this.tries = 0
        this.events.attached(this.id, String(body['name'] ?? ''))
        this.events.state('attached', '')
        return
      case 'snapshot':
        return this.events.snapshot(String(body['vt'] ?? ''), String(body['title'] ?? ''))
      case 'refused':
        if (body['code'] === 'not_found' && this.id) this.id = ''
        else this.sentence = sentence(String(body['message']))
        return
      case 'attach_ended': {
        const lives = Boolean(body['terminal_lives'])
        if (!lives || !LOST.test(String(body['cause']))) this.sentence = String(body['sentence'] ?? '')
      }
    }
  }
}

/** Ends of a connection after which the shell may live: it is looked for. */
const LOST = /^(agent\.(shutdown|upgraded|crashed|vanished|unreachable)|relay\.|server\.|network\.|client\.)/

const sentence = (text: string): string => {
  const line = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.!?…]$/.test(line) ? line : `${line}.`
}

/** The host key that this browser knows the workspace by; the first one that it sees is kept. */
function pinned(workspaceId: string, line: string): Bytes {
  const name = `host-key ${workspaceId}`
  const known = localStorage.getItem(name)
  if (known !== null && known !== line) {
    throw new Denied('host_key_changed', "this workspace's host key has changed since this browser saw it first: if its machine was made anew, forget the old key in the terminal's menu")
  }
  localStorage.setItem(name, line)
  return hostKey(line)
}

export function forgetHostKeys(): void {
  for (const name of Object.keys(localStorage)) if (name.startsWith('host-key ')) localStorage.removeItem(name)
}

/** A leg of a carrier, once the relay has the other one. */
function paired(url: string, ticket: string): Promise<WebSocket> {
  return new Promise((keep, fail) => {
    const socket = new WebSocket(url, ['tether', `tether-bearer.${ticket}`])
    socket.binaryType = 'arraybuffer'
    const lost = (why: string) => {
      clearTimeout(timer)
      fail(new Error(why))
      socket.close()
    }
    const timer = setTimeout(() => lost('The workspace did not come to the relay in time.'), PAIRING_MS)
    socket.onclose = () => lost('The relay cannot be reached.')
    socket.onmessage = ({ data }) => {
      const word = typeof data === 'string' ? JSON.parse(data) : {}
      if (word.type === 'paired') {
        clearTimeout(timer)
        keep(socket)
      } else if (word.type === 'goodbye' || word.type === 'peer_gone') lost(word.detail || 'The relay ended the connection.')
    }
  })
}
