// The REST API, typed by its own description. Every failure is a `Problem` with a sentence for people.

import type { components, paths } from '../api/schema'

export type Schemas = components['schemas']

type Ok<T> = T extends { responses: infer R }
  ? R extends { 200: { content: { 'application/json': infer J } } }
    ? J
    : R extends { 201: { content: { 'application/json': infer J } } }
      ? J
      : undefined
  : never
type Query<T> = T extends { parameters: { query?: infer Q } } ? NonNullable<Q> : never
type Body<T> = T extends { requestBody?: { content: { 'application/json': infer B } } } ? B : never
type Has<M extends string> = { [P in keyof paths]: paths[P] extends Record<M, object> ? P : never }[keyof paths]

export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterS = 0,
  ) {
    super(message)
  }
}

/** Called once the server says that nobody is signed in any more. */
export let onSignedOut: () => void = () => {}
export function whenSignedOut(does: () => void): void {
  onSignedOut = does
}

type Values = Record<string, string>
type Given = Record<string, string | number | boolean | readonly (string | number)[] | null | undefined>

export function address(path: string, values: Values = {}, query: Given = {}): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(values[name] ?? ''))
  const params = new URLSearchParams()
  for (const [key, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== '') params.append(key, String(one))
    }
  }
  const text = params.toString()
  return text ? `${filled}?${text}` : filled
}

async function call(method: string, url: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  let answer: Response
  try {
    answer = await fetch(url, {
      method,
      credentials: 'same-origin',
      headers: body === undefined ? { accept: 'application/json' } : { accept: 'application/json', 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    })
  } catch (wrong) {
    if (signal?.aborted) throw wrong
    throw new Problem(0, 'unreachable', 'The server cannot be reached from this browser.')
  }
  if (answer.ok) return answer
  const said = await answer.json().catch(() => null)
  const code = said?.error?.code ?? 'unexpected'
  const message = said?.error?.message ?? `The server answered with HTTP status ${answer.status}.`
  if (answer.status === 401 && url !== '/api/v1/session') onSignedOut()
  throw new Problem(answer.status, code, message, Number(answer.headers.get('retry-after') ?? 0))
}

export async function get<P extends Has<'get'>>(
  path: P,
  { values, query, signal }: { values?: Values; query?: Query<paths[P]['get' & keyof paths[P]]>; signal?: AbortSignal } = {},
): Promise<Ok<paths[P]['get' & keyof paths[P]]>> {
  const answer = await call('GET', address(path, values, query as Given), undefined, signal)
  return answer.json()
}

function sends<M extends 'post' | 'put' | 'delete' | 'patch'>(method: M) {
  return async <P extends Has<M>>(
    path: P,
    { values, query, body }: { values?: Values; query?: Given; body?: Body<paths[P][M & keyof paths[P]]> } = {},
  ): Promise<Ok<paths[P][M & keyof paths[P]]>> => {
    const answer = await call(method.toUpperCase(), address(path, values, query), body)
    return (answer.status === 204 ? undefined : await answer.json()) as Ok<paths[P][M & keyof paths[P]]>
  }
}

export const post = sends('post')
export const put = sends('put')
export const remove = sends('delete')
export const patch = sends('patch')
