"""The neuron of tutorial 2 with sliders, as a piece of HTML: drawn here for its first values, redrawn where a script runs."""

import json

WIDTH, HEIGHT, STEPS = 640, 220, 40
START = {"tau": 2.0, "threshold": 1.0, "reset": 0.0, "current": 1.5}
RANGES = {"tau": (1, 16, 0.5), "threshold": (0.2, 2, 0.1), "reset": (-0.5, 0.5, 0.1), "current": (0, 5, 0.1)}
WORDS = {"tau": "tau (steps)", "threshold": "threshold", "reset": "reset", "current": "current of a pulse"}
PULSES = [2, 7, 8, 14, *range(22, 34)]  # as on the page: alone, a pair, alone, twelve in a row


def simulate(tau, threshold, reset, current):
    """Potentials and steps of the spikes of tutorial 2's loop; ``reset`` is the potential at rest too."""
    u, spikes, h = [], [], reset
    for t in range(STEPS):
        u.append(h + ((current if t in PULSES else 0.0) - (h - reset)) / tau)
        fired = u[t] >= threshold
        spikes += [t] if fired else []
        h = reset if fired else u[t]
    return u, spikes


def place(t, value):
    """Of a step and a potential, in the picture."""
    return round(20 + t * (WIDTH - 40) / (STEPS - 1), 1), round(HEIGHT - 40 - value * (HEIGHT - 80) / 2.5, 1)


def drawing(tau, threshold, reset, current):
    """The inside of the picture: threshold, potential, spikes."""
    u, spikes = simulate(tau, threshold, reset, current)
    points = " ".join(f"{x},{y}" for x, y in (place(t, min(v, 2.5)) for t, v in enumerate(u)))
    y = place(0, threshold)[1]
    bars = "".join(f'<rect x="{place(t, 0)[0] - 1.5:.1f}" y="8" width="3" height="20"/>' for t in spikes)
    return (f'<line x1="20" x2="{WIDTH - 20}" y1="{y}" y2="{y}" stroke="currentColor" stroke-dasharray="3"/>'
            f'<polyline points="{points}" fill="none" style="stroke:var(--color-brand-content,#0072B2)" stroke-width="2"/>'
            f'<g fill="#D55E00">{bars}</g>')


SCRIPT = """
(function () {
  const box = document.currentScript.parentElement, pulses = PULSES, asked = new URLSearchParams(location.search);
  const inputs = Array.from(box.querySelectorAll("input"));
  inputs.forEach(function (i) { if (asked.has(i.name)) { i.value = asked.get(i.name); } });
  function one(x) { return Math.round(x * 10) / 10; }
  function place(t, v) { return [one(20 + t * 600 / 39), one(180 - v * 140 / 2.5)]; }
  function draw() {
    const s = {};
    inputs.forEach(function (i) { s[i.name] = Number(i.value); i.nextElementSibling.textContent = i.value; });
    let h = s.reset, points = [], bars = "", fired = 0;
    for (let t = 0; t < 40; t++) {
      const u = h + ((pulses.includes(t) ? s.current : 0) - (h - s.reset)) / s.tau, spike = u >= s.threshold;
      points.push(place(t, Math.min(u, 2.5)).join(","));
      if (spike) { fired += 1; bars += '<rect x="' + (place(t, 0)[0] - 1.5) + '" y="8" width="3" height="20"/>'; }
      h = spike ? s.reset : u;
    }
    const line = box.querySelector("line"), y = place(0, s.threshold)[1];
    line.setAttribute("y1", y); line.setAttribute("y2", y);
    box.querySelector("polyline").setAttribute("points", points.join(" "));
    box.querySelector("g").innerHTML = bars;
    box.querySelector("output.fired").textContent = fired + " spikes";
  }
  box.querySelector(".controls").hidden = false;
  inputs.forEach(function (i) { i.addEventListener("input", draw); });
  draw();
})();
"""


def neuron():
    """The whole piece. Without a script it is a picture; with one it has three sliders."""
    controls = "".join(
        f'<label>{WORDS[name]} <input type="range" name="{name}" min="{low}" max="{high}" step="{step}" '
        f'value="{START[name]:g}"><output>{START[name]:g}</output></label>' for name, (low, high, step) in RANGES.items())
    spikes = len(simulate(**START)[1])
    return (f'<div class="slider"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Potential of a neuron over '
            f'{STEPS} steps, its threshold as a dashed line, its spikes as bars above">{drawing(**START)}</svg>'
            f'<div class="controls" hidden>{controls}<output class="fired">{spikes} spikes</output></div>'
            f"<script>{SCRIPT.replace('PULSES', json.dumps(PULSES))}</script></div>")
