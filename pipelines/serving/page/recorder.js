// Runs beside the audio hardware: microphone samples as 16-bit numbers, a tenth of a second at a time. Any message ends it: the rest comes, and null.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new Int16Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.over = false;
    this.port.onmessage = () => {
      this.over = true;
      if (this.filled) this.port.postMessage(this.buffer.slice(0, this.filled));
      this.port.postMessage(null);
    };
  }

  process(inputs) {
    if (this.over) return false;
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
