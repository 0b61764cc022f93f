// MessagePack, as far as the messages of Tether use it: maps, arrays, text, bytes, numbers, true, false, nil.

export type Value = null | boolean | number | string | Uint8Array | Value[] | { [key: string]: Value }

const utf8 = new TextEncoder()
const text = new TextDecoder('utf-8', { fatal: true })

/** `value` as bytes. */
export function encode(value: Value | undefined): Uint8Array<ArrayBuffer> {
  const out: number[] = []
  const big = (n: number, bytes: number) => {
    for (let shift = bytes - 1; shift >= 0; shift--) out.push(Math.floor(n / 2 ** (8 * shift)) & 0xff)
  }
  const head = (length: number, fix: number, fixMost: number, kinds: [number, number][]) => {
    if (fixMost >= 0 && length <= fixMost) return void out.push(fix | length)
    for (const [kind, bytes] of kinds) {
      if (length < 2 ** (8 * bytes)) {
        out.push(kind)
        return big(length, bytes)
      }
    }
  }
  const put = (one: Value | undefined): void => {
    if (one === null || one === undefined) out.push(0xc0)
    else if (typeof one === 'boolean') out.push(one ? 0xc3 : 0xc2)
    else if (typeof one === 'number') {
      if (!Number.isInteger(one)) {
        const view = new DataView(new ArrayBuffer(8))
        view.setFloat64(0, one)
        out.push(0xcb, ...new Uint8Array(view.buffer))
      } else if (one >= 0) {
        if (one < 0x80) out.push(one)
        else head(one, 0, -1, [[0xcc, 1], [0xcd, 2], [0xce, 4], [0xcf, 8]])
      } else if (one >= -32) out.push(0x100 + one)
      else {
        const view = new DataView(new ArrayBuffer(8))
        view.setBigInt64(0, BigInt(one))
        out.push(0xd3, ...new Uint8Array(view.buffer))
      }
    } else if (typeof one === 'string') {
      const bytes = utf8.encode(one)
      head(bytes.length, 0xa0, 31, [[0xd9, 1], [0xda, 2], [0xdb, 4]])
      for (const byte of bytes) out.push(byte)
    } else if (one instanceof Uint8Array) {
      head(one.length, 0, -1, [[0xc4, 1], [0xc5, 2], [0xc6, 4]])
      for (const byte of one) out.push(byte)
    } else if (Array.isArray(one)) {
      head(one.length, 0x90, 15, [[0xdc, 2], [0xdd, 4]])
      one.forEach(put)
    } else {
      const entries = Object.entries(one)
      head(entries.length, 0x80, 15, [[0xde, 2], [0xdf, 4]])
      for (const [key, item] of entries) {
        put(key)
        put(item)
      }
    }
  }
  put(value)
  return new Uint8Array(out)
}

/** The value in `data`; throws where it is none, or where something is left. */
export function decode(data: Uint8Array): Value {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  let at = 0
  const big = (bytes: number) => {
    let n = 0
    for (let i = 0; i < bytes; i++) n = n * 256 + view.getUint8(at++)
    return n
  }
  const some = (length: number) => {
    if (at + length > data.length) throw new RangeError('cut short')
    at += length
    return data.slice(at - length, at)
  }
  const list = (length: number) => Array.from({ length }, () => one())
  const map = (length: number) => Object.fromEntries(Array.from({ length }, () => [String(one()), one()]))
  const one = (): Value => {
    const kind = big(1)
    if (kind < 0x80) return kind
    if (kind >= 0xe0) return kind - 0x100
    if (kind < 0x90) return map(kind & 0x0f)
    if (kind < 0xa0) return list(kind & 0x0f)
    if (kind < 0xc0) return text.decode(some(kind & 0x1f))
    switch (kind) {
      case 0xc0: return null
      case 0xc2: return false
      case 0xc3: return true
      case 0xc4: case 0xc5: case 0xc6: return some(big(1 << (kind - 0xc4)))
      case 0xca: at += 4; return view.getFloat32(at - 4)
      case 0xcb: at += 8; return view.getFloat64(at - 8)
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return big(1 << (kind - 0xcc))
      case 0xd0: at += 1; return view.getInt8(at - 1)
      case 0xd1: at += 2; return view.getInt16(at - 2)
      case 0xd2: at += 4; return view.getInt32(at - 4)
      case 0xd3: at += 8; return Number(view.getBigInt64(at - 8))
      case 0xd9: case 0xda: case 0xdb: return text.decode(some(big(1 << (kind - 0xd9))))
      case 0xdc: case 0xdd: return list(big(2 << (kind - 0xdc)))
      case 0xde: case 0xdf: return map(big(2 << (kind - 0xde)))
    }
    throw new RangeError(`unknown kind ${kind}`)
  }
  const value = one()
  if (at !== data.length) throw new RangeError('something is left')
  return value
}
