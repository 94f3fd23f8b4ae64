//! What would become of a request: routing told step by step, and who could serve it now.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    admit::announces_too_much,
    live::{Live, http2_allowed},
};
use crate::{
    farm::{self, Farm, Prospect, Tried, Wish},
    guard::{self, HeadLimits},
    pin, reason,
    route::{
        Asked, Explanation, Table, explain,
        explain::{Live as Now, ServerTold, Toward},
    },
    site::{FarmId, Site},
};

/// A port of the client's; it decides nothing.
const CLIENT_PORT: u16 = 50_000;

/// Explains a request with what the running Frontgate knows.
///
/// # Errors
/// No listener takes such a request.
pub fn live(live: &Live, asked: &Asked) -> Result<Explanation, String> {
    let mut told = configured(&live.site, &live.table, asked)?;
    let Some(toward) = &mut told.toward else { return Ok(told) };
    let farm = live.farms.iter().find(|farm| *farm.spec().name == *toward.farm);
    if let Some(farm) = farm {
        let (listener, _) = asked.listener(&live.site)?;
        let source = client(asked, &live.site, listener).address;
        told.live = Some(now(farm, toward, &told.host, asked, source));
    }
    Ok(told)
}

/// Explains a request from the configuration alone.
///
/// # Errors
/// No listener takes such a request.
pub fn configured(site: &Site, table: &Table, asked: &Asked) -> Result<Explanation, String> {
    let (listener, note) = asked.listener(site)?;
    let client = client(asked, site, listener);
    let question = asked.question(listener, client.https, client.address);
    let mut told = explain(table, site, &question);
    told.notes.extend(note);
    if client.address != asked.from.to_canonical() {
        let text = format!("{} is a trusted proxy; what it says of its client counts", asked.from);
        told.notes.push(text);
    }
    notes(&mut told, site, table, asked, listener);
    // What comes before routing, and what comes between routing and the farm.
    if let Err(reason) = guard::inspect(&asked.head(), &HeadLimits::from(&site.limits)) {
        told.refuse(reason);
    }
    let farm = told.toward.as_ref().and_then(|toward| {
        let index = site.farms.binary_search_by(|farm| (*farm.name).cmp(&*toward.farm)).ok()?;
        site.farms.get(FarmId(index).0)
    });
    if let Some(farm) = farm
        && pin::on_request(farm.connection_auth, &asked.headers, false) == pin::Verdict::Refused
    {
        told.refuse(reason::CONNECTION_AUTH_OFF);
    }
    let limit = told.toward.as_ref().and_then(|toward| toward.body_size);
    if announces_too_much(limit, &asked.headers) {
        told.refuse(reason::BODY_TOO_LARGE);
    }
    Ok(told)
}

/// Who asks, as trusted proxies tell it. Who asks through a balancer is whom it names; the balancer
/// itself asks where it named nobody, and then nobody is believed.
fn client(asked: &Asked, site: &Site, listener: usize) -> guard::Client {
    let peer = SocketAddr::new(asked.from, CLIENT_PORT);
    let listener = site.listeners.get(listener);
    let unnamed = listener.is_some_and(|listener| listener.balancer(asked.from).is_some());
    let trusted = if unnamed { &[][..] } else { &site.trusted_proxies };
    guard::client(peer, asked.https, &asked.headers, trusted)
}

fn notes(told: &mut Explanation, site: &Site, table: &Table, asked: &Asked, listener: usize) {
    let tls = site.listeners.get(listener).and_then(|listener| listener.tls.as_ref());
    if let (Some(tls), Some(_)) = (tls, &told.host_pattern) {
        let offered = tls.http2 && http2_allowed(site, table, &asked.host);
        told.notes.push(match (offered, tls.http2) {
            (true, _) => "HTTP/2 is offered to clients".to_owned(),
            (false, true) => "HTTP/2 is not offered: a farm under this name takes sign-ins that \
                 are bound to connections"
                .to_owned(),
            (false, false) => "HTTP/2 is not offered: the listener has it off".to_owned(),
        });
    }
    if tls.is_some() && !site.certificates.iter().any(|it| it.covers(&asked.host)) {
        let text = "no certificate covers the name: clients get the default one";
        told.notes.push(text.to_owned());
    }
}

/// What the farm's present state makes of it.
fn now(farm: &Farm, toward: &mut Toward, host: &str, asked: &Asked, source: IpAddr) -> Now {
    let prospects = farm.prospects();
    let rows = toward.servers.iter_mut().map(|row| (row.server.clone(), row));
    let mut rows: HashMap<String, &mut ServerTold> = rows.collect();
    for Prospect { server, eligible, why } in &prospects {
        if let Some(row) = rows.get_mut(&**server.name()) {
            row.eligible = Some(*eligible);
            row.why.clone_from(why);
        }
    }
    let home = farm.foreseen_affinity(source, &asked.headers);
    let key = farm::fixed_key(farm, source, host, asked.target.as_bytes(), &asked.headers);
    let tried = Tried::default();
    let foreseen = key.and_then(|key| farm.foresee(&Wish::anyone(key, &tried)));
    let eligible: Vec<_> = prospects.iter().filter(|prospect| prospect.eligible).collect();
    let (server, choice) = match (&home, foreseen, eligible.as_slice()) {
        (Some(home), ..) if home.server.full() => {
            (None, format!("affinity keeps this client on {}, which is full", home.server.name()))
        }
        (Some(home), ..) => (
            Some(home.server.name()),
            format!("affinity keeps this client on {}", home.server.name()),
        ),
        (None, Some(server), _) => {
            (Some(server.name()), format!("{} leads to {}", toward.balance, server.name()))
        }
        (None, None, [only]) => (
            Some(only.server.name()),
            format!("{} is the only one that can be chosen", only.server.name()),
        ),
        (None, None, []) if prospects.iter().any(|p| p.server.open()) => (
            None,
            "every server is full: the request waits in the farm's queue, or is answered 503"
                .to_owned(),
        ),
        (None, None, []) => (
            None,
            format!("no server can be chosen: the client gets 503 {}", reason::NO_SERVER.code),
        ),
        (None, None, several) => (None, format!("one of {}, by {}", several.len(), toward.balance)),
    };
    Now {
        affinity: home.as_ref().map(|home| home.server.name().to_string()),
        server: server.map(ToString::to_string),
        choice,
        waiting: farm.waiting(),
    }
}
