// Keys: a page says what its keys do, and the list of them is shown on `?`. Not while somebody types.

export type Key = { does: string; run: (event: KeyboardEvent) => void }
export type Keys = Record<string, Key>

class Keyboard {
  always = $state<Keys>({})
  ofPage = $state<Keys>({})
  private before = ''
  private beforeAt = 0

  global(keys: Keys): void {
    this.always = keys
  }

  /** Use in a page's `$effect`, and return what this returns. */
  page(keys: Keys): () => void {
    this.ofPage = keys
    return () => {
      if (this.ofPage === keys) this.ofPage = {}
    }
  }

  pressed(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return
    const target = event.target as HTMLElement
    const typing = target.closest?.('input, textarea, select, [contenteditable], .xterm')
    if (typing && event.key !== 'Escape') return
    if (document.querySelector('dialog[open]') && event.key !== '?') return
    const pair = event.timeStamp - this.beforeAt < 900 ? `${this.before} ${event.key}` : ''
    const all = { ...this.always, ...this.ofPage }
    const key = all[pair] ?? all[event.key]
    this.before = event.key
    this.beforeAt = event.timeStamp
    if (key && !(event.key === 'Enter' && target.closest?.('a, button, summary'))) {
      event.preventDefault()
      key.run(event)
    }
  }
}

export const keys = new Keyboard()
