//! Every metric there is: its name, its labels and what it tells.

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, while the process runs.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size, with sum and number.
    Histogram,
}

impl Kind {
    /// As the text format says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric with all its labels.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name; a histogram's series add `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Names of its labels, in their order.
    pub labels: &'static [&'static str],
    /// One sentence for people.
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident = $name:literal $kind:ident [$($label:literal)*] $help:literal;)*) => {
        $(#[doc = $help]
        pub const $id: Family = Family {
            name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help,
        };)*
        /// Every metric, in the order of the page.
        pub const ALL: &[Family] = &[$($id),*];
    };
}

/// The metrics, by name.
pub mod families {
    use super::{Family, Kind};

    families! {
        BUILD_INFO = "frontgate_build_info" Gauge ["version" "revision"]
            "Always 1; says which build runs.";
        REQUESTS = "frontgate_requests_total" Counter ["farm" "route" "code_class"]
            "Requests that ended, by farm, publish rule and class of the status (2xx, 4xx..., none when nothing could be sent). Without farm: answered by Frontgate itself; without route: no rule took it.";
        DURATION = "frontgate_request_duration_seconds" Histogram ["farm"]
            "From the first byte of a request to the end of its answer. Polls are long on purpose; tunnels (WebSocket) are left out.";
        REASONS = "frontgate_reasons_total" Counter ["reason"]
            "Requests that Frontgate answered itself or that broke off, by reason code.";
        SERVER_UP = "frontgate_server_up" Gauge ["farm" "server"]
            "1 while probes are content and the name is resolved.";
        SERVER_STATE = "frontgate_server_state" Gauge ["farm" "server" "state"]
            "1 for the state an administrator wants of it: ready, drain or maintenance.";
        SERVER_EJECTED = "frontgate_server_ejected" Gauge ["farm" "server"]
            "1 while live traffic has put it out (passive check).";
        SERVER_OPEN = "frontgate_server_takes_clients" Gauge ["farm" "server"]
            "1 while it takes new clients, everything considered.";
        SERVER_IN_FLIGHT = "frontgate_server_in_flight" Gauge ["farm" "server"]
            "Requests under way at it.";
        SERVER_REQUESTS = "frontgate_server_requests_total" Counter ["farm" "server"]
            "Requests sent to it.";
        SERVER_FAILURES = "frontgate_server_failures_total" Counter ["farm" "server"]
            "Those that broke or were answered with 5xx.";
        SERVER_RECEIVED = "frontgate_server_received_bytes_total" Counter ["farm" "server"]
            "Body bytes that clients sent to it.";
        SERVER_SENT = "frontgate_server_sent_bytes_total" Counter ["farm" "server"]
            "Body bytes that it sent to clients, tunnels included.";
        SERVER_RESPONSE_TIME = "frontgate_server_response_time_seconds" Gauge ["farm" "server"]
            "Time to an answer's header as a decaying average of a few seconds; absent before the first answer. Polls count as ten seconds.";
        SERVER_PINS = "frontgate_server_pins" Gauge ["farm" "server"]
            "Client connections that own a connection to it (NTLM, Negotiate).";
        SERVER_TUNNELS = "frontgate_server_tunnels" Gauge ["farm" "server"]
            "WebSockets and other tunnels through it.";
        PROBES = "frontgate_probe_total" Counter ["farm" "server" "result"]
            "Probes of it, by result: ok or failed.";
        FARM_SERVERS = "frontgate_farm_servers" Gauge ["farm"]
            "Servers that are configured.";
        FARM_OPEN = "frontgate_farm_servers_open" Gauge ["farm"]
            "Servers that take new clients.";
        FARM_WAITING = "frontgate_farm_waiting" Gauge ["farm"]
            "Requests that wait in its queue for a server.";
        PINS = "frontgate_pins" Gauge ["farm"]
            "Client connections that own a connection to a server of it (NTLM, Negotiate).";
        PINS_COUNTED = "frontgate_pins_counted" Gauge []
            "Pins that count towards limits.pins: those that sign in, or whose farm wants it.";
        PINS_LIMIT = "frontgate_pins_limit" Gauge []
            "limits.pins.";
        PINS_TOTAL = "frontgate_pins_total" Counter ["outcome"]
            "What became of pins: admitted, proved (an answer other than 401 came), refused (too many), evicted (made room for another one), expired (30 s without a sign-in).";
        CONNECTIONS = "frontgate_connections" Gauge ["listener"]
            "Open client connections.";
        CONNECTIONS_TOTAL = "frontgate_connections_total" Counter ["listener"]
            "Client connections accepted.";
        CONNECTIONS_REFUSED = "frontgate_connections_refused_total" Counter []
            "Client connections refused by limits.connections or limits.connections_per_source.";
        CONNECTIONS_LIMIT = "frontgate_connections_limit" Gauge []
            "limits.connections.";
        CERT_EXPIRY = "frontgate_cert_expiry_timestamp_seconds" Gauge ["name" "key"]
            "When a certificate for clients expires, by its first name and kind of key (rsa, ecdsa).";
        RELOADS = "frontgate_config_reload_total" Counter ["result"]
            "Reloads of the configuration, by result: success, refused or unchanged.";
        RELOAD_OK = "frontgate_config_last_reload_successful" Gauge []
            "0 while the configuration on disk was refused and an older one serves.";
        RELOAD_TIME = "frontgate_config_last_reload_success_timestamp_seconds" Gauge []
            "When the configuration that serves was taken over, or last found unchanged.";
        CONFIG_INFO = "frontgate_config_info" Gauge ["hash"]
            "Always 1; the hash tells configurations apart.";
        LOG_DROPPED = "frontgate_access_log_dropped_lines_total" Counter []
            "Access log lines dropped because the target took them too slowly or not at all.";
        EVENTS_UNDELIVERED = "frontgate_events_undelivered_total" Counter ["receiver"]
            "Events that did not reach events.command or events.webhook.";
        TRACES_SENT = "frontgate_traces_sent_spans_total" Counter []
            "Spans that the collector took.";
        TRACES_DROPPED = "frontgate_traces_dropped_spans_total" Counter []
            "Spans dropped because the collector took them too slowly or not at all.";
        CPU = "process_cpu_seconds_total" Counter []
            "User and system time of the process.";
        RESIDENT = "process_resident_memory_bytes" Gauge []
            "Memory of the process that is in RAM.";
        VIRTUAL = "process_virtual_memory_bytes" Gauge []
            "Address space of the process.";
        OPEN_FDS = "process_open_fds" Gauge []
            "Open file descriptors.";
        MAX_FDS = "process_max_fds" Gauge []
            "Most file descriptors that may be open.";
        START_TIME = "process_start_time_seconds" Gauge []
            "When the process started.";
    }
}

#[cfg(test)]
mod tests {
    use super::{families::ALL, *};

    #[test]
    fn names_follow_the_conventions_and_are_there_once() {
        for (n, family) in ALL.iter().enumerate() {
            let Family { name, kind, .. } = family;
            assert!(name.starts_with("frontgate_") || name.starts_with("process_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(ALL.iter().skip(n + 1).all(|other| other.name != *name), "{name} twice");
        }
    }

    #[test]
    fn the_reference_page_is_current() {
        let mut page = String::from(
            "<!-- Generated from src/observe/metrics/family.rs: \
             FRONTGATE_BLESS=1 cargo test --lib reference_page -->\n\n\
             # Metrics, one by one\n\n\
             How to ask for them is in [metrics.md](../metrics.md).\n\n\
             | Metric | Kind | Labels | What it tells |\n|---|---|---|---|\n",
        );
        for Family { name, kind, labels, help } in ALL {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let kind = kind.word();
            page += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "));
        }
        crate::config::golden::check("docs/reference/metrics.md", &page);
    }
}
