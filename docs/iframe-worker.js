// Browsers refuse workers to pages that are opened as files. Search then runs in a hidden frame.
if (location.protocol === "file:") {
  // The search script looks for this name to find its own folder.
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      this.inside = frame.contentWindow
      const page = this.inside.document
      page.open()
      page.write(`<body><script>
        postMessage = message => parent.postMessage(message, "*")
        importScripts = (...urls) => urls.reduce((before, url) => before.then(() =>
          new Promise(resolve => {
            const script = document.createElement("script")
            script.src = url
            script.onload = resolve
            document.body.appendChild(script)
          })), Promise.resolve())
      <\/script><script src="${url}"><\/script></body>`)
      page.close()
      this.ready = new Promise(resolve => this.inside.addEventListener("load", resolve))
      addEventListener("message", event => {
        if (event.source === this.inside) {
          const told = new MessageEvent("message", {data: event.data})
          this.dispatchEvent(told)
          if (this.onmessage) this.onmessage(told)
        }
      })
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", {data})))
    }
    terminate() {
      this.inside.frameElement.remove()
    }
  }
}
