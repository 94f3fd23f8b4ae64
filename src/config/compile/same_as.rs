//! `same_as`: a farm takes over the servers of another one, under its own settings.
//!
//! This happens in the model, entry by entry, so that whatever can be said about a server comes
//! along, and everything that follows sees the whole farm.

use std::collections::HashMap;

use crate::config::{
    code,
    compile::{collision, unknown_farm},
    diagnostic::Findings,
    model::{
        Config,
        farm::{Farm, Server},
    },
    read::{At, List, Named},
    source::Mark,
};

/// Most servers of all farms together; far above any estate.
///
/// SECURITY: a file of 1000 farms with the servers of a farm of 1000 would take a gigabyte. Test:
/// farms_that_share_servers_have_a_bound
const MAX_SERVERS: usize = 100_000;

/// Puts servers in the place of every `same_as`. Each of them remembers in its own `same_as`
/// which entry brought it: what is wrong with it in this farm is told there.
pub fn expand(config: &mut Config, findings: &mut Findings) {
    let Some(farms) = config.farms.as_mut().map(|farms| &mut farms.value) else { return };
    let mut done = HashMap::new();
    let all = farms.items.iter().filter_map(|(_, farm)| farm.servers.as_ref());
    let mut room =
        Some(MAX_SERVERS).map(|most| most.saturating_sub(all.map(|list| list.items.len()).sum()));
    for index in order(farms, findings) {
        let Some((name, farm)) = farms.items.get(index) else { continue };
        let name = name.value.clone();
        let list = farm.servers.as_ref();
        let list = list.filter(|list| list.items.iter().any(|entry| entry.same_as.is_some()));
        if let Some(all) = list.map(|list| expanded(list, &done, farms, &mut room, findings)) {
            let farm = farms.items.get_mut(index);
            if let Some(list) = farm.and_then(|(_, farm)| farm.value.servers.as_mut()) {
                list.value = all;
            }
        }
        done.insert(name, index);
    }
}

/// The servers of one farm; `done` are the farms that it may name, with their positions, `room` how
/// many servers may still come; `None` once there were too many.
fn expanded(
    list: &List<Server>,
    done: &HashMap<String, usize>,
    farms: &Named<Farm>,
    room: &mut Option<usize>,
    findings: &mut Findings,
) -> List<Server> {
    let mut all = List { items: Vec::new(), broken: list.broken };
    // Names and where this farm says them.
    let mut taken: HashMap<String, Mark> = HashMap::new();
    for entry in &list.items {
        let Some(farm) = &entry.same_as else {
            if let Some(name) = name(entry) {
                taken.entry(name.to_ascii_lowercase()).or_insert_with(|| name.mark.clone());
            }
            all.items.push(entry.clone());
            continue;
        };
        // What is unknown, goes in circles or has no servers is a finding of its own.
        let found = done.get(&farm.value).and_then(|index| farms.items.get(*index));
        let Some(servers) = found.and_then(|(_, farm)| farm.servers.as_ref()) else {
            all.broken = true;
            continue;
        };
        all.broken |= servers.broken || servers.items.is_empty();
        // Those that are here already count as well: they cost a finding each.
        let left = room.and_then(|room| room.checked_sub(servers.items.len()));
        if left.is_none() {
            all.broken = true;
            if room.is_some() {
                let message = format!("all farms together have more than {MAX_SERVERS} servers");
                findings
                    .add(code::TOO_MANY_SERVERS, &farm.mark, message)
                    .help("let fewer farms share servers".to_string());
            }
            *room = None;
            continue;
        }
        *room = left;
        for server in &servers.items {
            let Some(name) = name(server) else { continue };
            if let Some(first) = taken.get(&name.to_ascii_lowercase()) {
                let message = format!("server `{}` is in this farm already", name.shown());
                let help = "remove one of the two";
                collision(code::DUPLICATE_SERVER, first, &farm.mark, message, help, findings);
                continue;
            }
            taken.insert(name.to_ascii_lowercase(), farm.mark.clone());
            let mut server = server.clone();
            server.value.same_as = Some(farm.clone());
            all.items.push(server);
        }
    }
    all
}

/// What a server is called.
fn name(server: &Server) -> Option<&At<String>> {
    server.name.as_ref().or(server.address.as_ref())
}

/// The farms, each after those whose servers it takes.
fn order(farms: &Named<Farm>, findings: &mut Findings) -> Vec<usize> {
    let known: HashMap<&str, usize> =
        farms.items.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    let taken_from: Vec<Vec<(&At<String>, usize)>> = farms
        .items
        .iter()
        .map(|(_, farm)| {
            let servers = farm.servers.iter().flat_map(|list| &list.items);
            let named = servers.filter_map(|server| server.same_as.as_ref());
            named.filter_map(|farm| Some((farm, find(farm, &known, farms, findings)?))).collect()
        })
        .collect();
    let mut order = Vec::with_capacity(farms.items.len());
    // `false` while a farm waits for others.
    let mut visited: HashMap<usize, bool> = HashMap::new();
    for start in 0..farms.items.len() {
        // Not by recursion: a chain may be as long as a file.
        let mut path = vec![(start, 0)];
        if visited.contains_key(&start) {
            continue;
        }
        visited.insert(start, false);
        while let Some((farm, next)) = path.pop() {
            let Some((named, other)) = taken_from.get(farm).and_then(|list| list.get(next)) else {
                visited.insert(farm, true);
                order.push(farm);
                continue;
            };
            path.push((farm, next + 1));
            match visited.get(other) {
                None => {
                    visited.insert(*other, false);
                    path.push((*other, 0));
                }
                Some(false) => circle(farms, &path, *other, named, findings),
                Some(true) => {}
            }
        }
    }
    order
}

fn find(
    named: &At<String>,
    known: &HashMap<&str, usize>,
    farms: &Named<Farm>,
    findings: &mut Findings,
) -> Option<usize> {
    let found = known.get(named.as_str()).copied();
    // A farm that cannot be read is a finding already.
    if found.is_none() && !farms.faulty.contains(&named.value) {
        let mut names: Vec<(&str, &Mark)> =
            farms.items.iter().map(|(name, _)| (name.as_str(), &name.mark)).collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        unknown_farm(named, names.into_iter(), findings);
    }
    found
}

/// The finding that `named`, at the end of `path`, leads back to the farm `first`.
fn circle(
    farms: &Named<Farm>,
    path: &[(usize, usize)],
    first: usize,
    named: &At<String>,
    findings: &mut Findings,
) {
    let called = |farm: usize| farms.items.get(farm).map_or("", |(name, _)| name.as_str());
    let round = path.iter().map(|(farm, _)| *farm).skip_while(|farm| *farm != first);
    let mut round: Vec<&str> = round.map(called).collect();
    round.push(called(first));
    findings
        .add(
            code::SAME_AS,
            &named.mark,
            format!("farm `{}` would take its servers from itself", called(first)),
        )
        .help(format!("list the servers in one of them: {}", shortened(&round)));
}

/// A way round, of which only the ends count when it is long.
fn shortened(round: &[&str]) -> String {
    match round {
        [first, second, .., last] if round.len() > 8 => format!("{first} → {second} → … → {last}"),
        _ => round.join(" → "),
    }
}
