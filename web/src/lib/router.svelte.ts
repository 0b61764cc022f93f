// Where the page is: the address is the state, so that every view can be linked to and gone back to.

class Place {
  path = $state(location.pathname)
  query = $state(location.search)

  get params(): URLSearchParams {
    return new URLSearchParams(this.query)
  }

  get parts(): string[] {
    return this.path.split('/').filter(Boolean).map(decodeURIComponent)
  }

  private read(): void {
    this.path = location.pathname
    this.query = location.search
  }

  /** Go to `to`. `replace`: without a new entry in the history, for what is typed or dragged. */
  go(to: string, { replace = false } = {}): void {
    if (to === location.pathname + location.search) return
    const moved = to.split('?')[0] !== location.pathname
    history[replace ? 'replaceState' : 'pushState'](null, '', to)
    this.read()
    if (moved && !replace) {
      scrollTo(0, 0)
      queueMicrotask(() => document.querySelector<HTMLElement>('main')?.focus({ preventScroll: true }))
    }
  }

  /** Have clicks on links of ours change the page instead of loading it. */
  listen(): void {
    addEventListener('popstate', () => this.read())
    document.addEventListener('click', (event) => {
      if (event.defaultPrevented || event.button !== 0) return
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
      const link = (event.target as Element).closest?.('a')
      if (!link?.href || link.target || link.hasAttribute('download')) return
      const to = new URL(link.href)
      if (to.origin !== location.origin || to.pathname.startsWith('/api/')) return
      event.preventDefault()
      this.go(to.pathname + to.search)
    })
  }
}

export const place = new Place()

/** An address below this server: `to('/connections', { user: 'alice' })`; empty values are left out. */
export function to(path: string, query: Record<string, string | string[] | number | undefined> = {}): string {
  const params = new URLSearchParams()
  for (const [key, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== '') params.append(key, String(one))
    }
  }
  const text = params.toString()
  return text ? `${path}?${text}` : path
}
