// Who is signed in in this browser.

import { get, Problem, post, remove, type Schemas, whenSignedOut } from './api'

type Me = Schemas['Me']

class Session {
  me = $state<Me | null>(null)
  /** Until the server has said who it is. */
  asking = $state(true)
  /** Why nobody is signed in, where there is something to say. */
  note = $state('')
  /** By how much (milliseconds) the server's clock is ahead of this browser's. */
  ahead = 0

  get admin(): boolean {
    return this.me?.role === 'admin'
  }

  async ask(): Promise<void> {
    whenSignedOut(() => {
      if (this.me) this.note = 'Your session is over: sign in again.'
      this.me = null
    })
    try {
      this.take(await get('/api/v1/session'))
    } catch (wrong) {
      if (wrong instanceof Problem && wrong.status !== 401) this.note = wrong.message
    } finally {
      this.asking = false
    }
  }

  async signIn(by: Partial<Schemas['SignIn']>): Promise<void> {
    this.take(await post('/api/v1/session', { body: by as Schemas['SignIn'] }))
    this.note = ''
  }

  async signOut(): Promise<void> {
    await remove('/api/v1/session').catch(() => {})
    this.me = null
    this.note = 'You are signed out.'
  }

  private take(me: Me): void {
    this.me = me
    this.ahead = Date.parse(me.now) - Date.now()
  }
}

export const session = new Session()
