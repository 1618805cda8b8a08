// Streams the microphone over the realtime WebSocket, and records the audio, so that it can be played with its words.
const RATES = [48000, 44100, 32000, 24000, 16000, 8000];
const CHUNK_BYTES = 0x8000; // function calls take a limited number of arguments
const TRANSCRIPT_TIMEOUT = 20_000; // ms for the transcript of the last utterance
const RECORDER_TIMEOUT = 500; // ms for the last samples of the recorder, which may have crashed

function base64(samples) {
  const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
  let text = "";
  for (let start = 0; start < bytes.length; start += CHUNK_BYTES) {
    text += String.fromCharCode(...bytes.subarray(start, start + CHUNK_BYTES));
  }
  return btoa(text);
}

function asWav(chunks, rate) {
  const size = chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  const header = new DataView(new ArrayBuffer(44));
  const put = (offset, text) => [...text].forEach((char, index) => header.setUint8(offset + index, char.charCodeAt(0)));
  put(0, "RIFF");
  header.setUint32(4, 36 + size, true);
  put(8, "WAVEfmt ");
  header.setUint32(16, 16, true); // bytes of the fmt chunk
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, rate, true);
  header.setUint32(28, rate * 2, true); // bytes per second
  header.setUint16(32, 2, true); // bytes per sample
  header.setUint16(34, 16, true); // bits per sample
  put(36, "data");
  header.setUint32(40, size, true);
  return new Blob([header, ...chunks], { type: "audio/wav" });
}

function connect({ key }) {
  const url = new URL("v1/realtime", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, ["realtime", ...(key ? [`openai-insecure-api-key.${key}`] : [])]);
  return new Promise((resolve, reject) => {
    socket.onopen = () => resolve(socket);
    const message = "The server refused the stream: it may require an API key, or be overloaded.";
    socket.onerror = () => reject(new Error(message));
  });
}

// Starts recording, unless the signal is aborted before the microphone is available. Returns {stop}.
// settings: {model, language, prompt, key}.
// hooks: onState(text), onDelta(text, tail), onUtterance(event), onEnd(blob, problem).
export async function startMicrophone(settings, hooks, signal) {
  const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false };
  const source = await navigator.mediaDevices.getUserMedia({ audio });
  const stopTracks = () => source.getTracks().forEach((track) => track.stop());
  let context, socket;
  try {
    signal.throwIfAborted();
    context = new AudioContext();
    if (!RATES.includes(context.sampleRate)) {
      await context.close();
      context = new AudioContext({ sampleRate: 48000 });
    }
    await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
    socket = await connect(settings);
    signal.throwIfAborted();
  } catch (error) {
    stopTracks();
    socket?.close();
    await context?.close();
    throw error;
  }
  const rate = context.sampleRate, chunks = [];
  let pending = 0; // utterances without a transcript
  let problem = null;
  let stopRequested = false, committed = false, acknowledged = false, closed = false;
  const send = (event) => { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(event)); };

  const close = () => {
    if (closed) return;
    closed = true;
    stopTracks();
    context.close();
    socket.close();
    hooks.onEnd(chunks.length ? asWav(chunks, rate) : null, problem);
  };

  const { model, language, prompt } = settings;
  const transcription = { model, language: language || null, prompt: prompt || null };
  const input = { format: { type: "audio/pcm", rate }, transcription };
  send({ type: "session.update", session: { type: "transcription", audio: { input } } });
  const node = new AudioWorkletNode(context, "recorder");
  const commit = () => {
    if (committed) return;
    committed = true;
    stopTracks();
    send({ type: "input_audio_buffer.commit" });
    // The response to `clear` comes after that to `commit`, also if there was nothing to commit: by then all
    // utterances are known.
    send({ type: "input_audio_buffer.clear" });
  };
  node.port.onmessage = ({ data }) => {
    if (committed) return;
    if (!data) return commit();
    chunks.push(data);
    send({ type: "input_audio_buffer.append", audio: base64(data) });
  };
  context.createMediaStreamSource(source).connect(node);
  await context.resume();
  if (signal.aborted) close();

  socket.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    const kind = event.type.replace("conversation.item.input_audio_transcription.", "");
    if (event.type === "input_audio_buffer.committed") pending += 1;
    else if (kind === "delta") hooks.onDelta(event.delta, event.unsettled ?? "");
    else if (kind === "completed" || kind === "failed") {
      pending -= 1;
      if (kind === "failed") problem = event.error.message;
      else hooks.onUtterance(event);
    } else if (event.type === "input_audio_buffer.cleared") acknowledged = true;
    else if (event.type === "error" && event.error.code !== "input_audio_buffer_commit_empty") {
      problem = event.error.message;
    }
    if (acknowledged && pending <= 0) close();
  };
  socket.onclose = () => {
    problem ??= `The server closed the stream${stopRequested ? ": the last words may be missing" : ""}.`;
    close();
  };
  hooks.onState("Recording …");

  return {
    stop() {
      if (stopRequested) return;
      stopRequested = true;
      hooks.onState("Finishing …");
      node.port.postMessage("end");
      setTimeout(commit, RECORDER_TIMEOUT);
      setTimeout(() => {
        problem ??= "The server took too long: the last words may be missing.";
        close();
      }, TRANSCRIPT_TIMEOUT);
    },
  };
}
