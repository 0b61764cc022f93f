// How things read: times, spans, sizes. In the reader's own time zone, by a 24-hour clock.

const pad = (n: number) => String(n).padStart(2, '0')
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']

/** `14:03:07`. */
export function clock(at: Date): string {
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`
}

/** `14:03`, of another day `22 Nov 14:03`, of another year with it. */
export function when(text: string | null | undefined, now = new Date()): string {
  if (!text) return '–'
  const at = new Date(text)
  const time = `${pad(at.getHours())}:${pad(at.getMinutes())}`
  if (at.toDateString() === now.toDateString()) return `${time}:${pad(at.getSeconds())}`
  const day = `${at.getDate()} ${MONTHS[at.getMonth()]}`
  return at.getFullYear() === now.getFullYear() ? `${day} ${time}` : `${day} ${at.getFullYear()} ${time}`
}

/** `Sun 22 Nov 2026 14:03:07.123`. */
export function exactly(text: string | null | undefined): string {
  if (!text) return ''
  const at = new Date(text)
  const day = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'][at.getDay()]
  const ms = String(at.getMilliseconds()).padStart(3, '0')
  return `${day} ${at.getDate()} ${MONTHS[at.getMonth()]} ${at.getFullYear()} ${clock(at)}.${ms}`
}

/** A span of time in its two largest units: `3 d 4 h`, `12 m 5 s`, `0.4 s`. */
export function span(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return '–'
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`
  const s = Math.round(seconds)
  if (s < 60) return `${s} s`
  if (s < 3600) return s % 60 ? `${Math.floor(s / 60)} m ${s % 60} s` : `${s / 60} m`
  if (s < 86400) return `${Math.floor(s / 3600)} h ${pad(Math.floor((s % 3600) / 60))} m`
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`
}

/** How long ago: `just now`, `4 m ago`, `3 d ago`. */
export function ago(text: string | null | undefined, now = Date.now()): string {
  if (!text) return 'never'
  const s = (now - Date.parse(text)) / 1000
  if (s < 10) return 'just now'
  if (s < 60) return `${Math.round(s)} s ago`
  if (s < 3600) return `${Math.round(s / 60)} m ago`
  if (s < 48 * 3600) return `${Math.round(s / 3600)} h ago`
  return `${Math.round(s / 86400)} d ago`
}

export function bytes(n: number | null | undefined): string {
  if (n === null || n === undefined) return '–'
  let value = n
  for (const unit of ['B', 'kB', 'MB', 'GB']) {
    if (value < 1000) return `${value < 10 && unit !== 'B' ? value.toFixed(1) : Math.round(value)} ${unit}`
    value /= 1000
  }
  return `${value.toFixed(1)} TB`
}

/** `12,345`. */
export function count(n: number | null | undefined): string {
  return n === null || n === undefined ? '–' : n.toLocaleString('en-US')
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`
}

/** A word of the vocabulary for people: `agent_to_client` → `agent to client`. */
export function words(text: string | null | undefined): string {
  return (text ?? '').replaceAll('_', ' ')
}

/** What the ends of an incident share: `relay us-east`. */
export function shared({ element, name }: { element: string; name: string }): string {
  return element === name || !name ? words(element) : `${words(element)} ${name}`
}
