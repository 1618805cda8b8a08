// The microphone over the realtime WebSocket. What was heard is kept as well, to be played with its words.
const RATES = [48000, 44100, 32000, 24000, 16000, 8000];
const LAST_WORDS = 20_000; // milliseconds that the server may take for the last utterance
const LAST_SAMPLES = 500; // milliseconds that the recorder may take for its last samples: one that has died gives none

function base64(samples) {
  const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
  let text = "";
  for (let place = 0; place < bytes.length; place += 0x8000) text += String.fromCharCode(...bytes.subarray(place, place + 0x8000));
  return btoa(text);
}

function asWav(pieces, rate) {
  const size = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  const head = new DataView(new ArrayBuffer(44));
  const put = (place, text) => [...text].forEach((letter, number) => head.setUint8(place + number, letter.charCodeAt(0)));
  put(0, "RIFF"); head.setUint32(4, 36 + size, true); put(8, "WAVEfmt ");
  head.setUint32(16, 16, true); head.setUint16(20, 1, true); head.setUint16(22, 1, true);
  head.setUint32(24, rate, true); head.setUint32(28, rate * 2, true); head.setUint16(32, 2, true); head.setUint16(34, 16, true);
  put(36, "data"); head.setUint32(40, size, true);
  return new Blob([head, ...pieces], { type: "audio/wav" });
}

function connect({ key }) {
  const address = new URL("v1/realtime", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address, ["realtime", ...(key ? [`openai-insecure-api-key.${key}`] : [])]);
  return new Promise((resolve, reject) => {
    socket.onopen = () => resolve(socket);
    socket.onerror = () => reject(new Error("The server does not take the stream: it may want an API key, or be full."));
  });
}

// Begins at once, unless the signal is aborted by then; answers with {stop}. hooks: onState(text), onDelta(text, tail), onUtterance(event),
// onEnd(blob, problem).
export async function startMicrophone(wish, hooks, signal) {
  const source = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: false } });
  const quiet = () => source.getTracks().forEach((track) => track.stop());
  let context, socket;
  try {
    signal.throwIfAborted();
    context = new AudioContext();
    if (!RATES.includes(context.sampleRate)) { await context.close(); context = new AudioContext({ sampleRate: 48000 }); }
    await context.audioWorklet.addModule(new URL("recorder.js", import.meta.url));
    socket = await connect(wish);
    signal.throwIfAborted();
  } catch (error) {
    quiet();
    socket?.close();
    await context?.close();
    throw error;
  }
  const rate = context.sampleRate, pieces = [];
  let open = 0, problem = null, ended = false;
  let over = false, said = false, all = false; // Stop was pressed; the server was told; it has answered
  const send = (event) => { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(event)); };

  const end = () => {
    if (ended) return;
    ended = true;
    quiet();
    context.close();
    socket.close();
    hooks.onEnd(pieces.length ? asWav(pieces, rate) : null, problem);
  };

  const transcription = { model: wish.model, language: wish.language || null, prompt: wish.prompt || null };
  send({ type: "session.update", session: { type: "transcription", audio: { input: { format: { type: "audio/pcm", rate }, transcription } } } });
  const node = new AudioWorkletNode(context, "recorder");
  const finish = () => {
    if (said) return;
    said = true;
    quiet();
    send({ type: "input_audio_buffer.commit" });
    // Answered behind the commit, also where that has nothing to commit: by then every utterance is known.
    send({ type: "input_audio_buffer.clear" });
  };
  node.port.onmessage = ({ data }) => {
    if (said) return;
    if (!data) return finish();
    pieces.push(data);
    send({ type: "input_audio_buffer.append", audio: base64(data) });
  };
  context.createMediaStreamSource(source).connect(node);
  await context.resume();
  if (signal.aborted) end();

  socket.onmessage = ({ data }) => {
    const event = JSON.parse(data);
    const kind = event.type.replace("conversation.item.input_audio_transcription.", "");
    if (event.type === "input_audio_buffer.committed") open += 1;
    else if (kind === "delta") hooks.onDelta(event.delta, event.unsettled ?? "");
    else if (kind === "completed" || kind === "failed") {
      open -= 1;
      if (kind === "failed") problem = event.error.message;
      else hooks.onUtterance(event);
    } else if (event.type === "input_audio_buffer.cleared") all = true;
    else if (event.type === "error" && event.error.code !== "input_audio_buffer_commit_empty") problem = event.error.message;
    if (all && open <= 0) end();
  };
  socket.onclose = () => {
    problem ??= `The server has closed the stream${over ? ": the last words may be missing" : ""}.`;
    end();
  };
  hooks.onState("Recording …");

  return {
    stop() {
      if (over) return;
      over = true;
      hooks.onState("Finishing …");
      node.port.postMessage("end");
      setTimeout(finish, LAST_SAMPLES);
      setTimeout(() => { problem ??= "The server took too long: the last words may be missing."; end(); }, LAST_WORDS);
    },
  };
}
