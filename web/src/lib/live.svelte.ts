// What happens now: one stream of server-sent events for the page, and for the other tabs of this browser.

import type { Schemas } from './api'

export type Row = Schemas['ConnectionView']
export type Change = { change: 'opened' | 'closed' | 'revised' | 'path'; row: Row }
type Listener = { changed?: (change: Change) => void; resync?: () => void }

class Live {
  status = $state<Schemas['StatusView'] | null>(null)
  /** Whether the stream is up. */
  connected = $state(false)
  /** Why the server cannot tell, where it says so. */
  unavailable = $state('')
  private source: EventSource | null = null
  private listeners = new Set<Listener>()
  private wasUp = false

  start(): void {
    if (this.source) return
    const source = (this.source = new EventSource('/api/v1/live'))
    source.onopen = () => {
      this.connected = true
      if (this.wasUp) this.resync() // what happened meanwhile was not told
      this.wasUp = true
    }
    source.onerror = () => {
      this.connected = false
      if (source.readyState === EventSource.CLOSED) {
        // the browser gives up where the answer was no stream: a server that restarts says 503
        this.stop()
        setTimeout(() => this.start(), 2000)
      }
    }
    source.addEventListener('status', (event) => {
      this.unavailable = ''
      this.status = JSON.parse(event.data)
    })
    source.addEventListener('unavailable', (event) => (this.unavailable = JSON.parse(event.data).message))
    source.addEventListener('resync', () => this.resync())
    source.addEventListener('connection', (event) => {
      const change: Change = JSON.parse(event.data)
      for (const one of this.listeners) one.changed?.(change)
    })
  }

  stop(): void {
    this.source?.close()
    this.source = null
    this.connected = false
  }

  /** Be told until the returned function is called. */
  on(listener: Listener): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  private resync(): void {
    for (const one of this.listeners) one.resync?.()
  }
}

export const live = new Live()
