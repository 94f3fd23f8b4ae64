// The dashboard, live. Everything is written as text: what a name or a reason holds is never markup.
'use strict';
(() => {
  // Milliseconds: between two looks at the counters; between two of everything else, with and
  // without the stream of events; at most after an event; until a refused stream is tried again;
  // until an answer that does not come is given up.
  const EVERY = 2000, REST_EVERY = 60000, REST_ALONE = 15000, SOON = 1000, AGAIN = 30000, PATIENCE = 10000;
  const NOTE = 10000, KEPT = 36, STEP = 3, HEIGHT = 24, EVENTS = 50;
  const $ = (id) => document.getElementById(id);
  const say = (text) => { $('live').textContent = text; };
  const orders = [['drain', 'drain'], ['maintain', 'maintenance'], ['ready', 'ready']];
  let known = new Map();   // key → row, its cells, its notes
  let expected = '';       // the server that somebody gave an order for, here
  let timer = 0, rest = 0;
  let heard = Date.now();  // when Frontgate last said anything
  let lost = false, busy = false, soon = false, whole = false;

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
      const th = Object.assign(document.createElement('th'), { scope: 'col', className: 'do', textContent: 'Orders' });
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
      if (key === expected) expected = '';
      else told.push(`${key} is ${server.status}${why}`);
      it.row.classList.remove('changed');
      void it.row.offsetWidth;
      it.row.classList.add('changed');
    }
    const time = state.querySelector('time'), ms = server.response_time_ms;
    put(time, server.status_since ? age(server.status_since) : '');
    if (server.status_since) time.dateTime = server.status_since;
    put(state.querySelector('small'), server.status_reason || (server.backup ? 'backup' : ''));
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

  // What Frontgate says to a question; `null`: it is too busy to say.
  async function ask(path) {
    const answer = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
    if (answer.status === 401) { location.reload(); return null; }
    if (answer.status === 503) { hear(); return null; }
    if (!answer.ok) throw new Error(answer.status);
    return answer;
  }

  function hear() {
    heard = Date.now();
    if (!lost) return;
    lost = false;
    put($('lost'), '');
    document.body.classList.remove('gone');
    say('Frontgate answers again.');
    // It may be another one now, with events of its own.
    whole = true;
    follow();
    document.querySelector('.events').dataset.last = 0;
  }
  function lose() {
    if (lost) return;
    lost = true;
    document.body.classList.add('gone');
    say('');
    const since = new Date(heard).toLocaleTimeString();
    put($('lost'), `Connection lost since ${since}. This is what Frontgate said last; the page keeps asking.`);
  }

  // As soon as that is no burden.
  function look() {
    if (soon) return;
    soon = true;
    if (busy) return;
    clearTimeout(timer);
    timer = setTimeout(poll, 30);
  }

  async function poll() {
    clearTimeout(timer);
    soon = false;
    if (document.hidden || busy) return;
    busy = true;
    const begun = performance.now();
    try {
      await servers();
    } catch {
      lose();
    }
    busy = false;
    // A thousand servers take their time: never more than a fifth of it, but for news.
    const pause = 4 * (performance.now() - begun);
    timer = setTimeout(poll, soon ? Math.min(SOON, pause) : Math.max(EVERY, pause));
  }

  async function servers() {
    const answer = await ask('/api/v1/servers');
    if (!answer) return;
    const { servers } = await answer.json();
    hear();
    const told = [];
    const shown = servers.filter((server) => show(server, told)).length;
    put($('taking'), String(servers.filter((s) => s.takes_clients).length));
    const word = new Map(servers.map((s) => [`${s.farm}/${s.server}`, s.status]));
    for (const at of document.querySelectorAll('.sv')) {
      if (word.has(at.dataset.v)) badge(at.querySelector('b'), word.get(at.dataset.v));
    }
    if (told.length) say(told.slice(0, 3).join('. ') + (told.length > 3 ? `, and ${told.length - 3} more` : ''));
    // Servers that came or went: the rows are made where everything else is.
    const filtered = new URLSearchParams(location.search).has('servers') || servers.length > 1000;
    const others = !filtered && (shown < servers.length || shown < known.size);
    const every = stream.open ? REST_EVERY : REST_ALONE;
    const due = whole || (told.length && !stream.open) || performance.now() - rest > every;
    if (others || due) await refresh(others);
  }

  // Events as they happen. Where the stream is refused (there are so many at most) or breaks, the
  // page asks by itself; a tab that nobody looks at takes no place.
  const stream = { source: null, open: false, timer: 0 }, echo = { whole: false, timer: 0 };
  function follow() {
    clearTimeout(stream.timer);
    if (stream.source || document.hidden || !window.EventSource) return;
    const source = new EventSource('/api/v1/events?after=' + last());
    stream.source = source;
    source.onopen = () => { tellHow(true); hear(); look(); };
    source.onmessage = (message) => { hear(); happened(JSON.parse(message.data)); };
    source.addEventListener('missed', () => { whole = true; look(); });
    source.onerror = () => {
      tellHow(false);
      look();
      if (source.readyState !== EventSource.CLOSED) return;
      stream.source = null;
      stream.timer = setTimeout(follow, AGAIN);
    };
  }
  function leave() {
    clearTimeout(stream.timer);
    if (stream.source) stream.source.close();
    stream.source = null;
    tellHow(false);
  }
  function tellHow(open) {
    stream.open = open;
    put($('how'), open ? 'Live: changes show at once.' : 'Asks every two seconds.');
  }

  const last = () => Number(document.querySelector('.events').dataset.last);
  function happened(event) {
    const list = document.querySelector('.events');
    if (event.id <= last()) return;
    list.dataset.last = event.id;
    const [li, time, code] = ['li', 'time', 'b'].map((name) => document.createElement(name));
    const at = event.time.replace(/\.\d+/, '');
    time.dateTime = at;
    put(time, at);
    code.className = 'st ' + ({ info: 'up', warning: 'drain', error: 'down' }[event.severity] || '');
    put(code, event.code);
    li.append(time, ' ', code, ' ' + event.text);
    list.querySelector('.none')?.remove();
    list.prepend(li);
    while (list.children.length > EVENTS) list.lastElementChild.remove();
    // Servers are asked about anyhow; anything else is in the other parts of the page.
    // State may follow its event by a moment: so now, and once more.
    whole ||= !event.server;
    echo.whole ||= !event.server;
    look();
    clearTimeout(echo.timer);
    echo.timer = setTimeout(() => { whole ||= echo.whole; echo.whole = false; look(); }, SOON);
  }

  // The other parts as the server writes them, but never one that somebody is in.
  async function refresh(withServers) {
    rest = performance.now();
    whole = false;
    const url = new URL(location.href);
    if (!withServers) url.searchParams.set('part', 'rest');
    const answer = await ask(url.pathname + url.search).catch((e) => { whole = true; throw e; });
    if (!answer) { whole = true; return; }
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    for (const id of ['names', 'certificates', 'reload', 'events']) {
      const [old, fresh] = [$(id), page.getElementById(id)];
      // What the stream told meanwhile is not taken back.
      if (id === 'events' && Number(fresh.querySelector('.events').dataset.last) < last()) continue;
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
      expected = order.server;
      const kept = said.kept ? '' : ' It is NOT kept across restarts.';
      const none = said.without_servers.map((farm) => ` Farm ${farm} has no server left for new clients.`);
      say(`${order.server}: ${order.button.textContent}.${kept}${none.join('')}`);
      look();
    } catch {
      put($('order-error'), 'Frontgate does not answer, or the token has characters no token has.');
    } finally {
      $('order-do').disabled = false;
    }
  };

  // An explanation, without losing the place in the page.
  $('f-explain').onsubmit = async (event) => {
    event.preventDefault();
    const asked = new URLSearchParams(new FormData($('f-explain')));
    asked.set('part', 'rest');
    try {
      const answer = await ask('/?' + asked);
      if (!answer) { put($('explained'), 'Frontgate is busy; ask again.'); return; }
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      $('explained').replaceChildren(...page.getElementById('explained').childNodes);
    } catch {
      put($('explained'), 'Frontgate does not answer.');
    }
  };

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) { leave(); return; }
    if (!lost) heard = Date.now();
    follow();
    look();
  });
  addEventListener('pagehide', leave);
  // From a browser's memory it comes back as it was.
  addEventListener('pageshow', (event) => { if (event.persisted) { follow(); look(); } });
  rest = performance.now();
  adopt();
  names();
  tellHow(false);
  follow();
  poll();
})();
