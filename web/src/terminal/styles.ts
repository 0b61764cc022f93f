// xterm.js writes its styles into <style> elements, which our policy does not allow. What it makes instead
// is an element that hands its text to a constructed style sheet: no markup is parsed, and nothing is inline.

const made = document.createElement.bind(document)

function styleElement(): HTMLElement {
  const sheet = new CSSStyleSheet()
  const element = made('xterm-style')
  element.hidden = true
  let text = ''
  const adopted = () => document.adoptedStyleSheets
  document.adoptedStyleSheets = [...adopted(), sheet]
  Object.defineProperty(element, 'textContent', {
    get: () => text,
    set: (value: string) => {
      text = value
      sheet.replaceSync(value)
    },
  })
  const remove = element.remove.bind(element)
  element.remove = () => {
    document.adoptedStyleSheets = adopted().filter((one) => one !== sheet)
    remove()
  }
  return element
}

document.createElement = ((name: string, options?: ElementCreationOptions) =>
  name.toLowerCase() === 'style' ? styleElement() : made(name, options)) as typeof document.createElement
