//! Reading everything that is counted anywhere.

use std::{collections::BTreeMap, sync::Arc};

use boring::asn1::Asn1Time;

use crate::{
    events::Undelivered,
    farm::{Counters, Farm, Server, State},
    listen::Connections,
    observe::metrics::{Family, Labels, Metrics, Page, Reload, families as f, process},
    pin::Pins,
    site::{Certificate, Site},
};

/// Bytes that one server takes on the page, and everything else.
const ROOM: (usize, usize) = (2048, 64 * 1024);

/// What is read.
pub(super) struct Sources<'a> {
    pub(super) site: &'a Site,
    pub(super) farms: &'a [Arc<Farm>],
    pub(super) pins: &'a Pins,
    pub(super) metrics: &'a Metrics,
    pub(super) connections: &'a Connections,
    pub(super) log_dropped: u64,
    pub(super) undelivered: Undelivered,
    /// Spans that were sent, and those that were dropped.
    pub(super) spans: (u64, u64),
}

/// The whole page.
pub(super) fn page(from: &Sources<'_>) -> String {
    let servers: usize = from.farms.iter().map(|farm| farm.servers().len()).sum();
    let mut page = Page::with_capacity(ROOM.0 * servers + ROOM.1);
    build(&mut page);
    from.metrics.traffic.write(&mut page);
    let mut reasons = page.family(&f::REASONS);
    for (reason, count) in from.metrics.reasons() {
        reasons.put(&Labels::new(&[("reason", reason)]), count);
    }
    all_servers(&mut page, from.farms);
    farms(&mut page, from.farms);
    pins(&mut page, from);
    connections(&mut page, from);
    certificates(&mut page, &from.site.certificates);
    configuration(&mut page, from);
    page.single(&f::LOG_DROPPED, from.log_dropped);
    let Undelivered { command, webhook } = from.undelivered;
    let mut series = page.family(&f::EVENTS_UNDELIVERED);
    series.put(&Labels::new(&[("receiver", "command")]), command);
    series.put(&Labels::new(&[("receiver", "webhook")]), webhook);
    page.single(&f::TRACES_SENT, from.spans.0);
    page.single(&f::TRACES_DROPPED, from.spans.1);
    process(&mut page);
    page.into_text()
}

fn build(page: &mut Page) {
    let revision = option_env!("FRONTGATE_REVISION").unwrap_or("unknown");
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("revision", revision)];
    page.family(&f::BUILD_INFO).put(&Labels::new(&labels), 1);
}

/// A server, as it was at the moment of the scrape.
struct Row<'a> {
    labels: Labels,
    server: &'a Server,
    counters: Counters,
}

fn all_servers(page: &mut Page, farms: &[Arc<Farm>]) {
    let mut rows = Vec::new();
    for farm in farms {
        let of_farm = Labels::new(&[("farm", &farm.spec().name)]);
        rows.extend(farm.servers().iter().map(|server| Row {
            labels: of_farm.and("server", server.name()),
            server,
            counters: server.counters(),
        }));
    }
    let mut each = |family: &Family, value: &dyn Fn(&Row<'_>) -> u64| {
        let mut series = page.family(family);
        rows.iter().for_each(|row| series.put(&row.labels, value(row)));
    };
    each(&f::SERVER_UP, &|row| row.server.healthy().into());
    each(&f::SERVER_EJECTED, &|row| (!row.server.standing().takes()).into());
    each(&f::SERVER_OPEN, &|row| row.server.open().into());
    each(&f::SERVER_IN_FLIGHT, &|row| row.counters.in_flight as u64);
    each(&f::SERVER_REQUESTS, &|row| row.counters.requests);
    each(&f::SERVER_FAILURES, &|row| row.counters.failures);
    each(&f::SERVER_RECEIVED, &|row| row.counters.received);
    each(&f::SERVER_SENT, &|row| row.counters.sent);
    each(&f::SERVER_PINS, &|row| row.counters.pins as u64);
    each(&f::SERVER_TUNNELS, &|row| row.counters.websockets as u64);
    let mut series = page.family(&f::SERVER_STATE);
    for Row { labels, server, .. } in &rows {
        let now = server.state();
        for state in [State::Ready, State::Drain, State::Maintenance] {
            series.put_with(labels, "state", state.word(), u8::from(state == now));
        }
    }
    let mut series = page.family(&f::SERVER_RESPONSE_TIME);
    for Row { labels, counters, .. } in &rows {
        if let Some(time) = counters.response_time {
            series.put(labels, time.as_secs_f64());
        }
    }
    let mut series = page.family(&f::PROBES);
    for Row { labels, counters, .. } in &rows {
        series.put_with(labels, "result", "ok", counters.probes_ok);
        series.put_with(labels, "result", "failed", counters.probes_failed);
    }
}

fn farms(page: &mut Page, farms: &[Arc<Farm>]) {
    let mut each = |family: &Family, value: &dyn Fn(&Farm) -> usize| {
        let mut series = page.family(family);
        for farm in farms {
            series.put(&Labels::new(&[("farm", &farm.spec().name)]), value(farm));
        }
    };
    each(&f::FARM_SERVERS, &|farm| farm.servers().len());
    each(&f::FARM_OPEN, &|farm| farm.servers().iter().filter(|server| server.open()).count());
    each(&f::FARM_WAITING, &Farm::waiting);
    each(&f::PINS, &|farm| farm.servers().iter().map(|server| server.counters().pins).sum());
}

fn pins(page: &mut Page, from: &Sources<'_>) {
    page.single(&f::PINS_COUNTED, from.pins.total());
    page.single(&f::PINS_LIMIT, from.site.limits.pins);
    let mut series = page.family(&f::PINS_TOTAL);
    for (outcome, count) in from.pins.outcomes() {
        series.put(&Labels::new(&[("outcome", outcome)]), count);
    }
}

fn connections(page: &mut Page, from: &Sources<'_>) {
    // Equal names are an error of the configuration, so each stands here once.
    let listeners = from.site.listeners.iter().map(|listener| &listener.name);
    let listeners: Vec<_> = listeners
        .map(|name| (Labels::new(&[("listener", name)]), from.connections.listener(name)))
        .collect();
    let mut series = page.family(&f::CONNECTIONS);
    listeners.iter().for_each(|(labels, count)| series.put(labels, count.open()));
    let mut series = page.family(&f::CONNECTIONS_TOTAL);
    listeners.iter().for_each(|(labels, count)| series.put(labels, count.total()));
    page.single(&f::CONNECTIONS_REFUSED, from.connections.refused());
    page.single(&f::CONNECTIONS_LIMIT, from.site.limits.connections);
}

fn certificates(page: &mut Page, all: &[Arc<Certificate>]) {
    // Of several with one name the first to expire counts.
    let mut expiries = BTreeMap::new();
    for certificate in all {
        let Some(at) = expiry(certificate) else { continue };
        let name = certificate.names.first().map_or("", String::as_str);
        let key = if certificate.ecdsa { "ecdsa" } else { "rsa" };
        let first = expiries.entry((name, key)).or_insert(at);
        *first = at.min(*first);
    }
    let mut series = page.family(&f::CERT_EXPIRY);
    for ((name, key), at) in expiries {
        series.put(&Labels::new(&[("name", name), ("key", key)]), at);
    }
}

/// Seconds since 1970.
fn expiry(certificate: &Certificate) -> Option<i64> {
    let epoch = Asn1Time::from_unix(0).ok()?;
    let since = epoch.diff(certificate.chain.first()?.not_after()).ok()?;
    Some(i64::from(since.days) * 86_400 + i64::from(since.secs))
}

fn configuration(page: &mut Page, from: &Sources<'_>) {
    let reloads = &from.metrics.reloads;
    let mut series = page.family(&f::RELOADS);
    for how in Reload::ALL {
        series.put(&Labels::new(&[("result", how.word())]), reloads.count(how));
    }
    page.single(&f::RELOAD_OK, u8::from(reloads.good()));
    page.single(&f::RELOAD_TIME, reloads.last_good());
    let hash = from.site.fingerprint.get(..12).unwrap_or(&from.site.fingerprint);
    page.family(&f::CONFIG_INFO).put(&Labels::new(&[("hash", hash)]), 1);
}
