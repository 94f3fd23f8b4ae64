// The dashboard, live. Everything is written as text: what a name or a reason holds is never markup.
'use strict';
(() => {
  const EVERY = 2000, REST_EVERY = 15000, NOTE = 10000, KEPT = 36, STEP = 3, HEIGHT = 24;
  const $ = (id) => document.getElementById(id);
  const say = (text) => { $('live').textContent = text; };
  const orders = [['drain', 'drain'], ['maintain', 'maintenance'], ['ready', 'ready']];
  let known = new Map();   // key → row, its cells, its notes
  let lost = false, timer = 0, rest = 0;

  // Numbers for people, as the server writes them.
  const bytes = (n) => {
    for (const unit of ['B', 'kB', 'MB', 'GB']) {
      if (n < 1000) return n.toFixed(unit !== 'B' && n < 10 ? 1 : 0) + ' ' + unit;
      n /= 1000;
    }
    return n.toFixed(1) + ' TB';
  };
  const age = (since) => {
    const s = Math.max(0, Math.floor((Date.now() - Date.parse(since)) / 1000));
    if (s < 60) return s + ' s';
    if (s < 3600) return Math.floor(s / 60) + ' min';
    return s < 172800 ? Math.floor(s / 3600) + ' h' : Math.floor(s / 86400) + ' d';
  };
  const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
  const badge = (node, word) => {
    if (node.textContent === word) return false;
    node.textContent = word;
    node.className = 'st ' + word;
    return true;
  };

  function bars(notes, of, highest) {
    const first = KEPT - notes.length;
    return notes.map((note, n) => {
      const h = Math.min(HEIGHT, Math.ceil(of(note) * HEIGHT / highest));
      return h > 0 ? `M${(first + n) * STEP} ${HEIGHT - h}h2v${h}h-2z` : '';
    }).join('');
  }
  function spark(it) {
    const highest = Math.max(1, ...it.notes.map((n) => n[0]));
    const [r, f] = it.svg.querySelectorAll('path');
    r.setAttribute('d', bars(it.notes, (n) => n[0], highest));
    f.setAttribute('d', bars(it.notes, (n) => n[1], highest));
    const sum = (i) => it.notes.reduce((all, n) => all + n[i], 0);
    it.svg.setAttribute('aria-label', `${sum(0)} requests, ${sum(1)} failed in 6 minutes`);
  }
  function note(it, server) {
    const now = Date.now();
    const more = (a, b) => (a >= b ? a - b : a);
    if (it.last) {
      if (now - it.begun > NOTE) {
        it.notes.push([0, 0]);
        it.begun = now;
        if (it.notes.length > KEPT) it.notes.shift();
      }
      const last = it.notes[it.notes.length - 1];
      last[0] += more(server.requests, it.last[0]);
      last[1] += more(server.failures, it.last[1]);
      spark(it);
    }
    it.last = [server.requests, server.failures];
  }

  // Rows as they are in the page: each gets its buttons.
  function adopt() {
    const head = document.querySelector('.servers thead tr');
    if (!head.querySelector('.do')) {
      const th = document.createElement('th');
      th.scope = 'col'; th.className = 'do'; th.textContent = 'Orders';
      head.append(th);
    }
    known = new Map();
    for (const row of document.querySelectorAll('.servers tbody tr')) {
      const key = row.dataset.s, svg = row.querySelector('svg');
      const notes = (svg.dataset.n ? svg.dataset.n.split(' ') : [])
        .map((n) => { const [r, f] = n.split('.'); return [Number(r), Number(f || 0)]; });
      notes.push([0, 0]);
      if (notes.length > KEPT) notes.shift();
      const td = document.createElement('td');
      td.className = 'do';
      for (const [verb, state] of orders) {
        const button = document.createElement('button');
        button.type = 'button';
        button.textContent = state;
        button.dataset.verb = verb;
        button.setAttribute('aria-label', `${state} ${key}`);
        td.append(button);
      }
      row.append(td);
      known.set(key, { row, td, svg, cells: [...row.cells], notes, begun: Date.now(), last: null });
    }
    filter();
  }

  function show(server, told) {
    const key = `${server.farm}/${server.server}`, it = known.get(key);
    if (!it) return false;
    const [, state, ...cells] = it.cells;
    if (badge(state.querySelector('b'), server.status)) {
      const why = server.status_reason ? ` (${server.status_reason})` : '';
      told.push(`${key} is ${server.status}${why}`);
      it.row.classList.remove('changed');
      void it.row.offsetWidth;
      it.row.classList.add('changed');
    }
    const time = state.querySelector('time');
    put(time, server.status_since ? age(server.status_since) : '');
    if (server.status_since) time.dateTime = server.status_since;
    put(state.querySelector('small'), server.status_reason || (server.backup ? 'backup' : ''));
    const ms = server.response_time_ms;
    [server.requests, server.requests_per_second.toFixed(1), server.in_flight, server.failures,
      ms === null ? '–' : ms.toFixed(0) + ' ms', bytes(server.bytes_received),
      bytes(server.bytes_sent), server.pins, server.websockets, server.weight,
    ].forEach((value, n) => put(cells[n], String(value)));
    for (const button of it.td.children) {
      const pressed = String(orders.some(([v, s]) => v === button.dataset.verb && s === server.state));
      if (button.getAttribute('aria-pressed') !== pressed) button.setAttribute('aria-pressed', pressed);
    }
    note(it, server);
    return true;
  }

  async function poll() {
    clearTimeout(timer);
    if (document.hidden) return;
    const begun = performance.now();
    try {
      const answer = await fetch('/api/v1/servers', { cache: 'no-store' });
      if (answer.status === 401) { location.reload(); return; }
      if (!answer.ok) throw new Error(answer.status);
      const { servers } = await answer.json();
      const told = [];
      const shown = servers.filter((server) => show(server, told)).length;
      put($('taking'), String(servers.filter((s) => s.takes_clients).length));
      const word = new Map(servers.map((s) => [`${s.farm}/${s.server}`, s.status]));
      for (const at of document.querySelectorAll('.sv')) {
        if (word.has(at.dataset.v)) badge(at.querySelector('b'), word.get(at.dataset.v));
      }
      if (lost) say('Frontgate answers again.');
      lost = false;
      document.body.classList.remove('gone');
      if (told.length) say(told.slice(0, 3).join('. ') + (told.length > 3 ? `, and ${told.length - 3} more` : ''));
      // Servers that came or went: the rows are made where everything else is.
      const filtered = new URLSearchParams(location.search).has('servers') || servers.length > 1000;
      if (!filtered && (shown < servers.length || shown < known.size)) await refresh(true);
      else if (told.length || begun - rest > REST_EVERY) await refresh(false);
    } catch {
      if (!lost) say('Frontgate does not answer; what you see is what it said last.');
      lost = true;
      document.body.classList.add('gone');
    }
    // A thousand servers take their time: never more than a fifth of it.
    timer = setTimeout(poll, Math.max(EVERY, 4 * (performance.now() - begun)));
  }

  // The other parts as the server writes them, but never one that somebody is in.
  async function refresh(withServers) {
    rest = performance.now();
    const url = new URL(location.href);
    if (!withServers) url.searchParams.set('part', 'rest');
    const answer = await fetch(url.pathname + url.search, { cache: 'no-store' });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    for (const id of ['names', 'certificates', 'reload', 'events']) {
      const [old, fresh] = [$(id), page.getElementById(id)];
      if (old && fresh && !old.contains(document.activeElement) && old.innerHTML !== fresh.innerHTML) {
        old.replaceWith(fresh);
      }
    }
    $('summary').innerHTML = page.getElementById('summary').innerHTML;
    if (withServers) {
      document.querySelector('.servers tbody').replaceWith(page.querySelector('.servers tbody'));
      adopt();
    }
    names();
    filter();
  }

  // Filters answer while one types; where there are more pages the form asks the server.
  function filter() {
    for (const [box, rows] of [['f-servers', '.servers tbody tr'], ['f-names', '.names tbody tr']]) {
      const paged = box === 'f-names' && document.querySelector('.names').dataset.pages !== '1';
      const wanted = $(box).value.trim().toLowerCase();
      if (paged) continue;
      for (const row of document.querySelectorAll(rows)) {
        let text = '';
        for (const cell of row.cells) if (cell.className !== 'do') text += ' ' + cell.textContent;
        row.hidden = !text.toLowerCase().includes(wanted);
      }
    }
  }
  function names() {
    $('f-names').oninput = filter;
  }
  $('f-servers').oninput = filter;

  // Orders.
  const dialog = $('order'), form = dialog.querySelector('form');
  let order = null;
  document.addEventListener('click', (event) => {
    const button = event.target.closest('button[data-verb]');
    if (!button) return;
    const server = button.closest('tr').dataset.s;
    order = { verb: button.dataset.verb, server, button };
    put($('order-title'), `${button.textContent}: ${server}`);
    put($('order-what'), {
      drain: 'No new clients; those that have affinity or a pin stay, running requests go on.',
      maintain: 'Out at once: affinity and pins move away too. Running requests may end.',
      ready: 'It takes traffic again while it is healthy.',
    }[order.verb]);
    put($('order-error'), '');
    $('order-why').value = '';
    $('order-who').value = sessionStorage.getItem('who') || '';
    askToken(!sessionStorage.getItem('token'));
    dialog.showModal();
  });
  function askToken(ask) {
    $('order-token-row').hidden = !ask;
    $('order-token').required = ask;
    if (ask) $('order-token').value = '';
  }
  $('order-cancel').onclick = () => dialog.close();
  dialog.onclose = () => { if (order) order.button.focus(); };
  form.onsubmit = async (event) => {
    event.preventDefault();
    const typed = $('order-token').value.trim(), who = $('order-who').value.trim();
    const token = typed || sessionStorage.getItem('token');
    const why = $('order-why').value.trim();
    $('order-do').disabled = true;
    try {
      const answer = await fetch('/api/v1/' + order.verb, {
        method: 'POST',
        headers: { 'Authorization': 'Bearer ' + token, 'Content-Type': 'application/json' },
        body: JSON.stringify({ server: order.server, who: who + ' (dashboard)', ...(why ? { why } : {}) }),
      });
      const said = await answer.json();
      if (!answer.ok) {
        if (answer.status === 401) { sessionStorage.removeItem('token'); askToken(true); }
        put($('order-error'), said.error);
        return;
      }
      sessionStorage.setItem('token', token);
      sessionStorage.setItem('who', who);
      dialog.close();
      const kept = said.kept ? '' : ' It is NOT kept across restarts.';
      const none = said.without_servers.map((farm) => ` Farm ${farm} has no server left for new clients.`);
      say(`${order.server}: ${order.button.textContent}.${kept}${none.join('')}`);
      poll();
    } catch {
      put($('order-error'), 'Frontgate does not answer, or the token has characters no token has.');
    } finally {
      $('order-do').disabled = false;
    }
  };

  document.addEventListener('visibilitychange', () => { if (!document.hidden) poll(); });
  rest = performance.now();
  adopt();
  names();
  poll();
})();
