//! What the black-box tests share: the real binary, raw clients, scripted servers.

#![allow(dead_code)]

pub mod backend;
pub mod browser;
pub mod certificates;
pub mod client;
pub mod frontgate;
pub mod haproxy;
pub mod lab;
pub mod load;
pub mod nginx;
pub mod python;
pub mod relay;
pub mod w3c;

use std::time::{Duration, Instant};

/// Longest wait for anything that should come at once; a deadline, not a sleep.
pub const SOON: Duration = Duration::from_secs(15);

/// Polls until there is a value, or panics with `what` when the deadline is over.
pub fn until<T>(what: &str, deadline: Duration, mut poll: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < end, "still not, after {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The `servers:` of a farm, as `(name, port)` on plain http.
pub fn servers_of(servers: &[(&str, u16)]) -> String {
    let servers: Vec<_> = servers
        .iter()
        .map(|(name, port)| {
            format!("{{ name: {name}, address: 127.0.0.1, ports: {{ http: {port} }} }}")
        })
        .collect();
    servers.join(", ")
}
