// Audio worklet: converts microphone samples to 16 bits and sends them in buffers of a tenth of a second.
// Any message ends it: it then sends the rest of its samples, and null.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new Int16Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.ended = false;
    this.port.onmessage = () => {
      this.ended = true;
      if (this.filled) this.port.postMessage(this.buffer.slice(0, this.filled));
      this.port.postMessage(null);
    };
  }

  process(inputs) {
    if (this.ended) return false;
    const channel = inputs[0][0];
    if (!channel) return true;
    for (const value of channel) {
      this.buffer[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(value * 32767)));
      if (this.filled === this.buffer.length) {
        this.port.postMessage(this.buffer.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}
registerProcessor("recorder", Recorder);
