// The page: shows the slots and the queue of each instance.

async function read(address) {
  const response = await fetch(address, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error(`${address}: HTTP ${response.status}`);
  return response.json();
}

function row(name, instance) {
  const line = document.createElement("tr");
  const slots = instance.slots;
  const taken = slots.uploading + slots.queued + slots.importing;
  for (const text of [name, `${taken} of ${slots.limit}`, String(instance.queue.pending_batches)]) {
    line.insertCell().textContent = text;
  }
  return line;
}

async function show() {
  const line = document.getElementById("session");
  try {
    const session = await read("ui/session");
    const status = await read("v1/status");
    const rows = Object.entries(status.instances).map(([name, instance]) => row(name, instance));
    document.getElementById("instances").replaceChildren(...rows);
    line.textContent = `${session.client ?? "socket"}, version ${session.version}`;
  } catch (error) {
    line.textContent = `The daemon can't be asked: ${error.message}`;
  }
}

show();
