// The cause catalogue, fetched once: titles, sides and advice by code.

import { get, type Schemas } from './api'

export type Side = Schemas['Side']
export type Cause = Schemas['CauseView']

export const SIDES: readonly Side[] = ['us', 'workspace', 'network', 'machine', 'unknown']

export const SIDE_NAMES: Record<Side, string> = {
  us: 'Us',
  workspace: 'Workspace',
  network: 'Network',
  machine: 'Their machine',
  unknown: 'Unknown',
}

class Causes {
  byCode = $state.raw<Record<string, Cause>>({})
  private asked = false

  load(): void {
    if (this.asked) return
    this.asked = true
    get('/api/v1/log/causes')
      .then((all) => (this.byCode = Object.fromEntries(all.map((cause) => [cause.code, cause]))))
      .catch(() => (this.asked = false))
  }

  title(code: string | null | undefined): string {
    return code ? (this.byCode[code]?.title ?? code) : ''
  }

  side(code: string | null | undefined): Side {
    return (code && this.byCode[code]?.side) || 'unknown'
  }
}

export const causes = new Causes()
